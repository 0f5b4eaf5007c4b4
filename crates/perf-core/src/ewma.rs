//! Moving averages that take the time as an argument, so that reading one never changes it.
//!
//! The averages forget by time, not by sample count: a sample that is `decay` old weighs 1/e of a fresh one. A busy and an
//! idle endpoint are then judged over the same stretch of time.

use crate::time::{Duration, Instant};

/// An exponentially weighted moving average.
///
/// ```
/// use perf_core::{Ewma, time};
/// use std::time::Duration;
///
/// let start = time::now();
/// let mut average = Ewma::new(Duration::from_secs(10));
/// assert_eq!(average.get(), None);
/// average.observe(4.0, start);
/// average.observe(8.0, start + Duration::from_secs(10));
/// assert!((average.get().unwrap() - 6.53).abs() < 0.01); // 4 + (8 − 4) × (1 − 1/e)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ewma {
    decay: Duration,
    state: Option<(f64, Instant)>,
}

impl Ewma {
    /// An average that forgets over `decay`. With zero it is the last sample.
    #[must_use]
    pub const fn new(decay: Duration) -> Self {
        Self { decay, state: None }
    }

    /// Takes in `sample`, seen at `now`. A stale `now` counts as the latest one seen; a sample that is not a number is
    /// left out.
    pub fn observe(&mut self, sample: f64, now: Instant) {
        if sample.is_nan() {
            return;
        }
        let state = match self.state {
            None => (sample, now),
            Some((value, at)) => {
                let now = now.max(at);
                let kept = remaining_weight(now - at, self.decay);
                (value * kept + sample * (1.0 - kept), now)
            }
        };
        self.state = Some(state);
    }

    /// The average, or `None` before the first sample.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        self.state.map(|(value, _)| value)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.state = None;
    }
}

/// An average that believes bad news at once and forgets it slowly: a sample above it is taken as it is, and otherwise
/// it decays (Finagle's Peak EWMA). For choosing the least loaded endpoint.
///
/// ```
/// use perf_core::{PeakEwma, time};
/// use std::time::Duration;
///
/// let start = time::now();
/// let mut rtt = PeakEwma::new(0.010, Duration::from_secs(1), start);
/// rtt.observe(0.400, start);
/// assert_eq!(rtt.get(start), 0.400);
/// assert!(rtt.get(start + Duration::from_secs(1)) < 0.150);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    decay: Duration,
    value: f64,
    at: Instant,
}

impl PeakEwma {
    /// Starts at `initial`, so that an endpoint without history is neither the best nor the worst.
    #[must_use]
    pub const fn new(initial: f64, decay: Duration, now: Instant) -> Self {
        Self { decay, value: initial, at: now }
    }

    /// Takes in `sample`, seen at `now`. A stale `now` counts as the latest one seen; a sample that is not a number is
    /// left out.
    pub fn observe(&mut self, sample: f64, now: Instant) {
        if sample.is_nan() {
            return;
        }
        let now = now.max(self.at);
        self.value = if sample > self.value {
            sample
        } else {
            let kept = remaining_weight(now - self.at, self.decay);
            self.value * kept + sample * (1.0 - kept)
        };
        self.at = now;
    }

    /// The value at `now`: without samples it decays towards zero, so that an endpoint once slow is tried again.
    #[must_use]
    pub fn get(&self, now: Instant) -> f64 {
        self.value * remaining_weight(now.saturating_duration_since(self.at), self.decay)
    }
}

/// What a value keeps of its weight after `elapsed`.
fn remaining_weight(elapsed: Duration, decay: Duration) -> f64 {
    if decay.is_zero() {
        return 0.0;
    }
    (-elapsed.as_secs_f64() / decay.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_value_decays_over_its_time_constant() {
        let start = now();
        let rtt = PeakEwma::new(0.010, SECOND, start);
        let after = rtt.get(start + Duration::from_millis(100));
        assert!((0.009..0.010).contains(&after), "{after}");
    }

    #[test]
    fn reading_changes_nothing() {
        let start = now();
        let rtt = PeakEwma::new(1.0, SECOND, start);
        let later = start + SECOND;
        assert_eq!(rtt.get(later).to_bits(), rtt.get(later).to_bits());
        assert_eq!(rtt.get(start), 1.0);
    }

    #[test]
    fn a_stale_timestamp_counts_as_the_latest() {
        let start = now() + SECOND;
        let mut average = Ewma::new(SECOND);
        average.observe(1.0, start);
        average.observe(9.0, start - SECOND);
        assert_eq!(average.get(), Some(1.0));
    }

    #[test]
    fn without_decay_the_last_sample_wins() {
        let start = now();
        let mut average = Ewma::new(Duration::ZERO);
        average.observe(1.0, start);
        average.observe(9.0, start);
        assert_eq!(average.get(), Some(9.0));
    }

    #[test]
    fn a_sample_that_is_not_a_number_is_left_out() {
        let start = now();
        let mut average = Ewma::new(SECOND);
        average.observe(f64::NAN, start);
        assert_eq!(average.get(), None);
    }
}
