use crate::balance::*;
use perf_core::time::{self, Duration};

#[test]
fn failures_in_a_row_eject_and_one_probe_decides_on_the_return() {
    let now = time::now();
    let mut ejector = Ejector::new(EjectorConfig::default(), 4, now);
    for _ in 0..4 {
        assert!(!ejector.record(0, false, now));
    }
    assert!(ejector.record(0, false, now), "the fifth in a row");
    assert!(!ejector.admit(0, now + Duration::from_secs(29)));
    let back = now + Duration::from_secs(30);
    assert!(ejector.admit(0, back), "one probe");
    assert!(!ejector.admit(0, back), "and only one");
    ejector.record_probe(0, false, back);
    assert!(!ejector.admit(0, back + Duration::from_secs(59)), "twice as long the second time");
    let again = back + Duration::from_secs(60);
    assert!(ejector.admit(0, again));
    ejector.record_probe(0, true, again);
    assert!(!ejector.is_out(0) && ejector.admit(0, again));
}

#[test]
fn s3_at_most_a_tenth_but_always_one_may_be_out() {
    let now = time::now();
    for (endpoints, most) in [(1, 1), (5, 1), (19, 1), (20, 2), (35, 3)] {
        let mut ejector = Ejector::new(EjectorConfig::default(), endpoints, now);
        let fail = |endpoint| (0..10).fold(false, |any, _| any | ejector.record(endpoint, false, now));
        let ejected = (0..endpoints).map(fail).filter(|ejected| *ejected).count();
        let out = (0..endpoints).filter(|endpoint| ejector.is_out(*endpoint)).count();
        assert_eq!((out, ejected), (most, most), "of {endpoints}");
    }
}

/// As many calls to each endpoint as its pair says, the second number of them failed.
fn interval(ejector: &mut Ejector, calls: &[(usize, usize)], now: time::Instant) {
    for (endpoint, (all, failed)) in calls.iter().enumerate() {
        (0..*all).for_each(|call| assert!(!ejector.record(endpoint, call >= *failed, now)));
    }
}

/// An ejector that only sweeps take endpoints out of.
fn sweeping(endpoints: usize, now: time::Instant) -> Ejector {
    Ejector::new(EjectorConfig { consecutive: 1_000, ..EjectorConfig::default() }, endpoints, now)
}

const TEN: Duration = Duration::from_secs(10);

#[test]
fn an_outlier_among_many_is_found_by_the_sweep() {
    let now = time::now();
    let mut ejector = sweeping(10, now);
    let mut calls = [(100, 0); 10];
    calls[3] = (100, 50);
    interval(&mut ejector, &calls, now);
    assert_eq!(ejector.sweep(now + Duration::from_secs(9)), Vec::<usize>::new());
    assert_eq!(ejector.sweep(now + TEN), [3]);
}

/// Rates of 1 and, for one in n, of r have the mean 1 − (1 − r) / n and the deviation (1 − r) × √(n − 1) / n: the one lies
/// √(n − 1) deviations below the mean. One deviation is asked for here, so that nothing but the numbers of endpoints and of
/// calls is in the way.
#[test]
fn s3_success_rates_are_compared_among_five_with_a_hundred_calls_each() {
    let now = time::now();
    let found = |calls: &[(usize, usize)]| {
        let config = EjectorConfig { consecutive: 1_000, deviations: 1.0, ..EjectorConfig::default() };
        let mut ejector = Ejector::new(config, calls.len(), now);
        interval(&mut ejector, calls, now);
        ejector.sweep(now + TEN)
    };
    assert_eq!(found(&[(100, 50), (100, 0), (100, 0), (100, 0), (100, 0)]), [0]);
    assert_eq!(found(&[(100, 50), (100, 0), (100, 0), (100, 0)]), [0; 0], "four");
    assert_eq!(found(&[(100, 50), (100, 0), (100, 0), (100, 0), (99, 0)]), [0; 0], "four with enough calls");
    assert_eq!(found(&[(99, 50), (100, 0), (100, 0), (100, 0), (100, 0)]), [0; 0], "the one has too few");
    assert_eq!(
        found(&[(99, 50), (100, 0), (100, 0), (100, 0), (100, 0), (100, 0)]),
        [0; 0],
        "and is not compared with five others either"
    );
}

/// Two in ten of rate r lie two deviations below the mean (0.8 × (1 − r) above, a deviation of 0.4 × (1 − r)), three in ten
/// 1.53: 1.9 separates them.
#[test]
fn s3_an_outlier_lies_at_least_1_9_deviations_below_the_mean() {
    let now = time::now();
    let mut config = EjectorConfig { consecutive: 1_000, most: 1.0, ..EjectorConfig::default() };
    for (bad, ejected, deviations) in [(2, 2, 1.9), (3, 0, 1.9), (3, 3, 1.5), (2, 0, 2.1)] {
        config.deviations = deviations;
        let mut ejector = Ejector::new(config.clone(), 10, now);
        let calls: Vec<_> = (0..10).map(|endpoint| (100, if endpoint < bad { 40 } else { 0 })).collect();
        interval(&mut ejector, &calls, now);
        assert_eq!(ejector.sweep(now + TEN).len(), ejected, "{bad} bad, {deviations}");
    }
}

#[test]
fn s3_a_share_of_failures_counts_from_85_percent_and_fifty_calls_on() {
    let now = time::now();
    for (calls, failed, out) in
        [(50, 43, true), (50, 42, false), (49, 49, false), (200, 170, true), (200, 169, false)]
    {
        let mut ejector = sweeping(1, now);
        interval(&mut ejector, &[(calls, failed)], now);
        assert_eq!(ejector.sweep(now + TEN) == [0], out, "{failed} of {calls}");
    }
}

#[test]
fn s3_a_sweep_judges_the_interval_that_is_over_and_no_older_one() {
    let now = time::now();
    let mut ejector = sweeping(6, now);
    // Sixty calls in each of two intervals are never a hundred, and forty failures in each never fifty.
    for round in 1..=2 {
        interval(&mut ejector, &[(40, 40), (60, 30), (60, 0), (60, 0), (60, 0), (60, 0)], now);
        assert_eq!(ejector.sweep(now + TEN * round), [0; 0], "round {round}");
    }
    interval(&mut ejector, &[(0, 0), (100, 50), (100, 0), (100, 0), (100, 0), (100, 0)], now + TEN * 2);
    assert_eq!(ejector.sweep(now + TEN * 3), [1]);
    assert_eq!(ejector.sweep(now + TEN * 4), [0; 0], "what was judged is not judged again");
}

#[test]
fn s3_one_ejection_is_forgiven_for_each_healthy_sweep_and_each_that_was_missed() {
    let start = time::now();
    // Ejected twice in a row: the third time it would be out for 90 s.
    let seconds_out_after = |sweeps: &[u32]| {
        let mut ejector = sweeping(1, start);
        interval(&mut ejector, &[(50, 50)], start);
        assert_eq!(ejector.sweep(start + TEN), [0]);
        let mut now = start + TEN * 4;
        assert!(ejector.admit(0, now));
        ejector.record_probe(0, false, now);
        now += TEN * 6;
        assert!(ejector.admit(0, now));
        // The sweeps while it was out forgave nothing; the next one is due from now on.
        ejector.sweep(now);
        ejector.record_probe(0, true, now);
        for after in sweeps {
            assert_eq!(ejector.sweep(now + TEN * *after), [0; 0]);
        }
        now += TEN * *sweeps.last().unwrap_or(&0);
        interval(&mut ejector, &[(50, 50)], now);
        now += TEN;
        assert_eq!(ejector.sweep(now), [0]);
        let until = (1..=300).find(|seconds| ejector.admit(0, now + Duration::from_secs(*seconds)));
        until.unwrap()
    };
    assert_eq!(seconds_out_after(&[]), 90);
    assert_eq!(seconds_out_after(&[1]), 60);
    assert_eq!(seconds_out_after(&[1, 2]), 30);
    assert_eq!(seconds_out_after(&[2]), 30, "a sweep that comes an interval late counts for both");
    assert_eq!(seconds_out_after(&[1, 2, 3]), 30);
}

#[test]
fn s3_calls_that_fail_while_their_endpoint_is_out_do_not_lengthen_it() {
    let now = time::now();
    let mut ejector = Ejector::new(EjectorConfig::default(), 2, now);
    let ejections = (0..50).filter(|_| ejector.record(0, false, now)).count();
    assert_eq!(ejections, 1, "fifty calls under way fail together");
    assert!(
        !ejector.admit(0, now + Duration::from_secs(29)) && ejector.admit(0, now + Duration::from_secs(30))
    );
}

#[test]
fn when_most_are_out_being_out_means_nothing() {
    let now = time::now();
    let config = EjectorConfig { most: 1.0, ..EjectorConfig::default() };
    let mut ejector = Ejector::new(config, 4, now);
    for endpoint in 0..3 {
        for _ in 0..5 {
            ejector.record(endpoint, false, now);
        }
    }
    assert!(ejector.is_panicking());
    assert!(EjectorConfig { most: 1.5, ..EjectorConfig::default() }.validate().is_err());
}

#[test]
fn s3_a_share_of_failures_ejects_by_itself_and_times_grow_and_shrink() {
    let mut now = time::now();
    let config = EjectorConfig { consecutive: 1000, ..EjectorConfig::default() };
    let mut ejector = Ejector::new(config, 3, now);
    let fail = |ejector: &mut Ejector, now: &mut time::Instant| {
        (0..50).for_each(|call| assert!(!ejector.record(0, call % 10 == 0, *now)));
        *now += TEN;
        ejector.sweep(*now)
    };
    assert_eq!(fail(&mut ejector, &mut now), [0], "nine of ten failed, without enough calls to compare");
    for round in 2..=12_u32 {
        let lasts = Duration::from_secs(30 * u64::from(round - 1)).min(Duration::from_secs(300));
        assert!(!ejector.admit(0, now + lasts - Duration::from_secs(1)));
        now += lasts;
        assert!(ejector.admit(0, now), "round {round}");
        ejector.record_probe(0, false, now);
        assert!(ejector.is_out(0), "the probe failed");
    }
    now += Duration::from_secs(300);
    assert!(ejector.admit(0, now));
    ejector.record_probe(0, true, now);
    assert!(!ejector.is_out(0));
    for _ in 0..20 {
        now += Duration::from_secs(10);
        ejector.sweep(now);
    }
    fail(&mut ejector, &mut now);
    assert!(ejector.admit(0, now + Duration::from_secs(30)), "forgiven, one for each healthy interval");
}
