#![expect(clippy::unwrap_used, reason = "helpers of tests fail the way tests do")]

use super::*;
use perf_core::Rng;
use perf_core::time::{self, Duration, Instant};

const TICK: Duration = Duration::from_secs(10);

fn controller(change: impl FnOnce(&mut ReplicaConfig)) -> ReplicaController {
    let mut config = ReplicaConfig { max: 20, ..ReplicaConfig::default() };
    change(&mut config);
    ReplicaController::new(config).unwrap()
}

fn cpu(replicas: usize, cpu: f64) -> ReplicaSample {
    ReplicaSample { replicas, ready: replicas, cpu: Some(cpu), ..ReplicaSample::default() }
}

/// A service whose processors share a load, given in replicas fully used. Returns the number after each tick.
fn run(
    controller: &mut ReplicaController,
    mut replicas: usize,
    ticks: usize,
    mut now: Instant,
    mut load: impl FnMut(usize) -> f64,
) -> Vec<usize> {
    (0..ticks)
        .map(|tick| {
            now += TICK;
            replicas = controller.observe(cpu(replicas, load(tick) / replicas as f64), now).target;
            replicas
        })
        .collect()
}

#[test]
fn s6_a_step_of_four_times_the_load_is_met_within_ten_ticks() {
    let numbers = run(&mut controller(|_| ()), 2, 60, time::now(), |tick| if tick < 30 { 1.2 } else { 4.8 });
    assert!(numbers[..30].iter().all(|number| *number == 2), "{numbers:?}");
    assert!(numbers[39..].iter().all(|number| *number == 8), "4.8 at a goal of 0.6: {numbers:?}");
    assert_eq!(numbers[30], 4, "no more than twice as many at once");
}

#[test]
fn s6_noise_moves_nothing() {
    let mut rng = Rng::seeded(7);
    let numbers = run(&mut controller(|_| ()), 10, 360, time::now(), |_| 5.7 + 0.6 * rng.unit());
    assert!(numbers.iter().all(|number| *number == 10), "an hour of five per cent noise: {numbers:?}");
}

#[test]
fn s6_replicas_are_given_up_one_by_one_once_fewer_have_been_enough_for_long() {
    let numbers =
        run(&mut controller(|_| ()), 10, 200, time::now(), |tick| if tick == 25 { 5.0 } else { 1.2 });
    let first = numbers.iter().position(|number| *number < 10).unwrap();
    assert!(first >= 30, "five minutes: {first}");
    assert!(numbers.windows(2).all(|pair| pair[0] - pair[1] <= 1), "one by one");
    assert!(
        numbers[..55].iter().all(|number| *number >= 9),
        "a peak is remembered for five minutes: {numbers:?}"
    );
    assert_eq!(numbers.last(), Some(&2));
    let steps: Vec<usize> =
        numbers.windows(2).enumerate().filter(|(_, p)| p[0] != p[1]).map(|(at, _)| at).collect();
    assert!(steps.windows(2).all(|pair| pair[1] - pair[0] >= 6), "a minute between them: {steps:?}");
}

#[test]
fn s6_under_a_daily_wave_the_direction_changes_twice_a_day() {
    let day = 8_640;
    let wave = |tick: usize| 4.0 - 3.0 * (tick as f64 / day as f64 * std::f64::consts::TAU).cos();
    let numbers = run(&mut controller(|_| ()), 2, day * 2, time::now(), wave);
    let moves: Vec<bool> =
        numbers.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[1] > pair[0]).collect();
    let turns = moves.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns <= 4, "{turns} changes of direction in two days");
    let short = (0..day * 2).filter(|tick| wave(*tick) / numbers[*tick] as f64 > 0.75).count();
    assert_eq!(short, 0, "and the load is always met");
}

#[test]
fn s6_whatever_asks_for_most_wins_and_says_so() {
    let now = time::now();
    let ask = |sample: ReplicaSample| controller(|_| ()).observe(sample, now);
    let base = ReplicaSample { replicas: 4, ready: 4, ..ReplicaSample::default() };
    assert_eq!(ask(base), ReplicaAdvice { target: 4, reason: ReplicaReason::Steady }, "nothing is known");
    let busy = ReplicaSample { cpu: Some(0.9), memory: Some(0.5), queue: Some(3.0), ..base };
    assert_eq!(ask(busy), ReplicaAdvice { target: 6, reason: ReplicaReason::Cpu });
    let full = ReplicaSample { memory: Some(1.0), ..busy };
    assert_eq!(
        ask(ReplicaSample { cpu: Some(0.1), ..full }),
        ReplicaAdvice { target: 5, reason: ReplicaReason::Memory }
    );
    let waiting = ReplicaSample { queue: Some(70.0), ..busy };
    assert_eq!(ask(waiting), ReplicaAdvice { target: 7, reason: ReplicaReason::Queue });
    let expected = ReplicaSample { cpu: Some(0.6), forecast: Some(1.5), ..base };
    assert_eq!(ask(expected), ReplicaAdvice { target: 6, reason: ReplicaReason::Forecast });
    let less = ReplicaSample { cpu: Some(0.9), forecast: Some(0.1), ..base };
    assert_eq!(ask(less).target, 6, "a forecast of less takes nothing away from what is there now");
    for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
        let sample = ReplicaSample { cpu: Some(nonsense), forecast: Some(nonsense), ..base };
        assert_eq!(ask(sample).target, 4, "{nonsense} says nothing");
    }
}

#[test]
fn s6_replicas_that_are_starting_are_waited_for_and_steps_have_pauses() {
    let (mut machine, mut now) = (controller(|_| ()), time::now());
    assert_eq!(machine.observe(cpu(2, 0.9), now).target, 3);
    now += TICK;
    let still = ReplicaSample { ready: 2, ..cpu(3, 0.9) };
    assert_eq!(machine.observe(still, now).reason, ReplicaReason::Steady, "three is what was wanted");
    let more = ReplicaSample { ready: 2, ..cpu(3, 1.2) };
    assert_eq!(machine.observe(more, now).reason, ReplicaReason::CoolingDown);
    now += TICK * 3;
    assert_eq!(machine.observe(more, now).reason, ReplicaReason::Starting);
    assert_eq!(machine.observe(cpu(3, 1.0), now).target, 5);
}

#[test]
fn s6_bounds_hold_and_bad_ones_are_named() {
    let now = time::now();
    assert_eq!(controller(|config| config.max = 3).observe(cpu(2, 9.0), now).target, 3);
    assert_eq!(controller(|config| config.min = 3).observe(cpu(1, 0.0), now).target, 3);
    assert_eq!(controller(|_| ()).observe(cpu(0, 0.0), now).target, 1);
    assert_eq!(controller(|_| ()).observe(cpu(50, 0.6), now).target, 20);
    let bad = |change: fn(&mut ReplicaConfig)| {
        let mut config = ReplicaConfig::default();
        change(&mut config);
        ReplicaController::new(config).unwrap_err().field().to_owned()
    };
    assert_eq!(bad(|config| config.min = 0), "min");
    assert_eq!(bad(|config| config.max = 0), "min");
    assert_eq!(bad(|config| config.cpu_goal = 0.0), "cpu_goal");
    assert_eq!(bad(|config| config.memory_goal = f64::NAN), "memory_goal");
    assert_eq!(bad(|config| config.queue_goal = 0.0), "queue_goal");
    assert_eq!(bad(|config| config.tolerance = 2.0), "tolerance");
    assert_eq!(bad(|config| config.most_growth = 1.0), "most_growth");
}

#[derive(Default)]
struct Cluster {
    replicas: std::sync::atomic::AtomicUsize,
    broken: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl ScaleTarget for Cluster {
    async fn replicas(&self) -> Result<usize, crate::Cause> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(self.replicas.load(std::sync::atomic::Ordering::SeqCst))
    }

    async fn scale(&self, replicas: usize) -> Result<(), crate::Cause> {
        self.replicas.store(replicas, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn s6_a_target_is_scaled_or_only_told_about_and_one_that_hangs_is_tried_again() {
    use std::sync::atomic::Ordering::SeqCst;
    let cluster = Cluster::default();
    cluster.replicas.store(2, SeqCst);
    let mut failures = 0;
    for (mode, expected) in [(SizingMode::Advise, 2), (SizingMode::Act, 4)] {
        let measure = |replicas| cpu(replicas, 2.4 / replicas as f64);
        let scaling = autoscale(&cluster, controller(|_| ()), mode, TICK, measure, |event| {
            failures += usize::from(matches!(event, ReplicaEvent::Failed(_)));
        });
        assert!(time::timeout(TICK * 12, scaling).await.is_err(), "it goes on until it is dropped");
        assert_eq!(cluster.replicas.load(SeqCst), expected);
    }
    assert_eq!(failures, 0);
    cluster.broken.store(true, SeqCst);
    let scaling = autoscale(
        &cluster,
        controller(|_| ()),
        SizingMode::Act,
        TICK,
        |n| cpu(n, 0.5),
        |event| {
            failures += usize::from(matches!(event, ReplicaEvent::Failed(_)));
        },
    );
    assert!(time::timeout(TICK * 7, scaling).await.is_err());
    assert_eq!(failures, 3, "each call is bounded by the interval");
}
