//! What a subscription hands out when its reader is slow or something is missing.

use super::lines::{in_memory, next, pool, small, until};
use crate::fake::ms;
use perf_core::time;
use perf_pool::websocket::{Key, Policy, Topic};
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn s4_4_block_pauses_only_its_own_stream_and_goes_on_where_it_was() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut slow = pool.subscribe(Topic::new("slow").capacity(8)).await.unwrap();
    for n in 0..8 {
        memory.server.publish("slow", &n.to_string());
    }
    until("paused", || memory.server.subscribers("slow") == 0).await;
    for n in 8..100 {
        memory.server.publish("slow", &n.to_string());
    }
    for n in 0..100 {
        assert_eq!(next(&mut slow).await, n.to_string());
    }
    assert!(pool.stats().paused >= 1);
    assert_eq!((pool.stats().gaps, pool.stats().dropped), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn s4_4_what_a_server_cannot_repeat_is_told_as_a_gap() {
    let memory = in_memory();
    memory.server.keep(3);
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.publish("trades", "1");
    assert_eq!(next(&mut trades).await, "1");
    memory.away.store(true, Ordering::SeqCst);
    memory.server.cut();
    until("gone", || pool.stats().connecting == 1).await;
    for n in 2..=10 {
        memory.server.publish("trades", &n.to_string());
    }
    memory.away.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut trades).await, "Gap { last_seen: 1, next: 8 }");
    assert_eq!(next(&mut trades).await, "8");
    assert_eq!((pool.stats().gaps, pool.stats().missed), (1, 6));
}

#[tokio::test(start_paused = true)]
async fn s4_4_a_gap_in_the_stream_is_told_and_disorder_is_not_one() {
    let memory = in_memory();
    let pool = pool(&memory, |config| config.reorder = 16);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.reorder(8);
    for n in 1..=64 {
        memory.server.publish_quietly("trades", &n.to_string());
    }
    memory.server.flush();
    for n in 1..=64 {
        assert_eq!(next(&mut trades).await, n.to_string());
    }
    memory.server.skip("trades", 3);
    memory.server.publish("trades", "68");
    assert_eq!(next(&mut trades).await, "Gap { last_seen: 64, next: 68 }", "once the wait is over");
    assert_eq!(next(&mut trades).await, "68");
}

#[tokio::test(start_paused = true)]
async fn s4_4_policies_drop_and_say_how_many() {
    let memory = in_memory();
    let pool = small(&memory);
    let topic = |name: &str, policy| Topic::new(name).policy(policy).capacity(2);
    let mut oldest = pool.subscribe(topic("oldest", Policy::DropOldest)).await.unwrap();
    let mut newest = pool.subscribe(topic("newest", Policy::DropNewest)).await.unwrap();
    let mut latest = pool.subscribe(topic("latest", Policy::Conflate(Key::latest()))).await.unwrap();
    let mut strict = pool.subscribe(topic("strict", Policy::Disconnect)).await.unwrap();
    for name in ["oldest", "newest", "latest", "strict"] {
        for n in 1..=5 {
            memory.server.publish(name, &n.to_string());
        }
    }
    until("all are here", || pool.stats().messages >= 18).await;
    time::sleep(ms(10)).await;
    assert_eq!((next(&mut oldest).await, next(&mut oldest).await), ("Lagged(3)".into(), "4".into()));
    assert_eq!((next(&mut newest).await, next(&mut newest).await), ("1".into(), "2".into()));
    assert_eq!(next(&mut newest).await, "Lagged(3)");
    assert_eq!(next(&mut latest).await, "5");
    assert_eq!((next(&mut strict).await, next(&mut strict).await), ("1".into(), "2".into()));
    assert_eq!(next(&mut strict).await, "ended: the subscription was not read in time");
    let stats = pool.stats();
    assert_eq!((stats.dropped, stats.conflated, stats.subscriptions), (6, 4, 3));
}

#[tokio::test(start_paused = true)]
async fn s4_4_without_numbers_a_lost_connection_is_told() {
    let memory = in_memory();
    memory.server.without_numbers();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.publish("trades", "1");
    assert_eq!(next(&mut trades).await, "1");
    memory.server.cut();
    assert_eq!(next(&mut trades).await, "Interrupted");
    memory.server.publish("trades", "2");
    assert_eq!(next(&mut trades).await, "2");
}

#[tokio::test(start_paused = true)]
async fn s4_4_a_server_that_lost_its_memory_counts_anew() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    for n in 1..=3 {
        memory.server.publish("trades", &n.to_string());
        next(&mut trades).await;
    }
    memory.away.store(true, Ordering::SeqCst);
    memory.server.cut();
    memory.server.forget();
    memory.away.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut trades).await, "Restarted { last_seen: Some(3), next: 1 }");
    memory.server.publish("trades", "first again");
    assert_eq!(next(&mut trades).await, "first again");
}

#[tokio::test(start_paused = true)]
async fn s4_4_a_bookmark_goes_on_where_an_earlier_subscription_ended() {
    let memory = in_memory();
    for n in 1..=5 {
        memory.server.publish("trades", &n.to_string());
    }
    let pool = small(&memory);
    let mut trades = pool.subscribe(Topic::new("trades").after(3)).await.unwrap();
    assert_eq!((next(&mut trades).await, next(&mut trades).await), ("4".into(), "5".into()));
}
