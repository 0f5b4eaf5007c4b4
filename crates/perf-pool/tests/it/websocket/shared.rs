//! The shared pool as a whole: refusals, its end, its numbers, its configuration.

use super::lines::{in_memory, next, pool, small, until};
use crate::fake::ms;
use perf_core::{Component, time};
use perf_pool::websocket::{Error, METRICS, Message, WebSocketConfig, WebSocketPool};
use perf_testkit::cancel_at_every_await;

#[tokio::test(start_paused = true)]
async fn a_full_pool_refuses_and_a_closed_one_too() {
    let memory = in_memory();
    let pool = pool(&memory, |config| {
        (config.max, config.streams_per_connection, config.max_streams) = (1, 2, 2);
    });
    let mut first = pool.subscribe("a").await.unwrap();
    let _second = pool.subscribe("b").await.unwrap();
    assert!(pool.subscribe("c").await.unwrap_err().rejected().is_some());
    pool.close().await;
    pool.close().await;
    assert_eq!(next(&mut first).await, "ended: the pool is closed");
    assert!(pool.subscribe("d").await.unwrap_err().rejected().is_some());
    assert!(pool.try_send("x").is_err());
    until("all connections are closed", || memory.server.connections() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_closes_the_pool_and_its_tasks_end() {
    let memory = in_memory();
    let pool = small(&memory);
    let trades = pool.subscribe("trades").await.unwrap();
    drop(pool);
    time::sleep(ms(1000)).await;
    assert_eq!(memory.server.connections(), 1, "a subscription is a handle");
    drop(trades);
    until("closed", || memory.server.connections() == 0).await;
    time::sleep(ms(100)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_or_request_dropped_at_any_await_leaves_nothing_behind() {
    let memory = in_memory();
    let pool = small(&memory);
    pool.warm_up().await.unwrap();
    for _ in 0..50 {
        drop(time::timeout(ms(0), pool.subscribe("dropped")).await);
        drop(time::timeout(ms(0), pool.request(|id| Message::text(format!("echo {id} x")))).await);
    }
    let start = || {
        let pool = pool.clone();
        ((), perf_testkit::step_by_step(async move { pool.subscribe("dropped").await.map(drop) }))
    };
    cancel_at_every_await(start, async |(), _| ()).await;
    until("nothing is left", || pool.stats().subscriptions == 0 && memory.server.subscriptions() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn every_series_of_the_websocket_table_is_collected_from_the_first_time_on() {
    let memory = in_memory();
    let pool = small(&memory);
    let plain = perf_pool::Pool::builder(crate::fake::Fake::new()).build().unwrap();
    let page = include_str!("../../../../../docs/pool.md");
    let balanced = perf_pool::balance::BalancedPool::new("balanced", vec![plain.clone()]);
    perf_testkit::assert_all_metrics_documented(&[&plain, &balanced, &pool], page);
    assert!(METRICS.iter().all(|desc| page.contains(desc.name)));
    assert_eq!(pool.id().to_string(), "websocket `websocket`");
}

#[test]
fn bad_configuration_is_named() {
    let memory = in_memory();
    let bad = |change: fn(&mut WebSocketConfig)| {
        super::lines::builder(&memory, change).build().unwrap_err().to_string()
    };
    assert!(bad(|config| config.max = 0).contains("max = 0"));
    assert!(bad(|config| config.min = 9).contains("min = 9, allowed: 1 to 4"));
    assert!(bad(|config| config.heartbeat_timeout = ms(0)).contains("heartbeat_timeout"));
    assert!(bad(|config| config.retry_cap = ms(1)).contains("retry_cap"));
    let urls = |urls: &[&str]| {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        WebSocketPool::builder(urls, super::lines::Lines).build().unwrap_err().to_string()
    };
    assert!(urls(&[]).contains("at least one"));
    assert!(urls(&["http://a"]).contains("http://a"));
    assert!(urls(&["ws://"]).contains("ws://host"));
}

#[test]
fn outside_a_runtime_there_is_an_error_and_no_panic() {
    let memory = in_memory();
    let pool = small(&memory);
    assert!(matches!(pool.try_send("x"), Err(Error::NoRuntime { .. })));
    drop(pool);
}
