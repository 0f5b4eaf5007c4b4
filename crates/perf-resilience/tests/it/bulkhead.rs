use perf_core::{Deadline, Reason, time};
use perf_resilience::Bulkhead;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn k02_beyond_the_queue_bound_a_call_is_refused_at_once() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(1).build().unwrap();
    let permit = bulkhead.try_acquire().unwrap();
    let waiter = tokio::spawn({
        let bulkhead = bulkhead.clone();
        async move { bulkhead.acquire(Deadline::NEVER).await.map(drop) }
    });
    tokio::task::yield_now().await;
    let refused = bulkhead.acquire(Deadline::NEVER).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Full);
    drop(permit);
    waiter.await.unwrap().unwrap();
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn k02_nobody_waits_longer_than_max_wait() {
    let bulkhead = Bulkhead::builder("b").limit(1).max_wait(Duration::from_millis(20)).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let start = time::now();
    assert_eq!(bulkhead.acquire(Deadline::NEVER).await.unwrap_err().reason(), Reason::WontMakeIt);
    assert_eq!(start.elapsed(), Duration::from_millis(20));
    assert_eq!(bulkhead.waiting(), 0);
}
