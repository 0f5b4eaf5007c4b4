//! The open model: requests leave at their planned instants, whatever becomes of the ones before.

use super::pacer::Pacer;
use super::shard::{InFlight, Shard, carry};
use super::shared::Phase;
use super::{Protocol, ScenarioFactory, drain};
use crate::failure::ErrorKind;
use crate::http::Request;
use crate::plan::{Overflow, Planned, Schedule};
use crate::scenario::{Scenario, User};
use perf_core::time::{self, Duration};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// After so many requests released without a wait, the tasks that carry them get a turn.
const BURST: u32 = 32;

/// Runs one shard's schedule to its end.
pub(super) async fn run<P: Protocol, F: ScenarioFactory>(
    shard: &Arc<Shard<P>>,
    mut schedule: Schedule,
    factory: &F,
) -> Result<(), String> {
    let plan = &shard.shared.plan;
    let mut release = Release {
        shard: Arc::clone(shard),
        fleet: Arc::new(Fleet::default()),
        scenario: Arc::new(Mutex::new(factory.make(shard.index as u64))),
        tasks: JoinSet::new(),
        places: plan.in_flight().div_ceil(plan.shards()).max(1),
        queued_until: Duration::ZERO,
    };
    let unsent = release.all(&mut schedule).await;
    release.fleet.close();
    let drained = drain(shard, std::mem::take(&mut release.tasks)).await;
    if let Some(first) = unsent {
        release.abandon(std::iter::once(first).chain(schedule));
    }
    drained
}

/// The connections of a shard that wait for a request.
#[derive(Debug, Default)]
struct Fleet {
    idle: Mutex<Idle>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one used last is used next, so that a low load keeps few connections warm.
    berths: Vec<Berth>,
    closed: bool,
}

/// What wakes an idle connection, and the buffer for its next request.
#[derive(Debug)]
struct Berth {
    place: usize,
    request: Request,
    wake: mpsc::Sender<Berth>,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Berth> {
        self.lock().berths.pop()
    }

    /// Gives a connection back. After [`close`](Self::close) it is let go, which ends its task.
    fn put(&self, berth: Berth) {
        let mut idle = self.lock();
        if !idle.closed {
            idle.berths.push(berth);
        }
        drop(idle);
        self.freed.notify_one();
    }

    fn close(&self) {
        let mut idle = self.lock();
        idle.closed = true;
        idle.berths.clear();
    }
}

struct Release<P: Protocol, S> {
    shard: Arc<Shard<P>>,
    fleet: Arc<Fleet>,
    scenario: Arc<Mutex<S>>,
    tasks: JoinSet<()>,
    /// How many connections there may be.
    places: usize,
    /// Until when requests waited for a place: that delay is the target's, not the generator's.
    queued_until: Duration,
}

impl<P: Protocol, S: Scenario> Release<P, S> {
    /// Releases requests at their instants until the plan ends or is stopped. Returns the first one that was due and could not be
    /// released.
    async fn all(&mut self, schedule: &mut Schedule) -> Option<Planned> {
        let shard = Arc::clone(&self.shard);
        let shared = &shard.shared;
        let mut pacer = Pacer::new(shared.plan.pacing);
        let mut stop = std::pin::pin!(shared.reached(Phase::Draining));
        let mut without_wait = 0;
        for planned in schedule {
            let at = shared.start + planned.at;
            let mut now = time::now();
            if now < at {
                without_wait = 0;
                now = tokio::select! {
                    biased;
                    // It was not due yet, so the stop takes it out of the plan, and all after it.
                    () = &mut stop => return None,
                    now = pacer.wait_until(at) => now,
                };
            } else {
                without_wait += 1;
                if without_wait % BURST == 0 {
                    tokio::task::yield_now().await;
                    if !shared.is_running() {
                        return Some(planned);
                    }
                }
            }
            let berth = match self.berth() {
                Some(berth) => berth,
                None if shared.plan.overflow == Overflow::Drop => {
                    self.drop_one(planned);
                    continue;
                }
                None => {
                    let berth = tokio::select! {
                        biased;
                        () = &mut stop => return Some(planned),
                        () = time::sleep_until(shared.start + shared.length) => return Some(planned),
                        berth = self.freed_berth() => berth,
                    };
                    now = time::now();
                    self.queued_until = shared.offset(now);
                    berth
                }
            };
            self.send(planned, shared.offset(now), berth);
        }
        None
    }

    fn send(&self, planned: Planned, now: Duration, mut berth: Berth) {
        let lag =
            if planned.at <= self.queued_until { Duration::ZERO } else { now.saturating_sub(planned.at) };
        self.fill(planned, &mut berth.request);
        let begun = InFlight { step: berth.request.step_name().clone(), planned: planned.at, lag };
        self.shard.begin(berth.place, begun);
        let wake = berth.wake.clone();
        // An idle connection has taken its last request, so there is room; one that is gone is counted when the run ends.
        let _ = wake.try_send(berth);
    }

    fn fill(&self, planned: Planned, request: &mut Request) {
        request.clear();
        let mut user = User::new(planned.index, self.shard.shared.plan.seed);
        self.scenario.lock().unwrap_or_else(PoisonError::into_inner).next(&mut user, request);
    }

    /// An idle connection, or a new one while there may be more.
    fn berth(&mut self) -> Option<Berth> {
        if let Some(berth) = self.fleet.take() {
            return Some(berth);
        }
        let place = self.tasks.len();
        if place >= self.places {
            return None;
        }
        let (wake, requests) = mpsc::channel(1);
        let (shard, fleet) = (Arc::clone(&self.shard), Arc::clone(&self.fleet));
        let scenario = Arc::clone(&self.scenario);
        self.tasks.spawn(connection(shard, fleet, scenario, requests));
        Some(Berth { place, request: self.shard.protocol.request(), wake })
    }

    async fn freed_berth(&self) -> Berth {
        self.shard.count_saturation();
        loop {
            if let Some(berth) = self.fleet.take() {
                return berth;
            }
            self.fleet.freed.notified().await;
        }
    }

    fn drop_one(&self, planned: Planned) {
        self.shard.count_saturation();
        let now = self.shard.offset_now();
        self.give_up(planned, ErrorKind::GeneratorOverflow, now, "the most requests allowed are in flight");
    }

    /// Counts what was planned before the end and never sent.
    fn abandon(&self, unsent: impl Iterator<Item = Planned>) {
        let (end, now) = (self.shard.shared.end(), self.shard.offset_now());
        for planned in unsent.take_while(|planned| planned.at < end) {
            self.give_up(planned, ErrorKind::Cancelled, now, "the run ended before it could be sent");
        }
    }

    fn give_up(&self, planned: Planned, kind: ErrorKind, now: Duration, detail: &str) {
        let mut request = self.shard.protocol.request();
        self.fill(planned, &mut request);
        let step = request.step_name().clone();
        self.shard.abandon(&InFlight { step, planned: planned.at, lag: Duration::ZERO }, kind, now, detail);
    }
}

/// Carries one request after the other until the fleet lets it go.
async fn connection<P: Protocol, S: Scenario>(
    shard: Arc<Shard<P>>,
    fleet: Arc<Fleet>,
    scenario: Arc<Mutex<S>>,
    mut requests: mpsc::Receiver<Berth>,
) {
    let mut carrier = shard.protocol.carrier();
    while let Some(mut berth) = requests.recv().await {
        carry(&shard, berth.place, &mut carrier, &mut berth.request, &scenario).await;
        fleet.put(berth);
    }
}
