//! Budgets by calls in flight and by tokens; those by ratio are under R5 in `retry`.

use perf_core::time::{self, Duration, Instant};
use perf_core::{CallError, Component, Desc, Histogram, Jitter, Label, Outcome, Sink};
use perf_resilience::hedge::Hedge;
use perf_resilience::retry::{Account, Cause, Tokens};
use perf_resilience::{
    Again, Attempt, Budget, BudgetBuilder, Pipeline, Retry, RetryBuilder, Verdict, judge_with,
};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;
const DOWN: Answer = Err(CallError::Failed("down"));

fn in_flight(share: f64, floor: u32) -> Budget {
    Budget::builder("b").in_flight(share, floor).build().unwrap()
}

fn bucket(tokens: Tokens) -> Budget {
    Budget::builder("b").tokens(tokens).build().unwrap()
}

fn of(capacity: u32) -> Tokens {
    let mut tokens = Tokens::aws();
    tokens.capacity = capacity;
    tokens
}

fn attempts(max: u32) -> RetryBuilder {
    Retry::builder("r").max_attempts(max).base(MS).jitter(Jitter::None)
}

/// How many of the accounts get an extra call.
fn paid(accounts: &mut [Account<'_>], now: Instant) -> usize {
    accounts.iter_mut().map(|account| account.withdraw(Cause::Failure, now)).filter(|paid| *paid).count()
}

#[test]
fn a_fifth_of_the_calls_in_flight_may_be_extra_and_three_in_any_case() {
    // Envoy, retry budget of 20 % with a minimum of 3.
    for (active, allowed) in [(25, 5), (2, 3), (0, 3), (15, 3), (19, 3), (20, 4), (100, 20)] {
        let budget = in_flight(0.2, 3);
        let _active: Vec<_> = (0..active).map(|_| budget.open()).collect();
        assert_eq!(budget.balance(), f64::from(allowed), "{active} in flight");
        let mut one = budget.open();
        let now = time::now();
        let got = (0..100).filter(|_| one.withdraw(Cause::Failure, now)).count();
        // The asking call is in flight itself.
        assert_eq!(got as u32, ((active + 1) / 5).max(3), "{active} in flight beside the one that asks");
        assert_eq!(budget.balance(), 0.0);
    }
}

#[test]
fn what_is_under_way_counts_until_it_is_over() {
    // failsafe-go, TestTryAcquirePermitAndReleasePermit and TestBudget: exceeded, released, taken again; one budget for
    // retries and hedges.
    let (budget, now) = (in_flight(0.5, 2), time::now());
    let (mut first, mut second) = (budget.open(), budget.open());
    assert!(first.withdraw(Cause::Failure, now) && first.withdraw(Cause::Hedge, now));
    assert!(!second.withdraw(Cause::Failure, now) && !second.withdraw(Cause::Hedge, now));
    first.release();
    assert!(second.withdraw(Cause::Hedge, now));
    drop(second);
    assert_eq!(paid(std::slice::from_mut(&mut first), now), 1);
    assert!(first.withdraw(Cause::Failure, now) && !first.withdraw(Cause::Failure, now));
    drop(first);
    assert_eq!((budget.balance(), budget.stats().withdrawn, budget.stats().refused), (2.0, 5, 3));
}

#[tokio::test(start_paused = true)]
async fn ten_calls_in_flight_retry_two_at_a_time_and_give_every_place_back() {
    let budget = in_flight(0.2, 0);
    let guard = Pipeline::builder("p").retry(attempts(2).budget(&budget)).idempotent().build().unwrap();
    let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let operation = async |attempt: Attempt| {
        if attempt.number > 1 {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        time::sleep(MS * 10).await;
        if attempt.number > 1 {
            running.fetch_sub(1, Ordering::Relaxed);
        }
        DOWN
    };
    let calls = (0..10).map(|_| guard.run(&operation));
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == DOWN));
    assert_eq!((most.into_inner(), budget.stats().withdrawn, budget.stats().refused), (2, 2, 8));
    let _one = budget.open();
    assert_eq!(budget.balance(), 0.0, "a fifth of one call is none");
    let _nine: Vec<_> = (0..9).map(|_| budget.open()).collect();
    assert_eq!(budget.balance(), 2.0, "and none of the ten is in flight any more");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_takes_the_only_place_and_a_retry_gets_it_when_the_hedge_is_over() {
    let budget = in_flight(0.0, 1);
    let hedge = Hedge::builder("h").delay(MS * 5).build().unwrap();
    let guard = Pipeline::builder("p").retry(attempts(5).budget(&budget)).hedge(&hedge).idempotent();
    let guard = guard.build().unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let operation = async |attempt: Attempt| {
        seen.lock().unwrap().push((attempt.number, attempt.hedge));
        time::sleep(MS * 10).await;
        if attempt.number < 3 { DOWN } else { Ok(attempt.number) }
    };
    assert_eq!(guard.run(operation).await, Ok(3));
    assert_eq!(*seen.lock().unwrap(), [(1, false), (2, true), (3, false)]);
    assert_eq!((budget.stats().withdrawn, budget.stats().refused, hedge.stats().unpaid), (2, 1, 1));
    assert_eq!(budget.balance(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_is_in_flight_no_more() {
    // G2 for this kind: dropped in the attempt, in the wait before a retry, in the retry, beside a hedge.
    let budget = in_flight(0.0, 1);
    let hedge = Hedge::builder("h").delay(MS * 3).build().unwrap();
    let retry = || Retry::builder("r").max_attempts(3).base(MS * 4).jitter(Jitter::None).budget(&budget);
    let hedged = Pipeline::builder("p").retry(retry()).hedge(&hedge).idempotent().build().unwrap();
    let plain = Pipeline::builder("p").retry(retry()).idempotent().build().unwrap();
    for guard in [&hedged, &plain] {
        for after in 0..20 {
            let operation = async |attempt: Attempt| {
                time::sleep(MS * 5).await;
                if attempt.number == 3 { Ok(1) } else { DOWN }
            };
            let call = guard.run(operation);
            let _ = tokio::time::timeout(MS * after, call).await;
            assert_eq!((budget.balance(), gauge(&budget)), (1.0, 0.0), "dropped after {after} ms");
        }
    }
    assert!(budget.stats().withdrawn > 20);
}

#[test]
fn half_a_bucket_of_failures_stops_retries_and_a_success_brings_a_tenth() {
    // gRPC A6: ten tokens, ratio 0.1, none while half or less is left; retries themselves cost nothing.
    let (budget, now) = (bucket(Tokens::grpc()), time::now());
    let mut call = budget.open();
    for left in [9.0, 8.0, 7.0, 6.0] {
        call.failed(Outcome::Failure);
        assert!(call.withdraw(Cause::Failure, now));
        assert_eq!(budget.balance(), left);
    }
    call.failed(Outcome::Overload);
    assert_eq!(budget.balance(), 5.0);
    assert!(!call.withdraw(Cause::Overload, now) && !call.withdraw(Cause::Hedge, now));
    for outcome in [Outcome::Ignored, Outcome::Cancelled] {
        call.failed(outcome);
    }
    assert_eq!(budget.balance(), 5.0, "what says nothing about the dependency costs nothing");
    budget.open().succeeded();
    assert_eq!(budget.balance(), 5.1);
    assert!(call.withdraw(Cause::Failure, now));
    (0..100).for_each(|_| call.failed(Outcome::Failure));
    assert_eq!(budget.balance(), 0.0, "never less than none");
    (0..1000).for_each(|_| budget.open().succeeded());
    assert_eq!(budget.balance(), 10.0, "never more than the bucket holds");
}

#[tokio::test(start_paused = true)]
async fn pushback_stops_the_series_and_counts_as_a_failure() {
    // gRPC A6: pushback of n ms waits n ms; a negative one ends the series, and still drains.
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| match result {
        Ok(_) => Verdict::of(Outcome::Success),
        Err(CallError::Failed("pushback -1")) => Verdict::of(Outcome::Failure).again(Again::No),
        Err(CallError::Failed("pushback 70")) => Verdict::of(Outcome::Failure).hint(MS * 70),
        Err(CallError::Failed("invalid argument")) => Verdict::of(Outcome::Ignored),
        Err(_) => Verdict::of(Outcome::Failure),
    });
    let budget = bucket(Tokens::grpc());
    let guard =
        Pipeline::builder("p").retry(attempts(3).budget(&budget)).judge(judge).idempotent().build().unwrap();
    let run = async |errors: [&'static str; 3]| {
        let (start, before) = (time::now(), budget.balance());
        let calls = AtomicU32::new(0);
        let operation = |attempt: Attempt| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { Answer::Err(CallError::Failed(errors[attempt.number as usize - 1])) }
        };
        let _ = guard.run(operation).await;
        (calls.into_inner(), ((before - budget.balance()) * 10.0).round(), start.elapsed())
    };
    let (calls, drained, took) = run(["pushback 70", "pushback -1", "never"]).await;
    assert_eq!((calls, drained), (2, 20.0));
    assert!((MS * 70..=MS * 77).contains(&took), "{took:?}");
    assert_eq!(run(["invalid argument", "never", "never"]).await, (1, 0.0, Duration::ZERO));
    assert_eq!(run(["down", "down", "down"]).await.1, 30.0);
    assert_eq!(budget.balance(), 5.0);
    assert_eq!(run(["down", "down", "down"]).await.0, 1, "throttled");
    assert_eq!(guard.retry().unwrap().stats().stopped_budget, 1);
}

#[tokio::test(start_paused = true)]
async fn each_failed_request_of_a_hedged_attempt_drains_before_the_next_is_sent() {
    let mut tokens = Tokens::grpc();
    tokens.capacity = 4;
    let budget = bucket(tokens);
    let hedge = Hedge::builder("h").delay(MS * 50).build().unwrap();
    let guard = Pipeline::builder("p").hedge(&hedge).budget(&budget).idempotent().build().unwrap();
    let calls = AtomicU32::new(0);
    let fails = |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        async { DOWN }
    };
    assert_eq!(guard.run(fails).await, DOWN);
    assert_eq!((calls.load(Ordering::Relaxed), budget.balance()), (2, 2.0), "hedged at once; both failed");
    assert_eq!(guard.run(fails).await, DOWN);
    assert_eq!((calls.load(Ordering::Relaxed), budget.balance(), hedge.stats().unpaid), (3, 1.0, 1));
}

#[test]
fn retries_cost_five_timeouts_ten_and_what_a_retry_saves_is_refunded() {
    // smithy-rs, token_bucket.rs and standard.rs.
    let (budget, now) = (bucket(Tokens::aws()), time::now());
    assert_eq!(budget.balance(), 500.0);
    let mut saved = budget.open();
    assert!(saved.withdraw(Cause::Failure, now));
    assert_eq!(budget.balance(), 495.0);
    assert!(saved.withdraw(Cause::Timeout, now));
    assert_eq!(budget.balance(), 485.0);
    saved.succeeded();
    assert_eq!(budget.balance(), 495.0, "only the retry that succeeded is refunded");
    drop(saved);
    budget.open().succeeded();
    assert_eq!(budget.balance(), 496.0, "a first attempt that succeeds brings one");
    let mut lost = budget.open();
    assert!(lost.withdraw(Cause::Overload, now));
    lost.failed(Outcome::Failure);
    drop(lost);
    assert_eq!(budget.balance(), 491.0, "what a retry that failed took is gone");
    (0..100).for_each(|_| budget.open().succeeded());
    assert_eq!(budget.balance(), 500.0);
}

#[test]
fn a_bucket_pays_until_the_next_retry_costs_more_than_is_left() {
    // smithy-rs: test_bounded_permits_exhaustion, test_unlimited_token_bucket, test_fractional_tokens_…
    let now = time::now();
    let pays = |tokens, cause| {
        let budget = bucket(tokens);
        let mut call = budget.open();
        (0..100).filter(|_| call.withdraw(cause, now)).count()
    };
    assert_eq!((pays(of(10), Cause::Failure), pays(of(10), Cause::Timeout)), (2, 1));
    assert_eq!((pays(of(14), Cause::Hedge), pays(of(4), Cause::Failure)), (2, 0));
    let mut free = of(1);
    (free.retry, free.timeout, free.overload) = (0.0, 0.0, 0.0);
    assert_eq!((pays(free, Cause::Failure), pays(free, Cause::Timeout)), (100, 100));
    let mut rewarding = of(10);
    (rewarding.success, rewarding.refund) = (0.4, false);
    let budget = bucket(rewarding);
    let mut call = budget.open();
    assert!(call.withdraw(Cause::Timeout, now));
    for (after, left) in [0.4, 0.8, 1.2].into_iter().enumerate() {
        call.succeeded();
        assert!((budget.balance() - left).abs() < 1e-9, "after {} successes", after + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_empties_the_bucket_and_what_is_paid_depends_on_how_calls_fail() {
    let run = async |hangs: bool| {
        let budget = bucket(of(100));
        let retry = attempts(2).budget(&budget);
        let guard =
            Pipeline::builder("p").retry(retry).attempt_timeout(MS * 10).idempotent().build().unwrap();
        for _ in 0..50 {
            let operation = async |_: Attempt| {
                if hangs {
                    std::future::pending::<()>().await;
                }
                DOWN
            };
            assert!(guard.run(operation).await.is_err());
        }
        budget.stats().withdrawn
    };
    assert_eq!((run(false).await, run(true).await), (20, 10));
}

#[test]
fn a_budget_by_calls_in_flight_pays_only_through_an_account() {
    let budget = in_flight(1.0, 10);
    budget.deposit();
    assert!(!budget.withdraw(time::now()));
    assert_eq!((budget.balance(), budget.stats().refused), (10.0, 1));
}

#[test]
fn settings_that_cannot_be_are_named_with_their_kind() {
    let named = |builder: BudgetBuilder| builder.build().unwrap_err().field().to_owned();
    let budget = || Budget::builder("b");
    for share in [f64::NAN, -0.1, 1.1] {
        assert_eq!(named(budget().in_flight(share, 3)), "in_flight.share");
    }
    assert_eq!(named(budget().in_flight(0.2, u32::MAX)), "in_flight.floor");
    let with = |change: fn(&mut Tokens)| {
        let mut tokens = Tokens::aws();
        change(&mut tokens);
        named(budget().tokens(tokens))
    };
    assert_eq!(with(|tokens| tokens.capacity = 0), "tokens.capacity");
    assert_eq!(with(|tokens| tokens.retry = -1.0), "tokens.retry");
    assert_eq!(with(|tokens| tokens.timeout = f64::INFINITY), "tokens.timeout");
    assert_eq!(with(|tokens| tokens.overload = f64::NAN), "tokens.overload");
    assert_eq!(with(|tokens| tokens.failure = 1e9), "tokens.failure");
    assert_eq!(with(|tokens| tokens.success = f64::NAN), "tokens.success");
    assert_eq!(with(|tokens| tokens.stop_at = 1.0), "tokens.stop_at");
}

#[cfg(all(feature = "serde", feature = "snapshot"))]
#[test]
fn a_file_says_the_kind_in_one_section() {
    use perf_resilience::{BudgetConfig, PipelineConfig, retry::BudgetKind};
    let read = |text: &str| serde_json::from_str::<PipelineConfig>(text).unwrap().budget;
    let kind = read(r#"{"budget": {"kind": {"in_flight": {"share": 0.25}}}}"#).kind;
    let BudgetKind::InFlight(in_flight) = kind else { panic!("{kind:?}") };
    assert_eq!((in_flight.share, in_flight.floor), (0.25, 3));
    let kind =
        read(r#"{"budget": {"kind": {"tokens": {"capacity": 10, "failure": 1, "stop_at": 0.5}}}}"#).kind;
    let BudgetKind::Tokens(tokens) = kind else { panic!("{kind:?}") };
    assert_eq!((tokens.capacity, tokens.retry, tokens.failure), (10, 5.0, 1.0));
    assert_eq!(read(r#"{"budget": {"kind": "ratio", "ratio": 0.2}}"#).ratio, 0.2);
    assert_eq!(read("{}"), BudgetConfig::default());
    let unknown = r#"{"budget": {"kind": {"in_flight": {"percent": 20}}}}"#;
    let unknown = serde_json::from_str::<PipelineConfig>(unknown).unwrap_err().to_string();
    assert!(unknown.contains("percent"), "{unknown}");
    let bad = r#"{"budget": {"kind": {"in_flight": {"share": 2}}}}"#;
    let bad: PipelineConfig = serde_json::from_str(bad).unwrap();
    assert_eq!(bad.validate().unwrap_err().field(), "budget.in_flight.share");
}

#[derive(Default)]
struct Gauges(Option<f64>);

impl Sink for Gauges {
    fn counter(&mut self, _: &Desc, _: &[Label<'_>], _: u64) {}

    fn gauge(&mut self, desc: &Desc, _: &[Label<'_>], value: f64) {
        assert_eq!(desc.name, "perf_resilience_budget_spent_ratio");
        self.0 = Some(value);
    }

    fn histogram(&mut self, _: &Desc, _: &[Label<'_>], _: &Histogram) {}

    fn seconds(&mut self, _: &Desc, _: &[Label<'_>], _: Duration) {}
}

fn gauge(budget: &Budget) -> f64 {
    let mut gauges = Gauges::default();
    budget.collect(&mut gauges);
    gauges.0.unwrap()
}

#[test]
fn every_kind_shows_which_share_is_gone() {
    let now = time::now();
    let places = in_flight(0.0, 4);
    let mut call = places.open();
    assert_eq!(gauge(&places), 0.0);
    assert!(call.withdraw(Cause::Failure, now));
    assert_eq!(gauge(&places), 0.25);
    let tokens = bucket(of(20));
    let mut call = tokens.open();
    assert!(call.withdraw(Cause::Failure, now));
    assert_eq!(gauge(&tokens), 0.25);
    let ratio = Budget::builder("b").ratio(1.0).cap(4).build().unwrap();
    ratio.deposit();
    assert_eq!(gauge(&ratio), 0.75);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Withdraw(usize),
    Release(usize),
    Fail(usize),
    Succeed(usize),
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Open),
        6 => any::<usize>().prop_map(Step::Withdraw),
        1 => any::<usize>().prop_map(Step::Release),
        3 => any::<usize>().prop_map(Step::Fail),
        3 => any::<usize>().prop_map(Step::Succeed),
        2 => any::<usize>().prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever calls do: an extra one is paid for exactly while there are fewer than the share or the floor, and tokens
    /// are exactly what a list of what came in and went out adds up to.
    #[test]
    fn both_kinds_keep_exact_books(steps in steps(), share in 0..=100_u32, floor in 0..5_u32, capacity in 1..60_u32) {
        let places = in_flight(f64::from(share) / 100.0, floor);
        let (mut tokens, now) = (of(capacity), time::now());
        (tokens.failure, tokens.stop_at) = (0.25, 0.25);
        let tokens = bucket(tokens);
        let mut calls: Vec<(Account<'_>, Account<'_>, u32, f64)> = Vec::new();
        let mut left = f64::from(capacity);
        for step in steps {
            let count = calls.len();
            let pick = |n: usize| (count > 0).then(|| n % count.max(1));
            match step {
                Step::Open => calls.push((places.open(), tokens.open(), 0, 0.0)),
                Step::Withdraw(n) => if let Some(n) = pick(n) {
                    let under_way: u32 = calls.iter().map(|call| call.2).sum();
                    let allowed = (count as u32 * share / 100).max(floor);
                    let call = &mut calls[n];
                    prop_assert_eq!(call.0.withdraw(Cause::Failure, now), under_way < allowed);
                    call.2 += u32::from(under_way < allowed);
                    let cause = if n % 2 == 0 { Cause::Timeout } else { Cause::Failure };
                    let cost = if n % 2 == 0 { 10.0 } else { 5.0 };
                    let pays = left >= cost && left > f64::from(capacity) * 0.25;
                    prop_assert_eq!(call.1.withdraw(cause, now), pays);
                    if pays {
                        left -= cost;
                        call.3 = cost;
                    }
                },
                Step::Release(n) => if let Some(n) = pick(n) {
                    calls[n].0.release();
                    calls[n].1.release();
                    calls[n].2 = 0;
                },
                Step::Fail(n) => if let Some(n) = pick(n) {
                    calls[n].1.failed(Outcome::Failure);
                    left = (left - 0.25).max(0.0);
                },
                Step::Succeed(n) => if let Some(n) = pick(n) {
                    calls[n].1.succeeded();
                    let spent = std::mem::take(&mut calls[n].3);
                    left = (left + if spent > 0.0 { spent } else { 1.0 }).min(f64::from(capacity));
                },
                Step::Close(n) => if let Some(n) = pick(n) {
                    drop(calls.remove(n));
                },
            }
            prop_assert!((tokens.balance() - left).abs() < 1e-6, "{} tokens, not {left}", tokens.balance());
        }
        calls.clear();
        prop_assert_eq!(places.balance(), f64::from(floor));
    }
}

#[test]
fn nothing_is_lost_between_threads() {
    let (places, tokens) = (in_flight(0.25, 2), bucket(of(1_000_000)));
    let (now, spent) = (time::now(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (places, tokens, spent) = (&places, &tokens, &spent);
            scope.spawn(move || {
                for n in 0..5_000 {
                    let (mut place, mut token) = (places.open(), tokens.open());
                    if place.withdraw(Cause::Failure, now) && n % 3 == 0 {
                        place.release();
                    }
                    assert!(token.withdraw(Cause::Failure, now));
                    spent.fetch_add(5, Ordering::Relaxed);
                    if n % 4 == thread {
                        token.succeeded();
                        spent.fetch_sub(5, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((places.balance(), tokens.balance()), (2.0, 1e6 - f64::from(spent.into_inner())));
}

/// All of the futures together, in one task.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in &mut running {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(running.iter_mut().filter_map(|(_, output)| output.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
