//! What another configuration would have done: a log of outcomes, and the breaker's own machine run over it.

use super::config::BreakerConfig;
use super::event::{BreakerEvent, BreakerState, Cause};
use super::state::{Machine, Settled};
use crate::gate::{Gate, Leaving, Now, Token};
use perf_core::time::{self, Duration, Instant};
use perf_core::{InvalidConfig, Outcome, Rejected, Rng};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// One call of the past.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PastCall {
    /// When it ended, counted from the start of the log.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub ended: Duration,
    /// How long it took; zero for a call that never waited.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub took: Duration,
    /// How it ended.
    #[cfg_attr(feature = "serde", serde(with = "outcome"))]
    pub outcome: Outcome,
}

#[cfg(feature = "serde")]
mod outcome {
    use perf_core::Outcome;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const NAMES: [(Outcome, &str); 5] = [
        (Outcome::Success, "success"),
        (Outcome::Failure, "failure"),
        (Outcome::Overload, "overload"),
        (Outcome::Ignored, "ignored"),
        (Outcome::Cancelled, "cancelled"),
    ];

    pub(super) fn serialize<S: Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(known, _)| known == outcome).map_or("failure", |(_, name)| name);
        to.serialize_str(name)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Outcome, D::Error> {
        let name = <std::borrow::Cow<'d, str>>::deserialize(from)?;
        let found = NAMES.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome);
        found.ok_or_else(|| {
            D::Error::unknown_variant(&name, &["success", "failure", "overload", "ignored", "cancelled"])
        })
    }
}

/// The last calls, kept so that they can be replayed. A gate: put it inside the retries of a pipeline with
/// [`PipelineBuilder::per_attempt`](crate::PipelineBuilder::per_attempt), beside the breaker or instead of one. Cheap to
/// clone; clones are the same log.
///
/// ```
/// use perf_resilience::breaker::{BreakerConfig, OutcomeLog, replay};
/// use perf_resilience::{Pass, breaker::Window};
/// use perf_core::Outcome;
///
/// let log = OutcomeLog::new(10_000);
/// for n in 0..200 {
///     let outcome = if n % 4 == 3 { Outcome::Failure } else { Outcome::Success };
///     Pass::enter(&log)?.leave(outcome);
/// }
/// // A quarter fails: half of 100 would never have opened, a fifth of 50 would have.
/// let mut strict = BreakerConfig::default();
/// (strict.failure_rate, strict.window) = (0.2, Window::Count(50));
/// assert_eq!(replay(&BreakerConfig::default(), log.calls())?.opened, 0);
/// assert_eq!(replay(&strict, log.calls())?.opened, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OutcomeLog(Arc<Log>);

#[derive(Debug)]
struct Log {
    start: Instant,
    keep: usize,
    calls: Mutex<VecDeque<PastCall>>,
}

impl OutcomeLog {
    /// A log of the last `keep` calls, 48 bytes each.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self(Arc::new(Log { start: time::now(), keep, calls: Mutex::new(VecDeque::new()) }))
    }

    /// The calls in the log, the oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<PastCall> {
        lock(&self.0.calls).iter().copied().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gate for OutcomeLog {
    fn enter(&self, _: &Now) -> Result<Token, Rejected> {
        Ok(Token(0))
    }

    fn leave(&self, _: Token, leaving: &Leaving<'_>) {
        let ended = leaving.now.get().saturating_duration_since(self.0.start);
        let call = PastCall { ended, took: leaving.took().unwrap_or_default(), outcome: leaving.outcome };
        let mut calls = lock(&self.0.calls);
        if calls.len() >= self.0.keep {
            calls.pop_front();
        }
        if self.0.keep > 0 {
            calls.push_back(call);
        }
    }

    fn panicked(&self) -> Outcome {
        Outcome::Failure
    }
}

/// What a breaker would have done.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Replay {
    /// How often it would have opened.
    pub opened: u32,
    /// Calls it would have let through.
    pub let_through: u64,
    /// Calls it would have refused that succeeded all the same: what the configuration costs.
    pub refused_good: u64,
    /// Calls it would have refused that failed: what the configuration saves.
    pub refused_bad: u64,
    /// Changes of state: when, into which, and why it opened.
    pub changes: Vec<(Duration, BreakerState, Option<Cause>)>,
}

/// Runs a breaker with this configuration over past calls. What a call that would have been refused did to the dependency
/// is not undone: the replay says how the breaker would have judged the past, not how the past would have been.
///
/// # Errors
/// The first field of the configuration that cannot be used.
pub fn replay(
    config: &BreakerConfig,
    calls: impl IntoIterator<Item = PastCall>,
) -> Result<Replay, InvalidConfig> {
    config.validate()?;
    let start = time::now();
    // Without jitter, so that replaying twice says the same twice.
    let plain = BreakerConfig { jitter: 0.0, ..config.clone() };
    let mut replay =
        Replayed { machine: Machine::new(plain, Rng::seeded(0), start), start, found: Replay::default() };
    let mut calls: Vec<PastCall> = calls.into_iter().collect();
    calls.sort_by_key(|call| call.ended.saturating_sub(call.took));
    // Calls end in another order than they began in; those that are inside wait here for their end.
    let mut inside: Vec<(u64, PastCall)> = Vec::new();
    for call in calls {
        let began = call.ended.saturating_sub(call.took);
        replay.leave_until(began, config, &mut inside);
        match replay.enter(began) {
            Some(token) => {
                replay.found.let_through += 1;
                let at = inside.partition_point(|(_, other)| other.ended <= call.ended);
                inside.insert(at, (token, call));
            }
            None if call.outcome.is_failure() => replay.found.refused_bad += 1,
            None => replay.found.refused_good += 1,
        }
    }
    replay.leave_until(Duration::MAX, config, &mut inside);
    Ok(replay.found)
}

struct Replayed {
    machine: Machine,
    start: Instant,
    found: Replay,
}

impl Replayed {
    fn at(&self, at: Duration) -> Instant {
        self.start.checked_add(at).unwrap_or(self.start)
    }

    fn note(&mut self, at: Duration, event: Option<BreakerEvent>) {
        let (state, cause) = match event {
            Some(BreakerEvent::Opened { cause, .. }) => (BreakerState::Open, Some(cause)),
            Some(BreakerEvent::HalfOpened) => (BreakerState::HalfOpen, None),
            Some(BreakerEvent::Closed) => (BreakerState::Closed, None),
            _ => return,
        };
        self.found.opened += u32::from(state == BreakerState::Open);
        self.found.changes.push((at, state, cause));
    }

    fn enter(&mut self, at: Duration) -> Option<u64> {
        let (entered, event) = self.machine.enter(self.at(at));
        self.note(at, event);
        entered.ok()
    }

    fn leave_until(&mut self, until: Duration, config: &BreakerConfig, inside: &mut Vec<(u64, PastCall)>) {
        let over = inside.partition_point(|(_, call)| call.ended <= until);
        for (token, call) in inside.drain(..over) {
            let slow = config.slow_call.is_some_and(|limit| call.took >= limit) && call.outcome.is_counted();
            let now = Now::at(self.at(call.ended));
            let (_, event): (Settled, _) = self.machine.leave(token, call.outcome, slow, &now);
            self.note(call.ended, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Window;

    const MS: Duration = Duration::from_millis(1);

    fn past(n: u32, outcome: Outcome) -> PastCall {
        PastCall { ended: MS * n, took: Duration::ZERO, outcome }
    }

    #[test]
    fn a_replay_says_when_it_would_have_opened_and_what_that_would_have_cost() {
        let calls = (0..1000)
            .map(|n| past(n * 10, if (200..300).contains(&n) { Outcome::Failure } else { Outcome::Success }));
        let config = BreakerConfig {
            window: Window::Count(20),
            min_calls: 10,
            open_for: Duration::from_millis(500),
            ..BreakerConfig::default()
        };
        let found = replay(&config, calls).unwrap();
        assert!((1..=2).contains(&found.opened), "{found:?}");
        let (at, state, cause) = found.changes[0];
        assert_eq!((at, state), (MS * 2090, BreakerState::Open), "the tenth failure of twenty");
        assert!(matches!(cause, Some(Cause::FailureRate { calls: 20, .. })));
        assert_eq!(found.changes.last().unwrap().1, BreakerState::Closed);
        assert!(found.refused_bad > 60, "{found:?}");
        assert_eq!(found.let_through + found.refused_bad + found.refused_good, 1000);
    }

    #[test]
    fn slow_calls_that_overlap_are_judged_when_they_end() {
        let config = BreakerConfig {
            slow_call: Some(MS * 50),
            slow_rate: 0.5,
            window: Window::Count(10),
            min_calls: 10,
            decide_early: false,
            ..BreakerConfig::default()
        };
        let slow = |n: u32| PastCall { ended: MS * (100 + n), took: MS * 100, outcome: Outcome::Success };
        let found = replay(&config, (0..20).map(slow)).unwrap();
        assert_eq!((found.opened, found.let_through), (1, 20), "all had begun before the first ended");
        assert_eq!(found.changes[0].0, MS * 109);
    }

    #[test]
    fn a_log_forgets_the_oldest_and_a_replay_is_repeatable() {
        let log = OutcomeLog::new(3);
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored, Outcome::Overload] {
            crate::Pass::enter(&log).unwrap().leave(outcome);
        }
        let outcomes: Vec<_> = log.calls().iter().map(|call| call.outcome).collect();
        assert_eq!(outcomes, [Outcome::Failure, Outcome::Ignored, Outcome::Overload]);
        let config = BreakerConfig { consecutive: Some(1), ..BreakerConfig::default() };
        assert_eq!(replay(&config, log.calls()), replay(&config, log.calls()));
        let wrong = BreakerConfig { failure_rate: f64::NAN, ..BreakerConfig::default() };
        assert_eq!(replay(&wrong, log.calls()).unwrap_err().field(), "failure_rate");
    }
}
