//! Subscriptions and requests over shared connections.

use super::lines::{InMemory, in_memory, next, pool, until};
use crate::fake::ms;
use perf_core::time;
use perf_core::{Component, Status};
use perf_pool::websocket::{
    Error, Key, METRICS, Message, Policy, Topic, Waiting, WebSocketConfig, WebSocketPool,
};
use perf_testkit::cancel_at_every_await;
use std::sync::atomic::Ordering;

fn small(memory: &InMemory) -> WebSocketPool {
    pool(memory, |_| {})
}

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
async fn s4_6_requests_get_their_own_answers() {
    let memory = in_memory();
    let pool = small(&memory);
    let ask = |n: u32| {
        let pool = pool.clone();
        async move { pool.request(|id| Message::text(format!("echo {id} {n}"))).await.unwrap().to_string() }
    };
    let answers = futures_util::future::join_all((0..100).map(ask)).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.split(' ').nth(2), Some(n.to_string().as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn s4_6_the_answer_to_a_cancelled_request_is_dropped_not_misdelivered() {
    let memory = in_memory();
    let pool = small(&memory);
    pool.warm_up().await.unwrap();
    memory.server.stall(true);
    for n in 0..10 {
        let request = pool.request(|id| Message::text(format!("echo {id} cancelled{n}")));
        assert!(time::timeout(ms(20), request).await.is_err());
    }
    memory.server.stall(false);
    let answer = pool.request(|id| Message::text(format!("echo {id} mine"))).await.unwrap();
    assert!(answer.to_string().ends_with("mine"), "{answer}");
    until("the others came late", || pool.stats().late_replies == 10).await;
}

#[tokio::test(start_paused = true)]
async fn s4_6_a_request_has_a_deadline_and_a_lost_connection_is_told() {
    let memory = in_memory();
    let pool = small(&memory);
    pool.warm_up().await.unwrap();
    memory.server.stall(true);
    let began = time::now();
    let error =
        pool.request_until(|id| Message::text(format!("echo {id} x")), began + ms(700)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { waiting: Waiting::Reply, .. }), "{error:?}");
    assert_eq!(began.elapsed(), ms(700));
    let lost = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.request(|id| Message::text(format!("echo {id} y"))).await })
    };
    time::sleep(ms(100)).await;
    memory.server.cut();
    assert!(matches!(lost.await.unwrap().unwrap_err(), Error::Disconnected { .. }));
}

#[tokio::test(start_paused = true)]
async fn s4_6_a_full_send_queue_makes_senders_wait_or_fail_as_they_wish() {
    let memory = in_memory();
    let pool = pool(&memory, |config| {
        config.send_queue = 4;
        config.call_timeout = ms(1000);
        config.heartbeat_interval = ms(600_000);
    });
    pool.warm_up().await.unwrap();
    memory.server.stall(true);
    let large = "x".repeat(40_000);
    let mut refused = 0;
    for _ in 0..12 {
        refused += u32::from(pool.try_send(large.as_str()).is_err());
        time::sleep(ms(1)).await;
    }
    assert!(refused > 0, "the socket is full and the queue is bounded");
    let error = pool.send(large.as_str()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { waiting: Waiting::Room, .. }), "{error:?}");
    memory.server.stall(false);
    pool.send("echo 1 hello").await.unwrap();
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
        ((), async move { pool.subscribe("dropped").await.map(drop) })
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
