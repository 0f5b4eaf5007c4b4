use perf_core::time::{self, Duration};
use perf_core::{CallError, Outcome, Reason, Rejected};
use perf_resilience::adaptive::Adaptive;
use perf_resilience::hedge::Hedge;
use perf_resilience::rate::{RateLimit, per_second};
use perf_resilience::throttle::Throttle;
use perf_resilience::{Breaker, Budget, Bulkhead, Gate, Leaving, Now, Pass, Pipeline, Retry, Token};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;

/// Notes who came in and how they left; refuses when told to.
#[derive(Clone)]
struct Noted(&'static str, bool, Arc<Mutex<Vec<String>>>);

impl Gate for Noted {
    fn enter(&self, _: &Now) -> Result<Token, Rejected> {
        if self.1 {
            return Err(Rejected::new(Reason::Shed, self.0));
        }
        self.2.lock().unwrap().push(format!("{} in", self.0));
        Ok(Token::new(0))
    }

    fn leave(&self, _: Token, leaving: &Leaving<'_>) {
        self.2.lock().unwrap().push(format!("{} {:?}", self.0, leaving.outcome));
    }
}

#[tokio::test(start_paused = true)]
async fn g01_a_refusal_leaves_no_trace_but_a_counter() {
    let breaker = Breaker::builder("b").build().unwrap();
    breaker.force_open("test");
    let before = breaker.stats();
    let bulkhead = Bulkhead::builder("b").limit(1).queue(0).build().unwrap();
    let _held = bulkhead.try_acquire().unwrap();
    assert!(breaker.enter().is_err() && bulkhead.try_acquire().is_err());
    let since = breaker.stats().since(&before);
    assert_eq!((since.refused, since.cancelled + since.failures + since.successes), (1, 0));
    assert_eq!((bulkhead.in_flight(), bulkhead.stats().refused_full), (1, 1));
    let limit = Adaptive::builder("a").min(1).initial(1).build().unwrap();
    let held = Pass::enter(&limit).unwrap();
    assert!((0..10).all(|_| Pass::enter(&limit).is_err()));
    assert_eq!((limit.in_flight(), limit.stats().refused, limit.stats().admitted), (1, 10, 1));
    drop(held);
    let rate = RateLimit::builder("r").quota(per_second(1)).build().unwrap();
    rate.try_acquire().unwrap();
    assert!((0..10).all(|_| Pass::enter(&rate).is_err()));
    assert_eq!((rate.stats().admitted, rate.stats().refused), (1, 10));
    time::sleep(MS * 1000).await;
    assert!(rate.try_acquire().is_ok(), "the next turn comes as if nobody had asked");
}

#[tokio::test(start_paused = true)]
async fn g05_no_policy_minds_a_moment_before_the_latest() {
    let early = time::now();
    time::sleep(MS * 5000).await;
    let late = time::now();
    let limit = Adaptive::builder("a").build().unwrap();
    let throttle = Throttle::builder("t").seed(1).build().unwrap();
    let rate = RateLimit::builder("r").quota(per_second(10).burst(1)).build().unwrap();
    for now in [late, early, late, early] {
        for gate in [&limit as &dyn Gate, &throttle] {
            let token = gate.enter(&Now::at(now)).unwrap();
            // It ended before it began, as far as this clock goes.
            let at = Now::at(early);
            gate.leave(token, &Leaving { outcome: Outcome::Success, started: Some(late), now: &at });
        }
    }
    assert_eq!(limit.in_flight(), 0);
    assert!(rate.enter(&Now::at(late)).is_ok() && rate.enter(&Now::at(early)).is_err());
    let budget = Budget::builder("b").ratio(0.0).min_per_sec(1).build().unwrap();
    assert!(budget.withdraw(late) && !budget.withdraw(early) && !budget.withdraw(late));
}

#[tokio::test(start_paused = true)]
async fn each_stage_refuses_before_the_next_is_entered() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (rate, bulkhead) = (
        RateLimit::builder("r").quota(per_second(1)).max_wait(Duration::ZERO).build().unwrap(),
        Bulkhead::builder("b").limit(1).queue(0).build().unwrap(),
    );
    let breaker = Breaker::builder("c").build().unwrap();
    let guard = |shed: bool| {
        Pipeline::builder("p")
            .breaker(&breaker)
            .per_attempt(Noted("attempt", false, log.clone()))
            .bulkhead(&bulkhead)
            .rate(&rate)
            .gate(Noted("shed", shed, log.clone()))
            .build()
            .unwrap()
    };
    let refused_by = async |shed: bool| {
        let answer = guard(shed).run(|_| async { Answer::Ok(1) }).await;
        answer.unwrap_err().rejected().unwrap().policy().to_string()
    };
    assert_eq!(refused_by(true).await, "shed");
    assert_eq!(rate.stats().admitted, 0);
    rate.try_acquire().unwrap();
    assert_eq!(refused_by(false).await, "r");
    assert_eq!(bulkhead.stats().admitted, 0);
    time::sleep(MS * 1000).await;
    let held = bulkhead.try_acquire().unwrap();
    breaker.force_open("test");
    assert_eq!(refused_by(false).await, "b");
    assert_eq!(breaker.stats().refused, 0);
    drop(held);
    time::sleep(MS * 1000).await;
    assert_eq!(refused_by(false).await, "c");
    assert_eq!(bulkhead.in_flight(), 0);
    assert!(!log.lock().unwrap().iter().any(|line| line.starts_with("attempt")));
}

#[tokio::test(start_paused = true)]
async fn g03_gates_are_left_in_reverse_and_those_before_a_refusal_as_cancelled() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let gate = |name, refuses| Noted(name, refuses, log.clone());
    let through = Pipeline::builder("p")
        .gate(gate("a", false))
        .gate(gate("b", false))
        .per_attempt(gate("c", false))
        .build()
        .unwrap();
    assert_eq!(through.run(|_| async { Answer::Ok(1) }).await, Ok(1));
    assert_eq!(
        log.lock().unwrap().drain(..).collect::<Vec<_>>(),
        ["a in", "b in", "c in", "c Success", "b Success", "a Success"]
    );
    let refused = Pipeline::builder("p")
        .gate(gate("a", false))
        .gate(gate("b", false))
        .gate(gate("c", true))
        .build()
        .unwrap();
    let error = refused.run(|_| async { Answer::Ok(1) }).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().policy(), "c");
    assert_eq!(
        log.lock().unwrap().drain(..).collect::<Vec<_>>(),
        ["a in", "b in", "b Cancelled", "a Cancelled"]
    );
    assert_eq!(refused.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn g04_after_a_panic_the_breaker_has_a_failure_and_gates_a_cancellation() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let breaker = Breaker::builder("b").build().unwrap();
    let guard =
        Pipeline::builder("p").gate(Noted("gate", false, log.clone())).breaker(&breaker).build().unwrap();
    let panicking = guard.clone();
    let task = tokio::spawn(async move {
        panicking
            .run(|_| async {
                std::panic::resume_unwind(Box::new("boom"));
                #[expect(unreachable_code, reason = "the type of the operation")]
                Answer::Ok(1)
            })
            .await
    });
    let payload = task.await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref(), Some(&"boom"), "the panic goes on");
    assert_eq!((breaker.stats().failures, breaker.stats().cancelled), (1, 0));
    assert_eq!(*log.lock().unwrap(), ["gate in", "gate Cancelled"]);
    assert_eq!((guard.bulkhead().unwrap().in_flight(), guard.stats().cancelled), (0, 1));
}

#[test]
fn g07_a_refusal_explains_itself_in_one_sentence() {
    let breaker = Breaker::builder("users-db").min_calls(1).jitter(0.0).build().unwrap();
    let now = Now::lazy();
    let token = Gate::enter(&breaker, &now).unwrap();
    breaker.leave(token, &Leaving::new(Outcome::Failure, &now));
    let refused = Gate::enter(&breaker, &now).unwrap_err();
    assert_eq!(refused.to_string(), "`users-db` refused the call: its breaker is open, retry after 5s");
    assert!(!refused.is_retryable());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// G2: wherever the futures are dropped, every permit comes back.
    #[test]
    fn g02_a_future_dropped_anywhere_gives_everything_back(
        drops in prop::collection::vec((0..400_u64, 0..60_u64, any::<bool>()), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            // A place of a probation that was lost would never come back: there is one, and it has no lease to speak of.
            let breaker = Breaker::builder("p").min_calls(5).open_for(MS * 50).probes(1).probe_timeout(Duration::MAX);
            let breaker = breaker.seed(1).build().unwrap();
            let bulkhead = Bulkhead::builder("p").limit(2).queue(8).max_wait(MS * 100).build().unwrap();
            let throttle = Throttle::builder("p").seed(1).build().unwrap();
            let limit = Adaptive::builder("p").build().unwrap();
            let budget = Budget::builder("p").in_flight(1.0, 2).build().unwrap();
            let guard = Pipeline::builder("p")
                .gate(throttle)
                .gate(limit.clone())
                .rate(&RateLimit::builder("p").quota(per_second(500).burst(5)).build().unwrap())
                .bulkhead(&bulkhead)
                .retry(Retry::builder("p").base(MS * 5).seed(1))
                .budget(&budget)
                .breaker(&breaker)
                .attempt_timeout(MS * 40)
                .hedge(&Hedge::builder("p").delay(MS * 10).build().unwrap())
                .idempotent()
                .build()
                .unwrap();
            let mut tasks = Vec::new();
            for (patience, takes, fails) in &drops {
                let (guard, patience, takes, fails) = (guard.clone(), MS * *patience as u32, MS * *takes as u32, *fails);
                tasks.push(tokio::spawn(async move {
                    let call = guard.run(move |_| async move {
                        time::sleep(takes).await;
                        if fails { Err(CallError::Failed("down")) } else { Answer::Ok(1) }
                    });
                    time::timeout(patience, call).await.is_ok()
                }));
                time::sleep(MS * 3).await;
            }
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!((bulkhead.in_flight(), bulkhead.waiting(), limit.in_flight()), (0, 0, 0));
            assert_eq!(budget.balance(), 2.0, "no call and no extra one is in flight");
            let stats = guard.stats();
            assert_eq!(stats.succeeded + stats.failed + stats.refused + stats.cancelled, drops.len() as u64);
            // Every place of a probation is free again too.
            time::sleep(Duration::from_secs(120)).await;
            assert_eq!(guard.run(|_| async { Answer::Ok(1) }).await, Ok(1));
        });
    }
}
