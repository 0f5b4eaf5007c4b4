//! The rate limit as clients see it.

use crate::support::{json, send};
use axum::Router;
use axum::routing::get;
use http::Request;
use perf_http::rate::{Key, families};
use perf_http::{Quota, RateLimit, TrustedProxies};
use std::time::Duration;

fn app(limit: &RateLimit) -> Router {
    Router::new().route("/", get(|| async { "ok" })).layer(limit.layer())
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_is_answered_with_everything_a_client_needs() {
    let limit = RateLimit::builder("api").quota(Quota::per_second(1).burst(2).named("api")).build().unwrap();
    let app = app(&limit);
    for left in ["1", "0"] {
        let response = send(&app, "192.0.2.1", Request::get("/")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["ratelimit"], format!("\"api\";r={left};t=1"));
        assert_eq!(response.headers()["ratelimit-policy"], "\"api\";q=2;w=2");
    }
    let response = send(&app, "192.0.2.1", Request::get("/")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["ratelimit"], "\"api\";r=0;t=1");
    let problem = json(response).await;
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"][0], "api");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&app, "192.0.2.1", Request::get("/")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn waiting_as_long_as_told_is_enough() {
    for count in [1, 3, 7, 50] {
        let limit = RateLimit::builder("api").quota(Quota::per_minute(count).burst(1)).build().unwrap();
        let app = app(&limit);
        assert_eq!(send(&app, "192.0.2.1", Request::get("/")).await.status(), 200);
        let refused = send(&app, "192.0.2.1", Request::get("/")).await;
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(wait)).await;
        assert_eq!(send(&app, "192.0.2.1", Request::get("/")).await.status(), 200, "{count} per minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_header_changes_nothing() {
    let limit = RateLimit::builder("api").quota(Quota::per_minute(1)).build().unwrap();
    let app = app(&limit);
    let from = |forged: &str| Request::get("/").header("x-forwarded-for", forged);
    assert_eq!(send(&app, "192.0.2.1", from("1.1.1.1")).await.status(), 200);
    assert_eq!(send(&app, "192.0.2.1", from("2.2.2.2")).await.status(), 429);
    assert_eq!(send(&app, "192.0.2.2", from("1.1.1.1")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn behind_a_proxy_the_client_is_told_by_the_last_hop() {
    let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    let limit =
        RateLimit::builder("api").quota(Quota::per_minute(1)).key(Key::behind(proxies)).build().unwrap();
    let app = app(&limit);
    let from = |forwarded: &str| Request::get("/").header("x-forwarded-for", forwarded);
    assert_eq!(send(&app, "10.0.0.1", from("198.51.100.1")).await.status(), 200);
    assert_eq!(send(&app, "10.0.0.1", from("9.9.9.9, 198.51.100.1")).await.status(), 429);
    assert_eq!(send(&app, "10.0.0.1", from("198.51.100.2")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn requests_can_cost_different_amounts_and_clients_be_told_by_key() {
    let by_key = Key::from_fn(|head| head.headers.get("x-api-key").map(|key| key.as_bytes().to_vec()));
    let limit = RateLimit::builder("api")
        .quota(Quota::per_minute(10))
        .key(by_key)
        .cost(|head| if head.uri.query().is_some() { 10 } else { 1 })
        .build()
        .unwrap();
    let app = app(&limit);
    let get = |path: &'static str, key: &'static str| Request::get(path).header("x-api-key", key);
    assert_eq!(send(&app, "192.0.2.1", get("/?export", "a")).await.status(), 200);
    assert_eq!(send(&app, "192.0.2.1", get("/", "a")).await.status(), 429);
    assert_eq!(send(&app, "192.0.2.1", get("/", "b")).await.status(), 200);
    assert_eq!(limit.stats().unkeyed, 0);
    assert_eq!(send(&app, "192.0.2.1", Request::get("/")).await.status(), 200);
    assert_eq!(limit.stats().unkeyed, 1);
}

#[test]
fn the_table_names_every_family() {
    let source = include_str!("../../src/rate/state.rs");
    for desc in families::ALL {
        assert!(source.contains(&format!("/// | `{}` |", desc.name)), "{}", desc.name);
    }
}
