//! The engine in virtual time: whole runs against servers whose answers are computed, so that every expected number is known.

use super::{Failure, Fired, Protocol};
use crate::failure::ErrorKind;
use crate::http::Request;
use crate::plan::{Arrivals, Load, Overflow, Pacing, Schedule, Stage};
use crate::report::{RunReport, Verdict};
use crate::scenario::{Answer, Scenario, User};
use perf_core::Rng;
use perf_core::time::{self, Duration, Instant};
use std::sync::{Arc, Mutex};

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Says when the answer to a request that arrives at the given offset is complete; `None` is never.
type Law = Box<dyn FnMut(Duration) -> Option<Duration> + Send>;

/// A server made of a law, with a log of what it saw.
struct Computed {
    law: Mutex<Law>,
    begin: Instant,
    timeout: Duration,
    log: Mutex<Vec<(Duration, Option<Duration>)>>,
}

impl Protocol for Computed {
    type Carrier = ();

    fn carrier(&self) {}

    fn request(&self) -> Request {
        Request::new("computed")
    }

    async fn fire(&self, (): &mut (), _: &mut Request) -> Fired {
        let started = time::now();
        let arrival = started - self.begin;
        let departure = (self.law.lock().unwrap())(arrival);
        self.log.lock().unwrap().push((arrival, departure));
        let limit = started + self.timeout;
        let done = departure.map_or(limit, |at| (self.begin + at).min(limit));
        time::sleep_until(done).await;
        let failure =
            (done == limit).then(|| Failure::new(ErrorKind::TimeoutFirstByte, "the law has no answer"));
        Fired { started: Some(started), done, failure, sent: 1, received: 1, connects: 0, raced: false }
    }

    fn answer<'a>(&self, (): &'a ()) -> Answer<'a> {
        Answer::new(200, b"", b"")
    }
}

fn get(_: u64) -> impl Scenario {
    |_: &mut User, request: &mut Request| {
        request.get("/");
    }
}

/// Runs a plan against a law; the log's offsets count from the plan's start.
async fn run(
    plan: Load,
    law: impl FnMut(Duration) -> Option<Duration> + Send + 'static,
) -> (RunReport, Vec<(Duration, Option<Duration>)>) {
    let plan = plan.on_caller_runtime().pacing(Pacing::Timer);
    // A run begins a few milliseconds after it is started.
    let begin = time::now() + Duration::from_millis(5);
    let (law, log) = (Mutex::new(Box::new(law) as Law), Mutex::default());
    let server = Arc::new(Computed { law, begin, timeout: plan.timeout, log });
    let run = plan.start_with(Arc::clone(&server), Arc::new(get), "computed".to_owned()).unwrap();
    let report = run.report().await.unwrap();
    let log = server.log.lock().unwrap().clone();
    (report, log)
}

/// Answers in a fixed time, except that nothing is answered between `at` and `at + stall`.
fn stalling(
    fixed: Duration,
    at: Duration,
    stall: Duration,
) -> impl FnMut(Duration) -> Option<Duration> + Send {
    move |arrival| {
        let stalled = (at..at + stall).contains(&arrival);
        Some(if stalled { at + stall + fixed } else { arrival + fixed })
    }
}

fn near(measured_ms: f64, expected_ms: f64, tolerance: f64) {
    assert!((measured_ms - expected_ms).abs() <= tolerance, "{measured_ms} ms instead of {expected_ms} ms");
}

// L3, the stall law: with even arrivals over T and one stall of S, the quantile q of the response is S − T·(1 − q).
#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_the_percentiles_as_the_law_says() {
    let plan = Load::open(Arrivals::Constant).rate(100.0).duration(secs(30.0));
    let (report, _) = run(plan, stalling(Duration::ZERO, secs(10.0), secs(1.4))).await;
    assert_eq!((report.total.requests, report.total.ok), (3_000, 3_000));
    let response = &report.total.response;
    near(response.p99_ms, 1_100.0, 10.0);
    near(response.p999_ms, 1_370.0, 10.0);
    near(response.max_ms, 1_400.0, 0.001);
    assert!(response.p95_ms < 0.1, "outside the stall answers are immediate");
    assert_eq!(report.health.verdict, Verdict::Valid, "{report}");
}

// L3, the other half: one closed user notices the same stall once, which is why closed latencies describe no open population.
#[tokio::test(start_paused = true)]
async fn a_closed_user_meets_the_same_stall_once() {
    let plan = Load::closed(1).duration(secs(30.0));
    let (report, _) = run(plan, stalling(secs(0.01), secs(10.0), secs(1.4))).await;
    let response = &report.total.response;
    near(response.p99_ms, 10.0, 0.01);
    assert!(response.max_ms > 1_390.0, "{report}");
}

// L3: whatever the server does, each response time is its departure minus its planned instant; none is omitted.
#[tokio::test(start_paused = true)]
async fn a_single_server_queue_is_measured_arrival_by_arrival() {
    let (rate, length) = (800.0, secs(20.0));
    let mut rng = Rng::seeded(3);
    let mut free = Duration::ZERO;
    let law = move |arrival: Duration| {
        free = free.max(arrival) + secs(rng.exponential(0.001));
        Some(free)
    };
    let plan = Load::open(Arrivals::Poisson).rate(rate).duration(length).seed(9);
    let (report, log) = run(plan, law).await;
    let schedule = Schedule::new(Arrivals::Poisson, &[Stage::hold(rate, length)], 9);
    let mut exact: Vec<f64> = schedule
        .zip(&log)
        .map(|(planned, (_, departure))| (departure.unwrap() - planned.at).as_secs_f64() * 1e3)
        .collect();
    assert_eq!((exact.len(), log.len()), (report.total.ok as usize, report.total.ok as usize));
    let mean = exact.iter().sum::<f64>() / exact.len() as f64;
    exact.sort_by(f64::total_cmp);
    let response = &report.total.response;
    near(response.mean_ms, mean, 1e-3);
    for (q, measured) in [(0.5, response.p50_ms), (0.9, response.p90_ms), (0.99, response.p99_ms)] {
        let expected = exact[(q * exact.len() as f64).ceil() as usize - 1];
        near(measured, expected, expected * 0.001 + 0.001);
    }
    // The theory's mean is 5 ms; the virtual timer's resolution adds up to one.
    assert!((4.0..8.0).contains(&mean), "{mean}");
}

// L2: the instants at which the server sees requests are the planned ones, to the timer's millisecond.
#[tokio::test(start_paused = true)]
async fn requests_arrive_when_they_are_planned() {
    let stages = [Stage::ramp(300.0, secs(2.0)), Stage::hold(50.0, secs(1.0))];
    let plan = stages.iter().fold(Load::open(Arrivals::Poisson), |plan, stage| plan.stage(*stage));
    let (report, log) = run(plan, |arrival| Some(arrival + secs(0.02))).await;
    let planned: Vec<Duration> = Schedule::new(Arrivals::Poisson, &stages, 42).map(|p| p.at).collect();
    assert_eq!(planned.len(), log.len());
    for (planned, (arrival, _)) in planned.iter().zip(&log) {
        let late = arrival.checked_sub(*planned).unwrap();
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }
    assert!(report.total.lag.max_ms <= 1.0);
    near(report.total.service.mean_ms, 20.0, 0.001);
}

// L5: what was planned and could not be sent before the end counts as longer than its age.
#[tokio::test(start_paused = true)]
async fn requests_never_sent_are_censored_and_not_missing() {
    let plan = Load::open(Arrivals::Constant).rate(100.0).duration(secs(4.0)).max_in_flight(10);
    let plan = plan.timeout(secs(60.0)).grace(secs(1.0));
    // The server answers for a second and then never again.
    let (report, log) = run(plan, |arrival| (arrival < secs(1.0)).then_some(arrival + secs(0.001))).await;
    assert_eq!((report.total.requests, report.total.ok), (400, 100), "{report}");
    assert_eq!(log.len(), 110, "ten were sent and never answered");
    assert_eq!((report.errors[0].kind, report.errors[0].count), (ErrorKind::Cancelled, 300));
    let response = &report.total.response;
    assert_eq!((response.count, response.censored), (100, 300));
    assert!(response.is_lower_bound(0.5) && response.p50_ms >= 1_000.0, "{report}");
    near(response.known_up_to, 0.25, 1e-9);
    assert_eq!(report.health.verdict, Verdict::Invalid, "only 110 of 400 were sent");
    assert!(report.health.saturated >= 1);
}

// L6: at the limit requests wait, and their wait counts; or they are dropped, and the drop is counted.
#[tokio::test(start_paused = true)]
async fn a_full_generator_queues_or_drops_and_says_so() {
    let slow = |arrival| Some(arrival + secs(0.1));
    let plan = Load::open(Arrivals::Constant).rate(20.0).duration(secs(5.0)).max_in_flight(1);
    let (queued, _) = run(plan.clone(), slow).await;
    assert_eq!(queued.total.requests, 100);
    assert!(queued.total.response.max_ms > 2_000.0, "{queued}");
    near(queued.total.service.max_ms, 100.0, 0.001);
    near(queued.total.lag.max_ms, 0.0, 0.001);
    assert_ne!(queued.health.verdict, Verdict::Valid);
    let (dropped, _) = run(plan.overflow(Overflow::Drop), slow).await;
    assert_eq!((dropped.total.requests, dropped.total.ok), (100, 50), "{dropped}");
    assert_eq!((dropped.errors[0].kind, dropped.errors[0].count), (ErrorKind::GeneratorOverflow, 50));
    assert_eq!(dropped.health.verdict, Verdict::Invalid);
}

#[tokio::test(start_paused = true)]
async fn users_join_and_leave_with_the_stages() {
    let plan = Load::closed(1).stage(Stage::ramp(10.0, secs(10.0))).stage(Stage::hold(2.0, secs(10.0)));
    let (report, log) = run(plan, |arrival| Some(arrival + secs(0.1))).await;
    let during = |from: f64, to: f64| {
        let span = secs(from)..secs(to);
        log.iter().filter(|(arrival, _)| span.contains(arrival)).count()
    };
    // Ten requests a second per user: between the fourth and the fifth second 4.5 users on average.
    assert!((40..=55).contains(&during(4.0, 5.0)), "{}", during(4.0, 5.0));
    assert!((19..=22).contains(&during(15.0, 16.0)), "{}", during(15.0, 16.0));
    assert_eq!(report.total.requests, log.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn users_think_between_their_requests() {
    struct Thinking;
    impl Scenario for Thinking {
        fn next(&mut self, _: &mut User, request: &mut Request) {
            request.get("/");
        }
        fn think(&mut self, _: &mut User) -> Duration {
            secs(0.9)
        }
    }
    let plan = Load::closed(3).duration(secs(10.0)).on_caller_runtime().pacing(Pacing::Timer);
    let law: Law = Box::new(|arrival| Some(arrival + secs(0.1)));
    let begin = time::now() + Duration::from_millis(5);
    let server = Computed { law: Mutex::new(law), begin, timeout: plan.timeout, log: Mutex::default() };
    let run = plan.start_with(Arc::new(server), Arc::new(|_| Thinking), "computed".to_owned()).unwrap();
    let report = run.report().await.unwrap();
    assert_eq!(report.total.requests, 30, "{report}");
    near(report.total.response.max_ms, 100.0, 1.0);
}

// L9: the tasks of a run stop at any await; what was in flight is counted once.
#[tokio::test(start_paused = true)]
async fn a_run_stopped_anywhere_counts_every_request_once() {
    for stop_at in [0.0, 0.004, 0.005, 0.1, 0.999, 1.0, 1.7, 3.0] {
        let plan = Load::open(Arrivals::Poisson).rate(200.0).duration(secs(2.0)).grace(secs(0.5));
        let plan = plan.on_caller_runtime().pacing(Pacing::Timer).max_in_flight(20);
        let law: Law = Box::new(|arrival| (arrival < secs(1.0)).then_some(arrival + secs(0.03)));
        let begin = time::now() + Duration::from_millis(5);
        let server = Computed { law: Mutex::new(law), begin, timeout: secs(30.0), log: Mutex::default() };
        let run = plan.start_with(Arc::new(server), Arc::new(get), "computed".to_owned()).unwrap();
        let stop = run.stop_handle();
        tokio::spawn(async move {
            time::sleep(secs(stop_at)).await;
            stop.stop();
            time::sleep(secs(0.1)).await;
            stop.stop();
        });
        let stop = run.stop_handle();
        let report = run.report().await.unwrap();
        let total = &report.total;
        let kinds: u64 = report.errors.iter().map(|error| error.count).sum();
        assert_eq!(total.requests, total.ok + kinds, "{report}");
        assert_eq!(total.requests, total.response.count + total.response.censored + total.failed.count);
        assert_eq!(total.requests, report.timeline.planned.iter().sum::<u64>());
        let progress = stop.progress();
        assert_eq!((progress.in_flight, progress.finished), (0, total.requests), "{progress:?}");
    }
}
