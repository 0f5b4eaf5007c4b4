//! Cases of other libraries' tests that are tables rather than statements of their own.

use perf_core::Outcome;
use perf_core::time::{self, Duration};
use perf_resilience::breaker::Window;
use perf_resilience::{Breaker, BreakerState};

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

/// resilience4j, SlidingTimeWindowMetricsTest: calls leave a window of five seconds as time goes on.
#[tokio::test(start_paused = true)]
async fn a_window_over_time_forgets_as_in_resilience4j() {
    let breaker = Breaker::builder("b").window(Window::Time(S * 5)).min_calls(4).decide_early(false);
    let breaker = breaker.build().unwrap();
    (0..3).for_each(|_| assert!(report(&breaker, Outcome::Failure)));
    time::sleep(S * 6).await;
    assert!(report(&breaker, Outcome::Failure));
    assert_eq!(
        (breaker.state(), breaker.rates()),
        (BreakerState::Closed, None),
        "three of the four are too old"
    );
    (0..3).for_each(|_| assert!(report(&breaker, Outcome::Failure)));
    assert_eq!(breaker.state(), BreakerState::Open);
}
