use super::idle;
use crate::balance::*;
use perf_core::Rng;
use perf_core::time::Duration;

/// Finagle's P2CSuite: 100 nodes, 100,000 calls that never end, and a spread of the loads below 10.
#[test]
fn two_choices_spread_a_hundred_thousand_calls_evenly() {
    let (mut nodes, mut rng) = (idle(100), Rng::seeded(7));
    for _ in 0..100_000 {
        let chosen = P2c::default().pick(&nodes, &mut rng).unwrap();
        nodes[chosen].in_flight += 1;
    }
    let loads = || nodes.iter().map(|node| node.in_flight);
    let spread = loads().max().unwrap() - loads().min().unwrap();
    assert!(spread < 10, "{spread}");
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
    assert_eq!(P2c::default().pick(&nodes, &mut rng), None);
    assert_eq!(LeastLoaded::default().pick(&nodes, &mut rng), None);
    assert_eq!(RandomPick.pick(&[], &mut rng), None);
}

#[test]
fn the_least_loaded_wins_and_ties_are_broken_at_random() {
    let (mut nodes, mut rng) = (idle(3), Rng::seeded(1));
    nodes[0].in_flight = 5;
    let mut counts = [0; 3];
    for _ in 0..1000 {
        counts[LeastLoaded::default().pick(&nodes, &mut rng).unwrap()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 400 && counts[2] > 400, "{counts:?}");
    nodes[0].weight = 10.0;
    assert_eq!(LeastLoaded::default().pick(&nodes, &mut rng), Some(0), "six calls for a weight of ten");
}

#[test]
fn s3_the_bias_says_how_much_calls_under_way_count() {
    let (mut nodes, mut rng) = (idle(2), Rng::seeded(1));
    (nodes[0].weight, nodes[0].in_flight) = (2.0, 2);
    assert_eq!(LeastLoaded { bias: 0.0 }.pick(&nodes, &mut rng), Some(0), "weights alone");
    assert_eq!(LeastLoaded { bias: 1.0 }.pick(&nodes, &mut rng), Some(1), "three calls for a weight of two");
    assert_eq!(LeastLoaded { bias: 0.5 }.pick(&nodes, &mut rng), Some(0));
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
    // w × max(10 %, (t / window)^(1 / aggression)).
    assert_eq!(slow_start(window / 50, window, 0.1, 1.0), 0.1, "a fiftieth is less than the least");
    assert!((slow_start(window / 2, window, 0.1, 2.0) - 0.5_f64.sqrt()).abs() < 1e-9);
    assert!((slow_start(window / 2, window, 0.1, 0.5) - 0.25).abs() < 1e-9);
    assert_eq!(slow_start(window * 2, window, 0.1, 1.0), 1.0);
}

#[test]
fn s3_a_ring_spreads_keys_by_weight_and_moves_few_of_them() {
    let names: Vec<(String, f64)> =
        (0..10).map(|n| (format!("node-{n}"), if n == 0 { 3.0 } else { 1.0 })).collect();
    let ring = Ring::new(&names);
    let owners: Vec<usize> = (0..60_000_u32).map(|key| ring.owner(key).unwrap()).collect();
    let count = |node| owners.iter().filter(|owner| **owner == node).count() as f64 / 5_000.0;
    assert!((2.8..3.2).contains(&count(0)), "{}", count(0));
    assert!((1..10).all(|node| (0.9..1.1).contains(&count(node))));
    let rest: Vec<_> = names.iter().filter(|(name, _)| name != "node-4").cloned().collect();
    let smaller = Ring::new(&rest);
    let moved = (0..60_000_u32)
        .filter(|key| owners[*key as usize] != 4)
        .filter(|key| names[owners[*key as usize]].0 != rest[smaller.owner(key).unwrap()].0)
        .count();
    assert!(moved < 60_000 / 20, "{moved} of 60,000 keys moved that did not have to");
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
            // Read from left to right an endpoint leaves the list, read from right to left it joins.
            let lost = before.iter().filter(|e| !after.contains(e)).count();
            let won = after.iter().filter(|e| !before.contains(e)).count();
            let own = usize::from(before.contains(&gone));
            assert_eq!((lost, won, after.len()), (own, own, 8), "client {client} without {gone}");
        }
    }
}

/// Equal endpoints are chosen equally often: 10,000 picks among ten, each a chance of one in ten, so that three standard
/// deviations are 3 × √(10,000 × 0.1 × 0.9) = 90. If ties went to the lower index, the first would have 1,900.
#[test]
fn s3_ties_of_two_choices_are_broken_at_random() {
    let (nodes, mut rng) = (idle(10), Rng::seeded(3));
    let mut counts = [0_i32; 10];
    for _ in 0..10_000 {
        counts[P2c::default().pick(&nodes, &mut rng).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (count - 1000).abs() <= 90), "{counts:?}");
}
