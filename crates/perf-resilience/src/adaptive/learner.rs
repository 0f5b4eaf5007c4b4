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
