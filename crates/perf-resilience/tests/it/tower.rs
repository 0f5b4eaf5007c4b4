use perf_core::time::{self, Duration};
use perf_core::{CallError, Reason};
use perf_resilience::adaptive::Adaptive;
use perf_resilience::hedge::Hedge;
use perf_resilience::rate::{RateLimit, per_second};
use perf_resilience::throttle::Throttle;
use perf_resilience::{Breaker, Budget, Bulkhead, GateLayer, Pipeline, Retry, Timeout};
use perf_testkit::{Script, ScriptedService, contract};
use std::future::poll_fn;
use tower_layer::Layer;
use tower_service::Service;

type Failure = CallError<&'static str>;

fn failure() -> Failure {
    CallError::Failed("down")
}

fn rich() -> Budget {
    let budget = Budget::builder("p").ratio(10.0).cap(1000).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    budget
}

#[tokio::test(start_paused = true)]
async fn the_breaker_keeps_the_contract() {
    contract::layer(|inner| GateLayer::new(Breaker::builder("b").build().unwrap()).layer(inner), failure)
        .await;
}

#[tokio::test(start_paused = true)]
async fn rate_throttle_and_adaptive_limit_keep_the_contract() {
    let rate = || RateLimit::builder("r").quota(per_second(1000).burst(1000)).build().unwrap();
    contract::layer(|inner| GateLayer::new(rate()).layer(inner), failure).await;
    let throttle = || Throttle::builder("t").build().unwrap();
    contract::layer(|inner| GateLayer::new(throttle()).layer(inner), failure).await;
    let adaptive = || Adaptive::builder("a").build().unwrap();
    contract::layer(|inner| GateLayer::new(adaptive()).layer(inner), failure).await;
    let partition = || Adaptive::builder("a").partitions([("live", 0.5)]).unwrap().partition("live");
    contract::layer(|inner| GateLayer::new(partition()).layer(inner), failure).await;
}

#[tokio::test(start_paused = true)]
async fn the_timeout_keeps_the_contract() {
    let timeout = Timeout::new("t", Duration::from_secs(5)).unwrap();
    contract::layer(|inner| timeout.layer().layer(inner), failure).await;
}

#[tokio::test(start_paused = true)]
async fn the_bulkhead_keeps_the_contract() {
    contract::layer(|inner| Bulkhead::builder("b").limit(2).build().unwrap().layer().layer(inner), failure)
        .await;
}

#[tokio::test(start_paused = true)]
async fn retry_hedge_and_pipeline_keep_the_contract() {
    let retry =
        || Pipeline::builder("p").retry(Retry::builder("p").budget(&rich())).idempotent().build().unwrap();
    contract::layer(|inner| retry().layer().layer(inner), failure).await;
    let hedge = Hedge::builder("h").delay(Duration::from_secs(1)).build().unwrap();
    let hedged = || Pipeline::builder("p").hedge(&hedge).budget(&rich()).idempotent().build().unwrap();
    contract::layer(|inner| hedged().layer().layer(inner), failure).await;
    let whole = || Pipeline::database("p").unwrap().build().unwrap();
    contract::layer(|inner| whole().layer().layer(inner), failure).await;
}

#[tokio::test(start_paused = true)]
async fn k07_a_place_reserved_for_readiness_is_free_again_without_a_call() {
    let bulkhead = Bulkhead::builder("b").limit(1).build().unwrap();
    let inner = ScriptedService::new(Script::<u32, Result<u32, Failure>>::new());
    let mut service = bulkhead.layer().layer(inner);
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    assert_eq!(bulkhead.in_flight(), 1);
    let clone = service.clone();
    drop(service);
    assert_eq!(bulkhead.in_flight(), 0);
    drop(clone);
    assert_eq!(bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_places_of_a_bulkhead_are_reserved_waited_for_and_given_back_as_in_tower() {
    // tower/tests/limit/concurrency.rs, name by name.
    let bulkhead = Bulkhead::builder("b").limit(1).build().unwrap();
    let script = Script::<u32, Result<u32, Failure>>::new();
    script.answer(Ok(1)).answer(Err(failure())).never().answer(Ok(4));
    let service = || bulkhead.layer().layer(ScriptedService::new(script.clone()));
    async fn ready<S: Service<u32, Error = Failure>>(service: &mut S) {
        poll_fn(|context| service.poll_ready(context)).await.unwrap();
    }
    fn is_ready<S: Service<u32>>(service: &mut S, waker: &std::task::Waker) -> bool {
        service.poll_ready(&mut std::task::Context::from_waker(waker)).is_ready()
    }
    let (woken, waker) = noted_waker();
    let (mut first, mut second) = (service(), service());
    // reserve_capacity_without_sending_request
    ready(&mut first).await;
    assert!(!is_ready(&mut second, &waker));
    let call = first.call(7);
    assert!(!is_ready(&mut second, &waker));
    assert_eq!(call.await, Ok(1));
    assert!(woken() && is_ready(&mut second, &waker), "the waiting one is woken and ready");
    // response_error_releases_capacity
    assert_eq!(second.call(8).await, Err(failure()));
    assert_eq!(bulkhead.in_flight(), 0);
    // response_future_drop_releases_capacity
    ready(&mut first).await;
    let call = first.call(9);
    assert!(!is_ready(&mut second, &waker));
    drop(call);
    assert!(is_ready(&mut second, &waker));
    // multi_waiters, service_drop_frees_capacity: in order, and past one that is gone
    let ((woken_third, third_waker), (woken_fourth, fourth_waker)) = (noted_waker(), noted_waker());
    let (mut third, mut fourth) = (service(), service());
    assert!(!is_ready(&mut third, &third_waker) && !is_ready(&mut fourth, &fourth_waker));
    drop(second);
    assert!(woken_third() && !woken_fourth());
    drop(third);
    assert!(woken_fourth() && is_ready(&mut fourth, &fourth_waker));
    assert_eq!(fourth.call(10).await, Ok(4));
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

/// A waker that tells whether it was woken since it was last asked.
fn noted_waker() -> (impl Fn() -> bool, std::task::Waker) {
    struct Noted(std::sync::atomic::AtomicBool);
    impl std::task::Wake for Noted {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let noted = std::sync::Arc::new(Noted(false.into()));
    let waker = std::task::Waker::from(noted.clone());
    (move || noted.0.swap(false, std::sync::atomic::Ordering::SeqCst), waker)
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_the_call_and_not_the_service() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(0).build().unwrap();
    let script = Script::<u32, Result<u32, Failure>>::new();
    script.answer(Ok(1));
    let mut service = bulkhead.layer().layer(ScriptedService::new(script));
    let held = bulkhead.try_acquire().unwrap();
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    let refused = service.call(1).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::Full);
    drop(held);
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    assert_eq!(service.call(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn r09_each_retry_asks_for_readiness_again() {
    // The scripted service panics when it is called without having been asked.
    let script = Script::<u32, Result<u32, Failure>>::new();
    script.answer(Err(failure())).answer(Err(failure())).answer(Ok(3));
    let guard =
        Pipeline::builder("p").retry(Retry::builder("p").budget(&rich())).idempotent().build().unwrap();
    let mut service = guard.layer().layer(ScriptedService::new(script.clone()));
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    assert_eq!(service.call(9).await, Ok(3));
    assert_eq!(script.requests(), [9, 9, 9]);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_without_calling() {
    let breaker = Breaker::builder("b").build().unwrap();
    breaker.force_open("test");
    let script = Script::<u32, Result<u32, Failure>>::new();
    let mut service = GateLayer::new(breaker).layer(ScriptedService::new(script.clone()));
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    assert!(service.call(1).await.unwrap_err().rejected().is_some());
    assert_eq!(script.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_call_in_time() {
    let script = Script::<u32, Result<u32, Failure>>::new();
    script.never();
    let timeout = Timeout::new("t", Duration::from_millis(30)).unwrap();
    let mut service = timeout.layer().layer(ScriptedService::new(script.clone()));
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    let start = time::now();
    assert_eq!(service.call(1).await.unwrap_err().rejected().unwrap().reason(), Reason::Timeout);
    assert_eq!((start.elapsed(), script.in_flight()), (Duration::from_millis(30), 0));
}
