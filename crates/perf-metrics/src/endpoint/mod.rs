//! Statistics per endpoint: rate, error share, percentiles, and which ones are slow.

use crate::instruments::OVERFLOW;
use crate::view::{DistributionView, QuantileView};
use perf_core::time::{Duration, Instant};
use perf_core::{Component, ComponentId, Counter, Desc, Histogram, HistogramSnapshot, Name, Sink, Unit};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Endpoints that get statistics of their own; what comes after is counted together.
pub const MAX_ENDPOINTS: usize = 2_000;

/// Length of the window a report looks at, at least; it is up to twice as long.
pub const ENDPOINT_WINDOW: Duration = Duration::from_secs(60);

/// Calls in the window below which an endpoint is not called slow.
const MIN_CALLS: u64 = 20;

const TIME: Desc =
    Desc::histogram("perf_metrics_endpoint_seconds", "Time of calls, by endpoint", Unit::Seconds);
const FAILED: Desc =
    Desc::counter("perf_metrics_endpoint_failures_total", "Calls that failed, by endpoint", Unit::Count);

/// Times above which an endpoint is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SlowThresholds {
    /// For the mean.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub mean: Duration,
    /// For the time 95 of 100 calls stay below.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub p95: Duration,
    /// For the time 99 of 100 calls stay below.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub p99: Duration,
}

impl SlowThresholds {
    /// For HTTP: mean 200 ms, p95 500 ms, p99 1 s. Beyond a second users notice that they wait.
    pub const HTTP: Self = Self::milliseconds(200, 500, 1_000);
    /// For database queries: mean 100 ms, p95 300 ms, p99 500 ms. A page makes several.
    pub const QUERY: Self = Self::milliseconds(100, 300, 500);
    /// For messages: mean 50 ms, p95 100 ms, p99 200 ms. A conversation feels immediate below that.
    pub const MESSAGE: Self = Self::milliseconds(50, 100, 200);

    const fn milliseconds(mean: u64, p95: u64, p99: u64) -> Self {
        let ms = Duration::from_millis;
        Self { mean: ms(mean), p95: ms(p95), p99: ms(p99) }
    }
}

/// The endpoints of one class: the routes of a server, the queries of a database, the kinds of message.
///
/// ```
/// use perf_metrics::{Endpoints, SlowThresholds};
/// use std::time::Duration;
///
/// let routes = Endpoints::new("http", SlowThresholds::HTTP);
/// for _ in 0..100 {
///     routes.record("/orders", Duration::from_millis(700), false);
///     routes.record("/health", Duration::from_millis(1), false);
/// }
/// let report = routes.report(perf_core::time::now());
/// assert_eq!(report[0].endpoint, "/orders");
/// assert_eq!(report[0].slow, Some("mean"));
/// assert_eq!(report[1].slow, None);
/// ```
#[derive(Debug)]
pub struct Endpoints {
    class: Name,
    thresholds: SlowThresholds,
    endpoints: RwLock<BTreeMap<Box<str>, Arc<Endpoint>>>,
    rest: Endpoint,
    marks: Mutex<Option<[Mark; 2]>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    time: Histogram,
    failures: Counter,
}

/// What the endpoints had counted at a moment.
#[derive(Clone, Debug)]
struct Mark {
    at: Instant,
    counts: BTreeMap<Box<str>, (HistogramSnapshot, u64)>,
}

/// An endpoint over the last one to two minutes.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EndpointReport {
    /// The endpoint.
    pub endpoint: String,
    /// Its class.
    pub class: String,
    /// Calls per second.
    pub rate: f64,
    /// Share of the calls that failed, from 0 to 1; absent without calls.
    pub error_share: Option<f64>,
    /// The times of the calls.
    pub time: DistributionView,
    /// Seconds spent in it per second: what a gain here is worth.
    pub load: f64,
    /// The threshold it exceeds: `mean`, `p95`, `p99`, or none. Fewer than 20 calls are never slow.
    pub slow: Option<&'static str>,
}

impl Endpoints {
    /// Statistics for one class of endpoints.
    pub fn new(class: impl Into<Name>, thresholds: SlowThresholds) -> Arc<Self> {
        Arc::new(Self {
            class: class.into(),
            thresholds,
            endpoints: RwLock::default(),
            rest: Endpoint::default(),
            marks: Mutex::default(),
        })
    }

    /// Counts a call. `endpoint` should come from a closed set, such as the router's patterns; beyond
    /// [`MAX_ENDPOINTS`] calls are counted together.
    pub fn record(&self, endpoint: &str, time: Duration, failed: bool) {
        let known = self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned();
        let known = known.or_else(|| self.create(endpoint));
        let endpoint = known.as_deref().unwrap_or(&self.rest);
        endpoint.time.record_duration(time);
        if failed {
            endpoint.failures.increment();
        }
    }

    fn create(&self, endpoint: &str) -> Option<Arc<Endpoint>> {
        let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= MAX_ENDPOINTS && !endpoints.contains_key(endpoint) {
            return None;
        }
        Some(Arc::clone(endpoints.entry(endpoint.into()).or_default()))
    }

    /// Every endpoint over the last one to two minutes, the one with the most time first.
    pub fn report(&self, now: Instant) -> Vec<EndpointReport> {
        let present = self.mark(now);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let [older, newer] = marks.get_or_insert_with(|| {
            let empty = Mark { at: now.checked_sub(ENDPOINT_WINDOW).unwrap_or(now), counts: BTreeMap::new() };
            [empty.clone(), empty]
        });
        let seconds = now.saturating_duration_since(older.at).as_secs_f64().max(1.0);
        let mut reports: Vec<EndpointReport> =
            present.counts.iter().map(|(name, counts)| self.judged(name, counts, older, seconds)).collect();
        if now.saturating_duration_since(newer.at) >= ENDPOINT_WINDOW {
            *older = std::mem::replace(newer, present);
        }
        reports.sort_by(|a, b| b.load.total_cmp(&a.load).then_with(|| a.endpoint.cmp(&b.endpoint)));
        reports
    }

    fn mark(&self, at: Instant) -> Mark {
        let read = |endpoint: &Endpoint| (endpoint.time.snapshot(), endpoint.failures.get());
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts: BTreeMap<Box<str>, _> =
            endpoints.iter().map(|(name, endpoint)| (name.clone(), read(endpoint))).collect();
        let rest = read(&self.rest);
        if rest.0.count() > 0 {
            counts.insert(OVERFLOW.into(), rest);
        }
        Mark { at, counts }
    }

    fn judged(
        &self,
        name: &str,
        counts: &(HistogramSnapshot, u64),
        older: &Mark,
        seconds: f64,
    ) -> EndpointReport {
        let empty = (HistogramSnapshot::default(), 0);
        let before = older.counts.get(name).unwrap_or(&empty);
        let recent = counts.0.since(&before.0);
        let (calls, failures) = (recent.count(), counts.1.saturating_sub(before.1));
        let time = DistributionView::from(recent);
        EndpointReport {
            endpoint: name.to_owned(),
            class: self.class.to_string(),
            rate: calls as f64 / seconds,
            error_share: (calls > 0).then(|| failures as f64 / calls as f64),
            load: time.sum / seconds,
            slow: self.slow(&time),
            time,
        }
    }

    fn slow(&self, time: &DistributionView) -> Option<&'static str> {
        if time.count < MIN_CALLS {
            return None;
        }
        let value = |quantile: Option<QuantileView>| quantile.map(|quantile| quantile.value);
        let limits = [
            ("mean", time.mean, self.thresholds.mean),
            ("p95", value(time.p95), self.thresholds.p95),
            ("p99", value(time.p99), self.thresholds.p99),
        ];
        limits
            .iter()
            .find(|(_, value, limit)| value.is_some_and(|v| v > limit.as_secs_f64()))
            .map(|(name, ..)| *name)
    }
}

impl Component for Endpoints {
    fn id(&self) -> ComponentId {
        ComponentId::new("endpoints", self.class.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        for (name, endpoint) in &*endpoints {
            sink.histogram(&TIME, &[("endpoint", name)], &endpoint.time);
            sink.counter(&FAILED, &[("endpoint", name)], endpoint.failures.get());
        }
        sink.histogram(&TIME, &[("endpoint", OVERFLOW)], &self.rest.time);
        sink.counter(&FAILED, &[("endpoint", OVERFLOW)], self.rest.failures.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;

    #[test]
    fn a_report_forgets_what_is_older_than_two_windows() {
        let (routes, start) = (Endpoints::new("http", SlowThresholds::HTTP), time::now());
        (0..30).for_each(|_| routes.record("/a", Duration::from_secs(1), true));
        let first = routes.report(start);
        assert_eq!((first[0].slow, first[0].error_share, first[0].rate), (Some("mean"), Some(1.0), 0.5));
        for minute in 1..=3 {
            (0..30).for_each(|_| routes.record("/a", Duration::from_millis(1), false));
            routes.report(start + ENDPOINT_WINDOW * minute);
        }
        let last = routes.report(start + ENDPOINT_WINDOW * 4);
        assert_eq!((last[0].slow, last[0].error_share), (None, Some(0.0)));
    }

    #[test]
    fn a_scanner_cannot_fill_the_memory() {
        let routes = Endpoints::new("http", SlowThresholds::HTTP);
        for n in 0..MAX_ENDPOINTS + 500 {
            routes.record(&format!("/{n}"), Duration::from_millis(1), false);
        }
        let report = routes.report(time::now());
        assert_eq!(report.len(), MAX_ENDPOINTS + 1);
        let rest = report.iter().find(|report| report.endpoint == OVERFLOW).unwrap();
        assert_eq!(rest.time.count, 500);
    }

    #[test]
    fn a_few_calls_are_never_slow() {
        let routes = Endpoints::new("query", SlowThresholds::QUERY);
        (0..MIN_CALLS - 1).for_each(|_| routes.record("select", Duration::from_secs(9), false));
        assert_eq!(routes.report(time::now())[0].slow, None);
    }
}
