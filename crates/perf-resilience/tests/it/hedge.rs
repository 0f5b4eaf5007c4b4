use perf_core::time::{self, Duration};
use perf_core::{CallError, Outcome};
use perf_resilience::hedge::Hedge;
use perf_resilience::{Again, Attempt, Breaker, Budget, Call, Pipeline, Retry, Verdict, judge_with};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;

fn after(delay: u32) -> Hedge {
    Hedge::builder("h").delay(MS * delay).build().unwrap()
}

fn rich() -> Budget {
    let budget = Budget::builder("h").ratio(10.0).cap(1000).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    budget
}

/// Notes when it is dropped.
struct Dropped(Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn h01_the_second_request_goes_out_after_the_delay_and_not_before() {
    let guard = Pipeline::builder("p").hedge(&after(20)).budget(&rich()).idempotent().build().unwrap();
    let start = time::now();
    let sent = Mutex::new(Vec::new());
    let slow = |attempt: Attempt| {
        sent.lock().unwrap().push((attempt.number, attempt.hedge, start.elapsed()));
        async move {
            time::sleep(if attempt.hedge { MS * 5 } else { MS * 100 }).await;
            Answer::Ok(attempt.number)
        }
    };
    assert_eq!(guard.run(slow).await, Ok(2));
    assert_eq!(start.elapsed(), MS * 25);
    assert_eq!(*sent.lock().unwrap(), [(1, false, Duration::ZERO), (2, true, MS * 20)]);
}

#[tokio::test(start_paused = true)]
async fn h01_a_first_request_that_fails_is_followed_at_once() {
    let guard = Pipeline::builder("p").hedge(&after(20)).budget(&rich()).idempotent().build().unwrap();
    let start = time::now();
    let answer = guard
        .run(|attempt| async move {
            time::sleep(MS).await;
            if attempt.number == 1 { Err(CallError::Failed("reset")) } else { Answer::Ok(attempt.number) }
        })
        .await;
    assert_eq!((answer, start.elapsed()), (Ok(2), MS * 2));
}

#[tokio::test(start_paused = true)]
async fn h02_losers_are_gone_before_the_winner_returns() {
    let guard = Pipeline::builder("p").hedge(&after(20)).budget(&rich()).idempotent().build().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let answer = guard
        .run(|attempt: Attempt| {
            let mark = Dropped(log.clone(), if attempt.hedge { "second" } else { "first" });
            async move {
                let _mark = mark;
                if !attempt.hedge {
                    std::future::pending::<()>().await;
                }
                Answer::Ok(1)
            }
        })
        .await;
    log.lock().unwrap().push("returned");
    assert_eq!(answer, Ok(1));
    assert_eq!(*log.lock().unwrap(), ["second", "first", "returned"]);
}

#[tokio::test(start_paused = true)]
async fn h03_a_budget_that_cannot_pay_suppresses_the_new_request_only() {
    let poor = Budget::builder("b").ratio(0.0).min_per_sec(0).build().unwrap();
    let hedge = after(20);
    let guard = Pipeline::builder("p").hedge(&hedge).budget(&poor).idempotent().build().unwrap();
    let answer = guard
        .run(|attempt| async move {
            time::sleep(MS * 100).await;
            Answer::Ok(attempt.number)
        })
        .await;
    assert_eq!((answer, hedge.stats().unpaid, hedge.stats().sent), (Ok(1), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn h04_without_enough_samples_nothing_is_hedged_and_then_the_quantile_holds() {
    let hedge = Hedge::builder("h").quantile(0.9).min_samples(100).build().unwrap();
    let guard = Pipeline::builder("p").hedge(&hedge).budget(&rich()).idempotent().build().unwrap();
    let call = |took: Duration| {
        guard.run(move |attempt| async move {
            time::sleep(if attempt.hedge { MS } else { took }).await;
            Answer::Ok(1)
        })
    };
    for step in 1..=100 {
        call(MS * step).await.unwrap();
        assert_eq!(hedge.stats().sent, 0);
    }
    let learnt = hedge.delay().unwrap();
    assert!(learnt >= MS * 90 && learnt < MS * 99, "{learnt:?}");
    call(MS * 1000).await.unwrap();
    assert_eq!(hedge.stats().won, 1);
}

#[tokio::test(start_paused = true)]
async fn h05_a_fatal_outcome_ends_all() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| match result {
        Ok(_) => Verdict::of(Outcome::Success),
        Err(_) => Verdict::of(Outcome::Failure).again(Again::No),
    });
    let guard =
        Pipeline::builder("p").hedge(&after(20)).budget(&rich()).judge(judge).idempotent().build().unwrap();
    let start = time::now();
    let answer = guard
        .run(|attempt| async move {
            if !attempt.hedge {
                std::future::pending::<()>().await;
            }
            time::sleep(MS).await;
            Answer::Err(CallError::Failed("no such table"))
        })
        .await;
    assert_eq!((answer, start.elapsed()), (Err(CallError::Failed("no such table")), MS * 21));
}

#[tokio::test(start_paused = true)]
async fn h06_when_all_fail_the_last_error_comes_out() {
    let guard = Pipeline::builder("p").hedge(&after(20)).budget(&rich()).idempotent().build().unwrap();
    let answer = guard
        .run(|attempt| async move {
            time::sleep(if attempt.hedge { MS * 50 } else { MS * 40 }).await;
            Answer::Err(CallError::Failed(if attempt.hedge { "second" } else { "first" }))
        })
        .await;
    assert_eq!(answer, Err(CallError::Failed("second")));
}

#[tokio::test(start_paused = true)]
async fn h06_a_request_that_was_cancelled_does_not_hide_the_error_of_the_other() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| match result {
        Err(CallError::Failed("gone")) => Verdict::of(Outcome::Cancelled).again(Again::IfIdempotent),
        _ => Verdict::of(Outcome::Failure),
    });
    let guard =
        Pipeline::builder("p").hedge(&after(20)).budget(&rich()).judge(judge).idempotent().build().unwrap();
    let answer = guard
        .run(|attempt| async move {
            time::sleep(if attempt.hedge { MS * 50 } else { MS * 40 }).await;
            Answer::Err(CallError::Failed(if attempt.hedge { "gone" } else { "first" }))
        })
        .await;
    assert_eq!(answer, Err(CallError::Failed("first")));
}

#[tokio::test(start_paused = true)]
async fn h07_retries_and_hedges_share_budget_and_counter() {
    let shared = Budget::builder("b").ratio(10.0).cap(2).min_per_sec(0).build().unwrap();
    let breaker = Breaker::builder("p").build().unwrap();
    let guard = Pipeline::builder("p")
        .hedge(&after(20))
        .retry(Retry::builder("p").max_attempts(9).base(MS))
        .budget(&shared)
        .breaker(&breaker)
        .idempotent()
        .build()
        .unwrap();
    let numbers = Mutex::new(Vec::new());
    let answer = guard
        .run(|attempt: Attempt| {
            numbers.lock().unwrap().push(attempt.number);
            async { Answer::Err(CallError::Failed("down")) }
        })
        .await;
    assert_eq!(answer, Err(CallError::Failed("down")));
    // One hedge and one retry are paid for; the retry's own hedge is not.
    assert_eq!(*numbers.lock().unwrap(), [1, 2, 3]);
    assert_eq!((shared.stats().withdrawn, shared.stats().refused > 0), (2, true));
    assert_eq!(breaker.stats().failures, 2, "the breaker judges attempts, not requests");
}

#[tokio::test(start_paused = true)]
async fn h08_only_idempotent_calls_are_hedged() {
    let hedge = after(20);
    let guard = Pipeline::builder("p").hedge(&hedge).budget(&rich()).build().unwrap();
    let calls = AtomicU32::new(0);
    let slow = |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        async {
            time::sleep(MS * 100).await;
            Answer::Ok(1)
        }
    };
    guard.run(slow).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    guard.run_with(Call::new().idempotent(true), slow).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_both_requests() {
    let guard = Pipeline::builder("p")
        .hedge(&after(20))
        .budget(&rich())
        .attempt_timeout(MS * 50)
        .idempotent()
        .build()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let start = time::now();
    let answer = guard
        .run(|attempt: Attempt| {
            let mark = Dropped(log.clone(), if attempt.hedge { "second" } else { "first" });
            async move {
                let _mark = mark;
                std::future::pending::<Answer>().await
            }
        })
        .await;
    assert!(answer.unwrap_err().rejected().is_some());
    assert_eq!((start.elapsed(), log.lock().unwrap().len()), (MS * 50, 2));
    assert_eq!(guard.bulkhead().unwrap().in_flight(), 0);
}
