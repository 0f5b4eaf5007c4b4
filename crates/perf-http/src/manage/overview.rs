//! What `/overview` and `/events` say, as JSON.

use super::Shared;
use super::reading::{Interval, Reading};
use super::verdict::Verdict;
use crate::wallclock;
use perf_core::Status;
use perf_metrics::{Lifecycle, Report};
use serde::Serialize;
use std::collections::BTreeMap;

/// Routes shown: those that took the most time.
const ROUTES: usize = 20;

/// Fewest requests of which the 99th percentile is more than the maximum.
const ENOUGH_FOR_P99: u64 = 100;

/// The state of the host now. `None` is what nobody knows: it is never written as zero.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Overview {
    pub(super) sequence: u64,
    /// Milliseconds since 1970.
    now: u64,
    service: String,
    version: String,
    started: u64,
    uptime_seconds: f64,
    lifecycle: Option<Lifecycle>,
    readiness: Option<Status>,
    pub(super) verdict: Verdict,
    signals: Signals,
    pub(super) point: Point,
    components: Vec<ComponentLine>,
    routes: Vec<RouteLine>,
    viewers: usize,
    pub(super) tick_seconds: f64,
}

/// The four golden signals over the last `window_seconds`.
#[derive(Clone, Debug, Default, Serialize)]
struct Signals {
    window_seconds: f64,
    traffic: Traffic,
    errors: Errors,
    latency: Latency,
    saturation: Option<Saturation>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Traffic {
    requests_per_second: f64,
    in_flight: f64,
    streams: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Errors {
    ratio: Option<f64>,
    server: u64,
    client: u64,
    disconnects: u64,
    panics: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Latency {
    count: u64,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    /// Whether `p99` comes from enough requests.
    trusted: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Saturation {
    what: String,
    ratio: f64,
}

/// A component and its health.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ComponentLine {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) reason: String,
}

/// A route over the last `window_seconds`, by its share of all time spent.
#[derive(Clone, Debug, Serialize)]
struct RouteLine {
    method: String,
    route: String,
    requests_per_second: f64,
    /// Its share of the time that all requests took.
    share: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    error_ratio: Option<f64>,
}

/// One second of history.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Point {
    traffic: Option<f64>,
    errors: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    saturation: Option<f64>,
    heat: Heat,
}

/// How many requests took how long: pairs of a step and a count. Step *n* ends at `2^((n − 28) / 2)` seconds, so that two
/// steps double the time, from 61 µs to 45 s.
type Heat = Vec<u64>;

/// The schema of the steps: two to an octave.
const HEAT_SCHEMA: i8 = 1;

/// The step that ends at one second, and the last one.
const HEAT_SECOND: i32 = 28;
const HEAT_LAST: i32 = 39;

fn heat(second: &Interval) -> Heat {
    let mut duration = second.duration.clone();
    duration.downscale(HEAT_SCHEMA);
    let mut steps = BTreeMap::new();
    for (index, count) in duration.buckets() {
        *steps.entry((index + HEAT_SECOND).clamp(0, HEAT_LAST).unsigned_abs()).or_insert(0) += count;
    }
    steps.into_iter().flat_map(|(step, count)| [u64::from(step), count]).collect()
}

impl Point {
    pub(super) fn of(second: Option<&Interval>, reading: &Reading) -> Self {
        Self {
            traffic: second.map(|second| rounded(second.rate(second.requests))),
            errors: second.and_then(Interval::error_ratio).map(rounded),
            p50: second.and_then(|second| second.quantile(0.5)).map(rounded),
            p99: second.and_then(|second| second.quantile(0.99)).map(rounded),
            saturation: reading.fullest.as_ref().map(|fullest| rounded(fullest.ratio)),
            heat: second.map(heat).unwrap_or_default(),
        }
    }
}

impl Overview {
    pub(super) fn of(
        shared: &Shared,
        window: &Interval,
        latest: &Reading,
        components: Vec<ComponentLine>,
        readiness: Option<&Report>,
    ) -> Self {
        let now = wallclock::unix_millis();
        Self {
            now,
            service: shared.service.clone(),
            version: shared.version.clone(),
            started: shared.started,
            uptime_seconds: now.saturating_sub(shared.started) as f64 / 1000.0,
            lifecycle: readiness.map(|report| report.lifecycle),
            readiness: readiness.map(|report| report.status),
            signals: Signals::of(window, latest),
            components,
            routes: routes(window),
            viewers: shared.viewers(),
            ..Self::default()
        }
    }
}

impl Signals {
    fn of(window: &Interval, latest: &Reading) -> Self {
        let count = window.duration.count();
        let quantile = |q| window.quantile(q).map(rounded);
        Self {
            window_seconds: rounded(window.seconds),
            traffic: Traffic {
                requests_per_second: rounded(window.rate(window.requests)),
                in_flight: latest.in_flight,
                streams: latest.streams,
            },
            errors: Errors {
                ratio: window.error_ratio().map(rounded),
                server: window.server_errors,
                client: window.client_errors,
                disconnects: window.disconnects,
                panics: window.panics,
            },
            latency: Latency {
                count,
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: quantile(1.0),
                trusted: count >= ENOUGH_FOR_P99,
            },
            saturation: latest
                .fullest
                .as_ref()
                .map(|fullest| Saturation { what: fullest.what.clone(), ratio: rounded(fullest.ratio) }),
        }
    }
}

fn routes(window: &Interval) -> Vec<RouteLine> {
    let total = window.duration.sum();
    let mut lines: Vec<RouteLine> = window
        .routes
        .iter()
        .map(|((route, method), reading)| {
            let quantile = |q| reading.duration.quantile(q).map(|estimate| rounded(estimate.value));
            let errors = reading.server_errors as f64 / reading.requests.max(1) as f64;
            RouteLine {
                method: method.clone(),
                route: route.clone(),
                requests_per_second: rounded(window.rate(reading.requests)),
                share: if total > 0.0 { rounded(reading.duration.sum() / total) } else { 0.0 },
                p50: quantile(0.5),
                p99: quantile(0.99),
                error_ratio: (reading.requests > 0).then(|| rounded(errors)),
            }
        })
        .collect();
    lines.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.route.cmp(&b.route)));
    lines.truncate(ROUTES);
    lines
}

/// An overview with its history.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Snapshot {
    #[serde(flatten)]
    overview: Overview,
    history: History,
}

/// The points as one list a signal, oldest first, a second apart; the last one is that of `sequence`.
#[derive(Clone, Debug, Default, Serialize)]
struct History {
    traffic: Vec<Option<f64>>,
    errors: Vec<Option<f64>>,
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    saturation: Vec<Option<f64>>,
    heat: Vec<Heat>,
}

impl Snapshot {
    pub(super) fn new<'p>(overview: Overview, points: impl Iterator<Item = &'p Point>) -> Self {
        let mut history = History::default();
        for Point { traffic, errors, p50, p99, saturation, heat } in points {
            history.traffic.push(*traffic);
            history.errors.push(*errors);
            history.p50.push(*p50);
            history.p99.push(*p99);
            history.saturation.push(*saturation);
            history.heat.push(heat.clone());
        }
        Self { overview, history }
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.overview.sequence
    }
}

/// Three significant digits: more would be sent and never seen.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(2 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_double_the_time() {
        let histogram = perf_core::Histogram::new();
        for seconds in [1.0, 0.9, 0.5, 1e-9, 1e9] {
            histogram.record(seconds);
        }
        let second = Interval { duration: histogram.snapshot(), ..Interval::default() };
        assert_eq!(heat(&second), [0, 1, 26, 1, 28, 2, 39, 1]);
    }

    #[test]
    fn three_digits_are_kept() {
        for (value, shown) in
            [(0.0, 0.0), (0.001_234_5, 0.001_23), (1234.5, 1230.0), (99.96, 100.0), (f64::NAN, 0.0)]
        {
            assert!((rounded(value) - shown).abs() < 1e-9, "{value}: {}", rounded(value));
        }
    }
}
