//! Runs one check again and again, never two runs at once.

use super::check::{Check, Criticality};
use super::report::CheckReport;
use super::state::{CheckState, Rules};
use perf_core::time::{self, Instant};
use perf_core::{Counter, Health, Histogram, Rng, Status};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A check, what is known about it, and its numbers.
pub(super) struct Watched {
    check: Check,
    state: Mutex<CheckState>,
    first: watch::Sender<bool>,
    runs: Counter,
    failures: Counter,
    durations: Histogram,
}

impl Watched {
    pub(super) fn new(check: Check) -> Self {
        let rules = Rules {
            interval: check.interval,
            timeout: check.timeout,
            failures: check.failures,
            successes: check.successes,
        };
        Self {
            check,
            state: Mutex::new(CheckState::new(rules)),
            first: watch::Sender::new(false),
            runs: Counter::new(),
            failures: Counter::new(),
            durations: Histogram::new(),
        }
    }

    pub(super) fn touches_network(&self) -> bool {
        self.check.touches_network
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.get()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.get()
    }

    pub(super) fn durations(&self) -> &Histogram {
        &self.durations
    }

    pub(super) fn report(&self, now: Instant) -> CheckReport {
        let (health, seen) = {
            let state = self.state();
            (state.health(now), state.seen())
        };
        CheckReport {
            name: self.check.name.to_string(),
            status: health.status(),
            reason: health.reason().to_owned(),
            fatal: self.check.criticality == Criticality::Fatal,
            age: seen.map(|seen| now.saturating_duration_since(seen)),
        }
    }

    pub(super) async fn settled(&self) {
        // The sender lives as long as `self`, so waiting ends with a result only.
        let _ = self.first.subscribe().wait_for(|first| *first).await;
    }

    fn state(&self) -> MutexGuard<'_, CheckState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the run it holds when it is dropped.
struct Run(JoinHandle<Health>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs until it is dropped.
pub(super) async fn run(watched: Arc<Watched>) {
    let mut rng = Rng::from_entropy();
    loop {
        once(&watched).await;
        let jitter = 0.9 + 0.2 * rng.unit();
        time::sleep(watched.check.interval.mul_f64(jitter)).await;
    }
}

/// One run. Returns when it has ended, however long after its timeout that is, so there is never a second one beside it.
async fn once(watched: &Watched) {
    let check = Arc::clone(&watched.check.check);
    let started = time::now();
    watched.runs.increment();
    let mut run = Run(tokio::spawn(async move { check.check().await }));
    match time::timeout(watched.check.timeout, &mut run.0).await {
        Ok(result) => {
            let now = time::now();
            watched.durations.record_duration(now.saturating_duration_since(started));
            let health = result.unwrap_or_else(|error| Health::down(panic_message(error)));
            if health.status() == Status::Down {
                watched.failures.increment();
            }
            watched.state().finished(health, now);
            watched.first.send_replace(true);
        }
        Err(_) => {
            watched.durations.record_duration(time::now().saturating_duration_since(started));
            watched.failures.increment();
            watched.state().timed_out(time::now());
            watched.first.send_replace(true);
            run.0.abort();
            // A run that blocks its thread cannot be stopped. Until it ends, nothing else is started.
            let _ = (&mut run.0).await;
            watched.state().stopped();
        }
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    let text = |panic: Box<dyn Any + Send>| {
        let owned = panic.downcast_ref::<String>().cloned();
        owned.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", text(panic)),
        Err(_) => "stopped from outside".to_owned(),
    }
}
