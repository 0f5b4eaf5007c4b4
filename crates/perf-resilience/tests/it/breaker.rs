use perf_core::{CallError, Outcome, Reason, time};
use perf_resilience::breaker::{BreakerState, Cause, Window};
use perf_resilience::{Breaker, BreakerBuilder, BreakerEvent, BreakerStats, Gate, Leaving, Now, Pass};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn steady(name: &'static str) -> BreakerBuilder {
    Breaker::builder(name).open_for(SECOND).jitter(0.0).decide_early(false)
}

fn report(breaker: &Breaker, outcome: Outcome) {
    Pass::enter(breaker).unwrap().leave(outcome);
}

fn report_many(breaker: &Breaker, outcome: Outcome, times: usize) {
    (0..times).for_each(|_| report(breaker, outcome));
}

fn trip(breaker: &Breaker) {
    while breaker.state() == BreakerState::Closed {
        report(breaker, Outcome::Failure);
    }
}

#[tokio::test(start_paused = true)]
async fn b01_below_min_calls_the_rate_is_undefined() {
    let breaker = steady("b").window(Window::Count(10)).min_calls(10).failure_rate(1.0).build().unwrap();
    report_many(&breaker, Outcome::Failure, 9);
    assert_eq!(breaker.rates(), None);
    assert_eq!(breaker.state(), BreakerState::Closed);
    report(&breaker, Outcome::Success);
    assert_eq!(breaker.rates(), Some((0.9, 0.0)));
}

#[tokio::test(start_paused = true)]
async fn b01_reaching_the_limit_exactly_opens() {
    let breaker = steady("b").window(Window::Count(10)).min_calls(10).build().unwrap();
    report_many(&breaker, Outcome::Success, 5);
    report_many(&breaker, Outcome::Failure, 5);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b02_the_count_window_is_a_ring() {
    // resilience4j, CircuitBreakerMetricsTest.
    let breaker = steady("b").window(Window::Count(10)).min_calls(10).failure_rate(1.0).build().unwrap();
    report_many(&breaker, Outcome::Success, 2);
    report_many(&breaker, Outcome::Failure, 2);
    assert_eq!(breaker.rates(), None);
    report_many(&breaker, Outcome::Failure, 4);
    report_many(&breaker, Outcome::Success, 4);
    assert_eq!(breaker.rates(), Some((0.6, 0.0)), "12 calls, 10 counted, 6 failed");
    report_many(&breaker, Outcome::Success, 3);
    assert_eq!(breaker.rates(), Some((0.3, 0.0)));
}

#[tokio::test(start_paused = true)]
async fn b02_after_ten_thousand_successes_half_a_window_of_failures_opens() {
    let breaker = steady("b").build().unwrap();
    report_many(&breaker, Outcome::Success, 10_000);
    report_many(&breaker, Outcome::Failure, 49);
    assert_eq!(breaker.state(), BreakerState::Closed);
    report(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b03_a_time_window_forgets_what_is_older() {
    let breaker = steady("b").window(Window::Time(SECOND * 10)).min_calls(10).build().unwrap();
    report_many(&breaker, Outcome::Failure, 9);
    time::sleep(SECOND * 11).await;
    report(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Closed);
    report_many(&breaker, Outcome::Failure, 9);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b03_a_gap_of_136_years_does_not_wedge_the_window() {
    let breaker = steady("b").window(Window::Time(SECOND * 10)).min_calls(2).build().unwrap();
    let later = time::now() + SECOND * u32::MAX;
    report(&breaker, Outcome::Failure);
    let now = Now::at(later);
    for _ in 0..2 {
        Pass::enter_at(&breaker, &now).unwrap().leave_at(Outcome::Failure, &now);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b04_any_condition_opens_and_the_event_names_the_first() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let breaker = steady("b")
        .min_calls(5)
        .consecutive(5)
        .on_event(move |event| seen.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    report_many(&breaker, Outcome::Failure, 5);
    let cause = Cause::InARow { failures: 5 };
    assert_eq!(*events.lock().unwrap(), [BreakerEvent::Opened { cause, wait: SECOND }]);
}

#[tokio::test(start_paused = true)]
async fn b05_ignored_and_cancelled_calls_move_nothing() {
    let breaker = steady("b").min_calls(2).window(Window::Count(2)).build().unwrap();
    report_many(&breaker, Outcome::Ignored, 10);
    report_many(&breaker, Outcome::Cancelled, 10);
    assert_eq!(breaker.rates(), None);
    assert_eq!((breaker.stats().ignored, breaker.stats().cancelled), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn b05_overload_counts_for_the_rate_and_not_for_the_row() {
    let row = steady("b").consecutive(3).build().unwrap();
    report_many(&row, Outcome::Failure, 2);
    report_many(&row, Outcome::Overload, 5);
    assert_eq!(row.state(), BreakerState::Closed);
    report(&row, Outcome::Failure);
    assert_eq!(row.state(), BreakerState::Open);
    let rate = steady("b").min_calls(4).build().unwrap();
    report_many(&rate, Outcome::Overload, 4);
    assert_eq!(rate.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b06_a_slow_success_counts_as_slow() {
    let breaker = steady("b").min_calls(2).slow_call(SECOND).slow_rate(1.0).build().unwrap();
    for _ in 0..2 {
        let slow = async {
            time::sleep(SECOND * 2).await;
            Ok::<_, CallError<()>>(())
        };
        breaker.run(slow).await.unwrap();
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!((breaker.stats().slow, breaker.stats().successes), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn b07_an_open_breaker_says_how_long_it_will_refuse() {
    let breaker = steady("users").min_calls(1).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND / 4).await;
    let refused = breaker.enter().unwrap_err();
    assert_eq!(refused.reason(), Reason::Open);
    assert_eq!(refused.retry_hint(), Some(SECOND * 3 / 4));
    time::sleep(SECOND).await;
    assert_eq!(breaker.state(), BreakerState::Open, "decided only when somebody calls");
    drop(breaker.enter().unwrap());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn b08_only_so_many_probes_go_through_at_once_and_in_total() {
    let breaker = steady("b").min_calls(1).probes(4).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND).await;
    let passes: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
    let refused = breaker.enter().unwrap_err();
    assert_eq!(refused.reason(), Reason::Open);
    assert_eq!(refused.retry_hint(), Some(SECOND * 10), "the lease of the probes");
    for (n, pass) in passes.into_iter().enumerate() {
        if n < 2 {
            pass.leave(Outcome::Success);
            assert!(breaker.enter().is_err(), "a reported probe has used its place up");
        } else {
            pass.leave(Outcome::Success);
        }
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn b09_a_cancelled_or_ignored_probe_gives_its_place_to_the_next() {
    let breaker = steady("b").min_calls(1).probes(1).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND).await;
    drop(breaker.enter().unwrap());
    breaker.enter().unwrap().leave(Outcome::Ignored);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.enter().unwrap().leave(Outcome::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn b10_a_probe_that_hangs_loses_its_place_and_its_say() {
    let breaker = steady("b").min_calls(1).probes(1).probe_timeout(SECOND * 3).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND).await;
    let hung = breaker.enter().unwrap();
    assert!(breaker.enter().is_err());
    time::sleep(SECOND * 3).await;
    let second = breaker.enter().unwrap();
    hung.leave(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.stats().late_results, 1);
    second.leave(Outcome::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn b11_the_probation_ends_as_soon_as_its_result_is_certain() {
    let probation = |failures: usize, successes: usize| async move {
        let breaker = steady("b").min_calls(1).probes(10).build().unwrap();
        trip(&breaker);
        time::sleep(SECOND).await;
        let mut passes: Vec<_> = (0..10).map(|_| breaker.enter().unwrap()).collect();
        passes.drain(..failures).for_each(|pass| pass.leave(Outcome::Failure));
        passes.drain(..successes).for_each(|pass| pass.leave(Outcome::Success));
        let state = breaker.state();
        drop(passes);
        state
    };
    assert_eq!(probation(0, 5).await, BreakerState::HalfOpen);
    assert_eq!(probation(0, 6).await, BreakerState::Closed, "four more failures would be 40 %");
    assert_eq!(probation(4, 5).await, BreakerState::HalfOpen);
    assert_eq!(probation(5, 0).await, BreakerState::Open, "five of ten is 50 % whatever follows");
}

#[tokio::test(start_paused = true)]
async fn b12_a_result_of_an_earlier_generation_changes_nothing() {
    for (late, after) in
        [(Outcome::Success, BreakerState::HalfOpen), (Outcome::Failure, BreakerState::HalfOpen)]
    {
        let breaker = steady("b").min_calls(1).probes(1).build().unwrap();
        let early = breaker.enter().unwrap();
        trip(&breaker);
        time::sleep(SECOND).await;
        let probe = breaker.enter().unwrap();
        let before = breaker.stats();
        early.leave(late);
        assert_eq!(breaker.state(), after);
        // How it ended is on record, but nothing was judged by it: not the probation, and no window.
        let mut recorded = BreakerStats::default();
        recorded.late_results = 1;
        *(if late == Outcome::Success { &mut recorded.successes } else { &mut recorded.failures }) = 1;
        assert_eq!(breaker.stats().since(&before), recorded);
        let probation = "of 1 probes 0 succeeded, 0 failed and 1 are out";
        assert!(breaker.explain().contains(probation), "{}", breaker.explain());
        probe.leave(Outcome::Success);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn b12_the_generation_outlives_the_rotation_of_the_window() {
    let breaker = steady("b").window(Window::Time(SECOND)).min_calls(1).build().unwrap();
    let slow = breaker.enter().unwrap();
    time::sleep(SECOND * 60).await;
    slow.leave(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn b13_each_reopening_waits_longer_up_to_the_cap_until_it_was_stable() {
    let breaker =
        steady("b").min_calls(1).probes(1).open_cap(SECOND * 3).stable_after(SECOND * 60).build().unwrap();
    let wait = || breaker.enter().unwrap_err().retry_hint().unwrap();
    trip(&breaker);
    assert_eq!(wait(), SECOND);
    for expected in [2, 3, 3] {
        time::sleep(SECOND * 5).await;
        report(&breaker, Outcome::Failure);
        assert_eq!(wait(), SECOND * expected);
    }
    time::sleep(SECOND * 5).await;
    report(&breaker, Outcome::Success);
    trip(&breaker);
    assert_eq!(wait(), SECOND * 3, "it was closed for a moment only");
    time::sleep(SECOND * 5).await;
    report(&breaker, Outcome::Success);
    time::sleep(SECOND * 60).await;
    trip(&breaker);
    assert_eq!(wait(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn b13_jitter_stays_within_its_share() {
    for seed in 0..50 {
        let breaker = steady("b").min_calls(1).jitter(0.1).seed(seed).build().unwrap();
        trip(&breaker);
        let wait = breaker.enter().unwrap_err().retry_hint().unwrap();
        assert!(wait >= SECOND * 9 / 10 && wait <= SECOND * 11 / 10, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn b14_a_ramp_lets_a_growing_share_through() {
    let breaker =
        steady("b").min_calls(20).consecutive(1).probes(1).ramp(SECOND * 10).seed(7).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND).await;
    report(&breaker, Outcome::Success);
    let share = || (0..1000).filter(|_| breaker.enter().is_ok()).count();
    assert!((60..150).contains(&share()), "a tenth at first");
    time::sleep(SECOND * 5).await;
    assert!((430..570).contains(&share()), "half after half of the ramp");
    time::sleep(SECOND * 5).await;
    assert_eq!(share(), 1000);
}

#[tokio::test(start_paused = true)]
async fn b15_states_set_by_hand_hold_until_resumed() {
    let breaker = steady("b").min_calls(1).build().unwrap();
    breaker.force_open("maintenance");
    time::sleep(SECOND * 100).await;
    assert_eq!(breaker.enter().unwrap_err().retry_hint(), None);
    assert!(breaker.explain().ends_with("maintenance"), "{}", breaker.explain());
    breaker.force_closed("drill");
    report_many(&breaker, Outcome::Failure, 10);
    assert_eq!((breaker.state(), breaker.rates()), (BreakerState::ForcedClosed, Some((1.0, 0.0))));
    breaker.disable("noise");
    report(&breaker, Outcome::Failure);
    assert_eq!((breaker.state(), breaker.rates()), (BreakerState::Disabled, None));
    let old = breaker.enter().unwrap();
    breaker.resume();
    old.leave(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Closed, "leaving starts a fresh generation");
}

#[tokio::test(start_paused = true)]
async fn b15_an_observing_breaker_says_once_that_it_would_have_opened() {
    let breaker = steady("b").window(Window::Count(4)).min_calls(2).build().unwrap();
    breaker.observe_only("trial");
    report_many(&breaker, Outcome::Failure, 5);
    assert_eq!((breaker.state(), breaker.stats().would_have_opened), (BreakerState::Observing, 1));
    report_many(&breaker, Outcome::Success, 4);
    report_many(&breaker, Outcome::Failure, 4);
    assert_eq!(breaker.stats().would_have_opened, 2);
}

#[test]
fn b16_a_race_for_the_transition_has_one_winner() {
    for round in 0..50 {
        let events = Arc::new(AtomicU64::new(0));
        let seen = events.clone();
        let breaker = steady("b")
            .min_calls(1)
            .probes(3)
            .seed(round)
            .on_event(move |event| {
                seen.fetch_add(u64::from(*event == BreakerEvent::HalfOpened), Ordering::Relaxed);
            })
            .build()
            .unwrap();
        trip(&breaker);
        let now = time::now() + SECOND * 2;
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..16 {
                        admitted.fetch_add(
                            u64::from(Gate::enter(&breaker, &Now::at(now)).is_ok()),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!((events.load(Ordering::Relaxed), admitted.into_inner()), (1, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn b17_one_failure_after_closing_does_not_reopen_from_stale_counts() {
    let breaker = steady("b").min_calls(10).probes(1).build().unwrap();
    trip(&breaker);
    time::sleep(SECOND).await;
    report(&breaker, Outcome::Success);
    report(&breaker, Outcome::Failure);
    assert_eq!((breaker.state(), breaker.rates()), (BreakerState::Closed, None));
}

#[tokio::test(start_paused = true)]
async fn a_certain_opening_is_not_waited_for() {
    let breaker = steady("b").min_calls(100).decide_early(true).build().unwrap();
    report_many(&breaker, Outcome::Success, 10);
    report_many(&breaker, Outcome::Failure, 49);
    assert_eq!(breaker.state(), BreakerState::Closed, "51 missing successes would make 49 %");
    report(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn g05_a_moment_before_the_latest_counts_as_the_latest() {
    let breaker = steady("b").min_calls(1).window(Window::Time(SECOND)).build().unwrap();
    let early = Now::at(time::now());
    time::sleep(SECOND).await;
    trip(&breaker);
    assert_eq!(Gate::enter(&breaker, &early).unwrap_err().reason(), Reason::Open);
    let token = {
        time::sleep(SECOND * 2).await;
        Gate::enter(&breaker, &Now::lazy()).unwrap()
    };
    breaker.leave(token, &Leaving::new(Outcome::Failure, &early));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn g08_calls_in_flight_report_to_the_new_configuration() {
    let breaker = steady("b").min_calls(10).build().unwrap();
    let pass = breaker.enter().unwrap();
    let mut config = breaker.config();
    config.min_calls = 1;
    breaker.reconfigure(config.clone()).unwrap();
    pass.leave(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
    config.failure_rate = f64::NAN;
    assert_eq!(breaker.reconfigure(config).unwrap_err().field(), "failure_rate");
    assert_eq!(breaker.config().failure_rate, 0.5);
}
