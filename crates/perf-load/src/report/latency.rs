use crate::stats::{Latencies, Quantile, Survival};
use perf_core::time::Duration;
use serde::{Deserialize, Serialize};

/// A distribution of times in milliseconds, from an HDR histogram of three significant digits.
///
/// Percentiles are Kaplan–Meier estimates where requests were censored (timed out, cut off): they count as longer than their age
/// instead of being left out. From [`known_up_to`](LatencyReport::known_up_to) on, a percentile is only a lower bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyReport {
    /// Times measured to their end.
    pub count: u64,
    /// Times known only to be longer than something.
    pub censored: u64,
    /// Mean of the times measured to their end.
    pub mean_ms: f64,
    /// Their standard deviation.
    pub stdev_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 95 %.
    pub p95_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// 99.99 %.
    pub p9999_ms: f64,
    /// The longest, exact; the age of a censored request when that is longer.
    pub max_ms: f64,
    /// Percentiles above this share of all requests are lower bounds. 1 without censoring, 0 when nothing was measured.
    pub known_up_to: f64,
    /// Counts for charts, ascending, at two significant digits.
    pub buckets: Vec<Bucket>,
}

/// One bar of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The largest time in it.
    pub le_ms: f64,
    /// How many.
    pub count: u64,
}

impl LatencyReport {
    pub(crate) fn new(measured: &Latencies, censored: &Latencies) -> Self {
        let survival = (censored.count() > 0).then(|| Survival::new(measured, censored));
        let quantile = |q: f64| {
            let micros = match &survival {
                None => measured.quantile_micros(q),
                Some(survival) => match survival.quantile(q) {
                    Quantile::Known(micros) | Quantile::Above(micros) => micros,
                },
            };
            micros / 1e3
        };
        let nothing = if measured.count() == 0 { 0.0 } else { 1.0 };
        Self {
            count: measured.count(),
            censored: censored.count(),
            mean_ms: millis(measured.mean()),
            stdev_ms: measured.stdev_micros() / 1e3,
            min_ms: millis(measured.min()),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            p9999_ms: quantile(0.9999),
            max_ms: millis(measured.max().max(censored.max())),
            known_up_to: survival.as_ref().map_or(nothing, Survival::known_up_to),
            buckets: buckets(measured),
        }
    }

    /// Whether the percentile `q` (0.99 for p99) is only a lower bound.
    #[must_use]
    pub fn is_lower_bound(&self, q: f64) -> bool {
        self.censored > 0 && q > self.known_up_to + 1e-12
    }

    /// Whether there were too few requests to speak of the percentile `q`: fewer than ten beyond it are expected.
    #[must_use]
    pub fn is_thin(&self, q: f64) -> bool {
        ((self.count + self.censored) as f64) * (1.0 - q) < 10.0
    }

    /// The percentile for `q` of 0.5, 0.9, 0.95, 0.99, 0.999 or 0.9999; for another, the next of these above it, or the maximum.
    #[must_use]
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let known = [
            (0.5, self.p50_ms),
            (0.9, self.p90_ms),
            (0.95, self.p95_ms),
            (0.99, self.p99_ms),
            (0.999, self.p999_ms),
            (0.9999, self.p9999_ms),
        ];
        known.iter().find(|(share, _)| q <= share + 1e-12).map_or(self.max_ms, |(_, value)| *value)
    }
}

fn buckets(measured: &Latencies) -> Vec<Bucket> {
    let mut coarse = Latencies::with_digits(2);
    measured.recorded().for_each(|(micros, count)| coarse.record_micros(micros, count));
    coarse.recorded().map(|(micros, count)| Bucket { le_ms: micros as f64 / 1e3, count }).collect()
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_longer_than_its_age_and_not_missing() {
        let (mut measured, mut censored) = (Latencies::new(), Latencies::new());
        measured.record_micros(5_000, 985);
        censored.record_micros(10_000_000, 15);
        let report = LatencyReport::new(&measured, &censored);
        assert!((report.p90_ms - 5.0).abs() < 0.01);
        assert!((report.p99_ms - 10_000.0).abs() < 10.0, "{}", report.p99_ms);
        assert!(report.is_lower_bound(0.99) && !report.is_lower_bound(0.9));
        assert!(report.is_thin(0.999) && !report.is_thin(0.99));
    }

    #[test]
    fn nothing_measured_is_all_zeros() {
        let report = LatencyReport::new(&Latencies::new(), &Latencies::new());
        assert_eq!((report.count, report.p99_ms, report.max_ms, report.known_up_to), (0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn the_charts_counts_add_up() {
        let mut measured = Latencies::new();
        (1..=1_000).for_each(|micros| measured.record_micros(micros * 37, 2));
        let report = LatencyReport::new(&measured, &Latencies::new());
        assert_eq!(report.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 2_000);
        assert_eq!((report.quantile_ms(0.99), report.quantile_ms(1.0)), (report.p99_ms, report.max_ms));
    }
}
