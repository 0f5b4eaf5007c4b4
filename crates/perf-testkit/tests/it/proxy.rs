//! The fault proxy in front of an echo server and of a real Redis.

use crate::in_time;
use perf_testkit::{Direction, Fault, FaultProxy, RedisServer};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                let _ended = tokio::io::copy(&mut reader, &mut writer).await;
                let _ended = writer.shutdown().await;
            });
        }
    });
    address
}

async fn proxy() -> FaultProxy {
    FaultProxy::start(echo().await).await.unwrap()
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    in_time(TcpStream::connect(proxy.address())).await.unwrap()
}

async fn say(socket: &mut TcpStream, text: &str) -> std::io::Result<String> {
    socket.write_all(text.as_bytes()).await?;
    hear(socket, text.len()).await
}

async fn hear(socket: &mut TcpStream, n: usize) -> std::io::Result<String> {
    let mut answer = vec![0; n];
    in_time(socket.read_exact(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn stays_silent(socket: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(100), socket.read_u8()).await.is_err()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    assert_eq!(say(&mut socket, "hello").await.unwrap(), "hello");
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert_eq!((proxy.bytes(Direction::ToServer), proxy.bytes(Direction::ToClient)), (5, 5));
    socket.shutdown().await.unwrap();
    assert_eq!(in_time(socket.read(&mut [0; 1])).await.unwrap(), 0, "the end of the stream passes, too");
    in_time(async {
        while proxy.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_delay_holds_each_direction_and_keeps_the_throughput() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set(Fault::Delay(Duration::from_millis(100))).await;
    let start = Instant::now();
    for n in 0..20 {
        socket.write_u8(n).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    hear(&mut socket, 20).await.unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(200), "two delays of 100 ms: {took:?}");
    assert!(took < Duration::from_secs(3), "20 pieces are delayed together, not one after another: {took:?}");
}

#[tokio::test]
async fn a_stall_holds_bytes_until_it_heals() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set_toward(Direction::ToClient, Fault::Stall).await;
    socket.write_all(b"late").await.unwrap();
    assert!(stays_silent(&mut socket).await);
    proxy.clear().await;
    assert_eq!(hear(&mut socket, 4).await.unwrap(), "late");
}

#[tokio::test]
async fn dropped_bytes_never_arrive() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set_toward(Direction::ToServer, Fault::Drop).await;
    socket.write_all(b"lost").await.unwrap();
    assert!(stays_silent(&mut socket).await);
    proxy.clear().await;
    assert_eq!(say(&mut socket, "kept").await.unwrap(), "kept");
    assert_eq!(proxy.bytes(Direction::ToServer), 4);
}

#[tokio::test]
async fn corrupted_bytes_differ_in_one_bit() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set_toward(Direction::ToClient, Fault::Corrupt).await;
    assert_eq!(say(&mut socket, "abc").await.unwrap(), "`bc");
}

#[tokio::test]
async fn a_throttle_bounds_the_rate() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set_toward(Direction::ToServer, Fault::Throttle(10_000)).await;
    let start = Instant::now();
    let text = "x".repeat(2_000);
    assert_eq!(say(&mut socket, &text).await.unwrap(), text);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(150), "2,000 bytes at 10,000 a second: {took:?}");
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_lets_new_ones_in() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    say(&mut socket, "hello").await.unwrap();
    proxy.cut();
    assert_eq!(hear(&mut socket, 1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut next = connect(&proxy).await;
    assert_eq!(say(&mut next, "again").await.unwrap(), "again");
    assert_eq!((proxy.accepted(), proxy.open()), (2, 1));
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_an_answer() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    proxy.set_toward(Direction::ToClient, Fault::CutAfter(7)).await;
    assert_eq!(say(&mut socket, "hello").await.unwrap(), "hello");
    socket.write_all(b"world").await.unwrap();
    assert_eq!(hear(&mut socket, 2).await.unwrap(), "wo");
    assert_eq!(hear(&mut socket, 1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_half_open_connection_swallows_and_stays_dead() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    say(&mut socket, "hello").await.unwrap();
    proxy.set(Fault::HalfOpen).await;
    assert!(stays_silent(&mut socket).await);
    proxy.clear().await;
    socket.write_all(b"anybody?").await.unwrap();
    assert!(stays_silent(&mut socket).await);
    let mut next = connect(&proxy).await;
    assert_eq!(say(&mut next, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn refused_connections_fail_and_open_ones_go_on() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    say(&mut socket, "hello").await.unwrap();
    proxy.set(Fault::Refuse).await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(say(&mut socket, "still").await.unwrap(), "still");
    proxy.clear().await;
    assert_eq!(say(&mut connect(&proxy).await, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_server_that_is_down_resets_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = FaultProxy::start(address).await.unwrap();
    let mut socket = connect(&proxy).await;
    assert_eq!(hear(&mut socket, 1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn everything_ends_with_the_proxy() {
    let proxy = proxy().await;
    let mut socket = connect(&proxy).await;
    say(&mut socket, "hello").await.unwrap();
    let address = proxy.address();
    drop(proxy);
    assert!(matches!(in_time(socket.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    assert!(in_time(TcpStream::connect(address)).await.is_err());
}

#[tokio::test]
async fn a_real_server_is_reached_through_the_proxy() {
    let server = RedisServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    assert_eq!(proxy.url(&server.url()), format!("redis://127.0.0.1:{}/", proxy.port()));
    let mut socket = connect(&proxy).await;
    socket.write_all(b"PING\r\n").await.unwrap();
    assert_eq!(hear(&mut socket, 7).await.unwrap(), "+PONG\r\n");
}
