//! The closed model: users who wait for their answers.

use super::shard::{InFlight, Shard, carry};
use super::shared::Phase;
use super::{ScenarioFactory, drain};
use crate::failure::ErrorKind;
use crate::http::Request;
use crate::plan::Profile;
use crate::scenario::{Scenario, User};
use perf_core::time::{self, Duration};
use perf_core::{Backoff, Jitter};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// Users do not all start in the same instant but over this time, or over the warm-up when it is shorter.
const SPREAD: Duration = Duration::from_millis(500);

/// What a user waits after its connection could not be made, so that a target that is down is not stormed.
const RECONNECT: Backoff =
    Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(1)).jitter(Jitter::Equal);

/// Runs the users of one shard to the end of the plan.
pub(super) async fn run<P, F>(shard: &Arc<Shard<P>>, profile: Profile, factory: &F) -> Result<(), String>
where
    P: super::Protocol,
    F: ScenarioFactory,
{
    let shared = &shard.shared;
    let users = profile.peak().ceil() as u64;
    let spread = SPREAD.min(shared.plan.warmup);
    let profile = Arc::new(profile);
    let mut tasks = JoinSet::new();
    let shards = shared.plan.shards() as u64;
    for (place, index) in (shard.index as u64..users).step_by(shards as usize).enumerate() {
        let delay = spread.mul_f64(index as f64 / users as f64);
        let user = ClosedUser {
            shard: Arc::clone(shard),
            profile: Arc::clone(&profile),
            place,
            user: User::new(index, shared.plan.seed),
            scenario: Mutex::new(factory.make(index)),
            delay,
        };
        tasks.spawn(user.live());
    }
    drain(shard, tasks).await
}

struct ClosedUser<P, S> {
    shard: Arc<Shard<P>>,
    profile: Arc<Profile>,
    place: usize,
    user: User,
    scenario: Mutex<S>,
    delay: Duration,
}

impl<P: super::Protocol, S: Scenario> ClosedUser<P, S> {
    async fn live(mut self) {
        let protocol = Arc::clone(&self.shard.protocol);
        let (mut carrier, mut request) = (protocol.carrier(), protocol.request());
        let mut failures = 0;
        let mut backoff = RECONNECT.delays(self.user.index());
        let mut pause = self.delay;
        // Users are made before the start, because making many of them takes time.
        time::sleep_until(self.shard.shared.start).await;
        while let Some(planned) = self.turn(pause).await {
            request.clear();
            self.fill(&mut request);
            let begun = InFlight { step: request.step_name().clone(), planned, lag: Duration::ZERO };
            self.shard.begin(self.place, begun);
            let failed = carry(&self.shard, self.place, &mut carrier, &mut request, &self.scenario).await;
            self.user.count_request();
            pause = match &mut self.scenario.get_mut() {
                Ok(scenario) => scenario.think(&mut self.user),
                Err(_poisoned) => return,
            };
            if failed.is_some_and(slows_down) {
                failures += 1;
                pause += backoff.next().unwrap_or(RECONNECT.longest());
            } else if failures > 0 {
                failures = 0;
                backoff.reset();
            }
        }
    }

    fn fill(&mut self, request: &mut Request) {
        if let Ok(scenario) = self.scenario.get_mut() {
            scenario.next(&mut self.user, request);
        }
    }

    /// Waits for the pause and for the profile to have a place for this user; `None` at the end of the plan.
    async fn turn(&self, pause: Duration) -> Option<Duration> {
        let shared = &self.shard.shared;
        let now = self.shard.offset_now();
        let at = self.profile.next_above(self.user.index() as f64, now + pause)?;
        if at >= shared.length || !shared.is_running() {
            return None;
        }
        if at <= now {
            return Some(now);
        }
        tokio::select! {
            () = time::sleep_until(shared.start + at) => Some(self.shard.offset_now().max(at)),
            () = shared.reached(Phase::Draining) => None,
        }
    }
}

/// Whether the user pauses before it tries again. Requests that cannot be sent would otherwise spin.
const fn slows_down(kind: ErrorKind) -> bool {
    kind.is_connect() || kind.is_generator() || matches!(kind, ErrorKind::ResetBeforeBytes | ErrorKind::Write)
}
