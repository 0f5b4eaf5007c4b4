use crate::plan::Load;
use perf_core::time::{self, Duration, Instant};
use perf_core::{Counter, Gauge};
use std::sync::OnceLock;
use tokio::sync::watch;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// No more requests are sent; answers are awaited.
    Draining,
    /// Nothing is awaited any more.
    Cut,
}

/// What all shards of a run and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Load,
    pub(crate) length: Duration,
    /// When offset 0 of the plan is.
    pub(crate) start: Instant,
    phase: watch::Sender<Phase>,
    /// When the run was stopped before its end.
    stopped: OnceLock<Duration>,
    pub(crate) sent: Counter,
    pub(crate) finished: Counter,
    pub(crate) failed: Counter,
    pub(crate) in_flight: Gauge,
}

impl Shared {
    pub(crate) fn new(plan: Load, start: Instant) -> Self {
        Self {
            length: plan.profile().length(),
            plan,
            start,
            phase: watch::Sender::new(Phase::Running),
            stopped: OnceLock::new(),
            sent: Counter::new(),
            finished: Counter::new(),
            failed: Counter::new(),
            in_flight: Gauge::new(),
        }
    }

    /// The first call stops sending, the second stops waiting.
    pub(crate) fn stop(&self) {
        let _ = self.stopped.set(self.offset(time::now()));
        self.phase.send_modify(|phase| {
            *phase = if *phase == Phase::Running { Phase::Draining } else { Phase::Cut };
        });
    }

    pub(crate) fn cut(&self) {
        let _ = self.stopped.set(self.offset(time::now()));
        self.phase.send_replace(Phase::Cut);
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Returns once the run has come this far.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    pub(crate) fn offset(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// When the last request was or will be sent.
    pub(crate) fn end(&self) -> Duration {
        self.stopped.get().map_or(self.length, |at| self.length.min(*at))
    }

    pub(crate) fn was_stopped(&self) -> bool {
        self.stopped.get().is_some_and(|at| *at < self.length)
    }
}
