//! The same over TCP, with a server that is cut, stalled, reordered and restarted while it publishes. Time is real here.

use super::lines::{Lines, until};
use perf_core::time::{self, Duration};
use perf_pool::websocket::{Delivery, Subscription, WebSocketConfig, WebSocketPool};
use perf_testkit::WebSocketServer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TOPICS: usize = 300;

/// Follows a topic from its first number on, and fails on anything but the next message or an exact gap. Returns how many
/// messages and how many missing ones it has seen.
async fn follow(mut subscription: Subscription, last: Arc<AtomicU64>) -> (u64, u64) {
    let (mut seen, mut got, mut missed) = (0, 0, 0);
    loop {
        let wanted = last.load(Ordering::SeqCst);
        if wanted > 0 && seen >= wanted {
            return (got, missed);
        }
        match time::timeout(Duration::from_millis(200), subscription.next()).await {
            Err(_) => {}
            Ok(Ok(Delivery::Message(message))) => {
                let number: u64 = message.to_text().unwrap().split(' ').nth(2).unwrap().parse().unwrap();
                assert_eq!(number, seen + 1, "in order, once, nothing missing without a word");
                (seen, got) = (number, got + 1);
            }
            Ok(Ok(Delivery::Gap { last_seen, next })) => {
                assert_eq!(last_seen, seen);
                (seen, missed) = (next - 1, missed + next - 1 - last_seen);
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_no_subscription_is_lost_and_gaps_are_exact_while_the_server_cuts_stalls_reorders_and_restarts() {
    let server = WebSocketServer::start().await.unwrap();
    server.reorder(4);
    server.keep(20);
    let mut config = WebSocketConfig::default();
    (config.min, config.max, config.max_streams, config.streams_per_connection) = (3, 3, 300, 200);
    (config.reorder, config.capacity) = (16, 64);
    (config.retry_base, config.retry_cap) = (Duration::from_millis(5), Duration::from_millis(100));
    (config.heartbeat_interval, config.heartbeat_timeout) =
        (Duration::from_millis(100), Duration::from_millis(150));
    config.max_age = Some(Duration::from_millis(900));
    let pool = WebSocketPool::builder([server.url()], Lines).config(config).build().unwrap();
    pool.warm_up().await.unwrap();
    let last = Arc::new(AtomicU64::new(0));
    let mut followers = Vec::new();
    for topic in 0..TOPICS {
        let subscription = pool.subscribe(format!("t{topic}")).await.unwrap();
        followers.push(tokio::spawn(follow(subscription, Arc::clone(&last))));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn({
        let (server, stop) = (server.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                for topic in 0..TOPICS {
                    let topic = format!("t{topic}");
                    server.publish_quietly(&topic, "a");
                    server.publish_quietly(&topic, "b");
                }
                server.flush();
                time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let rest = |millis| time::sleep(Duration::from_millis(millis));
    for round in 0..3 {
        rest(150).await;
        server.cut_oldest();
        rest(150).await;
        server.cut();
        rest(200).await;
        server.stall(true);
        rest(450).await;
        server.stall(false);
        rest(200).await;
        server.down();
        rest(200 + 100 * round).await;
        server.up().await.unwrap();
        rest(200).await;
        server.close(1012, "restart, retry after 20ms");
        rest(150).await;
        server.skip("t7", 5);
    }
    stop.store(true, Ordering::SeqCst);
    publisher.await.unwrap();
    until("all are subscribed", || pool.stats().waiting == 0 && server.subscriptions() >= TOPICS).await;
    // One more of each, so that everybody learns what there was.
    for topic in 0..TOPICS {
        let topic = format!("t{topic}");
        if topic != "t7" {
            server.skip(&topic, 15);
        }
        server.publish(&topic, "end");
    }
    last.store(server.last_number("t0"), Ordering::SeqCst);
    let (mut got, mut missed) = (0, 0);
    for follower in followers {
        let (messages, gaps) = time::timeout(Duration::from_secs(20), follower).await.unwrap().unwrap();
        assert_eq!(messages + gaps, server.last_number("t0"), "every number is a message or in a gap");
        (got, missed) = (got + messages, missed + gaps);
    }
    let stats = pool.stats();
    assert!(got > 10_000 && missed > 0, "{got} {missed}");
    assert!(stats.ended_stalled >= 1 && stats.ended_cut >= 3 && stats.ended_by_server >= 1, "{stats:?}");
    assert_eq!((stats.subscriptions, stats.waiting, stats.missed), (0, 0, missed), "{stats:?}");
    pool.close().await;
}
