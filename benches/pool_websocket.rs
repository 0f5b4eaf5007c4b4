//! Ten shared WebSocket connections with ten thousand subscriptions each, against a server in the same process that cuts,
//! stalls, reorders and restarts. Prints what was delivered per second in peace, and whether anything was lost in war.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark may fail, and prints"
)]

use perf_core::time::{self, Duration};
use perf_pool::websocket::{
    Delivery, Incoming, Message, Position, Protocol, Subscription, WebSocketConfig, WebSocketPool,
};
use perf_testkit::{ServerWord, WebSocketServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const CONNECTIONS: usize = 10;
const EACH: usize = 10_000;

/// The words of the server: see `WebSocketServer`.
struct Lines;

impl Protocol for Lines {
    fn subscribe(&self, id: u64, topic: &str, after: Option<u64>) -> Message {
        Message::text(ServerWord::subscribe(id, topic, after))
    }

    fn unsubscribe(&self, id: u64, topic: &str) -> Message {
        Message::text(ServerWord::unsubscribe(id, topic))
    }

    fn read<'m>(&self, message: &'m Message) -> Incoming<'m> {
        match ServerWord::read(message.to_text().unwrap_or_default()) {
            ServerWord::Event { topic, number } => Incoming::Event { topic, sequence: number },
            ServerWord::Subscribed { id, next, .. } => {
                let position = next.map_or(Position::Unknown, Position::Next);
                Incoming::Reply { id, refused: None, position }
            }
            _ => Incoming::Other,
        }
    }
}

/// What all followers have seen together.
#[derive(Default)]
struct Seen {
    messages: AtomicU64,
    missed: AtomicU64,
    wrong: AtomicU64,
    /// Followers that have seen the number set as `last`.
    done: AtomicU64,
    last: AtomicU64,
}

async fn follow(mut subscription: Subscription, seen: Arc<Seen>) {
    let mut at = 0;
    let mut counted = false;
    loop {
        match subscription.next().await {
            Ok(Delivery::Message(message)) => {
                let number: u64 = message.to_text().unwrap().split(' ').nth(2).unwrap().parse().unwrap();
                seen.wrong.fetch_add(u64::from(number != at + 1), Ordering::Relaxed);
                at = number;
                seen.messages.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Delivery::Gap { last_seen, next }) => {
                seen.wrong.fetch_add(u64::from(last_seen != at), Ordering::Relaxed);
                seen.missed.fetch_add(next - 1 - last_seen, Ordering::Relaxed);
                at = next - 1;
            }
            Ok(_) => {
                seen.wrong.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return,
        }
        let last = seen.last.load(Ordering::Relaxed);
        if last > 0 && at >= last && !counted {
            counted = true;
            seen.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    (config.min, config.max) = (CONNECTIONS, CONNECTIONS);
    // Room for what moves over when one of the ten is gone.
    (config.streams_per_connection, config.max_streams) = (EACH, EACH * 2);
    config.max_unacknowledged = 2_000;
    config.call_timeout = Duration::from_secs(60);
    config.ack_timeout = Duration::from_secs(30);
    (config.reorder, config.reorder_wait) = (16, Duration::from_millis(500));
    (config.retry_base, config.retry_cap) = (Duration::from_millis(20), Duration::from_millis(500));
    (config.heartbeat_interval, config.heartbeat_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    config
}

async fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = time::now() + limit;
    while !is_so() {
        if time::now() >= end {
            return false;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    true
}

fn publish(server: &WebSocketServer, topics: &[String], repeat: usize) {
    for topic in topics {
        for _ in 0..repeat {
            server.publish_quietly(topic, "1.0742 1.0744");
        }
    }
    server.flush();
}

/// Publishes in bursts of a thousand topics, never more than a few bursts ahead of what has been seen. Returns messages
/// per second.
async fn peace(server: &WebSocketServer, topics: &[String], seen: &Seen, rounds: usize) -> f64 {
    let before = seen.messages.load(Ordering::Relaxed);
    let start = time::now();
    let mut sent = 0_u64;
    for _ in 0..rounds {
        for burst in topics.chunks(1_000) {
            publish(server, burst, 1);
            sent += burst.len() as u64;
            while sent > seen.messages.load(Ordering::Relaxed) - before + 20_000 {
                tokio::task::yield_now().await;
            }
        }
    }
    let all = until(Duration::from_secs(30), || seen.messages.load(Ordering::Relaxed) - before == sent).await;
    assert!(all, "{sent} published, {} delivered", seen.messages.load(Ordering::Relaxed) - before);
    sent as f64 / start.elapsed().as_secs_f64()
}

/// Publishes on, two messages of each topic at a time so that reordering bites, while the server misbehaves.
async fn war(server: &WebSocketServer, topics: &Arc<Vec<String>>, pool: &WebSocketPool) {
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn({
        let (server, topics, stop) = (server.clone(), Arc::clone(topics), Arc::clone(&stop));
        async move {
            'all: loop {
                for burst in topics.chunks(500) {
                    if stop.load(Ordering::Relaxed) {
                        break 'all;
                    }
                    publish(&server, burst, 2);
                    time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let total = topics.len();
    let carried = || pool.stats().waiting == 0 && server.subscriptions() >= total;
    let rest = |millis| time::sleep(Duration::from_millis(millis));
    server.reorder(6);
    server.cut_oldest();
    rest(1_000).await;
    server.cut();
    rest(500).await;
    assert!(until(Duration::from_secs(60), carried).await, "after a cut");
    server.stall(true);
    rest(5_000).await;
    server.stall(false);
    assert!(until(Duration::from_secs(60), carried).await, "after a stall");
    server.down();
    rest(1_500).await;
    server.up().await.unwrap();
    assert!(until(Duration::from_secs(60), carried).await, "after a restart");
    server.close(1012, "restart, retry after 50ms");
    rest(500).await;
    assert!(until(Duration::from_secs(60), carried).await, "after a close");
    stop.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
}

async fn run() {
    let server = WebSocketServer::start().await.unwrap();
    // Little, so that whoever is away for long misses something.
    server.keep(4);
    let pool = WebSocketPool::builder([server.url()], Lines).config(config()).build().unwrap();
    pool.warm_up().await.unwrap();
    let seen = Arc::new(Seen::default());
    let topics: Arc<Vec<String>> =
        Arc::new((0..CONNECTIONS * EACH).map(|topic| format!("topic-{topic}")).collect());
    let start = time::now();
    let followers = topics.iter().map(|topic| {
        let (pool, topic, seen) = (pool.clone(), topic.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let subscription = pool.subscribe(topic).await.expect("a subscription");
            follow(subscription, seen).await;
        })
    });
    let followers: Vec<_> = followers.collect();
    assert!(until(Duration::from_secs(60), || server.subscriptions() == topics.len()).await, "subscribed");
    println!(
        "pool_websocket: {} subscriptions on {} connections in {:.2} s",
        topics.len(),
        pool.loads().len(),
        start.elapsed().as_secs_f64()
    );
    let mut rates = Vec::new();
    for _ in 0..5 {
        rates.push(peace(&server, &topics, &seen, 2).await);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "ratio pool_websocket.delivered_per_second ours={:.0} required=100000 ours/required={:.2}",
        rates[2],
        rates[2] / 100_000.0
    );

    let before = pool.stats();
    war(&server, &topics, &pool).await;
    // Five numbers that were never sent, and a last message by which everybody learns what there was.
    let highest = topics.iter().map(|topic| server.last_number(topic)).max().unwrap();
    for topic in topics.iter() {
        server.skip(topic, highest + 5 - server.last_number(topic));
    }
    seen.last.store(highest + 6, Ordering::Relaxed);
    publish(&server, &topics, 1);
    let all =
        until(Duration::from_secs(30), || seen.done.load(Ordering::Relaxed) == topics.len() as u64).await;
    let settled = until(Duration::from_secs(30), || server.subscriptions() == topics.len()).await;
    assert!(settled, "{} subscriptions at the server", server.subscriptions());
    let stats = pool.stats().since(&before);
    let (messages, missed) = (seen.messages.load(Ordering::Relaxed), seen.missed.load(Ordering::Relaxed));
    let published = (highest + 6) * topics.len() as u64;
    println!(
        "pool_websocket: {} cut, {} stalled, {} closed by the server; {} subscriptions made again, {} moved",
        stats.ended_cut, stats.ended_stalled, stats.ended_by_server, stats.subscribed, stats.moved
    );
    println!(
        "pool_websocket: {} of {} subscriptions alive; numbered {published} = delivered {messages} + told missing {missed}; {} out of order",
        seen.done.load(Ordering::Relaxed),
        topics.len(),
        seen.wrong.load(Ordering::Relaxed)
    );
    assert!(
        all && messages + missed == published && seen.wrong.load(Ordering::Relaxed) == 0,
        "{:?}",
        pool.stats()
    );
    pool.close().await;
    for follower in followers {
        follower.await.unwrap();
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(run()).await.unwrap() });
}
