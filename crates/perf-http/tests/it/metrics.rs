//! Request metrics: what is counted, under which labels, and when.

use crate::support::{get, send, text};
use axum::Router;
use axum::body::Body;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get as on_get};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use perf_core::{Component, ComponentId, Desc, Histogram, Label, Sink};
use perf_http::measure::{StatusLabel, families};
use perf_http::{CatchPanicLayer, HttpMetrics};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::ServiceExt;

/// Every series as text, in the spelling of Prometheus.
#[derive(Default)]
struct Page(BTreeMap<String, f64>);

impl Page {
    fn of(component: &dyn Component) -> Self {
        let mut page = Self::default();
        component.collect(&mut page);
        page
    }

    fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_else(|| panic!("no {series} in {:?}", self.0.keys()))
    }

    fn put(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.0.insert(format!("{}{{{}}}", desc.name, labels.join(",")), value);
    }
}

impl Sink for Page {
    fn begin(&mut self, _: &ComponentId) {}

    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64) {
        self.put(desc, labels, total as f64);
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        self.put(desc, labels, value);
    }

    fn histogram(&mut self, desc: &Desc, labels: &[Label<'_>], histogram: &Histogram) {
        self.put(desc, labels, histogram.snapshot().count() as f64);
    }

    fn seconds(&mut self, desc: &Desc, labels: &[Label<'_>], total: Duration) {
        self.put(desc, labels, total.as_secs_f64());
    }
}

fn app(metrics: &HttpMetrics) -> Router {
    Router::new()
        .route("/orders/{id}", any(|| async { "one" }))
        .route("/slow", on_get(|| async { tokio::time::sleep(Duration::from_secs(2)).await }))
        .route("/panics", on_get(panics))
        .route("/stream", on_get(|| async { Body::new(Chunks { left: 3, broken: false }) }))
        .route("/broken", on_get(|| async { Body::new(Chunks { left: 3, broken: true }) }))
        .route("/events", on_get(|| async { Sse::new(Forever) }))
        .layer(CatchPanicLayer)
        .layer(metrics.layer())
}

async fn panics() -> StatusCode {
    panic!("the handler panics, as the test wants it to")
}

/// A body of chunks of four bytes, a second apart.
struct Chunks {
    left: u8,
    broken: bool,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(self.broken.then(|| Err(std::io::Error::other("broken off"))));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"four")))))
    }
}

/// Events without end.
struct Forever;

impl futures_core::Stream for Forever {
    type Item = Result<Event, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Event::default().data("x"))))
    }
}

#[tokio::test(start_paused = true)]
async fn requests_count_under_their_template_method_and_class() {
    let metrics = HttpMetrics::new("test");
    let app = app(&metrics);
    for id in 0..50 {
        assert_eq!(text(get(&app, &format!("/orders/{id}")).await).await, "one");
    }
    let page = Page::of(&metrics);
    assert_eq!(page.get("perf_http_requests_total{route=/orders/{id},method=GET,status=2xx}"), 50.0);
    assert_eq!(page.get("perf_http_requests_total{route=/orders/{id},method=GET,status=5xx}"), 0.0);
    assert_eq!(page.get("perf_http_request_duration_seconds{route=/orders/{id},method=GET}"), 50.0);
    assert_eq!(page.get("perf_http_response_body_bytes_total{route=/orders/{id},method=GET}"), 150.0);
    assert_eq!(page.get("perf_http_routes{}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_of_strangers_never_become_labels() {
    let metrics = HttpMetrics::new("test");
    let app = app(&metrics);
    for n in 0..1000 {
        drop(get(&app, &format!("/wp-admin/{n}.php")).await);
        let method = Method::from_bytes(format!("HACK{n}").as_bytes()).unwrap();
        drop(send(&app, "192.0.2.1", Request::builder().method(method).uri("/orders/1")).await);
    }
    let page = Page::of(&metrics);
    assert_eq!(page.get("perf_http_requests_total{route=<unmatched>,method=GET,status=4xx}"), 1000.0);
    assert_eq!(page.get("perf_http_requests_total{route=/orders/{id},method=_OTHER,status=2xx}"), 1000.0);
    assert!(page.0.len() < 30, "{:?}", page.0.keys());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_dropped_requests_leave_nothing_in_flight() {
    let metrics = HttpMetrics::new("test");
    let app = app(&metrics);
    for _ in 0..10_000 {
        let mut request = Box::pin(get(&app, "/slow"));
        assert!(futures_util::poll!(&mut request).is_pending());
        drop(request);
    }
    let stats = metrics.stats();
    assert_eq!((stats.in_flight, stats.disconnects, stats.requests), (0, 10_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_body_is_a_client_that_went_away() {
    let metrics = HttpMetrics::new("test");
    let response = get(&app(&metrics), "/stream").await;
    assert_eq!(metrics.stats().in_flight, 1);
    drop(response);
    let stats = metrics.stats();
    assert_eq!((stats.in_flight, stats.disconnects, stats.requests), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_duration_is_that_to_the_last_byte() {
    let metrics = HttpMetrics::new("test");
    let response = get(&app(&metrics), "/stream").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(text(response).await, "fourfourfour");
    let stats = metrics.stats();
    assert!((stats.duration.sum() - 3.0).abs() < 0.01, "{}", stats.duration.sum());
    assert_eq!((stats.bytes, stats.disconnects), (12, 0));
    let page = Page::of(&metrics);
    assert_eq!(page.get("perf_http_time_to_headers_seconds{route=/stream,method=GET}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_server_error() {
    let metrics = HttpMetrics::new("test");
    let response = get(&app(&metrics), "/broken").await;
    assert!(axum::body::to_bytes(response.into_body(), 100).await.is_err());
    assert_eq!((metrics.stats().server_errors, metrics.stats().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_500_that_is_counted_as_a_panic() {
    let metrics = HttpMetrics::new("test");
    let response = get(&app(&metrics), "/panics").await;
    assert_eq!(response.status(), 500);
    assert!(!text(response).await.contains("as the test wants"));
    let stats = metrics.stats();
    assert_eq!((stats.panics, stats.server_errors, stats.in_flight, stats.disconnects), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_nobody_catches_is_counted_all_the_same() {
    let metrics = HttpMetrics::new("test");
    let app = Router::new().route("/", on_get(panics)).layer(metrics.layer());
    let task = tokio::spawn(async move { get(&app, "/").await });
    assert!(task.await.unwrap_err().is_panic());
    let stats = metrics.stats();
    assert_eq!((stats.panics, stats.in_flight, stats.disconnects), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn event_streams_stay_out_of_the_latency() {
    let metrics = HttpMetrics::new("test");
    let response = get(&app(&metrics), "/events").await;
    assert_eq!((metrics.stats().in_flight, metrics.stats().streams), (0, 1));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    drop(response);
    let stats = metrics.stats();
    assert_eq!((stats.streams, stats.disconnects, stats.requests, stats.duration.count()), (0, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn bodies_the_server_never_reads_do_not_look_like_lost_clients() {
    let metrics = HttpMetrics::new("test");
    let app = Router::new()
        .route("/none", on_get(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/same",
            on_get(|| async { (StatusCode::NOT_MODIFIED, Body::new(Chunks { left: 1, broken: false })) }),
        )
        .route("/head", on_get(|| async { Body::new(Chunks { left: 1, broken: false }) }))
        .layer(metrics.layer());
    drop(get(&app, "/none").await);
    drop(get(&app, "/same").await);
    drop(send(&app, "192.0.2.1", Request::head("/head")).await);
    let stats = metrics.stats();
    assert_eq!((stats.requests, stats.disconnects, stats.in_flight), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_a_server_error() {
    let metrics = HttpMetrics::new("test");
    let failing = tower::service_fn(|_: Request<Body>| async { Err::<http::Response<Body>, _>("no") });
    let layer = tower_layer::Layer::layer(&metrics.layer(), failing);
    assert!(layer.oneshot(Request::new(Body::empty())).await.is_err());
    assert_eq!((metrics.stats().server_errors, metrics.stats().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn codes_are_labels_when_asked_for() {
    let metrics = HttpMetrics::builder("test").status_label(StatusLabel::Code).build().unwrap();
    let app = app(&metrics);
    drop(text(get(&app, "/orders/1").await).await);
    drop(get(&app, "/nothing").await);
    let page = Page::of(&metrics);
    assert_eq!(page.get("perf_http_requests_total{route=/orders/{id},method=GET,status=200}"), 1.0);
    assert_eq!(page.get("perf_http_requests_total{route=<unmatched>,method=GET,status=404}"), 1.0);
    assert_eq!((metrics.stats().requests, metrics.stats().client_errors), (2, 1));
    assert!(HttpMetrics::builder("test").max_routes(0).build().is_err());
}

#[test]
fn what_is_collected_is_what_the_table_says() {
    let metrics = HttpMetrics::new("test");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(text(get(&app(&metrics), "/orders/1").await).await) });
    let collected: BTreeSet<String> =
        Page::of(&metrics).0.into_keys().map(|series| series.split('{').next().unwrap().to_owned()).collect();
    let described: BTreeSet<String> = families::ALL.iter().map(|desc| desc.name.to_owned()).collect();
    assert_eq!(collected, described);
    let documented: BTreeSet<String> = include_str!("../../src/measure/state.rs")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("/// | `perf_http_")?.split('`').next().map(|name| format!("perf_http_{name}"))
        })
        .collect();
    assert_eq!(documented, described);
}

#[test]
fn the_page_of_the_documentation_lists_every_family() {
    let rate = perf_http::rate::families::ALL;
    let described: BTreeSet<&str> = families::ALL.iter().chain(&rate).map(|desc| desc.name).collect();
    let listed: BTreeSet<&str> = include_str!("../../../../docs/http.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("perf_http_"))
        .collect();
    assert_eq!(listed, described);
}
