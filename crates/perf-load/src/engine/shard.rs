use super::cpu;
use super::pacer::Pacer;
use super::protocol::{Failure, Fired, Protocol};
use super::shared::Shared;
use crate::failure::ErrorKind;
use crate::http::Request;
use crate::scenario::Scenario;
use crate::stats::{Class, Recorder, Sample};
use perf_core::Name;
use perf_core::time::{self, Duration};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often the generator measures how late its own timers are.
const CANARY: Duration = Duration::from_millis(20);

/// A request that is planned, from the moment it is taken up until it is recorded.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) step: Name,
    pub(super) planned: Duration,
    pub(super) lag: Duration,
}

/// One worker of a run: everything its tasks share.
#[derive(Debug)]
pub(super) struct Shard<P> {
    pub(super) shared: Arc<Shared>,
    pub(super) protocol: Arc<P>,
    pub(super) index: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recorder: Recorder,
    in_flight: Vec<Option<InFlight>>,
}

impl<P: Protocol> Shard<P> {
    pub(super) fn new(shared: Arc<Shared>, protocol: Arc<P>, index: usize) -> Self {
        let state = Mutex::new(State { recorder: Recorder::new(), in_flight: Vec::new() });
        Self { shared, protocol, index, state }
    }

    pub(super) fn offset_now(&self) -> Duration {
        self.shared.offset(time::now())
    }

    /// Remembers a request that place `place` takes up, so that it is counted even when it is cut off.
    pub(super) fn begin(&self, place: usize, request: InFlight) {
        self.shared.sent.increment();
        self.shared.in_flight.add(1);
        let mut state = self.lock();
        if place >= state.in_flight.len() {
            state.in_flight.resize(place + 1, None);
        }
        state.in_flight[place] = Some(request);
    }

    /// Judges and counts the request of a place. Requests that were cut off have been counted already.
    pub(super) fn end(
        &self,
        place: usize,
        fired: &Fired,
        request: &Request,
        status: u16,
        verdict: Result<(), Failure>,
    ) {
        let mut state = self.lock();
        let Some(begun) = state.in_flight.get_mut(place).and_then(Option::take) else { return };
        let (class, detail) = match &verdict {
            Ok(()) => (Class::Ok, ""),
            Err(failure) => (Class::Failed(failure.kind), failure.detail.as_str()),
        };
        state.recorder.record(&Sample {
            step: request.step_name(),
            planned: begun.planned,
            lag: begun.lag,
            started: fired.started.map(|at| self.shared.offset(at)),
            done: self.shared.offset(fired.done),
            class,
            status,
            sent: fired.sent,
            received: fired.received,
            connects: fired.connects,
            raced: fired.raced,
            warmup: begun.planned < self.shared.plan.warmup,
            detail,
        });
        drop(state);
        self.shared.in_flight.subtract(1);
        self.count(class);
    }

    /// Counts a request that never got as far as a connection, or was cut off: all that is known is its age.
    pub(super) fn abandon(&self, request: &InFlight, kind: ErrorKind, at: Duration, detail: &str) {
        let class = Class::Failed(kind);
        self.lock().recorder.record(&Sample {
            step: &request.step,
            planned: request.planned,
            lag: request.lag,
            started: None,
            done: at.max(request.planned),
            class,
            status: 0,
            sent: 0,
            received: 0,
            connects: 0,
            raced: false,
            warmup: request.planned < self.shared.plan.warmup,
            detail,
        });
        self.count(class);
    }

    /// Counts what is still in flight as cut off now.
    pub(super) fn abandon_in_flight(&self) {
        let cut: Vec<InFlight> = self.lock().in_flight.iter_mut().filter_map(Option::take).collect();
        let now = self.offset_now();
        for request in &cut {
            self.shared.in_flight.subtract(1);
            self.abandon(request, ErrorKind::Cancelled, now, "the run ended before the answer");
        }
    }

    pub(super) fn count_saturation(&self) {
        self.lock().recorder.saturated += 1;
    }

    /// The numbers, once no task of the shard runs any more.
    pub(super) fn take_recorder(&self) -> Recorder {
        std::mem::replace(&mut self.lock().recorder, Recorder::new())
    }

    /// Measures, until dropped, how late a timer fires on this thread.
    pub(super) async fn watch_canary(&self) {
        let mut pacer = Pacer::new(self.shared.plan.pacing);
        loop {
            let at = time::now() + CANARY;
            let woken = pacer.wait_until(at).await;
            self.lock().recorder.canary.record(woken.saturating_duration_since(at));
        }
    }

    pub(super) fn record_cpu(&self, before: Option<Duration>, wall: Duration) {
        let used = before.zip(cpu::thread_time()).map(|(before, after)| after.saturating_sub(before));
        if let Some(used) = used.filter(|_| !wall.is_zero()) {
            self.lock().recorder.cpu.push(used.as_secs_f64() / wall.as_secs_f64());
        }
    }

    fn count(&self, class: Class) {
        self.shared.finished.increment();
        if class != Class::Ok {
            self.shared.failed.increment();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one request that is already counted as in flight at `place`, judges its answer, and counts it.
pub(super) async fn carry<P: Protocol, S: Scenario>(
    shard: &Shard<P>,
    place: usize,
    carrier: &mut P::Carrier,
    request: &mut Request,
    scenario: &Mutex<S>,
) -> Option<ErrorKind> {
    let protocol = &shard.protocol;
    let mut fired = if request.is_valid() {
        protocol.fire(carrier, request).await
    } else {
        let detail = format!("cannot be sent: {request}");
        let failure = Some(Failure::new(ErrorKind::GeneratorRequest, detail));
        Fired { started: None, done: time::now(), failure, sent: 0, received: 0, connects: 0, raced: false }
    };
    let answer = protocol.answer(carrier);
    let verdict = match fired.failure.take() {
        Some(failure) => Err(failure),
        None if request.accepts(answer.status()) => {
            let mut scenario = scenario.lock().unwrap_or_else(PoisonError::into_inner);
            let checked = scenario.check(request, &answer);
            checked.map_err(|why| Failure::new(ErrorKind::CheckFailed, format!("{request}: {why}")))
        }
        None => Err(Failure::new(ErrorKind::Status(answer.status()), request.to_string())),
    };
    let kind = verdict.as_ref().err().map(|failure| failure.kind);
    shard.end(place, &fired, request, answer.status(), verdict);
    kind
}
