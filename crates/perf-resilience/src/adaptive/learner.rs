//! Calls taken together, so that no single one moves the limit.

use super::algorithm::{Algorithm, Sample};
use super::guard::Guard;
use perf_core::time::{Duration, Instant};

/// Calls are taken together over this time before the limit moves.
const WINDOW: Duration = Duration::from_millis(100);
/// But no fewer than this many.
const WINDOW_CALLS: u32 = 10;
/// After so many windows the limit takes one step down, to see whether anything changes.
const DITHER_EVERY: u32 = 20;

/// Takes calls together over a short time and hands them to the algorithm.
#[derive(Debug)]
pub(super) struct Learner {
    algorithm: Algorithm,
    guard: Guard,
    since: Option<Instant>,
    calls: u32,
    total: Duration,
    most_in_flight: u32,
    dropped: bool,
    windows: u32,
}

impl Learner {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            guard: Guard::default(),
            since: None,
            calls: 0,
            total: Duration::ZERO,
            most_in_flight: 0,
            dropped: false,
            windows: 0,
        }
    }

    /// Takes in a call; gives the new limit, and whether the guard held the baseline, when a window is over.
    pub(super) fn learn(&mut self, sample: Sample, now: Instant) -> Option<(u32, bool)> {
        let since = *self.since.get_or_insert(now);
        self.calls += 1;
        self.total = self.total.saturating_add(sample.rtt);
        self.most_in_flight = self.most_in_flight.max(sample.in_flight);
        self.dropped |= sample.dropped;
        let gone = now.saturating_duration_since(since);
        if gone < WINDOW || self.calls < WINDOW_CALLS {
            return None;
        }
        let throughput = f64::from(self.calls) / gone.as_secs_f64();
        self.guard.observe(f64::from(self.most_in_flight), throughput);
        let held = self.guard.is_saturated();
        let taken =
            Sample { rtt: self.total / self.calls, in_flight: self.most_in_flight, dropped: self.dropped };
        let limit = self.reconsider(taken, held);
        (self.since, self.calls, self.total) = (Some(now), 0, Duration::ZERO);
        (self.most_in_flight, self.dropped) = (0, false);
        Some((limit, held))
    }

    fn reconsider(&mut self, sample: Sample, held: bool) -> u32 {
        if let Algorithm::Gradient2(gradient) = &mut self.algorithm {
            gradient.hold = held;
        }
        if let Algorithm::Vegas(vegas) = &mut self.algorithm
            && self.guard.is_elastic()
            && let Some(shortest) = vegas.baseline_mut()
        {
            // What was once the shortest time may be out of reach now; while more calls get more done, follow slowly.
            *shortest += 0.01 * (sample.rtt.as_secs_f64() - *shortest).max(0.0);
        }
        let limit = self.algorithm.update(sample).floor().max(1.0) as u32;
        if matches!(self.algorithm, Algorithm::Fixed(_)) {
            return limit;
        }
        self.windows += 1;
        if self.windows.is_multiple_of(DITHER_EVERY) {
            limit.saturating_sub(1 + limit / 20).max(1)
        } else {
            limit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::{Aimd, Bounds};
    use super::*;
    use perf_core::time;

    const MS: Duration = Duration::from_millis(1);

    /// What a limit of 20 becomes after a window of these calls, each so long after the one before.
    fn after(calls: &[(Duration, bool)], apart: Duration) -> Option<u32> {
        let bounds = Bounds { initial: 20.0, min: 1.0, max: 100.0 };
        let mut learner = Learner::new(Algorithm::Aimd(Aimd::new(bounds, 0.5, MS * 50)));
        let (mut now, mut limit) = (time::now(), None);
        for (rtt, dropped) in calls {
            let sample = Sample { rtt: *rtt, in_flight: 20, dropped: *dropped };
            limit = learner.learn(sample, now).map(|(limit, _)| limit);
            now += apart;
        }
        limit
    }

    #[test]
    fn calls_are_taken_together_before_the_limit_moves() {
        // Netflix, ImmutableAverageSampleWindowTest: the mean counts, and one that was dropped marks them all.
        let quick = [(MS * 10, false); 11];
        assert_eq!(after(&quick, MS * 10), Some(21));
        assert_eq!(after(&quick, MS * 5), None, "not long enough");
        assert_eq!(after(&quick[..9], MS * 50), None, "not enough of them");
        let mut one_slow = quick;
        one_slow[3].0 = MS * 200;
        assert_eq!(after(&one_slow, MS * 10), Some(21), "27 ms on average");
        one_slow[3].0 = MS * 600;
        assert_eq!(after(&one_slow, MS * 10), Some(10), "64 ms on average, and 50 are too long");
        let mut one_dropped = quick;
        one_dropped[3].1 = true;
        assert_eq!(after(&one_dropped, MS * 10), Some(10));
    }
}
