use super::exemplars::Exemplars;
use super::sealed::Sealed;
use crate::page::{Family, Page};
use crate::rejections::Rejections;
use perf_core::time::{self, Instant};
use perf_core::{HistogramSnapshot, Kind};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A distribution: quantiles within 1.083 %, exact Prometheus buckets, no lock.
///
/// Values that are negative or not finite enter neither count nor sum; they are counted by
/// [`perf_core::Histogram::refused`].
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let sizes = metrics.histogram("reply", "Size of replies").unit(perf_core::Unit::Bytes).get().unwrap();
/// sizes.record(4096.0);
/// assert_eq!(sizes.snapshot().count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    values: perf_core::Histogram,
    exemplars: OnceLock<Exemplars>,
}

impl Histogram {
    /// Records a value in the unit of the metric.
    #[inline]
    pub fn record(&self, value: f64) {
        self.0.values.record(value);
    }

    /// Records a value and notes where it came from, for OpenMetrics and protobuf: mostly `[("trace_id", id)]`. Each power
    /// of two keeps its newest exemplar, at least for a second. Labels of more than 128 characters together are left out.
    pub fn record_with(&self, value: f64, exemplar: &[(&str, &str)]) {
        self.record(value);
        if value.is_finite() && value >= 0.0 {
            self.0.exemplars.get_or_init(Exemplars::default).note(value, exemplar);
        }
    }

    /// Records a value as a system under constant load would have seen it: a value longer than the interval between two
    /// calls hides the calls that could not start, so values one interval apart are recorded for those. Prefer
    /// [`Timer::record_from`], which needs no guess.
    pub fn record_corrected(&self, value: f64, interval: f64) {
        self.record(value);
        if !(interval > 0.0 && value.is_finite()) {
            return;
        }
        // A bound keeps one absurd value from costing seconds.
        for missed in 1..=100_000_u32 {
            let hidden = value - f64::from(missed) * interval;
            if hidden < interval {
                break;
            }
            self.record(hidden);
        }
    }

    /// The distribution at this moment.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        self.0.values.snapshot()
    }
}

impl Sealed for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn create(_: &Arc<Rejections>) -> Self {
        Self(Arc::default())
    }

    fn read(&self, family: Family<'_>, labels: &str, page: &mut Page) {
        let value = page.distribution(&self.0.values);
        page.push_rendered(family, labels, value);
        if let Some(exemplars) = self.0.exemplars.get() {
            exemplars.read(page);
        };
    }
}

/// A distribution of times, in seconds.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let queries = metrics.timer("db_query", "Time spent in queries").get().unwrap();
/// let answer = queries.time(async { 42 }).await;
/// assert_eq!((answer, queries.snapshot().count()), (42, 1));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Timer(Histogram);

impl Timer {
    /// Records a time.
    #[inline]
    pub fn record(&self, time: Duration) {
        self.0.record(time.as_secs_f64());
    }

    /// Records a time and notes the trace it belongs to; see [`Histogram::record_with`].
    pub fn record_with(&self, time: Duration, exemplar: &[(&str, &str)]) {
        self.0.record_with(time.as_secs_f64(), exemplar);
    }

    /// Records the time since something was *meant* to start, which is what its user waited, even when it started late:
    /// the remedy against coordinated omission.
    pub fn record_from(&self, intended_start: Instant) {
        self.record(time::now().saturating_duration_since(intended_start));
    }

    /// Times from now until the returned guard is dropped.
    pub fn start(&self) -> Timing {
        Timing { timer: self.clone(), started: time::now() }
    }

    /// Runs `work` and records how long it took.
    ///
    /// # Cancel safety
    /// As cancel safe as `work`. When this future is dropped half-way, the time until then is recorded.
    pub async fn time<F: Future>(&self, work: F) -> F::Output {
        let _timing = self.start();
        work.await
    }

    /// The distribution at this moment.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        self.0.snapshot()
    }
}

impl Sealed for Timer {
    const KIND: Kind = Kind::Histogram;

    fn create(rejections: &Arc<Rejections>) -> Self {
        Self(Histogram::create(rejections))
    }

    fn read(&self, family: Family<'_>, labels: &str, page: &mut Page) {
        self.0.read(family, labels, page);
    }
}

/// Records the time since its creation when it is dropped.
#[must_use = "dropping the guard records the time"]
#[derive(Debug)]
pub struct Timing {
    timer: Timer,
    started: Instant,
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.timer.record_from(self.started);
    }
}
