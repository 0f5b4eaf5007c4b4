//! Requests and their answers over shared connections.

use super::lines::{in_memory, pool, small, until};
use crate::fake::ms;
use perf_core::time;
use perf_pool::websocket::{Error, Message, Waiting};

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
