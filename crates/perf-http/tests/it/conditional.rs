//! Answers the client has already.

use crate::support::{send, text};
use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{Request, StatusCode};
use perf_http::{ConditionalLayer, Standard};

fn app() -> Router {
    let dated =
        || async { ([("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("etag", "\"mine\"")], "dated") };
    Router::new()
        .route(
            "/",
            get(|| async { ([("cache-control", "max-age=60"), ("x-more", "1")], "the same each time") }),
        )
        .route("/dated", get(dated))
        .route("/error", get(|| async { (StatusCode::NOT_FOUND, "none") }))
        .route("/large", get(|| async { "x".repeat(2000) }))
        .route("/change", post(|| async { "changed" }))
        .layer(ConditionalLayer::new().limit(1000))
}

async fn tag_of(path: &str) -> Option<String> {
    let response = send(&app(), "192.0.2.1", Request::get(path)).await;
    response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_the_answer_gets_304_without_it() {
    let tag = tag_of("/").await.unwrap();
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    for sent in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
        let response = send(&app(), "192.0.2.1", Request::get("/").header("if-none-match", sent)).await;
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers()["etag"], *tag);
        assert_eq!(response.headers()["cache-control"], "max-age=60");
        assert!(
            !response.headers().contains_key("content-type") && !response.headers().contains_key("x-more")
        );
        assert_eq!(text(response).await, "");
    }
    let other = send(&app(), "192.0.2.1", Request::get("/").header("if-none-match", "\"other\"")).await;
    assert_eq!((other.status().as_u16(), text(other).await.as_str()), (200, "the same each time"));
}

#[tokio::test(start_paused = true)]
async fn head_has_the_tag_of_get() {
    let head = send(&app(), "192.0.2.1", Request::head("/")).await;
    assert_eq!(head.headers()["etag"].to_str().unwrap(), tag_of("/").await.unwrap());
    assert_eq!(head.headers()["content-length"], "18");
}

#[tokio::test(start_paused = true)]
async fn a_handlers_own_tag_and_date_are_used() {
    assert_eq!(tag_of("/dated").await.as_deref(), Some("\"mine\""));
    let since = Request::get("/dated").header("if-modified-since", "Mon, 07 Nov 1994 08:49:37 GMT");
    assert_eq!(send(&app(), "192.0.2.1", since).await.status(), 304);
    let failed = Request::get("/dated").header("if-match", "\"another\"");
    assert_eq!(send(&app(), "192.0.2.1", failed).await.status(), 412);
}

#[tokio::test(start_paused = true)]
async fn errors_changes_and_large_answers_are_left_alone() {
    assert_eq!(tag_of("/error").await, None);
    assert_eq!(tag_of("/large").await, None);
    let change = send(&app(), "192.0.2.1", Request::post("/change").header("if-none-match", "*")).await;
    assert_eq!((change.status().as_u16(), change.headers().get("etag")), (200, None));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_before_it_is_sent_is_an_error() {
    struct Broken;
    impl http_body::Body for Broken {
        type Data = bytes::Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>> {
            std::task::Poll::Ready(Some(Err(std::io::Error::other("broken off"))))
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(10)
        }
    }
    let app = Router::new().route("/", get(|| async { Body::new(Broken) })).layer(ConditionalLayer::new());
    assert_eq!(send(&app, "192.0.2.1", Request::get("/")).await.status(), 500);
}

#[cfg(feature = "compression")]
#[tokio::test(start_paused = true)]
async fn a_compressed_answer_has_a_weak_tag_that_still_matches() {
    let stack = Standard::builder("test").build().unwrap();
    let app = Router::new().route("/", get(|| async { "compress me ".repeat(1000) })).layer(stack);
    let ask = || Request::get("/").header("accept-encoding", "gzip");
    let first = send(&app, "192.0.2.1", ask()).await;
    assert_eq!(first.headers()["content-encoding"], "gzip");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let again = send(&app, "192.0.2.1", ask().header("if-none-match", tag)).await;
    assert_eq!((again.status().as_u16(), text(again).await.as_str()), (304, ""));
}

#[tokio::test(start_paused = true)]
async fn the_stack_tags_unless_it_is_told_not_to() {
    for (enabled, expected) in [(true, true), (false, false)] {
        let stack = Standard::builder("test").etag(enabled).build().unwrap();
        let app = Router::new().route("/", get(|| async { "hello" })).layer(stack);
        let response = send(&app, "192.0.2.1", Request::get("/")).await;
        assert_eq!(response.headers().contains_key("etag"), expected);
    }
}
