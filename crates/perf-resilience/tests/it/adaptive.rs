use perf_core::time::{self, Duration};
use perf_core::{Outcome, Reason};
use perf_resilience::adaptive::{Adaptive, Algorithm, Bounds, Method, Steps, Vegas};
use perf_resilience::{Gate, Leaving, Now};

/// A server with so many slots: beyond them calls queue, and time grows with the number in flight. `rtt` gives the time
/// of a call that shares the server with `in_flight` calls. Returns the limits the limiter settled on.
fn drive(limit: &Adaptive, seconds: u64, wanted: u32, rtt: impl Fn(u32) -> Duration) -> Vec<u32> {
    let start = time::now();
    let mut now = start;
    let mut limits = Vec::new();
    let mut inside: Vec<(perf_resilience::Token, time::Instant, time::Instant)> = Vec::new();
    while now < start + Duration::from_secs(seconds) {
        inside.sort_by_key(|(_, _, end)| *end);
        while inside.first().is_some_and(|(_, _, end)| *end <= now) {
            let (token, began, _) = inside.remove(0);
            let at = Now::at(now);
            let leaving = Leaving { outcome: Outcome::Success, started: Some(began), now: &at };
            limit.leave(token, &leaving);
        }
        while (inside.len() as u32) < wanted {
            let Ok(token) = limit.enter(&Now::at(now)) else { break };
            let end = now + rtt(inside.len() as u32 + 1);
            inside.push((token, now, end));
        }
        limits.push(limit.limit());
        now += Duration::from_millis(5);
    }
    limits
}

#[test]
fn l02_cancelled_and_ignored_calls_teach_nothing() {
    let limit = Adaptive::builder("a").build().unwrap();
    let before = limit.limit();
    for outcome in [Outcome::Cancelled, Outcome::Ignored] {
        for step in 0..1000 {
            let start = time::now() + Duration::from_secs(step);
            let token = limit.enter(&Now::at(start)).unwrap();
            let end = Now::at(start + Duration::from_secs(30));
            limit.leave(token, &Leaving { outcome, started: Some(start), now: &end });
        }
    }
    assert_eq!((limit.limit(), limit.stats().updates, limit.in_flight()), (before, 0, 0));
}

#[test]
fn l05_a_server_that_slows_with_load_does_not_drag_the_limit_to_its_maximum() {
    for method in [Method::Gradient2, Method::Vegas] {
        let limit = Adaptive::builder("a").method(method).max(1000).build().unwrap();
        // Twenty slots of 20 ms: beyond them, twice the calls take twice the time.
        let rtt = |in_flight: u32| Duration::from_millis(20).mul_f64(f64::from(in_flight.max(20)) / 20.0);
        let limits = drive(&limit, 600, 2000, rtt);
        let last = &limits[limits.len() * 9 / 10..];
        let most = *last.iter().max().unwrap();
        assert!(most < 200, "{method:?} went to {most}");
    }
}

#[test]
fn l06_healthy_traffic_is_never_squeezed_to_the_minimum() {
    let limit = Adaptive::builder("a").initial(50).max(200).build().unwrap();
    let limits = drive(&limit, 120, 60, |_| Duration::from_millis(20));
    assert!(limits[2000..].iter().all(|limit| *limit >= 45), "{:?}", limits.iter().min());
    let falls: Vec<_> = limits.windows(2).filter(|pair| pair[1] < pair[0]).collect();
    assert!(falls.len() > 20, "it looks what fewer would do: {falls:?}");
    assert!(falls.iter().all(|pair| pair[0] - pair[1] <= 1 + pair[0] / 20), "and by one step: {falls:?}");
}

#[test]
fn the_limit_finds_the_size_of_the_server() {
    for slots in [20_u32, 50] {
        let bounds = Bounds { initial: 10.0, min: 4.0, max: 500.0 };
        let vegas = Vegas::new(bounds).steps(Steps::Fixed(1, 3)).steady();
        let limit = Adaptive::builder("a").algorithm(Algorithm::Vegas(vegas)).build().unwrap();
        let rtt = |in_flight: u32| {
            Duration::from_millis(50).mul_f64(f64::from(in_flight.max(slots)) / f64::from(slots))
        };
        let limits = drive(&limit, 120, 1000, rtt);
        let last = &limits[limits.len() / 2..];
        let mean = f64::from(last.iter().sum::<u32>()) / last.len() as f64;
        assert!((mean / f64::from(slots) - 1.0).abs() < 0.2, "{slots} slots, limit {mean}");
    }
}

#[test]
fn l07_the_limit_is_whole_and_refusals_name_it() {
    let limit = Adaptive::builder("a").initial(4).build().unwrap();
    let now = Now::lazy();
    let tokens: Vec<_> = (0..4).map(|_| limit.enter(&now).unwrap()).collect();
    let refused = limit.enter(&now).unwrap_err();
    assert_eq!((refused.reason(), refused.decided_by().unwrap().limit), (Reason::Full, 4.0));
    tokens.into_iter().for_each(|token| limit.leave(token, &Leaving::new(Outcome::Success, &now)));
    assert_eq!(limit.in_flight(), 0);
}

#[test]
fn impossible_settings_are_named() {
    let field = |a: perf_resilience::adaptive::AdaptiveBuilder| a.build().unwrap_err().field().to_owned();
    assert_eq!(field(Adaptive::builder("a").min(0)), "min");
    assert_eq!(field(Adaptive::builder("a").min(9).max(8)), "max");
    assert_eq!(field(Adaptive::builder("a").initial(3)), "initial");
}
