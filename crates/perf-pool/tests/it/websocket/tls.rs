//! `wss://` against a real server over loopback: who is trusted, and what becomes of a handshake that fails.

use super::lines::{Lines, next, until};
use perf_core::time::{self, Duration};
use perf_core::{Component, Status};
use perf_pool::Pool;
use perf_pool::websocket::{
    Ended, Error, Tls, Tungstenite, Waiting, WebSocket, WebSocketConfig, WebSocketPool,
};
use perf_testkit::WebSocketServer;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn trusting() -> Tungstenite {
    Tungstenite::new().tls(Tls::without_roots().trust(WebSocketServer::CA_PEM).unwrap())
}

fn pool(urls: &[String], connect: Tungstenite, change: impl FnOnce(&mut WebSocketConfig)) -> WebSocketPool {
    let mut config = WebSocketConfig::default();
    (config.retry_base, config.retry_cap) = (Duration::from_millis(5), Duration::from_millis(50));
    change(&mut config);
    WebSocketPool::builder(urls, Lines).connect(connect).config(config).build().unwrap()
}

/// A server that takes connections and does this with them once the client has begun its handshake.
async fn rude(hang_up: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}", listener.local_addr().unwrap().port());
    let taken = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            socket.read_u8().await.unwrap();
            if !hang_up {
                kept.push(socket);
            }
        }
    });
    (url, taken)
}

#[tokio::test]
async fn s4_tls_a_trusted_server_is_used_and_found_again_after_a_cut() {
    let server = WebSocketServer::start_tls().await.unwrap();
    let pool = pool(&[server.url()], trusting(), |_| {});
    let mut prices = pool.subscribe("prices").await.unwrap();
    server.publish("prices", "1.07");
    assert_eq!(next(&mut prices).await, "1.07");
    server.cut();
    until("cut", || pool.stats().ended_cut == 1).await;
    until("subscribed again", || server.subscriptions() == 1).await;
    server.publish("prices", "1.08");
    assert_eq!(next(&mut prices).await, "1.08");
    pool.close().await;

    let exclusive = WebSocket::new(server.url()).unwrap().connect_with(trusting());
    let exclusive = Pool::builder(exclusive).max(1).build().unwrap();
    let mut lease = exclusive.acquire().await.unwrap();
    lease.send("echo 1 alone").await.unwrap();
    assert_eq!(lease.next().await.unwrap().to_string(), "re 1 alone");
}

#[tokio::test]
async fn s4_tls_a_wrong_name_and_an_unknown_authority_end_everything_at_the_first_attempt() {
    let server = WebSocketServer::start_tls().await.unwrap();
    // The certificate is for localhost.
    let by_address = server.url().replace("localhost", "127.0.0.1");
    for (url, connect, words) in
        [(by_address, trusting(), "not valid for"), (server.url(), Tungstenite::new(), "UnknownIssuer")]
    {
        let pool = pool(std::slice::from_ref(&url), connect.clone(), |config| config.min = 2);
        let error = pool.subscribe("prices").await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(words), "{cause}");
        until("both connections are given up", || pool.stats().connecting == 0).await;
        assert_eq!((pool.stats().connect_failed, server.connections()), (2, 0), "each tried once");
        assert!(matches!(pool.send("late").await, Err(Error::Unreachable { .. })));

        let exclusive = Pool::builder(WebSocket::new(url).unwrap().connect_with(connect)).build().unwrap();
        let began = time::now();
        assert!(exclusive.acquire().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(5), "a caller does not wait for what cannot be");
    }
}

#[tokio::test]
async fn s4_tls_one_endpoint_that_is_not_trusted_leaves_the_others_at_work() {
    let (server, plain) =
        (WebSocketServer::start_tls().await.unwrap(), WebSocketServer::start().await.unwrap());
    let pool = pool(&[server.url(), plain.url()], Tungstenite::new(), |config| config.min = 2);
    let mut prices = pool.subscribe("prices").await.unwrap();
    until("both are open", || pool.stats().open == 2).await;
    assert_eq!((server.connections(), plain.connections(), pool.stats().connect_failed), (0, 2, 1));
    plain.down();
    until("cut", || pool.stats().ended_cut == 2).await;
    plain.up().await.unwrap();
    until("subscribed again", || plain.subscriptions() == 1).await;
    assert_eq!(server.connections(), 0, "it is not asked again");
    let stats = pool.stats();
    assert_eq!((stats.endpoints_available + stats.endpoints_out, stats.endpoints_given_up), (1, 1));
    until("well, but for that", || pool.health().reason().contains("as they are configured: 1")).await;
    assert_eq!(pool.health().status(), Status::Degraded);
    plain.publish("prices", "1.07");
    assert_eq!(next(&mut prices).await, "1.07");
    pool.close().await;
    assert!(matches!(prices.next().await, Err(Ended::Closed)));
}

#[tokio::test]
async fn s4_tls_a_handshake_that_is_cut_or_never_ends_is_bounded_and_tried_again() {
    for (hang_up, words) in [(true, "TLS"), (false, "deadline passed")] {
        let (url, taken) = rude(hang_up).await;
        let pool = pool(&[url], trusting(), |config| {
            config.connect_timeout = Duration::from_millis(60);
            config.call_timeout = Duration::from_millis(400);
        });
        let error = pool.subscribe("prices").await.unwrap_err();
        assert!(matches!(error, Error::Timeout { waiting: Waiting::Connection, .. }), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(words), "{cause}");
        let taken = taken.load(Ordering::SeqCst);
        assert!((2..=60).contains(&taken), "tried again, with a rest between: {taken}");
        pool.close().await;
    }
}

#[test]
fn s4_tls_what_is_trusted_has_to_be_certificates() {
    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let said = Tls::new().trust(bad).unwrap_err().to_string();
        assert!(said.contains("trust") && said.contains("PEM"), "{said}");
    }
    assert!(Tls::new().trust(WebSocketServer::CA_PEM).is_ok());
}

#[tokio::test]
async fn s4_tls_a_configuration_of_the_hosts_own_decides_alone() {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let server = WebSocketServer::start_tls().await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(WebSocketServer::CA_PEM.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Tls::custom(Arc::new(config));
    let said = tls.clone().trust(WebSocketServer::CA_PEM).unwrap_err().to_string();
    assert!(said.contains("after `custom`"), "{said}");
    let pool = pool(&[server.url()], Tungstenite::new().tls(tls), |_| {});
    pool.warm_up().await.unwrap();
    assert_eq!(server.connections(), 1);
    pool.close().await;
}
