//! What is known about one check: plain data, no clock, no async.

use perf_core::time::{Duration, Instant};
use perf_core::{Health, Status};

/// When results count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) failures: u32,
    pub(super) successes: u32,
}

#[derive(Clone, Debug)]
pub(super) struct CheckState {
    rules: Rules,
    shown: Health,
    /// Results of the other side in a row: failures while up, successes while down.
    against: u32,
    /// When the last result came.
    seen: Option<Instant>,
    /// A run that was told to stop and has not done so yet.
    hanging: bool,
}

impl CheckState {
    pub(super) fn new(rules: Rules) -> Self {
        let shown = Health::unknown("not checked yet");
        Self { rules, shown, against: 0, seen: None, hanging: false }
    }

    /// A run ended with `result`.
    pub(super) fn finished(&mut self, result: Health, now: Instant) {
        self.hanging = false;
        self.seen = Some(now);
        let (was, is) = (self.shown.status(), result.status());
        if was == Status::Unknown || is == Status::Unknown || side(was) == side(is) {
            self.against = 0;
            self.shown = result;
            return;
        }
        self.against += 1;
        let needed = if side(is) { self.rules.successes } else { self.rules.failures };
        if self.against >= needed {
            self.against = 0;
            self.shown = result;
        }
    }

    /// A run took longer than its timeout. That is down at once: a check that hangs is never run often enough to fail
    /// the required number of times.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.hanging = true;
        self.seen = Some(now);
        self.against = 0;
        self.shown = Health::down("timeout");
    }

    /// The run that was told to stop has stopped.
    pub(super) fn stopped(&mut self) {
        self.hanging = false;
    }

    /// How it is at `now`. A result older than three intervals is worth nothing, except that a run that still hangs is
    /// still down.
    pub(super) fn health(&self, now: Instant) -> Health {
        let Some(seen) = self.seen else { return self.shown.clone() };
        let lasts = self.rules.interval.saturating_mul(3).saturating_add(self.rules.timeout);
        if !self.hanging && now.saturating_duration_since(seen) > lasts {
            return Health::unknown("no result for three intervals");
        }
        self.shown.clone()
    }

    /// When the last result came.
    pub(super) fn seen(&self) -> Option<Instant> {
        self.seen
    }
}

/// Whether a status counts as a success.
fn side(status: Status) -> bool {
    matches!(status, Status::Up | Status::Degraded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(failures: u32, successes: u32) -> CheckState {
        CheckState::new(Rules { interval: SECOND, timeout: SECOND, failures, successes })
    }

    #[test]
    fn a_result_older_than_three_intervals_is_unknown() {
        let (mut state, start) = (state(1, 1), time::now());
        state.finished(Health::up(), start);
        assert_eq!(state.health(start + SECOND * 4).status(), Status::Up);
        assert_eq!(state.health(start + SECOND * 5).status(), Status::Unknown);
    }

    #[test]
    fn a_run_that_still_hangs_stays_down() {
        let (mut state, start) = (state(3, 1), time::now());
        state.finished(Health::up(), start);
        state.timed_out(start + SECOND);
        assert_eq!(state.health(start + SECOND * 100), Health::down("timeout"));
        state.stopped();
        assert_eq!(state.health(start + SECOND * 100).status(), Status::Unknown);
    }

    proptest! {
        #[test]
        fn changes_sides_after_as_many_results_in_a_row(
            failures in 1..5_u32, successes in 1..5_u32, results in prop::collection::vec(any::<bool>(), 1..40)
        ) {
            let (mut state, now) = (state(failures, successes), time::now());
            let mut shown = results[0];
            let mut row = 0;
            for result in results {
                state.finished(if result { Health::up() } else { Health::down("no") }, now);
                row = if result == shown { 0 } else { row + 1 };
                if row >= if result { successes } else { failures } {
                    (shown, row) = (result, 0);
                }
                prop_assert_eq!(state.health(now).status() == Status::Up, shown);
            }
        }
    }
}
