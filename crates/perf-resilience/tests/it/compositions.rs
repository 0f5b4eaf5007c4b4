//! Policies inside policies: the cases of failsafe-go, test/{policy_composition,nested_*,timeout,cancellation}_test.go, and of
//! Polly, HedgingResilienceStrategyTests, that no other test here shows.

use perf_core::time::{self, Duration};
use perf_core::{CallError, Jitter, Outcome, Reason, Rejected};
use perf_resilience::breaker::BreakerState;
use perf_resilience::fallback::Fallback;
use perf_resilience::hedge::Hedge;
use perf_resilience::rate::{RateLimit, per_second};
use perf_resilience::{
    Again, Attempt, Breaker, Budget, Bulkhead, ByOutcome, Call, Pipeline, Retry, RetryBuilder, Timeout,
    Verdict, judge_with, with_deadline,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;
const DOWN: Answer = Err(CallError::Failed("down"));

fn rich() -> Budget {
    let budget = Budget::builder("p").ratio(10.0).cap(1000).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    budget
}

fn attempts(max: u32) -> RetryBuilder {
    Retry::builder("r").max_attempts(max).base(MS).jitter(Jitter::None).budget(&rich())
}

fn reason<T>(answer: &Result<T, CallError<&'static str>>) -> Option<Reason> {
    answer.as_ref().err()?.rejected().map(Rejected::reason)
}

/// Counts how often it is asked.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_leaves_the_breaker_two_failures_and_a_success() {
    let breaker = Breaker::builder("b").consecutive(3).build().unwrap();
    let guard = Pipeline::builder("p").retry(attempts(9)).breaker(&breaker).idempotent().build().unwrap();
    let answer = guard.run(|a: Attempt| async move { if a.number < 3 { DOWN } else { Ok(a.number) } }).await;
    assert_eq!(answer, Ok(3));
    assert_eq!((breaker.stats().successes, breaker.stats().failures), (1, 2));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_outside_retries_sees_one_failure() {
    let breaker = Breaker::builder("b").consecutive(3).build().unwrap();
    let (retry, calls) = (attempts(3).build().unwrap(), Count::default());
    let judge = ByOutcome::default();
    let series = retry.run(&judge, |_| {
        calls.add();
        async { DOWN }
    });
    assert_eq!(breaker.run(series).await, DOWN);
    assert_eq!((calls.get(), breaker.stats().failures, breaker.state()), (3, 1, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_rate_per_attempt_ends_the_series_when_it_is_spent() {
    let rate = RateLimit::builder("r").quota(per_second(1).burst(3)).build().unwrap();
    let guard = Pipeline::builder("p").per_attempt(rate).retry(attempts(7)).idempotent().build().unwrap();
    let calls = Count::default();
    let answer = guard.run(|_| {
        calls.add();
        async { DOWN }
    });
    assert_eq!(answer.await, DOWN, "what the dependency said last is worth more than the refusal");
    assert_eq!(calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_inside_retries_leaves_nothing_to_retry() {
    let (guard, fallback) =
        (Pipeline::builder("p").retry(attempts(3)).idempotent().build().unwrap(), Fallback::new("f"));
    let calls = Count::default();
    let answer = guard
        .run(|_| {
            calls.add();
            async {
                let answer = fallback.run(async { DOWN }, |_| async { Ok(7) }).await;
                answer.map(|answer| answer.value).map_err(|unanswered| unanswered.error)
            }
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(7), 1));
}

#[tokio::test(start_paused = true)]
async fn two_attempts_that_time_out_are_followed_by_one_that_does_not() {
    let guard =
        Pipeline::builder("p").attempt_timeout(MS * 50).retry(attempts(3)).idempotent().build().unwrap();
    let start = time::now();
    let answer = guard.run(|a: Attempt| async move {
        time::sleep(if a.number < 3 { MS * 100 } else { MS * 10 }).await;
        Answer::Ok(a.number)
    });
    assert_eq!(answer.await, Ok(3));
    assert_eq!(start.elapsed(), MS * (50 + 1 + 50 + 2 + 10));
    assert_eq!(guard.retry().unwrap().stats().recovered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_once_whatever_the_attempts() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(0).build().unwrap();
    let _held = bulkhead.try_acquire().unwrap();
    let guard = Pipeline::builder("p").bulkhead(&bulkhead).retry(attempts(7)).idempotent().build().unwrap();
    let calls = Count::default();
    let answer = guard
        .run(|_| {
            calls.add();
            async { DOWN }
        })
        .await;
    assert_eq!((reason(&answer), calls.get()), (Some(Reason::Full), 0));
    assert_eq!((bulkhead.stats().refused_full, guard.stats().refused), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_may_be_hedged() {
    let hedge = Hedge::builder("h").delay(MS * 10).build().unwrap();
    let guard = Pipeline::builder("p").hedge(&hedge).retry(attempts(9)).idempotent().build().unwrap();
    let calls = Count::default();
    let answer = guard
        .run(|_| {
            let call = calls.add();
            async move {
                time::sleep(MS * 20).await;
                if call < 6 { DOWN } else { Ok(call) }
            }
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(6), 6));
    assert_eq!((guard.retry().unwrap().stats().retries, hedge.stats().sent), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_when_hedges_and_retries_have_failed() {
    let (fallback, hedge) = (Fallback::new("f"), Hedge::builder("h").delay(MS * 10).build().unwrap());
    let breaker = Breaker::builder("b").consecutive(5).build().unwrap();
    let builder = || Pipeline::builder("p").breaker(&breaker).idempotent();
    let calls = Count::default();
    let fails = |_| {
        calls.add();
        async {
            time::sleep(MS * 50).await;
            DOWN
        }
    };
    let hedged = builder().hedge(&hedge).budget(&rich()).build().unwrap();
    let answer = hedged.run_or(&fallback, Call::new(), fails, |_| async { Ok(7) }).await.unwrap();
    assert_eq!((answer.value, answer.degraded, calls.get()), (7, true, 2));
    let retried = builder().retry(attempts(3)).build().unwrap();
    let answer = retried.run_or(&fallback, Call::new(), fails, |_| async { Ok(8) }).await.unwrap();
    assert_eq!((answer.value, calls.get()), (8, 5));
    assert_eq!((breaker.stats().failures, breaker.state()), (4, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn nested_retries_that_mind_different_errors_do_not_get_in_each_others_way() {
    let only = |minded: &'static str| {
        judge_with(move |result: Result<&u32, &CallError<&'static str>>| match result {
            Ok(_) => Verdict::of(Outcome::Success),
            Err(CallError::Failed(error)) if *error == minded => Verdict::of(Outcome::Failure),
            Err(_) => Verdict::of(Outcome::Failure).again(Again::No),
        })
    };
    let (outer, inner) = (attempts(3).build().unwrap(), attempts(3).build().unwrap());
    let (reset, busy) = (only("reset"), only("busy"));
    let calls = Count::default();
    let answer = outer
        .run(&busy, |_| {
            inner.run(&reset, |_| {
                let call = calls.add();
                async move {
                    match call {
                        1 | 3 => Err(CallError::Failed("reset")),
                        2 | 4 => Err(CallError::Failed("busy")),
                        _ => Answer::Ok(call),
                    }
                }
            })
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(5), 5));
    assert_eq!((outer.stats().retries, inner.stats().retries, inner.stats().stopped_final), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn breakers_that_mind_different_errors_open_one_by_one() {
    let only = |minded: &'static str| {
        move |result: Result<&u32, &CallError<&'static str>>| match result {
            Err(CallError::Failed(error)) if *error == minded => Outcome::Failure,
            _ => Outcome::Success,
        }
    };
    let make = || Breaker::builder("b").consecutive(1).build().unwrap();
    for (error, opened) in [
        ("reset", (BreakerState::Open, BreakerState::Closed)),
        ("busy", (BreakerState::Closed, BreakerState::Open)),
    ] {
        let (inner, outer) = (make(), make());
        let call = inner.run_with(only("reset"), async { Answer::Err(CallError::Failed(error)) });
        assert_eq!(outer.run_with(only("busy"), call).await, Err(CallError::Failed(error)));
        assert_eq!((inner.state(), outer.state()), opened);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_retries_of_attempts_that_time_out() {
    let guard = Pipeline::builder("p").attempt_timeout(MS * 100).deadline(MS * 500).retry(attempts(11));
    let guard = guard.idempotent().build().unwrap();
    let (start, calls) = (time::now(), Count::default());
    let answer = guard
        .run(|_| {
            calls.add();
            std::future::pending::<Answer>()
        })
        .await;
    // Delays of 1, 2, 4 and 8 ms between attempts of 100 ms.
    assert_eq!(
        (reason(&answer), calls.get(), start.elapsed()),
        (Some(Reason::DeadlineExceeded), 5, MS * 500)
    );
}

#[tokio::test(start_paused = true)]
async fn of_nested_timeouts_the_shorter_one_ends_the_attempt_and_the_longer_one_never_knows() {
    let (outer, inner) = (Timeout::new("outer", MS * 50).unwrap(), Timeout::new("inner", MS * 100).unwrap());
    let (retry, fallback, calls) = (attempts(3).build().unwrap(), Fallback::new("f"), Count::default());
    let judge = ByOutcome::default();
    let series = retry.run(&judge, |_| {
        calls.add();
        outer.run(inner.run(std::future::pending::<Answer>()))
    });
    let answer = fallback.run(series, |error| {
        let reason = error.rejected().map(Rejected::reason);
        async move { if reason == Some(Reason::Timeout) { Ok(7) } else { DOWN } }
    });
    assert_eq!(answer.await.unwrap().value, 7);
    assert_eq!((calls.get(), outer.stats().timed_out, inner.stats().timed_out), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_retry_is_no_part_of_an_attempt() {
    let retry = attempts(3).base(MS * 100);
    let guard = Pipeline::builder("p").attempt_timeout(MS * 50).retry(retry).idempotent().build().unwrap();
    let start = time::now();
    assert_eq!(guard.run(|_| async { DOWN }).await, DOWN);
    assert_eq!(start.elapsed(), MS * 300);
    assert_eq!(guard.retry().unwrap().stats().stopped_attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_round_a_fallback_ends_the_call_or_the_fallback() {
    let timeout = Timeout::new("t", MS * 10).unwrap();
    let (fallback, asked) = (Fallback::new("f"), Count::default());
    let with_fallback = |takes: Duration| {
        let (fallback, asked) = (fallback.clone(), asked.clone());
        async move {
            let call = async {
                time::sleep(takes).await;
                DOWN
            };
            let second = |_: &_| {
                asked.add();
                std::future::pending::<Answer>()
            };
            fallback.run(call, second).await.map(|answer| answer.value).map_err(|unanswered| unanswered.error)
        }
    };
    assert_eq!(reason(&timeout.run(with_fallback(MS * 100)).await), Some(Reason::Timeout));
    assert_eq!(asked.get(), 0, "the call hangs: its fallback is never asked");
    assert_eq!(reason(&timeout.run(with_fallback(MS)).await), Some(Reason::Timeout));
    assert_eq!((asked.get(), fallback.stats().degraded), (1, 0), "the fallback hangs");
}

#[tokio::test(start_paused = true)]
async fn cancelled_in_the_wait_for_a_retry_no_further_attempt_is_made() {
    let guard = Pipeline::builder("p").retry(attempts(3).base(MS * 1000)).idempotent().build().unwrap();
    let (task_guard, calls) = (guard.clone(), Count::default());
    let counted = calls.clone();
    let task = tokio::spawn(async move {
        task_guard
            .run(|_| {
                counted.add();
                async { DOWN }
            })
            .await
    });
    time::sleep(MS * 50).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    time::sleep(MS * 5000).await;
    assert_eq!((calls.get(), guard.stats().cancelled, guard.bulkhead().unwrap().in_flight()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_in_a_fallback_nothing_is_counted_as_answered() {
    let (fallback, asked) = (Fallback::new("f"), Count::default());
    let call = fallback.run(async { DOWN }, |_| {
        asked.add();
        std::future::pending()
    });
    assert!(time::timeout(MS * 50, call).await.is_err());
    assert_eq!((asked.get(), fallback.stats().degraded, fallback.stats().failed), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_in_the_wait_for_its_turn_the_turn_goes_back() {
    let rate = RateLimit::builder("r").quota(per_second(1)).max_wait(MS * 60_000).build().unwrap();
    let guard = Pipeline::builder("p").rate(&rate).build().unwrap();
    guard.run(|_| async { Answer::Ok(1) }).await.unwrap();
    let calls = Count::default();
    let waiting = guard.run(|_| {
        calls.add();
        async { Answer::Ok(2) }
    });
    assert!(time::timeout(MS * 100, waiting).await.is_err());
    assert_eq!((calls.get(), rate.stats().lost, guard.stats().cancelled), (0, 0, 1));
    let start = time::now();
    guard.run(|_| async { Answer::Ok(3) }).await.unwrap();
    assert_eq!(start.elapsed(), MS * 900, "the turn that was given back");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_met_is_not_waited_for() {
    // failsafe-go waits out its timeout at the limiter; here the wait is known to be too long, and refused at once.
    let rate = RateLimit::builder("r").quota(per_second(1)).max_wait(MS * 60_000).build().unwrap();
    let guard = Pipeline::builder("p").rate(&rate).deadline(MS * 100).build().unwrap();
    guard.run(|_| async { Answer::Ok(1) }).await.unwrap();
    let start = time::now();
    assert_eq!(reason(&guard.run(|_| async { Answer::Ok(2) }).await), Some(Reason::RateLimited));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_at_a_full_bulkhead() {
    let bulkhead = Bulkhead::builder("b").limit(1).max_wait(MS * 10_000).build().unwrap();
    let _held = bulkhead.try_acquire().unwrap();
    let guard = Pipeline::builder("p").bulkhead(&bulkhead).deadline(MS * 100).build().unwrap();
    let start = time::now();
    assert_eq!(reason(&guard.run(|_| async { Answer::Ok(1) }).await), Some(Reason::DeadlineExceeded));
    assert_eq!((start.elapsed(), bulkhead.waiting()), (MS * 100, 0));
}

fn hedged(hedge: &Hedge) -> Pipeline {
    Pipeline::builder("p").hedge(hedge).budget(&rich()).idempotent().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_quick_call_is_not_hedged() {
    let hedge = Hedge::builder("h").delay(MS * 1000).build().unwrap();
    let guard = hedged(&hedge);
    let quick = |_| async {
        time::sleep(MS * 999).await;
        Answer::Ok(1)
    };
    assert_eq!(guard.run(quick).await, Ok(1));
    assert_eq!(guard.run(|_| async { Answer::Ok(2) }).await, Ok(2));
    assert_eq!((hedge.stats().sent, hedge.stats().won), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_without_delay_goes_out_beside_the_first_request() {
    let guard = hedged(&Hedge::builder("h").delay(Duration::ZERO).build().unwrap());
    let (start, calls) = (time::now(), Count::default());
    let answer = guard.run(|a: Attempt| {
        calls.add();
        async move {
            time::sleep(if a.hedge { MS * 30 } else { MS * 100 }).await;
            Answer::Ok(a.number)
        }
    });
    assert_eq!((answer.await, calls.get(), start.elapsed()), (Ok(2), 2, MS * 30));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_with_an_endless_delay_follows_failures_only_and_never_runs_beside() {
    let hedge = Hedge::builder("h").delay(Duration::MAX).build().unwrap();
    let guard = hedged(&hedge);
    let slow = |a: Attempt| async move {
        time::sleep(MS * 100_000).await;
        Answer::Ok(a.number)
    };
    assert_eq!((guard.run(slow).await, hedge.stats().sent), (Ok(1), 0));
    let seen = std::sync::Mutex::new(Vec::new());
    let answer = guard.run(|a: Attempt| {
        seen.lock().unwrap().push((a.number, a.hedge));
        async move { if a.number == 1 { DOWN } else { Ok(a.number) } }
    });
    assert_eq!(answer.await, Ok(2));
    assert_eq!(*seen.lock().unwrap(), [(1, false), (2, false)], "a retry in all but name");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_the_judge_takes_for_a_failure_does_not_win() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| match result {
        Ok(0) | Err(_) => Verdict::of(Outcome::Failure),
        Ok(_) => Verdict::of(Outcome::Success),
    });
    let hedge = Hedge::builder("h").delay(MS * 10).build().unwrap();
    let guard =
        Pipeline::builder("p").hedge(&hedge).budget(&rich()).judge(judge).idempotent().build().unwrap();
    let start = time::now();
    let answer = guard.run(|a: Attempt| async move {
        time::sleep(if a.hedge { MS * 5 } else { MS * 40 }).await;
        Answer::Ok(u32::from(!a.hedge) * 9)
    });
    assert_eq!((answer.await, start.elapsed(), hedge.stats().won), (Ok(9), MS * 40, 0));
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_fails_for_good_is_not_followed() {
    let judge = judge_with(|_: Result<&u32, &CallError<&'static str>>| {
        Verdict::of(Outcome::Failure).again(Again::No)
    });
    let hedge = Hedge::builder("h").delay(Duration::ZERO).build().unwrap();
    let guard =
        Pipeline::builder("p").hedge(&hedge).budget(&rich()).judge(judge).idempotent().build().unwrap();
    let answer = guard.run(|_| async { Answer::Err(CallError::Failed("no such table")) });
    assert_eq!(answer.await, Err(CallError::Failed("no such table")));
    assert_eq!(hedge.stats().sent, 0);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_first_request_comes_out_if_it_is_the_slowest() {
    let guard = hedged(&Hedge::builder("h").delay(MS * 10).build().unwrap());
    let answer = guard.run(|a: Attempt| async move {
        time::sleep(if a.hedge { MS } else { MS * 200 }).await;
        Answer::Err(CallError::Failed(if a.hedge { "second" } else { "first" }))
    });
    assert_eq!(answer.await, Err(CallError::Failed("first")));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_hedged_call_drops_both_requests() {
    struct Gone(Count);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    let (guard, gone) = (hedged(&Hedge::builder("h").delay(MS * 10).build().unwrap()), Count::default());
    let call = guard.run(|_| {
        let mark = Gone(gone.clone());
        async move {
            let _mark = mark;
            std::future::pending::<Answer>().await
        }
    });
    assert!(time::timeout(MS * 50, call).await.is_err());
    assert_eq!((gone.get(), guard.stats().cancelled), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_is_gone_is_neither_made_nor_hedged() {
    let (hedge, calls) = (Hedge::builder("h").delay(Duration::ZERO).build().unwrap(), Count::default());
    let guard = hedged(&hedge);
    let past = perf_core::Deadline::within(MS);
    time::sleep(MS * 2).await;
    let answer = with_deadline(
        past,
        guard.run(|_| {
            calls.add();
            async { Answer::Ok(1) }
        }),
    );
    assert_eq!(reason(&answer.await), Some(Reason::DeadlineExceeded));
    assert_eq!((calls.get(), hedge.stats().sent), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_near_its_end_does_not_overflow() {
    // Polly, OnActionFailureAsync_EnsureBreakDurationNotOverflow.
    let breaker = Breaker::builder("b").consecutive(1).open_for(Duration::MAX).open_cap(Duration::MAX);
    let breaker = breaker.build().unwrap();
    breaker.enter().unwrap().leave(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.enter().is_err());
    time::sleep(Duration::from_secs(86_400 * 365)).await;
    assert_eq!(reason(&breaker.run(async { Answer::Ok(1) }).await), Some(Reason::Open));
}
