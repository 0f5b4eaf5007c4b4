use super::routes::{METHODS, Route, RouteId, Routes, method_index};
use super::{DEFAULT_MAX_ROUTES, MeasureLayer};
use http::{Method, StatusCode};
use perf_core::time::{self, Duration, Instant};
use perf_core::{
    Component, ComponentId, Counter, Desc, Gauge, Histogram, HistogramSnapshot, InvalidConfig, Label, Name,
    Sink, Unit,
};
use std::sync::{Arc, OnceLock};

/// The families of series that [`HttpMetrics`] collects.
pub mod families {
    use super::{Desc, Unit};

    /// Requests answered, by route, method and status.
    pub const REQUESTS: Desc = Desc::counter("perf_http_requests_total", "Requests answered", Unit::Count);
    /// Time to the last byte of the answer.
    pub const DURATION: Desc = Desc::histogram(
        "perf_http_request_duration_seconds",
        "Time from the request to the last byte of its answer",
        Unit::Seconds,
    );
    /// Time to the header fields of the answer.
    pub const TIME_TO_HEADERS: Desc = Desc::histogram(
        "perf_http_time_to_headers_seconds",
        "Time from the request to the header fields of its answer",
        Unit::Seconds,
    );
    /// Bytes of answers handed to the connection.
    pub const RESPONSE_BYTES: Desc =
        Desc::counter("perf_http_response_body_bytes_total", "Bytes of response bodies sent", Unit::Bytes);
    /// Clients that went away.
    pub const DISCONNECTS: Desc = Desc::counter(
        "perf_http_client_disconnects_total",
        "Requests whose client went away before the last byte",
        Unit::Count,
    );
    /// Handlers that panicked.
    pub const PANICS: Desc =
        Desc::counter("perf_http_panics_total", "Requests whose handler panicked", Unit::Count);
    /// Requests being served.
    pub const IN_FLIGHT: Desc =
        Desc::gauge("perf_http_requests_in_flight", "Requests being served", Unit::Count);
    /// Open event streams.
    pub const STREAMS: Desc =
        Desc::gauge("perf_http_streams_active", "Event streams that are open", Unit::Count);
    /// Connections that became something else.
    pub const UPGRADES: Desc = Desc::counter(
        "perf_http_upgrades_total",
        "Connections upgraded to another protocol, such as WebSocket",
        Unit::Count,
    );
    /// Route templates with series of their own.
    pub const ROUTES: Desc =
        Desc::gauge("perf_http_routes", "Route templates with series of their own", Unit::Count);

    /// All of them.
    pub const ALL: [Desc; 10] = [
        REQUESTS,
        DURATION,
        TIME_TO_HEADERS,
        RESPONSE_BYTES,
        DISCONNECTS,
        PANICS,
        IN_FLIGHT,
        STREAMS,
        UPGRADES,
        ROUTES,
    ];
}

/// Put into the extensions of a response by [`CatchPanicLayer`](crate::CatchPanicLayer), so that the panic is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// What the label `status` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum StatusLabel {
    /// The class: `2xx`. Five series for a route and method.
    #[default]
    Class,
    /// The code: `204`. One series for each code seen, beside the five of the classes without one.
    Code,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const CODES: usize = 500;

/// The numbers of one route and method.
#[derive(Debug)]
pub(super) struct Series {
    classes: [Counter; CLASSES.len()],
    codes: Option<Box<[OnceLock<Counter>]>>,
    duration: Histogram,
    to_headers: Histogram,
    bytes: Counter,
    disconnects: Counter,
    panics: Counter,
}

impl Series {
    fn new(label: StatusLabel) -> Self {
        let codes = || (0..CODES).map(|_| OnceLock::new()).collect();
        Self {
            classes: Default::default(),
            codes: (label == StatusLabel::Code).then(codes),
            duration: Histogram::new(),
            to_headers: Histogram::new(),
            bytes: Counter::new(),
            disconnects: Counter::new(),
            panics: Counter::new(),
        }
    }

    fn count(&self, status: StatusCode) {
        let status = usize::from(status.as_u16());
        let code = self.codes.as_ref().and_then(|codes| codes.get(status.wrapping_sub(100)));
        match code {
            Some(cell) => cell.get_or_init(Counter::new).increment(),
            // Codes from 600 on are legal on the wire and mean nothing: clients treat them as server errors.
            None => self.classes[(status / 100 - 1).min(CLASSES.len() - 1)].increment(),
        }
    }

    /// The answers of each class.
    fn by_class(&self) -> [u64; CLASSES.len()] {
        let mut totals: [u64; CLASSES.len()] = std::array::from_fn(|class| self.classes[class].get());
        for (offset, cell) in self.codes.iter().flat_map(|codes| codes.iter().enumerate()) {
            totals[offset / 100] += cell.get().map_or(0, Counter::get);
        }
        totals
    }

    fn collect(&self, sink: &mut dyn Sink, route: &str, method: &str) {
        let labels: [Label<'_>; 2] = [("route", route), ("method", method)];
        for (class, total) in CLASSES.iter().zip(&self.classes) {
            sink.counter(&families::REQUESTS, &[labels[0], labels[1], ("status", class)], total.get());
        }
        for (offset, cell) in self.codes.iter().flat_map(|codes| codes.iter().enumerate()) {
            if let Some(total) = cell.get() {
                let code = (offset + 100).to_string();
                sink.counter(&families::REQUESTS, &[labels[0], labels[1], ("status", &code)], total.get());
            }
        }
        sink.histogram(&families::DURATION, &labels, &self.duration);
        sink.histogram(&families::TIME_TO_HEADERS, &labels, &self.to_headers);
        sink.counter(&families::RESPONSE_BYTES, &labels, self.bytes.get());
        sink.counter(&families::DISCONNECTS, &labels, self.disconnects.get());
        sink.counter(&families::PANICS, &labels, self.panics.get());
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    name: Name,
    label: StatusLabel,
    routes: Routes,
    in_flight: Gauge,
    streams: Gauge,
    upgrades: Counter,
}

impl Shared {
    fn series<'s>(&self, route: &'s Route, method: u8) -> &'s Series {
        route.methods[usize::from(method)].get_or_init(|| Box::new(Series::new(self.label)))
    }
}

/// The request metrics of one HTTP service. Cheap to clone; clones share the numbers.
///
/// | label | values |
/// |---|---|
/// | `route` | the template axum matched (`/orders/{id}`), `<unmatched>`, or `<other>` beyond the limit |
/// | `method` | the nine of RFC 9110 and 5789, or `_OTHER` |
/// | `status` | the class, or the code with [`StatusLabel::Code`] |
///
/// A raw path, host or user agent never becomes a label: a stranger could then create series without end.
///
/// | family | labels | meaning |
/// |---|---|---|
/// | `perf_http_requests_total` | route, method, status | requests answered; one that ends with an error of the service counts as 5xx |
/// | `perf_http_request_duration_seconds` | route, method | time to the last byte of the body, or until the client went away |
/// | `perf_http_time_to_headers_seconds` | route, method | time to the header fields |
/// | `perf_http_response_body_bytes_total` | route, method | bytes of bodies handed to the connection |
/// | `perf_http_client_disconnects_total` | route, method | clients that went away before the last byte |
/// | `perf_http_panics_total` | route, method | handlers that panicked |
/// | `perf_http_requests_in_flight` | | requests being served, open event streams apart |
/// | `perf_http_streams_active` | | event streams that are open |
/// | `perf_http_upgrades_total` | | connections upgraded to another protocol |
/// | `perf_http_routes` | | route templates with series of their own |
///
/// Event streams and upgrades live as long as the client likes; they stay out of the duration histogram.
///
/// ```
/// use axum::{Router, routing::get};
/// use perf_http::HttpMetrics;
///
/// let metrics = HttpMetrics::new("shop");
/// let app: Router = Router::new().route("/orders/{id}", get(|| async { "one" })).layer(metrics.layer());
/// assert_eq!(metrics.stats().requests, 0);
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct HttpMetrics(Arc<Shared>);

impl HttpMetrics {
    /// Metrics with the defaults: status classes, at most [`DEFAULT_MAX_ROUTES`] templates.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::with(name.into(), StatusLabel::default(), DEFAULT_MAX_ROUTES)
    }

    /// Metrics with other settings.
    pub fn builder(name: impl Into<Name>) -> HttpMetricsBuilder {
        HttpMetricsBuilder {
            name: name.into(),
            label: StatusLabel::default(),
            max_routes: DEFAULT_MAX_ROUTES,
        }
    }

    fn with(name: Name, label: StatusLabel, max_routes: usize) -> Self {
        Self(Arc::new(Shared {
            name,
            label,
            routes: Routes::new(max_routes),
            in_flight: Gauge::new(),
            streams: Gauge::new(),
            upgrades: Counter::new(),
        }))
    }

    /// The layer that measures. Add it with `Router::layer`, after the routes: outside of the router the template is
    /// not known yet, and every request would count as `<unmatched>`.
    #[must_use]
    pub fn layer(&self) -> MeasureLayer {
        MeasureLayer::new(self.clone())
    }

    /// The totals over all routes.
    #[must_use]
    pub fn stats(&self) -> HttpStats {
        let shared = &*self.0;
        let mut stats = HttpStats {
            in_flight: shared.in_flight.get().max(0).unsigned_abs(),
            streams: shared.streams.get().max(0).unsigned_abs(),
            ..HttpStats::default()
        };
        for series in
            shared.routes.all().into_iter().flat_map(|route| &route.methods).filter_map(OnceLock::get)
        {
            let classes = series.by_class();
            stats.requests += classes.iter().sum::<u64>();
            stats.client_errors += classes[3];
            stats.server_errors += classes[4];
            stats.disconnects += series.disconnects.get();
            stats.panics += series.panics.get();
            stats.bytes += series.bytes.get();
            stats.duration.merge(&series.duration.snapshot());
        }
        stats
    }

    /// Takes note of a request that begins.
    pub(super) fn begin(&self, template: Option<&str>, method: &Method) -> Flight {
        self.0.in_flight.add(1);
        Flight {
            route: self.0.routes.id_of(template),
            method: method_index(method),
            shared: Arc::clone(&self.0),
            began: time::now(),
            status: None,
            bytes: 0,
            kind: FlightKind::Request,
            ended: false,
        }
    }
}

impl Component for HttpMetrics {
    fn id(&self) -> ComponentId {
        ComponentId::new("http", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let shared = &*self.0;
        for route in shared.routes.all() {
            for (method, series) in METHODS.iter().zip(&route.methods) {
                if let Some(series) = series.get() {
                    series.collect(sink, &route.template, method);
                }
            }
        }
        sink.gauge(&families::IN_FLIGHT, &[], shared.in_flight.get().max(0) as f64);
        sink.gauge(&families::STREAMS, &[], shared.streams.get().max(0) as f64);
        sink.counter(&families::UPGRADES, &[], shared.upgrades.get());
        sink.gauge(&families::ROUTES, &[], shared.routes.used() as f64);
    }
}

/// Settings of [`HttpMetrics`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpMetricsBuilder {
    name: Name,
    label: StatusLabel,
    max_routes: usize,
}

impl HttpMetricsBuilder {
    /// What the label `status` says; the class by default.
    pub const fn status_label(mut self, label: StatusLabel) -> Self {
        self.label = label;
        self
    }

    /// How many route templates get series of their own, 1 to 65,536; [`DEFAULT_MAX_ROUTES`] by default.
    pub const fn max_routes(mut self, limit: usize) -> Self {
        self.max_routes = limit;
        self
    }

    /// Makes the metrics.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value is outside its range.
    pub fn build(self) -> Result<HttpMetrics, InvalidConfig> {
        if !(1..=65_536).contains(&self.max_routes) {
            return Err(InvalidConfig::new("max_routes", self.max_routes, "1 to 65536"));
        }
        Ok(HttpMetrics::with(self.name, self.label, self.max_routes))
    }
}

/// Totals of [`HttpMetrics`] at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HttpStats {
    /// Requests answered.
    pub requests: u64,
    /// Answers from 400 to 499.
    pub client_errors: u64,
    /// Answers from 500 on.
    pub server_errors: u64,
    /// Clients that went away before the last byte.
    pub disconnects: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// Requests being served at that moment.
    pub in_flight: u64,
    /// Event streams open at that moment.
    pub streams: u64,
    /// Time to the last byte, in seconds.
    pub duration: HistogramSnapshot,
}

impl HttpStats {
    /// What came since `earlier`; the levels are those of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let Self {
            requests,
            client_errors,
            server_errors,
            disconnects,
            panics,
            bytes,
            in_flight,
            streams,
            duration,
        } = self;
        Self {
            requests: requests.saturating_sub(earlier.requests),
            client_errors: client_errors.saturating_sub(earlier.client_errors),
            server_errors: server_errors.saturating_sub(earlier.server_errors),
            disconnects: disconnects.saturating_sub(earlier.disconnects),
            panics: panics.saturating_sub(earlier.panics),
            bytes: bytes.saturating_sub(earlier.bytes),
            in_flight: *in_flight,
            streams: *streams,
            duration: duration.since(&earlier.duration),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightKind {
    Request,
    Stream,
}

/// A request under way. Dropped before it ended, it counts as a client that went away, or as a panic while one unwinds.
#[derive(Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
    began: Instant,
    bytes: u64,
    route: RouteId,
    status: Option<StatusCode>,
    method: u8,
    kind: FlightKind,
    ended: bool,
}

impl Flight {
    /// The header fields of the answer are there.
    pub(super) fn headers(&mut self, now: Instant, status: StatusCode, panicked: bool) {
        let series = self.series();
        series.to_headers.record_duration(now.saturating_duration_since(self.began));
        if panicked {
            series.panics.increment();
        }
        self.status = Some(status);
    }

    /// The connection becomes something else: its life is not a request's any more.
    pub(super) fn upgraded(mut self) {
        self.shared.upgrades.increment();
        self.end(None);
    }

    /// The body is an event stream, which lives as long as the client likes.
    pub(super) fn streams(&mut self) {
        self.shared.in_flight.subtract(1);
        self.shared.streams.add(1);
        self.kind = FlightKind::Stream;
    }

    /// Bytes of the body were handed out.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// The last byte was handed out.
    pub(super) fn complete(mut self, now: Instant) {
        self.end(Some(now.saturating_duration_since(self.began)));
    }

    /// The service failed without an answer, or the body broke off: a server error, whatever the status said.
    pub(super) fn failed(mut self, now: Instant) {
        self.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
        self.end(Some(now.saturating_duration_since(self.began)));
    }

    fn series(&self) -> &Series {
        self.shared.series(self.shared.routes.get(self.route), self.method)
    }

    fn end(&mut self, took: Option<Duration>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let series = self.series();
        if let Some(status) = self.status {
            series.count(status);
        }
        if self.bytes > 0 {
            series.bytes.add(self.bytes);
        }
        match (self.kind, took) {
            (FlightKind::Request, Some(took)) => {
                series.duration.record_duration(took);
                self.shared.in_flight.subtract(1);
            }
            (FlightKind::Request, None) => self.shared.in_flight.subtract(1),
            (FlightKind::Stream, _) => self.shared.streams.subtract(1),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            self.series().panics.increment();
            self.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
        } else if self.kind == FlightKind::Request {
            // A client ends an event stream by going away: that is how it is meant to end.
            self.series().disconnects.increment();
        }
        self.end(Some(time::now().saturating_duration_since(self.began)));
    }
}
