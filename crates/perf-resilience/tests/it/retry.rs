use perf_core::time::{self, Duration, Instant};
use perf_core::{CallError, Deadline, Jitter, Outcome};
use perf_resilience::retry::{Cause, Growth, Question, Stop};
use perf_resilience::{
    Again, Attempt, Breaker, Budget, ByOutcome, Call, Pipeline, Retry, RetryBuilder, Verdict, judge_with,
};
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;
const DOWN: Answer = Err(CallError::Failed("down"));

fn rich(name: &'static str) -> Budget {
    let budget = Budget::builder(name).ratio(10.0).cap(1000).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    budget
}

fn plain() -> RetryBuilder {
    Retry::builder("r").jitter(Jitter::None).budget(&rich("r"))
}

fn question(attempt: u32) -> Question {
    let cause = Cause::Failure;
    Question { attempt, previous: Duration::ZERO, hint: None, deadline: Deadline::NEVER, cause }
}

fn next(retry: &Retry, question: &Question, now: Instant) -> Result<Duration, Stop> {
    retry.next(question, &mut retry.budget().open(), now)
}

#[tokio::test(start_paused = true)]
async fn r01_an_error_that_proves_nothing_was_done_is_tried_again_without_a_word() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| match result {
        Ok(_) => Verdict::of(Outcome::Success),
        Err(CallError::Failed("refused")) => Verdict::of(Outcome::Failure).again(Again::Always),
        Err(_) => Verdict::of(Outcome::Failure),
    });
    let guard = Pipeline::builder("p").retry(plain()).judge(judge).build().unwrap();
    let attempts = |error: &'static str| {
        let (guard, calls) = (guard.clone(), AtomicU32::new(0));
        async move {
            let failed = guard
                .run(|_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    async move { Answer::Err(CallError::Failed(error)) }
                })
                .await;
            assert_eq!(failed, Err(CallError::Failed(error)));
            calls.into_inner()
        }
    };
    assert_eq!((attempts("refused").await, attempts("reset").await), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn r02_attempts_count_from_one_and_all_of_them_count() {
    let seen = Mutex::new(Vec::new());
    let retry = plain().max_attempts(4).build().unwrap();
    let result = retry
        .run(&ByOutcome::default(), |attempt| {
            seen.lock().unwrap().push(attempt.number);
            async { DOWN }
        })
        .await;
    assert_eq!(result, DOWN);
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
    assert_eq!((retry.stats().retries, retry.stats().stopped_attempts), (3, 1));
}

#[test]
fn r03_delays_grow_as_their_names_say_and_never_overflow() {
    let delays = |growth| -> Vec<u128> {
        let retry = plain().growth(growth).base(MS * 10).max_attempts(100).build().unwrap();
        (1..5).map(|n| next(&retry, &question(n), time::now()).unwrap().as_millis()).collect()
    };
    assert_eq!(delays(Growth::Exponential), [10, 20, 40, 80]);
    assert_eq!(delays(Growth::Linear), [10, 20, 30, 40]);
    assert_eq!(delays(Growth::Constant), [10, 10, 10, 10]);
    assert_eq!(delays(Growth::Fibonacci), [10, 10, 20, 30]);
    // Polly, RetryHelperTests: a delay that overflows is the largest one allowed.
    let day = Duration::from_secs(86_400);
    let huge =
        plain().base(day).cap(Duration::MAX).hint_ceiling(Duration::MAX).max_attempts(100).build().unwrap();
    assert!(next(&huge, &question(99), time::now()).unwrap() > day * 1_000_000);
}

#[test]
fn r03_full_jitter_stays_below_and_decorrelated_within_three_times_the_last() {
    let now = time::now();
    let full = Retry::builder("r").base(MS * 10).max_attempts(100).budget(&rich("r")).build().unwrap();
    for n in 1..50 {
        assert!(
            next(&full, &question(n), now).unwrap() <= (MS * 10 * 2_u32.pow(n.min(12) - 1)).min(MS * 5000)
        );
    }
    let decorrelated = Retry::builder("r")
        .growth(Growth::Decorrelated)
        .base(MS * 10)
        .max_attempts(100)
        .budget(&rich("r"))
        .build()
        .unwrap();
    let mut previous = MS * 10;
    for n in 1..50 {
        let delay = next(&decorrelated, &Question { previous, ..question(n) }, now).unwrap();
        assert!(delay >= MS * 10 && delay <= previous.max(MS * 10) * 3 && delay <= MS * 5000);
        previous = delay;
    }
}

#[test]
fn r03_no_delay_exceeds_its_cap_whatever_its_shape_and_jitter() {
    // Polly, RetryHelperTests: MaxDelay_Ok, …_Does_Not_Exceed_MaxDelay, ApplyJitter_Meets_Specification.
    let (base, cap) = (MS * 2000, MS * 30_000);
    for growth in [Growth::Constant, Growth::Linear, Growth::Exponential, Growth::Fibonacci] {
        for (jitter, least, most) in [
            (Jitter::None, 1.0, 1.0),
            (Jitter::Full, 0.0, 1.0),
            (Jitter::Equal, 0.5, 1.0),
            (Jitter::Proportional(0.25), 0.75, 1.25),
        ] {
            let retry =
                plain().growth(growth).base(base).cap(cap).jitter(jitter).max_attempts(100).seed(7).build();
            let retry = retry.unwrap();
            let plain = plain().growth(growth).base(base).cap(cap).max_attempts(100).build().unwrap();
            for attempt in [1, 2, 3, 4, 10, 99] {
                let computed = next(&plain, &question(attempt), time::now()).unwrap();
                assert!(computed >= base && computed <= cap, "{growth:?} {attempt}: {computed:?}");
                let delay = next(&retry, &question(attempt), time::now()).unwrap();
                assert!(delay <= cap && delay > Duration::ZERO, "{growth:?} {jitter:?} {attempt}: {delay:?}");
                let (low, high) = (computed.mul_f64(least), computed.mul_f64(most));
                assert!(delay >= low && delay <= high, "{growth:?} {jitter:?} {attempt}: {delay:?}");
            }
        }
    }
    let short = plain().growth(Growth::Constant).base(MS * 1000).cap(MS * 2000).build().unwrap();
    assert_eq!(
        next(&short, &question(2), time::now()),
        Ok(MS * 1000),
        "MaxDelay_DelayLessThanMaxDelay_Respected"
    );
    let day = Duration::from_secs(86_400);
    let long = plain().base(day).cap(day * 2).hint_ceiling(day * 2).max_attempts(100).build().unwrap();
    assert_eq!(
        next(&long, &question(99), time::now()),
        Ok(day * 2),
        "…_OverflowWithMaxDelay_ReturnsMaxDelay"
    );
}

#[test]
fn r04_a_hint_lies_between_the_computed_delay_and_its_ceiling() {
    let retry = plain().base(MS * 100).hint_ceiling(MS * 1000).build().unwrap();
    let now = time::now();
    let ask = |hint: Duration, deadline: Duration| {
        let question = Question { hint: Some(hint), deadline: Deadline::after(now, deadline), ..question(1) };
        next(&retry, &question, now)
    };
    let far = MS * 100_000;
    for (hint, low, high) in
        [(MS * 10, MS * 100, MS * 110), (MS * 400, MS * 400, MS * 440), (MS * 5000, MS * 1000, MS * 1100)]
    {
        let delay = ask(hint, far).unwrap();
        assert!(delay >= low && delay <= high, "{hint:?} gives {delay:?}");
    }
    assert_eq!(ask(MS * 5000, MS * 3000), Err(Stop::Deadline), "the server will still refuse by then");
}

#[tokio::test(start_paused = true)]
async fn r04_a_hint_beyond_the_deadline_ends_with_the_last_real_error_at_once() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| {
        let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Overload };
        Verdict::of(outcome).hint(Duration::from_secs(60))
    });
    let guard =
        Pipeline::builder("p").deadline(MS * 500).retry(plain()).judge(judge).idempotent().build().unwrap();
    let start = time::now();
    assert_eq!(guard.run(|_| async { DOWN }).await, DOWN);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn r05_the_budget_allows_its_ratio_exactly() {
    // Finagle, RetryBudgetTest: every ratio, ten thousand calls; tower 0.5.3 allows 100 % for 0.75.
    for ratio in [
        0.0001,
        0.001,
        0.01,
        0.1,
        0.2,
        0.25,
        0.3,
        1.0 / 3.0,
        0.5,
        0.7,
        0.75,
        0.9,
        0.99,
        0.999,
        0.9999,
        1.0,
        1.5,
        3.2,
    ] {
        let budget = Budget::builder("b").ratio(ratio).cap(1_000_000).min_per_sec(0).build().unwrap();
        let now = time::now();
        let mut allowed = 0;
        for _ in 0..10_000 {
            budget.deposit();
            while budget.withdraw(now) {
                allowed += 1;
            }
        }
        assert!((f64::from(allowed) - ratio * 10_000.0).abs() <= 1.0, "{ratio}: {allowed}");
    }
}

#[test]
fn r05_the_reserve_pays_once_per_interval_whatever_the_calls_do() {
    let budget = Budget::builder("b").ratio(0.0).min_per_sec(10).build().unwrap();
    let start = time::now() + Duration::from_secs(5);
    let paid = (0..1000).filter(|step| budget.withdraw(start + MS * *step)).count();
    assert_eq!(paid, 10, "one at once, then one every 100 ms of the second");
}

#[test]
fn r05_reserve_and_ratio_add_up_and_without_both_there_is_nothing() {
    // Finagle: Empty, apply minRetriesPerSec=0 maxPercentOver=0, apply with minRetries and maxPercentOver.
    let allowed = |ratio: f64, reserve: u32| {
        let budget = Budget::builder("b").ratio(ratio).cap(1_000_000).min_per_sec(reserve).build().unwrap();
        let start = time::now() + Duration::from_secs(60);
        // A thousand calls in ten seconds, each of which asks for an extra one.
        (0..1000)
            .filter(|step| {
                budget.deposit();
                budget.withdraw(start + MS * 10 * *step)
            })
            .count()
    };
    assert_eq!((allowed(0.0, 0), allowed(0.1, 0), allowed(0.0, 10)), (0, 100, 100));
    assert_eq!(allowed(0.1, 10), 200);
}

#[test]
fn r05_the_purse_never_holds_more_than_its_cap() {
    let budget = Budget::builder("b").ratio(0.5).cap(3).min_per_sec(0).build().unwrap();
    (0..1000).for_each(|_| budget.deposit());
    let now = time::now();
    assert_eq!((0..10).filter(|_| budget.withdraw(now)).count(), 3);
}

#[test]
fn r05_no_withdrawal_is_lost_or_doubled_between_threads() {
    let budget = Budget::builder("b").ratio(0.5).cap(1_000_000).min_per_sec(0).build().unwrap();
    let (now, paid) = (time::now(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    budget.deposit();
                    paid.fetch_add(u32::from(budget.withdraw(now)), Ordering::Relaxed);
                }
            });
        }
    });
    let rest = budget.balance();
    assert!((f64::from(paid.into_inner()) + rest - 20_000.0).abs() < 1e-6);
}

#[tokio::test(start_paused = true)]
async fn r06_an_exhausted_budget_returns_the_last_real_error() {
    let poor = Budget::builder("b").ratio(0.0).min_per_sec(0).build().unwrap();
    let retry = Retry::builder("r").budget(&poor).build().unwrap();
    assert_eq!(retry.run(&ByOutcome::default(), |_| async { DOWN }).await, DOWN);
    assert_eq!((retry.stats().stopped_budget, poor.stats().refused), (1, 1));
    // The mark it carries: whoever is rich further out does not try again either.
    let (outer, judge) = (plain().build().unwrap(), ByOutcome::default());
    let calls = AtomicU32::new(0);
    let answer = outer.run(&judge, |_| {
        retry.run(&judge, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { DOWN }
        })
    });
    assert_eq!(answer.await, DOWN);
    assert_eq!((calls.into_inner(), outer.stats().stopped_below), (1, 1));
}

#[test]
fn r07_no_attempt_begins_with_too_little_time_and_the_budget_is_not_charged_for_it() {
    let retry = plain().base(MS * 50).min_attempt_time(MS * 10).build().unwrap();
    let now = time::now();
    let ask =
        |left: Duration| next(&retry, &Question { deadline: Deadline::after(now, left), ..question(1) }, now);
    assert_eq!(ask(MS * 59), Err(Stop::Deadline));
    assert_eq!(retry.budget().stats().withdrawn, 0);
    assert_eq!(ask(MS * 60), Ok(MS * 50));
}

#[tokio::test(start_paused = true)]
async fn r08_layered_retries_do_not_multiply() {
    let inner = plain().build().unwrap();
    let outer = plain().build().unwrap();
    let calls = AtomicU32::new(0);
    let judge = ByOutcome::default();
    let result = outer
        .run(&judge, |_| {
            inner.run(&judge, |_| {
                calls.fetch_add(1, Ordering::Relaxed);
                async { DOWN }
            })
        })
        .await;
    assert_eq!(result, DOWN);
    assert_eq!(calls.into_inner(), 3, "three attempts below, and none again above");
    assert_eq!(outer.stats().stopped_below, 1);
}

#[tokio::test(start_paused = true)]
async fn r08_a_refusal_below_ends_the_series_unless_its_wait_fits() {
    let breaker = Breaker::builder("below").min_calls(1).jitter(0.0).open_for(MS * 100).build().unwrap();
    let calls = |deadline: Duration| {
        breaker.force_open("test");
        breaker.resume();
        breaker.enter().unwrap().leave(Outcome::Failure);
        let inner = Pipeline::builder("inner").deadline(deadline).breaker(&breaker).build().unwrap();
        let outer = plain().build().unwrap();
        async move {
            let tries = AtomicU32::new(0);
            let result: Answer = outer
                .run(&ByOutcome::default(), |_| {
                    tries.fetch_add(1, Ordering::Relaxed);
                    inner.run(|_| async { Ok(1) })
                })
                .await;
            (tries.into_inner(), result.is_ok())
        }
    };
    assert_eq!(calls(MS * 50).await, (1, false));
    assert_eq!(calls(MS * 200).await, (2, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// R10: whatever the server does, attempts stay within calls × (1 + ratio) + reserve × time + 1.
    #[test]
    fn r10_attempts_are_bounded_for_every_sequence(
        ratio in 0.0..1.0_f64,
        reserve in 0..5_u32,
        answers in prop::collection::vec((any::<bool>(), 0..200_u64), 1..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let budget = Budget::builder("b").ratio(ratio).min_per_sec(reserve).build().unwrap();
            let retry = Retry::builder("r").max_attempts(5).base(MS).budget(&budget).seed(1).build().unwrap();
            let (start, attempts) = (time::now(), AtomicU32::new(0));
            for (fails, pause) in &answers {
                let _ = retry.run(&ByOutcome::default(), |_| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    async { if *fails { DOWN } else { Ok(1) } }
                }).await;
                time::sleep(MS * u32::try_from(*pause).unwrap()).await;
            }
            let bound = answers.len() as f64 * (1.0 + ratio) + f64::from(reserve) * start.elapsed().as_secs_f64() + 1.0;
            assert!(f64::from(attempts.into_inner()) <= bound + 0.01);
        });
    }
}

#[test]
fn r11_one_seed_gives_one_sequence_of_delays() {
    let delays = |seed| -> Vec<Duration> {
        let retry = Retry::builder("r").seed(seed).max_attempts(50).budget(&rich("r")).build().unwrap();
        (1..40).map(|n| next(&retry, &question(n), time::now()).unwrap()).collect()
    };
    assert_eq!(delays(7), delays(7));
    assert_ne!(delays(7), delays(8));
}

#[tokio::test(start_paused = true)]
async fn r12_the_operation_learns_the_endpoint_to_avoid() {
    let judge = judge_with(|result: Result<&u32, &CallError<u64>>| match result {
        Ok(_) => Verdict::of(Outcome::Success),
        Err(CallError::Failed(endpoint)) => Verdict::of(Outcome::Failure).endpoint(*endpoint),
        Err(CallError::Rejected(_)) => Verdict::of(Outcome::Failure),
    });
    let seen = Mutex::new(Vec::new());
    let answer = plain()
        .build()
        .unwrap()
        .run(&judge, |attempt: Attempt| {
            seen.lock().unwrap().push(attempt.previous_endpoint);
            async move {
                if attempt.number < 3 {
                    Err(CallError::Failed(u64::from(attempt.number) * 11))
                } else {
                    Ok(1)
                }
            }
        })
        .await;
    assert_eq!(answer, Ok(1));
    assert_eq!(*seen.lock().unwrap(), [None, Some(11), Some(22)]);
}

#[tokio::test(start_paused = true)]
async fn the_elapsed_limit_is_checked_before_sleeping() {
    // cenkalti/backoff#159, ihrwein/backoff#42.
    let guard = Pipeline::builder("p").deadline(MS * 80).retry(plain().base(MS * 100)).build().unwrap();
    let start = time::now();
    assert_eq!(guard.run_with(Call::new().idempotent(true), |_| async { DOWN }).await, DOWN);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(guard.retry().unwrap().stats().stopped_deadline, 1);
}

#[test]
fn impossible_settings_are_named() {
    let field = |builder: RetryBuilder| builder.build().unwrap_err().field().to_owned();
    assert_eq!(field(Retry::builder("r").max_attempts(0)), "max_attempts");
    assert_eq!(field(Retry::builder("r").cap(MS)), "cap");
    assert_eq!(field(Retry::builder("r").hint_ceiling(MS)), "hint_ceiling");
    assert_eq!(Budget::builder("b").ratio(f64::NAN).build().unwrap_err().field(), "ratio");
    assert_eq!(Budget::builder("b").cap(u32::MAX).build().unwrap_err().field(), "cap");
}

#[tokio::test(start_paused = true)]
async fn infinite_retries_of_a_handled_result_end() {
    // Polly, InfiniteRetry_2163: a result that always counts as a failure is given up after the last attempt.
    let judge = judge_with(|_: Result<&u32, &CallError<&'static str>>| Verdict::of(Outcome::Failure));
    let retry = plain().max_attempts(100).build().unwrap();
    let start: Instant = time::now();
    assert_eq!(retry.run(&judge, |_| async { Answer::Ok(5) }).await, Ok(5));
    assert!(start.elapsed() < Duration::from_secs(600));
    assert_eq!((retry.stats().retries, retry.stats().stopped_attempts), (99, 1));
}
