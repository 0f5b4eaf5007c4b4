//! The other layers, alone and in their order.

use crate::support::{get, json, send, text};
use axum::routing::{get as on_get, post};
use axum::{Extension, Router};
use http::{Request, StatusCode};
use perf_core::{Deadline, Reason, Rejected, time};
use perf_http::{
    DeadlineLayer, Quota, Refusal, RequestId, RequestIdLayer, ServerTimingLayer, Standard, TrustedProxies,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_request_without_an_identifier_gets_one_everywhere() {
    let handler = |Extension(id): Extension<RequestId>| async move { id.to_string() };
    let app = Router::new().route("/", on_get(handler)).layer(RequestIdLayer::new());
    let response = get(&app, "/").await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!((id.len(), text(response).await), (36, id));
}

#[tokio::test(start_paused = true)]
async fn identifiers_are_believed_from_trusted_proxies_only() {
    let proxies = TrustedProxies::parse(["10.0.0.1"]).unwrap();
    let app = Router::new().route("/", on_get(|| async {})).layer(RequestIdLayer::behind(proxies));
    let answered = async |peer: &str, id: &str| {
        let response = send(&app, peer, Request::get("/").header("x-request-id", id)).await;
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(answered("10.0.0.1", "abc-1").await, "abc-1");
    assert_ne!(answered("10.0.0.2", "abc-1").await, "abc-1");
    assert_ne!(answered("10.0.0.1", "a b").await, "a b");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = Request::get("/").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    assert_eq!(
        send(&app, "10.0.0.1", traced.header("x-request-id", "abc")).await.headers()["x-request-id"],
        trace
    );
}

#[tokio::test(start_paused = true)]
async fn the_timing_field_says_milliseconds_and_keeps_what_was_there() {
    let slow = || async {
        time::sleep(Duration::from_millis(25)).await;
        [("server-timing", "db;dur=20")]
    };
    let app = Router::new().route("/", on_get(slow)).layer(ServerTimingLayer::new());
    let response = get(&app, "/").await;
    let fields: Vec<_> = response.headers().get_all("server-timing").iter().collect();
    assert_eq!(fields, ["db;dur=20", "app;dur=25.0"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_too_long_is_dropped_and_answered_with_504() {
    struct Raise(Arc<AtomicBool>);
    impl Drop for Raise {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let hangs = move || {
        let raise = Raise(Arc::clone(&flag));
        async move {
            std::future::pending::<()>().await;
            drop(raise);
        }
    };
    let app =
        Router::new().route("/", on_get(hangs)).layer(DeadlineLayer::new(Duration::from_secs(2)).unwrap());
    let began = time::now();
    let response = get(&app, "/").await;
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(json(response).await["reason"], "deadline_exceeded");
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_shorten_its_time_and_never_lengthen_it() {
    let handler = |Extension(deadline): Extension<Deadline>| async move {
        deadline.remaining(time::now()).unwrap().as_millis().to_string()
    };
    let app =
        Router::new().route("/", on_get(handler)).layer(DeadlineLayer::new(Duration::from_secs(2)).unwrap());
    for (field, value, expected) in [
        ("x-nothing", "", "2000"),
        ("request-timeout", "250ms", "250"),
        ("request-timeout", "1h", "2000"),
        ("request-timeout", "soon", "2000"),
        ("grpc-timeout", "100m", "100"),
    ] {
        let response = send(&app, "192.0.2.1", Request::get("/").header(field, value)).await;
        assert_eq!(text(response).await, expected, "{field}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_above_the_limit_are_refused_announced_or_not() {
    let stack = Standard::builder("test").body_limit(10).build().unwrap();
    let app = Router::new().route("/", post(|body: String| async move { body })).layer(stack);
    let sent = async |body: axum::body::Body| {
        use tower::ServiceExt;
        app.clone().oneshot(Request::post("/").body(body).unwrap()).await.unwrap().status()
    };
    assert_eq!(sent("0123456789".into()).await, 200);
    assert_eq!(sent("0123456789a".into()).await, StatusCode::PAYLOAD_TOO_LARGE);
    let chunked = axum::body::Body::new(http_body_util::StreamBody::new(Chunked(3)));
    assert_eq!(sent(chunked).await, StatusCode::PAYLOAD_TOO_LARGE);
}

/// Chunks of eight bytes of a body whose length nobody announced.
struct Chunked(u8);

impl futures_core::Stream for Chunked {
    type Item = Result<http_body::Frame<bytes::Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let frame = (self.0 > 0).then(|| Ok(http_body::Frame::data(bytes::Bytes::from_static(b"8 bytes."))));
        self.0 = self.0.saturating_sub(1);
        std::task::Poll::Ready(frame)
    }
}

async fn refuses() -> Result<(), Refusal> {
    Err(Rejected::new(Reason::Full, "orders").retry_after(Duration::from_millis(1500)))?
}

async fn panics() -> StatusCode {
    panic!("the handler panics, as the test wants it to")
}

#[tokio::test(start_paused = true)]
async fn the_standard_stack_measures_and_identifies_everything_it_refuses() {
    let quota = Quota::per_minute(4).named("api");
    let stack = Standard::builder("test").quota(quota).timeout(Duration::from_secs(1)).build().unwrap();
    let metrics = stack.metrics().clone();
    let app = Router::new()
        .route("/full", on_get(refuses))
        .route("/panics", on_get(panics))
        .route("/hangs", on_get(std::future::pending::<()>))
        .layer(stack);
    let mut statuses = Vec::new();
    for path in ["/full", "/panics", "/hangs", "/nothing", "/full"] {
        let response = get(&app, path).await;
        assert!(response.headers().contains_key("x-request-id"), "{path}");
        assert!(response.headers().contains_key("server-timing"), "{path}");
        statuses.push(response.status().as_u16());
        drop(text(response).await);
    }
    assert_eq!(statuses, [503, 500, 504, 404, 429]);
    let stats = metrics.stats();
    assert_eq!((stats.requests, stats.client_errors, stats.server_errors, stats.panics), (5, 2, 3, 1));
    assert_eq!(stats.in_flight, 0);
}

#[cfg(feature = "compression")]
mod compression {
    use super::*;
    use axum::body::Body;
    use axum::response::IntoResponse;
    use perf_http::{CompressLayer, NeverCompress};

    fn app() -> Router {
        let long = || "compress me ".repeat(1000);
        Router::new()
            .route("/long", on_get(move || async move { long() }))
            .route("/short", on_get(|| async { "short" }))
            .route("/png", on_get(move || async move { ([("content-type", "image/png")], long()) }))
            .route(
                "/fixed",
                on_get(move || async move { ([("cache-control", "public, No-Transform")], long()) }),
            )
            .route("/secret", on_get(move || async move { (NeverCompress, long()).into_response() }))
            .route(
                "/events",
                on_get(move || async move { ([("content-type", "text/event-stream")], long()) }),
            )
            .layer(CompressLayer::new())
    }

    async fn encoding(path: &str, accepted: &str) -> Option<String> {
        let response =
            send(&app(), "192.0.2.1", Request::get(path).header("accept-encoding", accepted)).await;
        response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_are_compressed_as_the_client_likes() {
        for encoding_name in ["gzip", "br", "zstd"] {
            assert_eq!(encoding("/long", encoding_name).await.as_deref(), Some(encoding_name));
        }
        assert_eq!(encoding("/long", "identity").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_gains_nothing_or_leaks_is_left_alone() {
        for path in ["/short", "/png", "/fixed", "/secret", "/events"] {
            assert_eq!(encoding(path, "gzip, br, zstd").await, None, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_counted_as_they_are_sent() {
        let stack = Standard::builder("test").build().unwrap();
        let metrics = stack.metrics().clone();
        let app = Router::new().route("/", on_get(|| async { Body::from("x".repeat(100_000)) })).layer(stack);
        let response = send(&app, "192.0.2.1", Request::get("/").header("accept-encoding", "gzip")).await;
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert_eq!(metrics.stats().bytes, bytes.len() as u64);
        assert!(bytes.len() < 1000);
    }
}
