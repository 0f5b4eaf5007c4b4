//! WebSocket connections for exclusive use.

use super::lines::{Lines, in_memory, until};
use crate::fake::ms;
use perf_core::time;
use perf_pool::Pool;
use perf_pool::websocket::{WebSocket, WebSocketPool};

#[tokio::test(start_paused = true)]
async fn s4_7_an_exclusive_lease_speaks_and_listens_alone_and_leaves_nothing_unread() {
    let memory = in_memory();
    let manager = WebSocket::new("ws://memory").unwrap().connect_with(memory.clone());
    let pool = Pool::builder(manager).max(1).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    lease.send("echo 1 read").await.unwrap();
    assert_eq!(lease.next().await.unwrap().to_string(), "re 1 read");
    lease.send("echo 2 unread").await.unwrap();
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    lease.send("echo 3 mine").await.unwrap();
    assert_eq!(lease.next().await.unwrap().to_string(), "re 3 mine", "what the last user left was dropped");
    assert_eq!((pool.stats().connected, pool.stats().reset), (1, 1));
    drop(lease);
    assert_eq!(pool.close().await.unreturned, []);
}

#[tokio::test(start_paused = true)]
async fn s4_7_a_cut_connection_is_broken_and_replaced() {
    let memory = in_memory();
    let manager = WebSocket::new("ws://memory").unwrap().connect_with(memory.clone());
    let pool = Pool::builder(manager).max(1).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    memory.server.cut();
    assert!(lease.next().await.is_err());
    drop(lease);
    assert_eq!(pool.stats().closed_broken, 1);
    let mut lease = pool.acquire().await.unwrap();
    lease.send("echo 1 back").await.unwrap();
    assert_eq!(lease.next().await.unwrap().to_string(), "re 1 back");
    drop(lease);
    until("in order", || pool.stats().idle == 1).await;
    memory.server.stall(true);
    time::sleep(ms(200_000)).await;
    assert!(pool.stats().closed_check_failed >= 1, "a server that stands still fails the keepalive");
    assert!(WebSocket::new("http://x").is_err());
}

#[test]
fn what_may_be_secret_in_a_url_is_not_shown() {
    let shown = [
        format!("{:?}", WebSocket::new("wss://app:hunter2@feed.example/v1?token=7b1f").unwrap()),
        format!("{:?}", WebSocketPool::builder(["wss://app:hunter2@feed.example/v1?token=7b1f"], Lines)),
        WebSocket::new("https://app:hunter2@feed.example/v1?token=7b1f").unwrap_err().to_string(),
        WebSocketPool::builder(["https://app:hunter2@feed.example/v1?token=7b1f"], Lines)
            .build()
            .unwrap_err()
            .to_string(),
    ];
    for text in shown {
        assert!(text.contains("://feed.example/v1"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("7b1f"), "{text}");
    }
}
