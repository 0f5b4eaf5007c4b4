use super::*;
use perf_core::time::{self, Duration};
use perf_core::{PeakEwma, Rng};

fn idle(count: usize) -> Vec<EndpointView> {
    vec![EndpointView { weight: 1.0, latency: 0.01, in_flight: 0, available: true }; count]
}

/// Finagle's P2CSuite: 100 nodes, 100,000 calls that never end, and a spread of the loads below 10.
#[test]
fn two_choices_spread_a_hundred_thousand_calls_evenly() {
    let (mut nodes, mut rng) = (idle(100), Rng::seeded(7));
    for _ in 0..100_000 {
        let chosen = P2c.pick(&nodes, &mut rng).unwrap();
        nodes[chosen].in_flight += 1;
    }
    let loads = || nodes.iter().map(|node| node.in_flight);
    let spread = loads().max().unwrap() - loads().min().unwrap();
    assert!(spread < 10, "{spread}");
}

/// Balls in bins: with two choices the fullest of 4,096 bins holds three balls, with one choice five to nine.
#[test]
fn two_choices_flatten_the_fullest_bin() {
    let fullest = |balance: &dyn Balance, seed| {
        let (mut nodes, mut rng) = (idle(4096), Rng::seeded(seed));
        for _ in 0..4096 {
            let chosen = balance.pick(&nodes, &mut rng).unwrap();
            nodes[chosen].in_flight += 1;
        }
        nodes.iter().map(|node| node.in_flight).max().unwrap()
    };
    for seed in 0..5 {
        assert!((5..=9).contains(&fullest(&RandomPick, seed)));
        assert!((3..=4).contains(&fullest(&P2c, seed)));
    }
}

/// A node twice as slow gets half the mean load.
#[test]
fn a_slow_node_gets_a_smaller_share() {
    let (mut nodes, mut rng) = (idle(10), Rng::seeded(1));
    nodes[0].latency = 0.02;
    let mut under_way = std::collections::VecDeque::new();
    let mut total = 0.0;
    for round in 0..50_000 {
        let chosen = P2c.pick(&nodes, &mut rng).unwrap();
        nodes[chosen].in_flight += 1;
        under_way.push_back(chosen);
        if under_way.len() > 200 {
            let done: usize = under_way.pop_front().unwrap();
            nodes[done].in_flight -= 1;
        }
        if round > 1000 {
            total += nodes[0].in_flight as f64 / 20.0;
        }
    }
    let share = total / 48_999.0;
    assert!((0.4..=0.62).contains(&share), "{share} of the mean load");
}

#[test]
fn round_robin_takes_turns_and_passes_over_the_absent() {
    let mut nodes = idle(4);
    nodes[2].available = false;
    let (balance, mut rng) = (RoundRobin::default(), Rng::seeded(1));
    let picks: Vec<_> = (0..6).map(|_| balance.pick(&nodes, &mut rng).unwrap()).collect();
    assert_eq!(picks, [0, 1, 3, 0, 1, 3]);
    nodes.iter_mut().for_each(|node| node.available = false);
    assert_eq!(balance.pick(&nodes, &mut rng), None);
    assert_eq!(P2c.pick(&nodes, &mut rng), None);
    assert_eq!(LeastLoaded.pick(&nodes, &mut rng), None);
    assert_eq!(RandomPick.pick(&[], &mut rng), None);
}

#[test]
fn the_least_loaded_wins_and_ties_are_broken_at_random() {
    let (mut nodes, mut rng) = (idle(3), Rng::seeded(1));
    nodes[0].in_flight = 5;
    let mut counts = [0; 3];
    for _ in 0..1000 {
        counts[LeastLoaded.pick(&nodes, &mut rng).unwrap()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 400 && counts[2] > 400, "{counts:?}");
    nodes[0].weight = 10.0;
    assert_eq!(LeastLoaded.pick(&nodes, &mut rng), Some(0), "six calls for a weight of ten");
}

#[test]
fn weights_are_shares() {
    let (mut nodes, mut rng) = (idle(2), Rng::seeded(1));
    nodes[0].weight = 3.0;
    for balance in [&RandomPick as &dyn Balance, &RoundRobin::default()] {
        let first = (0..40_000).filter(|_| balance.pick(&nodes, &mut rng) == Some(0)).count();
        assert!((29_000..=31_000).contains(&first), "{first}");
    }
}

#[test]
fn slow_start_grows_from_a_tenth_to_all() {
    let window = Duration::from_secs(30);
    assert_eq!(slow_start(Duration::ZERO, window, 0.1, 1.0), 0.1);
    assert_eq!(slow_start(window / 2, window, 0.1, 1.0), 0.5);
    assert!(slow_start(window / 2, window, 0.1, 2.0) > 0.7);
    assert_eq!(slow_start(window * 2, window, 0.1, 1.0), 1.0);
}

/// tower's `default_decay` and `compound_decay`, by perf-core's average.
#[test]
fn latencies_decay_while_nobody_asks() {
    let now = time::now();
    let average = PeakEwma::new(0.010, Duration::from_secs(1), now);
    let later = average.get(now + Duration::from_millis(100));
    assert!((0.009..0.010).contains(&later), "{later}");
    assert_eq!(average.get(now), 0.010, "reading changes nothing");
}

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
    ejector.record(0, false, back);
    assert!(!ejector.admit(0, back + Duration::from_secs(59)), "twice as long the second time");
    let again = back + Duration::from_secs(60);
    assert!(ejector.admit(0, again));
    ejector.record(0, true, again);
    assert!(!ejector.is_out(0) && ejector.admit(0, again));
}

#[test]
fn at_most_a_tenth_but_always_one_may_be_out() {
    let now = time::now();
    let mut ejector = Ejector::new(EjectorConfig::default(), 5, now);
    for endpoint in 0..3 {
        for _ in 0..10 {
            ejector.record(endpoint, false, now);
        }
    }
    assert_eq!((0..5).filter(|endpoint| ejector.is_out(*endpoint)).count(), 1);
    assert!(!ejector.is_panicking());
}

#[test]
fn an_outlier_among_many_is_found_by_the_sweep() {
    let now = time::now();
    let config = EjectorConfig { consecutive: 1000, ..EjectorConfig::default() };
    let mut ejector = Ejector::new(config, 10, now);
    for endpoint in 0..10 {
        for call in 0..100 {
            ejector.record(endpoint, endpoint != 3 || call % 2 == 0, now);
        }
    }
    assert_eq!(ejector.sweep(now + Duration::from_secs(9)), Vec::<usize>::new());
    assert_eq!(ejector.sweep(now + Duration::from_secs(10)), [3]);
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

/// gRPC A68: one endpoint more or less changes at most one member of a subset.
#[test]
fn subsets_change_in_one_member_at_most() {
    let endpoints: Vec<u32> = (0..50).collect();
    for client in 0..20_u32 {
        let before: Vec<u32> = subset(&client, &endpoints, 8).into_iter().map(|i| endpoints[i]).collect();
        for gone in 0..50_u32 {
            let rest: Vec<u32> = endpoints.iter().copied().filter(|e| *e != gone).collect();
            let after: Vec<u32> = subset(&client, &rest, 8).into_iter().map(|i| rest[i]).collect();
            let lost = before.iter().filter(|e| !after.contains(e)).count();
            assert!(lost <= 1, "{lost} members changed");
        }
    }
}
