//! The listener: peers, slow clients, and closing without losing anybody.

use crate::management::ANY;
use crate::support::fetch;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use perf_http::Server;
use perf_metrics::HealthChecks;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A route that says it was reached, and answers when it is told to.
fn held(reached: &Arc<Notify>, release: &Arc<Notify>) -> Router {
    let (reached, release) = (Arc::clone(reached), Arc::clone(release));
    let handler = move || {
        let (reached, release) = (Arc::clone(&reached), Arc::clone(&release));
        async move {
            reached.notify_one();
            release.notified().await;
            "done"
        }
    };
    Router::new().route("/held", get(handler)).route("/", get(|| async { "here" }))
}

#[tokio::test]
async fn handlers_know_their_peer() {
    let handler = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    let serving = Server::bind(ANY).await.unwrap().serve(Router::new().route("/", get(handler)));
    assert_eq!(fetch(serving.address(), "/", &[]).await.body, "127.0.0.1");
}

#[tokio::test]
async fn what_is_under_way_ends_and_nothing_new_begins() {
    let (reached, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let serving = Server::bind(ANY).await.unwrap().serve(held(&reached, &release));
    let address = serving.address();
    let request = tokio::spawn(async move { fetch(address, "/held", &[]).await });
    reached.notified().await;
    let closing = tokio::spawn(serving.shutdown(Duration::from_secs(20)));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    assert_eq!(request.await.unwrap().body, "done");
    assert!(closing.await.unwrap(), "everything ended by itself");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let (reached, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let serving = Server::bind(ANY).await.unwrap().serve(held(&reached, &release));
    let mut stream = TcpStream::connect(serving.address()).await.unwrap();
    stream.write_all(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reached.notified().await;
    assert!(!serving.shutdown(Duration::from_millis(50)).await);
    assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_server_up() {
    let serving = Server::bind(ANY).await.unwrap().serve(Router::new().route("/", get(|| async { "here" })));
    let mut stream = TcpStream::connect(serving.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    assert!(serving.shutdown(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let (reached, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let serving = Server::bind(ANY).await.unwrap().serve(held(&reached, &release));
    let mut stream = TcpStream::connect(serving.address()).await.unwrap();
    stream.write_all(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reached.notified().await;
    drop(serving);
    assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn readiness_fails_first_and_requests_are_served_until_the_listener_closes() {
    let health = Arc::new(HealthChecks::builder().start().unwrap());
    health.ready();
    // An address of its own: on the one all tests share another may take the port as soon as it is free.
    let own = ([127, 0, 1, 1], 0).into();
    let serving = Server::bind(own).await.unwrap().serve(Router::new().route("/", get(|| async { "here" })));
    let address = serving.address();
    let watched = Arc::clone(&health);
    let draining = tokio::spawn(async move {
        serving.drain(&watched, Duration::from_millis(300), Duration::from_secs(20)).await
    });
    while health.readiness().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fetch(address, "/", &[]).await.body, "here", "a balancer that has not noticed yet is served");
    assert!(draining.await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!health.liveness().is_ok(), "stopped is stopped");
}

#[tokio::test]
async fn nonsense_on_the_wire_ends_one_connection_only() {
    let serving = Server::bind(ANY).await.unwrap().serve(Router::new().route("/", get(|| async { "here" })));
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let mut stream = TcpStream::connect(serving.address()).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection is closed");
    }
    assert_eq!(fetch(serving.address(), "/", &[]).await.body, "here");
}
