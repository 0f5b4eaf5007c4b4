use perf_core::{CallError, Reason, time};
use perf_resilience::{Breaker, Call, Pipeline, Retry};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

type Answer = Result<u32, CallError<&'static str>>;

#[tokio::test(start_paused = true)]
async fn r01_nothing_is_tried_twice_unless_declared_idempotent() {
    let guard = Pipeline::builder("p").retry(Retry::builder("p")).build().unwrap();
    let calls = AtomicU32::new(0);
    let fails = |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        async { Answer::Err(CallError::Failed("down")) }
    };
    assert_eq!(guard.run(fails).await, Err(CallError::Failed("down")));
    assert_eq!(calls.swap(0, Ordering::Relaxed), 1);
    assert_eq!(guard.run_with(Call::new().idempotent(true), fails).await, Err(CallError::Failed("down")));
    assert!(calls.into_inner() > 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_spans_all_attempts() {
    let guard = Pipeline::builder("p").deadline(Duration::from_millis(50)).build().unwrap();
    let start = time::now();
    let error = guard.run(|_| std::future::pending::<Answer>()).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert_eq!(error.rejected().unwrap().policy(), "p");
    assert_eq!(start.elapsed(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn every_permit_comes_back_from_a_spawned_call() {
    let breaker = Breaker::builder("p").build().unwrap();
    let guard = Pipeline::database("p").unwrap().breaker(&breaker).build().unwrap();
    let task = tokio::spawn({
        let guard = guard.clone();
        async move { guard.run(|_| std::future::pending::<Answer>()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(guard.bulkhead().unwrap().in_flight(), 1);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(guard.bulkhead().unwrap().in_flight(), 0);
    assert_eq!((breaker.stats().cancelled, guard.stats().cancelled), (1, 1));
}
