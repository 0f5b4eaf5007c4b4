//! What a rule looks at: a selection of series and what is made of them.

use super::history::Rings;
use super::memory::TotalMemory;
use crate::SlidingWindow;
use crate::page::{Line, Page, Value};
use perf_core::HistogramSnapshot;
use perf_core::time::{Duration, Instant};

/// A number made of the series of one metric. Series that differ in other labels are added up; of levels the highest
/// counts.
///
/// ```
/// use perf_metrics::Signal;
/// use std::time::Duration;
///
/// let wait = Signal::quantile("perf_pool_wait_seconds", 0.99, Duration::from_secs(60)).matching("name", "orders");
/// assert_eq!(
///     wait.promql(),
///     r#"histogram_quantile(0.99, sum by (le) (rate(perf_pool_wait_seconds_bucket{name="orders"}[60s])))"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<(String, String)>,
    pub(crate) measure: Measure,
}

/// What is made of the series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measure {
    Level,
    Rate(Duration),
    Quantile(f64, Duration),
    Mean(Duration),
}

impl Signal {
    fn new(metric: impl Into<String>, measure: Measure) -> Self {
        Self { metric: metric.into(), matchers: Vec::new(), measure }
    }

    /// The level of a gauge.
    pub fn level(metric: impl Into<String>) -> Self {
        Self::new(metric, Measure::Level)
    }

    /// The increase of a counter per second over a window.
    pub fn rate(metric: impl Into<String>, window: Duration) -> Self {
        Self::new(metric, Measure::Rate(window))
    }

    /// A quantile of a histogram over a window.
    pub fn quantile(metric: impl Into<String>, q: f64, window: Duration) -> Self {
        Self::new(metric, Measure::Quantile(q, window))
    }

    /// The mean of a histogram over a window.
    pub fn mean(metric: impl Into<String>, window: Duration) -> Self {
        Self::new(metric, Measure::Mean(window))
    }

    /// Only series that carry this label with this value.
    #[must_use]
    pub fn matching(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.matchers.push((label.into(), value.into()));
        self
    }

    /// The same in Prometheus' language.
    #[must_use]
    pub fn promql(&self) -> String {
        match self.measure {
            Measure::Level => format!("max({})", self.selector("")),
            Measure::Rate(window) => {
                format!("sum(rate({}[{}s]))", self.selector(""), window.as_secs().max(1))
            }
            Measure::Quantile(q, window) => format!(
                "histogram_quantile({q}, sum by (le) (rate({}[{}s])))",
                self.selector("_bucket"),
                window.as_secs().max(1)
            ),
            Measure::Mean(window) => {
                let seconds = window.as_secs().max(1);
                let part = |suffix: &str| format!("sum(rate({}[{seconds}s]))", self.selector(suffix));
                format!("{} / {}", part("_sum"), part("_count"))
            }
        }
    }

    pub(crate) fn selector(&self, suffix: &str) -> String {
        let matchers: Vec<String> =
            self.matchers.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let braces = if matchers.is_empty() { String::new() } else { format!("{{{}}}", matchers.join(",")) };
        format!("{}{suffix}{braces}", self.metric)
    }
}

/// A signal with the past it needs.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) signal: Signal,
    seen: Option<Seen>,
    rings: Option<Rings>,
    window: Option<SlidingWindow>,
}

/// What the last reading of the page found.
#[derive(Debug)]
enum Seen {
    Number(f64),
    Distribution(HistogramSnapshot),
}

/// The far end of a window is exact to a twelfth of it.
const PARTS: u32 = 12;

impl Tracked {
    /// Tracks `signal`, with a past of at least `span`.
    pub(crate) fn new(signal: Signal, span: Duration) -> Self {
        let rings = matches!(signal.measure, Measure::Rate(_)).then(|| Rings::new(span));
        let window = match signal.measure {
            Measure::Quantile(_, window) | Measure::Mean(window) => Some(SlidingWindow::new(window, PARTS)),
            Measure::Level | Measure::Rate(_) => None,
        };
        Self { signal, seen: None, rings, window }
    }

    /// Forgets the last reading.
    pub(crate) fn begin(&mut self) {
        self.seen = None;
    }

    /// Takes in a series that is one of the selected.
    pub(crate) fn see(&mut self, line: &Line<'_>, page: &Page) {
        let number = |total: f64| match &self.seen {
            Some(Seen::Number(so_far)) if self.signal.measure == Measure::Level => so_far.max(total),
            Some(Seen::Number(so_far)) => so_far + total,
            _ => total,
        };
        self.seen = Some(match line.value {
            Value::Count(total) => Seen::Number(number(*total as f64)),
            Value::Number(value) => Seen::Number(number(*value)),
            Value::Distribution(_) => {
                let mut merged = page.snapshot(line.value);
                if let Some(Seen::Distribution(so_far)) = &self.seen {
                    merged.merge(so_far);
                }
                Seen::Distribution(merged)
            }
        });
    }

    /// Ends a reading.
    pub(crate) fn end(&mut self, now: Instant) {
        match (&self.seen, self.signal.measure) {
            (Some(Seen::Number(total)), Measure::Rate(_)) => {
                if let Some(rings) = &mut self.rings {
                    rings.push(*total, now);
                }
            }
            (Some(Seen::Distribution(snapshot)), _) => {
                if let Some(window) = &mut self.window {
                    window.observe(snapshot.clone(), now);
                }
            }
            _ => {}
        }
    }

    /// The value at `now` and how many samples it rests on; `None` without data.
    pub(crate) fn value(&self, now: Instant) -> Option<(f64, u64)> {
        match (self.seen.as_ref()?, self.signal.measure) {
            (Seen::Number(value), Measure::Level) => (!value.is_nan()).then_some((*value, u64::MAX)),
            (Seen::Number(_), Measure::Rate(window)) => {
                let (increase, covered) = self.increase(window, now)?;
                Some((increase / covered.as_secs_f64().max(1e-9), increase as u64))
            }
            (Seen::Distribution(_), Measure::Quantile(q, _)) => {
                let estimate = self.window.as_ref()?.snapshot()?.quantile(q)?;
                Some((estimate.value, estimate.count))
            }
            (Seen::Distribution(_), Measure::Mean(_)) => {
                let recent = self.window.as_ref()?.snapshot()?;
                recent.mean().map(|mean| (mean, recent.count()))
            }
            _ => None,
        }
    }

    /// What is remembered of a total; `None` for signals without a long past.
    pub(crate) fn memory(&self, now: Instant) -> Option<TotalMemory> {
        self.rings.as_ref().map(|rings| rings.memory(now))
    }

    pub(crate) fn restore(&mut self, memory: &TotalMemory, downtime: Duration, now: Instant) {
        if let Some(rings) = &mut self.rings {
            rings.restore(memory, downtime, now);
        }
    }

    /// The increase of the total over a window.
    pub(crate) fn increase(&self, window: Duration, now: Instant) -> Option<(f64, Duration)> {
        self.rings.as_ref()?.increase(window, now)
    }
}
