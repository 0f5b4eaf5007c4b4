use perf_core::time::{self, Duration};
use perf_core::{CallError, Jitter, Outcome, Reason};
use perf_resilience::rate::{Quota, RateLimit, per_second};
use perf_resilience::{Breaker, Budget, Bulkhead, ByOutcome, Call, Pipeline, PipelineBuilder, Retry};
use std::sync::atomic::{AtomicU32, Ordering};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;

fn rich() -> Budget {
    let budget = Budget::builder("p").ratio(10.0).cap(1000).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    budget
}

fn three() -> perf_resilience::RetryBuilder {
    Retry::builder("p").max_attempts(3).base(MS).jitter(Jitter::None).budget(&rich())
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.as_ref().err()?.rejected().map(perf_core::Rejected::reason)
}

/// How often the operation is begun, and how the call ends, when every attempt takes `takes` and fails.
async fn begun(guard: &Pipeline, takes: Duration) -> (u32, Option<Reason>) {
    let calls = AtomicU32::new(0);
    let answer = guard
        .run(|_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if !takes.is_zero() {
                    time::sleep(takes).await;
                }
                Answer::Err(CallError::Failed("down"))
            }
        })
        .await;
    (calls.into_inner(), reason(&answer))
}

fn base() -> PipelineBuilder<ByOutcome> {
    Pipeline::builder("p").idempotent()
}

#[tokio::test(start_paused = true)]
async fn the_order_of_the_setters_does_not_matter_and_the_stages_nest_as_documented() {
    let breaker = |failures| Breaker::builder("p").consecutive(failures).build().unwrap();
    let rate = || RateLimit::builder("p").quota(per_second(1)).build().unwrap();
    let one = || Bulkhead::builder("p").limit(1).queue(0).build().unwrap();
    let instant = Duration::ZERO;
    let never = Duration::from_secs(3600);
    // (pipeline, time per attempt, operations begun, refusal that comes out)
    let table: Vec<(&str, Pipeline, Duration, u32, Option<Reason>)> = vec![
        ("nothing", base().build().unwrap(), instant, 1, None),
        ("retry", base().retry(three()).build().unwrap(), instant, 3, None),
        ("retry, breaker", base().retry(three()).breaker(&breaker(2)).build().unwrap(), instant, 2, None),
        ("breaker, retry", base().breaker(&breaker(2)).retry(three()).build().unwrap(), instant, 2, None),
        (
            "attempt timeout in retry",
            base().attempt_timeout(MS * 5).retry(three()).build().unwrap(),
            never,
            3,
            Some(Reason::Timeout),
        ),
        (
            "deadline round retry",
            base().retry(three()).deadline(MS * 5).build().unwrap(),
            never,
            1,
            Some(Reason::DeadlineExceeded),
        ),
        (
            "deadline round attempt timeouts",
            // Attempts from 0 to 5, 6 to 11, and from 13 until the deadline.
            base().deadline(MS * 15).attempt_timeout(MS * 5).retry(three()).build().unwrap(),
            never,
            3,
            Some(Reason::DeadlineExceeded),
        ),
        (
            "timeouts are failures to the breaker",
            base().breaker(&breaker(2)).attempt_timeout(MS * 5).retry(three()).build().unwrap(),
            never,
            2,
            Some(Reason::Timeout),
        ),
        ("rate outside retry", base().rate(&rate()).retry(three()).build().unwrap(), instant, 3, None),
        ("bulkhead outside retry", base().bulkhead(&one()).retry(three()).build().unwrap(), instant, 3, None),
        ("rate per attempt", base().per_attempt(rate()).retry(three()).build().unwrap(), instant, 1, None),
        ("not idempotent", Pipeline::builder("p").retry(three()).build().unwrap(), instant, 1, None),
    ];
    for (what, guard, takes, expected, out) in table {
        let found = begun(&guard, takes).await;
        assert_eq!(found, (expected, out), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_refusal_of_the_breaker_gives_way_to_the_last_real_error() {
    let breaker = Breaker::builder("p").consecutive(1).build().unwrap();
    let guard = base().retry(three()).breaker(&breaker).build().unwrap();
    assert_eq!(
        guard.run(|_| async { Answer::Err(CallError::Failed("down")) }).await,
        Err(CallError::Failed("down"))
    );
    let refused = guard.run(|_| async { Answer::Ok(1) }).await;
    assert_eq!(reason(&refused), Some(Reason::Open));
    assert_eq!(guard.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn two_pipelines_nest_by_hand() {
    let inner = base().attempt_timeout(MS * 5).build().unwrap();
    let outer = base().deadline(MS * 100).retry(three()).build().unwrap();
    let answer: Answer = outer
        .run(|attempt| {
            inner.run(move |_| async move {
                if attempt.number == 1 {
                    time::sleep(MS * 50).await;
                }
                Ok(attempt.number)
            })
        })
        .await;
    assert_eq!(answer, Ok(2), "a timeout below may be tried again above");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_spans_all_attempts() {
    let guard = Pipeline::builder("p").deadline(MS * 50).build().unwrap();
    let start = time::now();
    let error = guard.run(|_| std::future::pending::<Answer>()).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert_eq!(start.elapsed(), MS * 50);
}

#[tokio::test(start_paused = true)]
async fn after_a_wait_the_breaker_judges_by_the_moment_at_which_it_ended() {
    let open = || {
        let breaker = Breaker::builder("p").consecutive(1).open_for(MS * 5000).jitter(0.0).build().unwrap();
        breaker.enter().unwrap().leave(Outcome::Failure);
        breaker
    };
    let base = || base().deadline(MS * 10_000);
    let answer = async |guard: Pipeline| guard.run(|_| async { Answer::Ok(1) }).await;
    assert_eq!(reason(&answer(base().breaker(&open()).build().unwrap()).await), Some(Reason::Open));

    let bulkhead = Bulkhead::builder("p").limit(1).queue(1).max_wait(MS * 6000).build().unwrap();
    let held = bulkhead.try_acquire().unwrap();
    let guard = base().bulkhead(&bulkhead).breaker(&open()).build().unwrap();
    let releasing = async {
        time::sleep(MS * 5001).await;
        drop(held);
    };
    assert_eq!(tokio::join!(answer(guard), releasing).0, Ok(1));

    let quota = Quota { permits: 1, per: MS * 5001, burst: 1 };
    let rate = RateLimit::builder("p").quota(quota).max_wait(MS * 6000).build().unwrap();
    rate.try_acquire().unwrap();
    assert_eq!(answer(base().rate(&rate).breaker(&open()).build().unwrap()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_spawnable_and_gives_everything_back_when_aborted() {
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

#[tokio::test(start_paused = true)]
async fn captures_may_be_borrowed() {
    let guard = Pipeline::builder("p").build().unwrap();
    let name = String::from("ada");
    let answer = guard.run(|_| async { Ok::<_, CallError<()>>(name.as_str()) }).await;
    assert_eq!(answer, Ok("ada"));
}

#[tokio::test(start_paused = true)]
async fn budget_and_bound_are_there_by_default() {
    let guard = Pipeline::builder("p").retry(Retry::builder("p")).build().unwrap();
    assert_eq!(guard.bulkhead().unwrap().limit(), perf_resilience::bulkhead::DEFAULT_LIMIT);
    assert_eq!(guard.budget().unwrap().config().ratio, perf_resilience::retry::DEFAULT_BUDGET_RATIO);
    assert!(Pipeline::builder("p").unbounded().build().unwrap().bulkhead().is_none());
}

#[tokio::test(start_paused = true)]
async fn presets_do_what_they_say() {
    let fails = |_| async { Answer::Err(CallError::Failed("down")) };
    let idempotent = Call::new().idempotent(true);
    let attempts = async |guard: &Pipeline| {
        let _ = guard.run_with(idempotent, fails).await;
        guard.breaker().unwrap().stats().failures
    };
    let database = Pipeline::database("p").unwrap().build().unwrap();
    assert_eq!(attempts(&database).await, 2);
    let cache = Pipeline::cache("p").unwrap().build().unwrap();
    assert_eq!(attempts(&cache).await, 1);
    let http = Pipeline::http_client("p").unwrap().build().unwrap();
    assert_eq!(attempts(&http).await, 2, "three attempts, of which the empty budget pays one a second");
    let start = time::now();
    let slow = cache.run(|_| std::future::pending::<Answer>()).await;
    assert_eq!((reason(&slow), start.elapsed()), (Some(Reason::Timeout), MS * 100));
}

#[tokio::test(start_paused = true)]
async fn an_overload_counts_once_for_every_policy() {
    let overload = |_: Result<&u32, &CallError<&'static str>>| Outcome::Overload;
    let breaker = Breaker::builder("p").build().unwrap();
    let guard = Pipeline::builder("p").breaker(&breaker).classify(overload).build().unwrap();
    assert_eq!(guard.run(|_| async { Answer::Ok(1) }).await, Ok(1));
    assert_eq!((breaker.stats().overloads, guard.stats().failed), (1, 1));
}

#[tokio::test]
async fn more_than_six_gates_in_a_stage_are_refused() {
    let rate = RateLimit::builder("r").build().unwrap();
    let many = (0..7).fold(Pipeline::builder("p"), |builder, _| builder.gate(rate.clone()));
    assert_eq!(many.build().unwrap_err().field(), "gates");
}

#[tokio::test]
async fn the_future_of_a_call_stays_small() {
    let guard = Pipeline::database("p").unwrap().build().unwrap();
    let run = guard.run(|_| async {
        let state = [0_u8; 56];
        tokio::task::yield_now().await;
        Answer::Ok(u32::from(state[7]))
    });
    let size = std::mem::size_of_val(&run);
    assert!(size <= 2048, "{size} bytes");
    assert_eq!(run.await, Ok(0));
}

#[cfg(all(feature = "serde", feature = "snapshot"))]
#[tokio::test]
async fn a_configuration_file_says_durations_as_text_and_nothing_unknown() {
    let text = r#"{"deadline": "2s", "attempt_timeout": "250ms", "retry": {"max_attempts": 2, "growth": "linear"},
        "breaker": {"window": {"time": "10s"}, "slow_call": "1s"}, "bulkhead": {"limit": 8}, "idempotent": true}"#;
    let config: perf_resilience::PipelineConfig = serde_json::from_str(text).unwrap();
    let guard = Pipeline::builder("p").config(config).unwrap().build().unwrap();
    assert_eq!(guard.bulkhead().unwrap().limit(), 8);
    assert_eq!(guard.retry().unwrap().config().max_attempts, 2);
    assert_eq!(guard.breaker().unwrap().config().slow_call, Some(MS * 1000));
    let unknown =
        serde_json::from_str::<perf_resilience::PipelineConfig>(r#"{"deadlin": "2s"}"#).unwrap_err();
    assert!(unknown.to_string().contains("deadlin"), "{unknown}");
    let inverted = r#"{"deadline": "1s", "attempt_timeout": "2s"}"#;
    let config: perf_resilience::PipelineConfig = serde_json::from_str(inverted).unwrap();
    assert_eq!(config.validate().unwrap_err().field(), "attempt_timeout");
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_the_outermost_stage() {
    use perf_resilience::fallback::Fallback;
    let breaker = Breaker::builder("p").consecutive(1).build().unwrap();
    let guard = base().deadline(MS * 50).retry(three()).breaker(&breaker).build().unwrap();
    let fallback = Fallback::new("p");
    let stuck = |_| std::future::pending::<Answer>();
    let second = |error: &CallError<&'static str>| {
        let reason = error.rejected().map(perf_core::Rejected::reason);
        async move { if reason.is_some() { Ok(7) } else { Err(CallError::Failed("nothing older")) } }
    };
    let start = time::now();
    let late = guard.run_or(&fallback, Call::new(), stuck, second).await.unwrap();
    assert_eq!((late.value, late.degraded, start.elapsed()), (7, true, MS * 50), "a passed deadline has one");
    assert_eq!(breaker.state(), perf_resilience::BreakerState::Open);
    let refused = guard.run_or(&fallback, Call::new(), |_| async { Answer::Ok(1) }, second).await.unwrap();
    assert_eq!((refused.value, refused.degraded), (7, true), "and so has a refusal");
    breaker.resume();
    let good = guard.run_or(&fallback, Call::new(), |_| async { Answer::Ok(1) }, second).await.unwrap();
    assert_eq!((good.value, good.degraded), (1, false));
    let failed =
        guard.run_or(&fallback, Call::new(), |_| async { Answer::Err(CallError::Failed("no")) }, second);
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.error, CallError::Failed("no"), "the original error comes out");
    assert_eq!(failed.fallback, Some(CallError::Failed("nothing older")));
    assert_eq!((fallback.stats().degraded, fallback.stats().failed), (2, 1));
}
