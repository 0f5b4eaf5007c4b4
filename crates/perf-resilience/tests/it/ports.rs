//! Cases of other libraries' tests that are tables rather than statements of their own.

use perf_core::Outcome;
use perf_core::time::{self, Duration};
use perf_resilience::breaker::Window;
use perf_resilience::{Breaker, BreakerState, Gate, Leaving, Now};

const S: Duration = Duration::from_secs(1);

fn report(breaker: &Breaker, outcome: Outcome) -> bool {
    breaker.enter().map(|pass| pass.leave(outcome)).is_ok()
}

/// failsafe-go, circuitbreaker/halfopenstate_test.go: how many probes there are, how many must succeed, what they say (`+`
/// and `-`), and what the breaker is after each.
#[tokio::test(start_paused = true)]
async fn the_probation_is_decided_by_thresholds_and_capacity_as_in_failsafe_go() {
    let table = [
        (1, 1, "+", "c"),
        (1, 1, "-", "o"),
        (3, 3, "+++", "hhc"),
        (3, 3, "++-", "hho"),
        (3, 3, "-", "o"),
        (3, 2, "++", "hc"),
        (3, 2, "+-+", "hhc"),
        (3, 2, "-++", "hhc"),
        (3, 2, "--", "ho"),
        (3, 2, "+--", "hho"),
        (3, 1, "+", "c"),
        (3, 1, "--+", "hhc"),
        (3, 1, "---", "hho"),
        (5, 3, "+++", "hhc"),
        (5, 3, "---", "hho"),
        (5, 3, "+-+-+", "hhhhc"),
        (5, 3, "-+-+-", "hhhho"),
        (10, 5, "+++++", "hhhhc"),
        (10, 5, "------", "hhhhho"),
    ];
    for (probes, needed, said, states) in table {
        let breaker =
            Breaker::builder("b").consecutive(1).probes(probes).probe_successes(needed).build().unwrap();
        report(&breaker, Outcome::Failure);
        time::sleep(S * 10).await;
        let mut seen = String::new();
        for probe in said.chars() {
            assert!(report(&breaker, if probe == '+' { Outcome::Success } else { Outcome::Failure }));
            seen.push(match breaker.state() {
                BreakerState::HalfOpen => 'h',
                BreakerState::Open => 'o',
                _ => 'c',
            });
        }
        assert_eq!(seen, states, "{needed} of {probes}, {said}");
    }
}

/// linkerd2-proxy, outbound/src/http/breaker/{unified,success_rate}.rs.
#[tokio::test(start_paused = true)]
async fn a_combined_breaker_behaves_as_in_linkerd() {
    let breaker = || {
        let breaker = Breaker::builder("b").window(Window::Time(S * 10)).min_calls(10).failure_rate(0.5);
        breaker.consecutive(5).probes(1).decide_early(false).jitter(0.0).build().unwrap()
    };
    // A burst of failures trips whatever the rate.
    let burst = breaker();
    (0..100).for_each(|_| assert!(report(&burst, Outcome::Success)));
    (0..5).for_each(|_| assert!(report(&burst, Outcome::Failure)));
    assert_eq!(burst.state(), BreakerState::Open);
    assert!(burst.explain().contains("5 calls failed in a row"), "{}", burst.explain());
    // Probation admits a single probe.
    time::sleep(S * 6).await;
    let probe = burst.enter().unwrap();
    assert!((0..10).all(|_| burst.enter().is_err()));
    probe.leave(Outcome::Success);
    assert_eq!(burst.state(), BreakerState::Closed);
    // Both thresholds are crossed by the same call: the row is the reason.
    let both = breaker();
    (0..5).for_each(|_| assert!(report(&both, Outcome::Success)));
    (0..5).for_each(|_| assert!(report(&both, Outcome::Failure)));
    assert!(both.explain().contains("in a row"), "{}", both.explain());
    // After an idle spell the rate needs its calls anew.
    let idle = breaker();
    (0..9).for_each(|n| assert!(report(&idle, if n % 2 == 1 { Outcome::Failure } else { Outcome::Success })));
    time::sleep(S * 20).await;
    (0..4).for_each(|_| assert!(report(&idle, Outcome::Failure)));
    assert_eq!((idle.state(), idle.rates()), (BreakerState::Closed, None), "four calls are no rate");
}

/// Watches without opening, so that a window can be read whatever is in it.
fn watching(window: Window) -> Breaker {
    let breaker = Breaker::builder("b").window(window).min_calls(1).slow_call(S).build().unwrap();
    breaker.force_closed("to be read");
    breaker
}

/// A call that took so long, ended at `now`.
fn took(breaker: &Breaker, outcome: Outcome, lasted: Duration, now: time::Instant) {
    let at = Now::at(now);
    let token = Gate::enter(breaker, &at).unwrap();
    breaker.leave(token, &Leaving { outcome, started: now.checked_sub(lasted), now: &at });
}

/// resilience4j, SlidingTimeWindowMetricsTest: testSlidingTimeWindowMetrics, shouldClearSlidingTimeWindowMetrics.
#[tokio::test(start_paused = true)]
async fn a_window_over_time_forgets_as_in_resilience4j() {
    let share = |failed: u32, total: u32| Some((f64::from(failed) / f64::from(total), 0.0));
    let breaker = watching(Window::Time(S * 5));
    assert_eq!(breaker.rates(), None);
    // Milliseconds since the call before, whether it failed, and what the window holds then.
    for (pause, failed, expected) in [
        (0, true, share(1, 1)),
        (100, false, share(1, 2)),
        (100, false, share(1, 3)),
        (1000, false, share(1, 4)),
        (1000, false, share(1, 5)),
        (1000, true, share(2, 6)),
        (1000, false, share(2, 7)),
        (1000, false, share(1, 5)),
        (1000, false, share(1, 5)),
        (5000, false, share(0, 1)),
    ] {
        time::sleep(Duration::from_millis(pause)).await;
        assert!(report(&breaker, if failed { Outcome::Failure } else { Outcome::Success }));
        assert_eq!(breaker.rates(), expected);
    }
    let cleared = watching(Window::Time(S * 5));
    for pause in [0, 100, 700] {
        time::sleep(Duration::from_millis(pause)).await;
        assert!(report(&cleared, if pause == 0 { Outcome::Failure } else { Outcome::Success }));
    }
    time::sleep(S * 4).await;
    assert_eq!(cleared.rates(), share(1, 3));
    time::sleep(S).await;
    assert_eq!(cleared.rates(), None);
}

/// Polly, RollingHealthMetricsTests: every name of it.
#[tokio::test(start_paused = true)]
async fn a_window_over_time_holds_what_it_holds_in_polly() {
    let breaker = watching(Window::Time(S * 10));
    assert_eq!(breaker.rates(), None, "Ctor_EnsureDefaults");
    let mut health = Vec::new();
    for step in 0..6 {
        if step < 5 {
            assert!(report(&breaker, if step < 2 { Outcome::Failure } else { Outcome::Success }));
            assert!(report(&breaker, Outcome::Success));
        }
        time::sleep(S * 2).await;
        health.push(breaker.rates().unwrap().0);
    }
    assert_eq!(health, [0.5, 0.5, 1.0 / 3.0, 0.25, 0.125, 0.0], "GetHealthInfo_EnsureWindowRespected");
    let capacity = watching(Window::Time(S * 10));
    for second in 0..10 {
        assert!(report(&capacity, if second == 9 { Outcome::Failure } else { Outcome::Success }));
        time::sleep(S).await;
    }
    assert_eq!(capacity.rates(), Some((1.0 / 9.0, 0.0)), "GetHealthInfo_EnsureWindowCapacityRespected");
    time::sleep(S).await;
    assert_eq!(capacity.rates(), Some((1.0 / 8.0, 0.0)));
    for more in [Duration::ZERO, Duration::from_millis(1)] {
        let sampled = watching(Window::Time(S * 10));
        (0..2).for_each(|_| assert!(report(&sampled, Outcome::Success)));
        time::sleep(S * 10 + more).await;
        assert_eq!(sampled.rates(), None, "GetHealthInfo_SamplingDurationRespected");
    }
    let reset = watching(Window::Time(S * 10));
    assert!(report(&reset, Outcome::Success));
    reset.resume();
    assert_eq!(reset.rates(), None, "Reset_Ok");
}

/// resilience4j, FixedSizeSlidingWindowMetricsTest: testSlidingWindowMetrics, …WithSlowCalls, testSlowCallsPercentage.
#[tokio::test(start_paused = true)]
async fn a_window_over_calls_holds_failures_and_slow_calls_as_in_resilience4j() {
    let (long, quick) = (S * 10, Duration::from_millis(100));
    let now = time::now() + S * 100;
    let four = watching(Window::Count(4));
    for (outcome, expected) in [
        (Outcome::Failure, 1.0),
        (Outcome::Success, 0.5),
        (Outcome::Success, 1.0 / 3.0),
        (Outcome::Success, 0.25),
        (Outcome::Success, 0.0),
    ] {
        took(&four, outcome, quick, now);
        assert_eq!(four.rates(), Some((expected, 0.0)));
    }
    let two = watching(Window::Count(2));
    for (outcome, lasted, expected) in [
        (Outcome::Failure, long, (1.0, 1.0)),
        (Outcome::Success, long, (0.5, 1.0)),
        (Outcome::Success, quick, (0.0, 0.5)),
        (Outcome::Success, quick, (0.0, 0.0)),
        (Outcome::Success, quick, (0.0, 0.0)),
    ] {
        took(&two, outcome, lasted, now);
        assert_eq!(two.rates(), Some(expected));
    }
    for window in [Window::Count(5), Window::Time(S * 5)] {
        let percentage = watching(window);
        let now = time::now() + S * 20;
        took(&percentage, Outcome::Success, long, now);
        took(&percentage, Outcome::Failure, long, now);
        (0..3).for_each(|_| took(&percentage, Outcome::Success, quick, now));
        time::sleep(S * 20).await;
        assert_eq!(percentage.rates(), Some((0.2, 0.4)), "{window:?}");
    }
}

/// resilience4j, CircuitBreakerStateMachineTest: what its breaker is after each call of a series.
#[tokio::test(start_paused = true)]
async fn the_state_machine_goes_through_the_states_of_resilience4j() {
    let make = || {
        let breaker = Breaker::builder("b").window(Window::Time(S * 5)).min_calls(5).failure_rate(0.5);
        let breaker = breaker.slow_call(S * 4).slow_rate(0.5).probes(4).open_for(S * 5).jitter(0.0);
        breaker.build().unwrap()
    };
    let probing = async || {
        let breaker = make();
        (0..5).for_each(|_| assert!(report(&breaker, Outcome::Failure)));
        time::sleep(S * 5).await;
        breaker
    };
    let (failure, success) = (Outcome::Failure, Outcome::Success);
    let (slow, quick) = (S * 5, Duration::from_millis(100));
    // shouldOpenAfterFailureRateThresholdExceeded
    let failing = make();
    for outcome in [failure, failure, failure, success] {
        assert!(report(&failing, outcome));
        assert_eq!((failing.state(), failing.rates()), (BreakerState::Closed, None));
    }
    assert!(report(&failing, success));
    assert_eq!(failing.state(), BreakerState::Open);
    assert!(failing.explain().contains("60"), "{}", failing.explain());
    assert!(!report(&failing, success));
    assert_eq!(failing.stats().refused, 1);
    // shouldOpenAfterSlowCallRateThresholdExceeded: two of five fail, three are slow
    let dragging = make();
    let now = time::now() + S * 10;
    for (outcome, lasted) in [(failure, slow), (success, slow), (failure, quick), (success, quick)] {
        took(&dragging, outcome, lasted, now);
        assert_eq!(dragging.state(), BreakerState::Closed);
    }
    took(&dragging, success, slow, now);
    assert_eq!(dragging.state(), BreakerState::Open);
    assert!(dragging.explain().contains("slow"), "{}", dragging.explain());
    // shouldTransitionBackToOpenStateWhenFailureRateIsAboveThreshold: here as soon as it is certain
    let relapsing = probing().await;
    assert!(report(&relapsing, failure) && report(&relapsing, failure));
    assert_eq!(relapsing.state(), BreakerState::Open);
    // shouldTransitionBackToOpenStateWhenSlowCallRateIsAboveThreshold: all succeed, half of them slowly
    let crawling = probing().await;
    let now = time::now() + S;
    for (lasted, state) in
        [(slow, BreakerState::HalfOpen), (quick, BreakerState::HalfOpen), (slow, BreakerState::Open)]
    {
        took(&crawling, success, lasted, now);
        assert_eq!(crawling.state(), state);
    }
    // shouldTransitionBackToClosedStateWhenFailureIsBelowThreshold
    let recovering = probing().await;
    for outcome in [failure, success, success, success] {
        assert!(report(&recovering, outcome));
    }
    assert_eq!((recovering.state(), recovering.rates()), (BreakerState::Closed, None));
    // shouldIncreaseCounterOnReleasePermission, shouldReleasePermissionWhenExceptionIgnored,
    // shouldIgnoreExceptionsAndThenTransitionToClosed
    let ignoring = probing().await;
    (0..8).for_each(|_| assert!(report(&ignoring, Outcome::Ignored)));
    assert_eq!(ignoring.state(), BreakerState::HalfOpen);
    let places: Vec<_> = (0..4).map(|_| ignoring.enter().unwrap()).collect();
    assert!(ignoring.enter().is_err());
    drop(places);
    (0..3).for_each(|_| assert!(report(&ignoring, success)));
    assert_eq!((ignoring.state(), ignoring.rates()), (BreakerState::Closed, None));
    // shouldTransitionToHalfOpenAfterWaitDuration
    let waiting = make();
    (0..5).for_each(|_| assert!(report(&waiting, failure)));
    time::sleep(S * 3).await;
    assert!(!report(&waiting, success));
    time::sleep(S * 2).await;
    assert!(report(&waiting, success));
    assert_eq!(waiting.state(), BreakerState::HalfOpen);
    // shouldResetMetrics, shouldResetToClosedState, shouldResetClosedState
    for breaker in [make(), failing] {
        (0..4).for_each(|_| _ = report(&breaker, failure));
        breaker.resume();
        assert_eq!((breaker.state(), breaker.rates()), (BreakerState::Closed, None));
        (0..4).for_each(|_| assert!(report(&breaker, failure)));
        assert_eq!(breaker.state(), BreakerState::Closed, "what was before is forgotten");
    }
    // shouldResetMetricsAfterMetricsOnlyStateTransition, shouldRecordMetricsInMetricsOnlyState
    let observing = make();
    (0..4).for_each(|_| assert!(report(&observing, failure)));
    observing.observe_only("trial");
    for outcome in [failure, failure, failure, success] {
        assert!(report(&observing, outcome));
        assert_eq!(observing.rates(), None);
    }
    assert!(report(&observing, success));
    assert_eq!(observing.rates(), Some((0.6, 0.0)));
    assert!(report(&observing, failure));
    assert_eq!((observing.state(), observing.stats().would_have_opened), (BreakerState::Observing, 1));
}

/// linkerd2-proxy, success_rate.rs and unified.rs: the names that [`a_combined_breaker_behaves_as_in_linkerd`] does not show.
#[tokio::test(start_paused = true)]
async fn rate_and_probation_behave_as_in_linkerd() {
    let rate = |limit: f64, min_calls: u32| {
        let breaker = Breaker::builder("b").window(Window::Time(S * 10)).failure_rate(limit);
        breaker.min_calls(min_calls).probes(1).open_for(S).jitter(0.0).build().unwrap()
    };
    // min_requests_zero_trips_on_first_failure: the least here is one
    let first = rate(0.5, 1);
    assert!(report(&first, Outcome::Failure));
    assert_eq!(first.state(), BreakerState::Open);
    // threshold_one_trips_on_any_failure_once_min_met: any failure is any share above nothing
    let strict = rate(f64::MIN_POSITIVE, 4);
    (0..3).for_each(|_| assert!(report(&strict, Outcome::Success)));
    assert!(report(&strict, Outcome::Failure));
    assert_eq!(strict.state(), BreakerState::Open);
    // cold_start_holds_until_min_requests, failure_burst_trips_independent_of_rate
    for pause in [Duration::ZERO, S] {
        let cold = rate(0.5, 5);
        for _ in 0..4 {
            assert!(report(&cold, Outcome::Failure));
            time::sleep(pause).await;
        }
        assert_eq!(cold.state(), BreakerState::Closed);
        assert!(report(&cold, Outcome::Failure));
        assert_eq!(cold.state(), BreakerState::Open);
    }
    // unreachable_min_requests_never_trips
    let dormant = rate(0.1, u32::MAX);
    (0..50).for_each(|_| assert!(report(&dormant, Outcome::Failure)));
    assert_eq!((dormant.state(), dormant.rates()), (BreakerState::Closed, None));
    // ratio_recovers_as_failures_expire, buckets_roll_and_expire_in_order, large_gap_clears_entire_window
    let window = watching(Window::Time(S * 10));
    (0..2).for_each(|_| assert!(report(&window, Outcome::Failure)));
    time::sleep(S * 6).await;
    (0..8).for_each(|_| assert!(report(&window, Outcome::Success)));
    assert_eq!(window.rates(), Some((0.2, 0.0)));
    time::sleep(S * 5).await;
    assert_eq!(window.rates(), Some((0.0, 0.0)));
    time::sleep(S * 1000).await;
    assert_eq!(window.rates(), None);
    // success_resets_consecutive_count
    let row = Breaker::builder("b").consecutive(3).build().unwrap();
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Failure]
    {
        assert!(report(&row, outcome));
    }
    assert_eq!(row.state(), BreakerState::Closed);
    // probation_failure_on_429: an overloaded dependency is not back
    let overloaded = rate(0.5, 1);
    assert!(report(&overloaded, Outcome::Failure));
    time::sleep(S).await;
    assert!(report(&overloaded, Outcome::Overload));
    assert_eq!(overloaded.state(), BreakerState::Open);
    // slow_healthy_probe_within_ceiling_reopens
    time::sleep(S * 2).await;
    let probe = overloaded.enter().unwrap();
    time::sleep(S * 5).await;
    assert_eq!(overloaded.state(), BreakerState::HalfOpen);
    probe.leave(Outcome::Success);
    assert_eq!(overloaded.state(), BreakerState::Closed);
    // success_rate_recovers_after_decay, simultaneous: one failure after recovery is no rate
    let recovered = rate(0.5, 3);
    (0..3).for_each(|_| assert!(report(&recovered, Outcome::Overload)));
    assert_eq!(recovered.state(), BreakerState::Open);
    time::sleep(S).await;
    assert!(report(&recovered, Outcome::Success) && report(&recovered, Outcome::Failure));
    for _ in 0..20 {
        assert_eq!(recovered.state(), BreakerState::Closed);
        assert!(report(&recovered, Outcome::Success));
        time::sleep(S).await;
    }
    // dual_mode_success_rate_trips_before_consecutive, success_rate_trip_reports_low_success_rate_reason
    let dual =
        Breaker::builder("b").window(Window::Time(S * 10)).failure_rate(0.5).min_calls(3).consecutive(5);
    let dual = dual.build().unwrap();
    assert!(report(&dual, Outcome::Success));
    (0..2).for_each(|_| assert!(report(&dual, Outcome::Overload)));
    assert_eq!(dual.state(), BreakerState::Open);
    assert!(!dual.explain().contains("in a row"), "{}", dual.explain());
}
