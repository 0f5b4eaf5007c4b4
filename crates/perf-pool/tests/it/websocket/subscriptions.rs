//! Subscriptions over shared connections: made, made again, moved and refused.

use super::lines::{in_memory, next, pool, small, until};
use crate::fake::ms;
use perf_core::time;
use perf_pool::websocket::{Error, Waiting, WebSocketConfig};
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn a_subscription_hands_out_what_is_published_in_order() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    for n in 0..5 {
        memory.server.publish("trades", &n.to_string());
    }
    for n in 0..5 {
        assert_eq!(next(&mut trades).await, n.to_string());
    }
    assert_eq!((trades.topic(), trades.last_number()), ("trades", Some(5)));
    drop(trades);
    until("unsubscribed", || memory.server.subscriptions() == 0).await;
    assert_eq!(pool.stats().subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn s4_3_replays_come_first_and_in_order() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut kept = Vec::new();
    for topic in ["c", "a", "b"] {
        kept.push(pool.subscribe(topic).await.unwrap());
    }
    memory.away.store(true, Ordering::SeqCst);
    memory.server.cut();
    until("gone", || pool.stats().connecting == 1).await;
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.send("echo 0 hello").await })
    };
    time::sleep(ms(50)).await;
    memory.away.store(false, Ordering::SeqCst);
    waiting.await.unwrap().unwrap();
    until("said", || memory.server.log().iter().any(|line| line.contains("hello"))).await;
    let second: Vec<String> = memory
        .server
        .log()
        .iter()
        .filter(|line| line.starts_with("2 "))
        .map(|line| line.split(' ').nth(3).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(second, ["c", "a", "b", "hello"]);
}

#[tokio::test(start_paused = true)]
async fn s4_3_a_subscription_is_asked_for_again_until_it_is_acknowledged() {
    let memory = in_memory();
    let pool = pool(&memory, |config| config.ack_timeout = ms(1000));
    memory.server.acknowledge_nothing(true);
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.subscribe("trades").await })
    };
    time::sleep(ms(3_500)).await;
    assert_eq!(pool.stats().ack_timeouts, 3);
    memory.server.acknowledge_nothing(false);
    let mut trades = waiting.await.unwrap().unwrap();
    memory.server.publish("trades", "1");
    assert_eq!(next(&mut trades).await, "1");

    memory.server.acknowledge_nothing(true);
    let began = time::now();
    let error = pool.subscribe("never").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { waiting: Waiting::Acknowledgement, .. }), "{error:?}");
    assert_eq!(began.elapsed(), WebSocketConfig::DEFAULT_CALL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn s4_3_a_refused_subscription_says_so_in_the_servers_words() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut trades = pool.subscribe("trades").await.unwrap();
    memory.server.refuse(Some("forbidden"));
    let error = pool.subscribe("secrets").await.unwrap_err();
    assert_eq!(error.to_string(), "the server refused: forbidden");
    memory.server.cut();
    assert_eq!(
        next(&mut trades).await,
        "ended: the server refused: forbidden",
        "a replay may be refused too"
    );
    assert_eq!(pool.stats().subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn s4_3_on_the_death_of_one_connection_the_others_take_over() {
    let memory = in_memory();
    let pool = pool(&memory, |config| {
        (config.min, config.max, config.max_streams, config.streams_per_connection) = (3, 3, 100, 100);
    });
    pool.warm_up().await.unwrap();
    let mut subscriptions = Vec::new();
    for topic in 0..60 {
        subscriptions.push(pool.subscribe(format!("t{topic}")).await.unwrap());
    }
    assert_eq!(pool.loads(), [20, 20, 20]);
    memory.away.store(true, Ordering::SeqCst);
    memory.server.cut_oldest();
    until("the others have them", || pool.loads() == [30, 30] && memory.server.subscriptions() == 60).await;
    for (topic, subscription) in subscriptions.iter_mut().enumerate() {
        memory.server.publish(&format!("t{topic}"), "x");
        assert_eq!(next(subscription).await, "x");
    }
    memory.away.store(false, Ordering::SeqCst);
    until("evened out", || pool.loads() == [20, 20, 20]).await;
    assert_eq!(pool.stats().gaps, 0);
}

#[tokio::test(start_paused = true)]
async fn two_subscriptions_of_one_topic_get_everything_and_one_may_end() {
    let memory = in_memory();
    let pool = small(&memory);
    let mut first = pool.subscribe("trades").await.unwrap();
    let mut second = pool.subscribe("trades").await.unwrap();
    memory.server.publish("trades", "1");
    assert_eq!((next(&mut first).await, next(&mut second).await), ("1".into(), "1".into()));
    drop(first);
    time::sleep(ms(50)).await;
    memory.server.publish("trades", "2");
    assert_eq!(next(&mut second).await, "2");
}
