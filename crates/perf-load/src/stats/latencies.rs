use hdrhistogram::Histogram;
use perf_core::time::Duration;

/// Times longer than this count as this long in percentiles; the maximum stays exact.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600);

/// The smallest time told apart.
const SHORTEST_MICROS: u64 = 1;

/// A distribution of times: an HDR histogram of three significant digits from 1 µs to 1 h, with an exact mean, minimum and maximum.
/// The cells (190 kB) are made with the first value, because most of a report's distributions stay empty.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Option<Histogram<u64>>,
    digits: u8,
    sum_nanos: u128,
    min: Duration,
    max: Duration,
}

impl Latencies {
    pub(crate) const fn new() -> Self {
        Self::with_digits(3)
    }

    /// With `digits` significant digits, 1 to 5.
    pub(crate) const fn with_digits(digits: u8) -> Self {
        Self { histogram: None, digits, sum_nanos: 0, min: Duration::MAX, max: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.cells().saturating_record(micros.max(SHORTEST_MICROS));
        self.sum_nanos += time.as_nanos();
        self.min = self.min.min(time);
        self.max = self.max.max(time);
    }

    /// Adds `count` times of `micros` each; used where only counts are known any more.
    pub(crate) fn record_micros(&mut self, micros: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.cells().saturating_record_n(micros.max(SHORTEST_MICROS), count);
        self.sum_nanos += u128::from(micros) * 1_000 * u128::from(count);
        self.min = self.min.min(Duration::from_micros(micros));
        self.max = self.max.max(Duration::from_micros(micros));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.histogram else { return };
        // Fails only for a value beyond the bounds, which the other histogram has as well.
        let merged = self.cells().add(theirs);
        debug_assert!(merged.is_ok(), "histograms of one kind have the same bounds");
        self.sum_nanos += other.sum_nanos;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn clear(&mut self) {
        if let Some(histogram) = &mut self.histogram {
            histogram.reset();
        }
        self.sum_nanos = 0;
        self.min = Duration::MAX;
        self.max = Duration::ZERO;
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    pub(crate) fn mean(&self) -> Duration {
        let count = u128::from(self.count());
        if count == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::try_from(self.sum_nanos / count).unwrap_or(u64::MAX))
    }

    pub(crate) fn stdev_micros(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, Histogram::stdev)
    }

    pub(crate) fn min(&self) -> Duration {
        if self.count() == 0 { Duration::ZERO } else { self.min }
    }

    pub(crate) const fn max(&self) -> Duration {
        self.max
    }

    /// The quantile in microseconds, never above the exact maximum; 0 without any value.
    pub(crate) fn quantile_micros(&self, q: f64) -> f64 {
        let cell = self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_quantile(q));
        (cell as f64).min(self.max.as_nanos() as f64 / 1e3)
    }

    /// The values recorded, in microseconds and ascending, with their counts.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let steps = self.histogram.iter().flat_map(Histogram::iter_recorded);
        steps.map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// The cells, once there is a value.
    pub(crate) const fn histogram(&self) -> Option<&Histogram<u64>> {
        self.histogram.as_ref()
    }

    fn cells(&mut self) -> &mut Histogram<u64> {
        let digits = self.digits;
        self.histogram.get_or_insert_with(|| {
            #[expect(clippy::expect_used, reason = "the bounds are constants the histogram accepts")]
            Histogram::new_with_bounds(SHORTEST_MICROS, LONGEST.as_micros() as u64, digits)
                .expect("constant bounds are valid")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // L7: three significant digits, exact totals, exact extremes, whatever the split over workers.
        #[test]
        fn quantiles_are_within_a_thousandth_and_totals_are_exact(
            mut micros in prop::collection::vec(1..3_000_000_000_u64, 1..300),
            split in 0..300_usize,
        ) {
            let (mut a, mut b) = (Latencies::new(), Latencies::new());
            for (index, value) in micros.iter().enumerate() {
                (if index < split { &mut a } else { &mut b }).record(Duration::from_micros(*value));
            }
            a.merge(&b);
            micros.sort_unstable();
            prop_assert_eq!(a.count(), micros.len() as u64);
            prop_assert_eq!(a.max().as_micros() as u64, *micros.last().unwrap());
            prop_assert_eq!(a.min().as_micros() as u64, micros[0]);
            let mean = micros.iter().map(|v| u128::from(*v) * 1_000).sum::<u128>() / micros.len() as u128;
            prop_assert_eq!(a.mean().as_nanos(), mean);
            for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((q * micros.len() as f64).ceil() as usize).clamp(1, micros.len());
                let exact = micros[rank - 1] as f64;
                prop_assert!((a.quantile_micros(q) - exact).abs() <= exact * 0.001 + 1.0);
            }
        }
    }

    #[test]
    fn times_beyond_an_hour_keep_their_maximum() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(7_200));
        latencies.record(Duration::ZERO);
        assert_eq!((latencies.count(), latencies.max()), (2, Duration::from_secs(7_200)));
        latencies.clear();
        assert_eq!(
            (latencies.count(), latencies.max(), latencies.min()),
            (0, Duration::ZERO, Duration::ZERO)
        );
    }
}
