//! Clients that all want to write the same thing, with optimistic locking: the simulator behind AWS's article on jitter,
//! with the delays of this workspace.

use perf_core::time::Duration;
use perf_core::{Backoff, Jitter, Rng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const BASE: Duration = Duration::from_millis(5);
const CAP: Duration = Duration::from_secs(2);

/// What happens next: a client begins, its read arrives, its answer arrives, its write arrives, its result arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begin,
    Read,
    Answered(u32),
    Write(u32),
    Result(bool),
}

/// A way through the network: normal around 10 ms with a deviation of 2, by Box and Muller.
fn network(rng: &mut Rng) -> f64 {
    let (radius, angle) = ((-2.0 * rng.unit().max(1e-12).ln()).sqrt(), std::f64::consts::TAU * rng.unit());
    (10.0 + 2.0 * radius * angle.cos()).abs()
}

/// Milliseconds until the last client is done, and how many writes were tried.
fn run(clients: usize, backoff: Option<Backoff>, rng: &mut Rng) -> (f64, u32) {
    let key = |at: f64| (at * 1e6) as u64;
    let mut events: BinaryHeap<Reverse<(u64, usize, Step)>> =
        (0..clients).map(|client| Reverse((0, client, Step::Begin))).collect();
    let mut attempts = vec![(0_u32, Duration::ZERO); clients];
    let (mut version, mut writes, mut last) = (0, 0, 0.0);
    while let Some(Reverse((now, client, step))) = events.pop() {
        let now = now as f64 / 1e6;
        let (after, next) = match step {
            Step::Begin => (network(rng), Step::Read),
            Step::Read => (network(rng), Step::Answered(version)),
            Step::Answered(seen) => (network(rng), Step::Write(seen)),
            Step::Write(seen) => {
                writes += 1;
                let won = seen == version;
                version += u32::from(won);
                (network(rng), Step::Result(won))
            }
            Step::Result(true) => {
                last = now;
                continue;
            }
            Step::Result(false) => {
                let (attempt, previous) = &mut attempts[client];
                *attempt += 1;
                // The simulator's exponent begins at one, ours at zero.
                *previous =
                    backoff.map_or(Duration::ZERO, |backoff| backoff.delay(*attempt + 1, *previous, rng));
                (previous.as_secs_f64() * 1e3, Step::Begin)
            }
        };
        events.push(Reverse((key(now + after), client, next)));
    }
    (last, writes)
}

fn mean(clients: usize, backoff: Option<Backoff>) -> (f64, f64) {
    let mut rng = Rng::seeded(42);
    let runs = 100;
    let (time, calls) = (0..runs)
        .map(|_| run(clients, backoff, &mut rng))
        .fold((0.0, 0.0), |sum, found| (sum.0 + found.0, sum.1 + f64::from(found.1)));
    (time / f64::from(runs), calls / f64::from(runs))
}

#[test]
fn backoff_under_contention_needs_the_times_and_calls_of_the_published_simulator() {
    let exponential = Backoff::exponential(BASE).cap(CAP);
    let shapes = [
        ("none", None),
        ("exponential", Some(exponential.jitter(Jitter::None))),
        ("equal", Some(exponential.jitter(Jitter::Equal))),
        ("full", Some(exponential.jitter(Jitter::Full))),
        ("decorrelated", Some(Backoff::decorrelated(BASE).cap(CAP))),
    ];
    // Milliseconds and calls, in the order of the shapes.
    let table = [
        (10, [(389.0, 52.0), (3677.0, 52.0), (701.0, 42.0), (451.0, 39.0), (438.0, 38.0)]),
        (50, [(1139.0, 690.0), (36_198.0, 625.0), (4198.0, 348.0), (2888.0, 333.0), (2260.0, 373.0)]),
        (100, [(2025.0, 2425.0), (63_698.0, 1854.0), (6572.0, 812.0), (4859.0, 796.0), (4504.0, 1004.0)]),
    ];
    let mut calls_at_100 = Vec::new();
    for (clients, row) in table {
        for ((shape, backoff), (time, calls)) in shapes.iter().zip(row) {
            let found = mean(clients, *backoff);
            let within = |found: f64, wanted: f64, band: f64| (found / wanted - 1.0).abs() <= band;
            // The time is that of the one unlucky client, so its mean over a hundred runs is known less exactly.
            assert!(
                within(found.0, time, 0.15) && within(found.1, calls, 0.1),
                "{clients} clients, {shape}: {found:?}, published {:?}",
                (time, calls)
            );
            if clients == 100 {
                calls_at_100.push(found.1);
            }
        }
    }
    let fewest = calls_at_100.iter().copied().fold(f64::MAX, f64::min);
    assert_eq!(fewest, calls_at_100[3], "full jitter, the default, needs the fewest calls");
}
