//! Heartbeats, reconnecting, rotation and the number of shared connections.

use super::lines::{in_memory, next, pool, small, until};
use crate::fake::ms;
use perf_core::{Component, Status, time};
use perf_pool::websocket::Error;
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn s4_1_a_silent_server_is_pinged_and_one_that_stands_still_is_left() {
    let memory = in_memory();
    let pool = pool(&memory, |config| {
        config.heartbeat_interval = ms(30_000);
        config.heartbeat_timeout = ms(10_000);
    });
    let mut trades = pool.subscribe("trades").await.unwrap();
    time::sleep(ms(600_000)).await;
    let stats = pool.stats();
    assert!((20..=26).contains(&stats.pings), "{stats:?}");
    assert_eq!(stats.ended_stalled, 0, "it answered every one");
    memory.server.stall(true);
    time::sleep(ms(41_000)).await;
    assert_eq!(pool.stats().ended_stalled, 1);
    memory.server.stall(false);
    memory.server.publish("trades", "after");
    assert_eq!(next(&mut trades).await, "after");
}

#[tokio::test(start_paused = true)]
async fn s4_1_pings_and_closes_are_answered_while_a_subscriber_does_not_read() {
    let memory = in_memory();
    let pool = pool(&memory, |config| config.capacity = 4);
    let mut slow = pool.subscribe("slow").await.unwrap();
    let mut quick = pool.subscribe("quick").await.unwrap();
    for n in 0..500 {
        memory.server.publish("slow", &n.to_string());
        memory.server.publish("quick", &n.to_string());
        assert_eq!(next(&mut quick).await, n.to_string(), "the other stream is not held up");
    }
    memory.server.ping();
    until("its ping is answered", || memory.server.pongs() == 1).await;
    time::sleep(ms(120_000)).await;
    assert_eq!(pool.stats().ended_stalled, 0, "the connection lived on");
    memory.server.close(1001, "");
    until("closed", || pool.stats().ended_by_server == 1).await;
    for n in 0..500 {
        assert_eq!(next(&mut slow).await, n.to_string(), "and nothing of the slow one is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn s4_2_a_cut_connection_is_made_again_and_its_subscriptions_with_it() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut subscriptions = Vec::new();
    for topic in 0..100 {
        subscriptions.push(pool.subscribe(format!("t{topic}")).await.unwrap());
    }
    for round in 0..5 {
        memory.server.cut();
        until("all are back", || memory.server.subscriptions() == 100).await;
        for (topic, subscription) in subscriptions.iter_mut().enumerate() {
            memory.server.publish(&format!("t{topic}"), &round.to_string());
            assert_eq!(next(subscription).await, round.to_string());
        }
    }
    assert_eq!((pool.stats().ended_cut, pool.stats().gaps), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn s4_2_a_server_that_is_away_is_asked_seldom_and_found_again() {
    let memory = in_memory();
    let pool = pool(&memory, |config| config.retry_cap = ms(10_000));
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.away.store(true, Ordering::SeqCst);
    memory.server.cut();
    time::sleep(ms(60_000)).await;
    let failed = pool.stats().connect_failed;
    assert!((5..=40).contains(&failed), "full jitter between 10 ms and 10 s: {failed}");
    assert_eq!(pool.health().status(), Status::Down);
    memory.server.publish("trades", "while away");
    memory.away.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut trades).await, "while away", "asked for from the bookmark on");
    assert_eq!(pool.health().status(), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn s4_2_a_fatal_close_code_ends_everything_and_says_why() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.close(4401, "token expired");
    assert_eq!(
        next(&mut trades).await,
        "ended: the server closed the connection for good: 4401 token expired"
    );
    let error = pool.subscribe("more").await.unwrap_err();
    assert!(matches!(error, Error::Fatal { code: 4401, .. }), "{error:?}");
    assert_eq!(pool.health().status(), Status::Down);
    time::sleep(ms(60_000)).await;
    assert_eq!(memory.server.accepted(), 1, "and nobody tries again");
}

#[tokio::test(start_paused = true)]
async fn s4_2_a_hint_of_the_server_is_kept_to() {
    let memory = in_memory();
    let pool = small(&memory);
    let _trades = pool.subscribe("trades").await.unwrap();
    memory.server.close(1013, "overloaded, retry after 30s");
    time::sleep(ms(29_000)).await;
    assert_eq!(memory.server.accepted(), 1);
    time::sleep(ms(3_000)).await;
    assert_eq!(memory.server.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn s4_5_rotation_loses_nothing_and_repeats_nothing_with_and_without_numbers() {
    for numbered in [true, false] {
        let memory = in_memory();
        if !numbered {
            memory.server.without_numbers();
        }
        let pool = pool(&memory, |config| config.max_age = Some(ms(5_000)));
        let mut trades = pool.subscribe("trades").await.unwrap();
        let mut expected = 0;
        for n in 0..4_000_u32 {
            memory.server.publish("trades", &n.to_string());
            if n % 3 == 0 {
                time::sleep(ms(10)).await;
            }
            while expected < n.saturating_sub(20) {
                assert_eq!(next(&mut trades).await, expected.to_string(), "numbered: {numbered}");
                expected += 1;
            }
        }
        let stats = pool.stats();
        assert!(stats.rotated >= 2 && stats.moved >= 2, "{stats:?}");
        assert_eq!((stats.gaps, stats.ended_cut), (0, 0), "{stats:?}");
        until("the old ones are closed", || memory.server.connections() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s4_5_a_server_that_says_good_bye_is_left_before_it_hangs_up() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.say("bye");
    until("moved", || pool.stats().moved == 1 && memory.server.connections() == 1).await;
    memory.server.publish("trades", "still here");
    assert_eq!(next(&mut trades).await, "still here");
    assert_eq!(pool.stats().ended_by_us, 1);
}

#[tokio::test(start_paused = true)]
async fn s4_7_connections_are_added_by_load_and_given_up_when_it_is_gone() {
    let memory = in_memory();
    let pool = pool(&memory, |config| {
        (config.max, config.streams_per_connection, config.max_streams) = (4, 10, 20);
        config.shrink_after = ms(30_000);
    });
    let mut subscriptions = Vec::new();
    for topic in 0..40 {
        subscriptions.push(pool.subscribe(format!("t{topic}")).await.unwrap());
    }
    until("four connections", || pool.loads().len() == 4).await;
    until("evened out", || pool.loads().iter().max() < Some(&14)).await;
    subscriptions.truncate(5);
    until("one connection", || pool.loads() == [5] && memory.server.connections() == 1).await;
    for (topic, subscription) in subscriptions.iter_mut().enumerate() {
        memory.server.publish(&format!("t{topic}"), "x");
        assert_eq!(next(subscription).await, "x");
    }
    assert_eq!((pool.stats().gaps, pool.stats().ended_cut), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_protocol_that_panics_costs_a_connection_and_nothing_else() {
    crate::fake::hush_scripted_panics();
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.say("boom");
    until("it has panicked", || pool.stats().panicked == 1).await;
    memory.server.publish("trades", "alive");
    assert_eq!(next(&mut trades).await, "alive");
}
