//! The detector on families of made-up series, at its shipped settings: what must not alarm, and what must be found.
//!
//! Recorded series tempt one to choose constants for them; these have no labels to argue about.

use super::{Detector, DetectorConfig, Onset};
use perf_core::Rng;
use std::f64::consts::TAU;
use std::time::Duration;

/// Values are five minutes apart.
const STEP: u64 = 300;
const DAY: f64 = 288.0;
const SEEDS: u64 = 12;

fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0
}

fn coin(rng: &mut Rng, chance: f64) -> f64 {
    f64::from(u8::from(rng.chance(chance)))
}

fn wave(n: usize) -> f64 {
    (n as f64 / DAY * TAU).sin()
}

fn onsets(values: impl IntoIterator<Item = f64>) -> Vec<(usize, Onset)> {
    let mut detector = Detector::new(DetectorConfig::default()).unwrap();
    let observed = values.into_iter().enumerate().map(|(n, value)| {
        let seen = detector.observe(value, Duration::from_secs(STEP * n as u64));
        seen.onset.map(|onset| (n, onset))
    });
    observed.flatten().collect()
}

/// Alarms per week of a family without anomalies, over four weeks of each of a dozen seeds.
fn alarms_per_week(mut family: impl FnMut(usize, &mut Rng) -> f64) -> f64 {
    const WEEKS: usize = 4;
    let mut alarms = 0;
    for seed in 0..SEEDS {
        let mut rng = Rng::seeded(seed);
        let values: Vec<f64> = (0..WEEKS * 7 * DAY as usize).map(|n| family(n, &mut rng)).collect();
        alarms += onsets(values).len();
    }
    alarms as f64 / (WEEKS as f64 * SEEDS as f64)
}

/// The share of a dozen seeds in which an onset is reported within `within` values of the anomaly's begin, and the test
/// that reported the last of them. `family` is given how long the anomaly has lasted, if it has begun.
fn found(
    within: usize,
    mut family: impl FnMut(usize, Option<usize>, &mut Rng) -> f64,
) -> (f64, Option<&'static str>) {
    let (mut hits, mut test) = (0, None);
    for seed in 0..SEEDS {
        let mut rng = Rng::seeded(seed + 100);
        let begins = 1_500 + (rng.unit() * 1_800.0) as usize;
        let values: Vec<f64> = (0..4_032).map(|n| family(n, n.checked_sub(begins), &mut rng)).collect();
        let hit = onsets(values).into_iter().find(|(n, _)| (begins..=begins + within).contains(n));
        hits += u32::from(hit.is_some());
        test = hit.map(|(_, onset)| onset.test).or(test);
    }
    (f64::from(hits) / SEEDS as f64, test)
}

#[test]
fn noise_of_every_kind_alarms_less_than_once_a_week() {
    let mut at = 0.0;
    let mut wander = move |rng: &mut Rng, memory: f64| {
        at = memory * at + normal(rng);
        at
    };
    assert_eq!(alarms_per_week(|_, _| 7.0), 0.0);
    assert!(alarms_per_week(|_, rng| 100.0 + normal(rng)) <= 0.3);
    assert!(alarms_per_week(|_, rng| 20.0 * rng.unit()) <= 0.3);
    assert!(alarms_per_week(|_, rng| normal(rng).exp()) <= 1.0);
    assert!(alarms_per_week(|_, rng| 100.0 + wander(rng, 0.9)) <= 0.5);
    assert!(alarms_per_week(|_, rng| 100.0 + wander(rng, 0.99)) <= 0.7);
}

#[test]
fn sparse_counts_and_spikes_that_are_usual_alarm_about_once_a_week_at_most() {
    assert!(alarms_per_week(|_, rng| coin(rng, 0.02)) <= 1.0);
    assert!(alarms_per_week(|_, rng| (0..3).map(|_| coin(rng, 0.5)).sum()) <= 0.3);
    let spiky = |_, rng: &mut Rng| 2.0 + 0.1 * normal(rng) + coin(rng, 0.01) * 20.0 * rng.unit();
    assert!(alarms_per_week(spiky) <= 1.5);
}

#[test]
fn regular_days_ramps_and_jobs_alarm_less_than_once_a_week() {
    assert!(alarms_per_week(|n, rng| 100.0 + 50.0 * wave(n) + 5.0 * normal(rng)) <= 0.3);
    assert_eq!(alarms_per_week(|n, _| 100.0 + 50.0 * wave(n)), 0.0);
    let weekdays = |n: usize| if (n as f64 / DAY) as usize % 7 < 5 { 50.0 } else { 15.0 };
    assert!(alarms_per_week(|n, rng| 100.0 + weekdays(n) * wave(n) + 3.0 * normal(rng)) <= 0.7);
    assert!(alarms_per_week(|n, rng| if n as f64 % DAY < 100.0 { 20.0 } else { 80.0 } + normal(rng)) <= 1.0);
    assert!(alarms_per_week(|n, rng| if n.is_multiple_of(12) { 40.0 } else { 5.0 } + normal(rng)) <= 0.3);
    assert!(alarms_per_week(|n, rng| 0.05 * n as f64 + normal(rng)) <= 0.5);
    assert!(alarms_per_week(|n, rng| (n % 500) as f64 * 0.2 + normal(rng)) <= 0.5);
}

#[test]
fn a_first_deploy_and_waves_of_another_period_do_not_alarm() {
    // The first day of a service: nothing, then traffic that grows from restart to restart.
    let deploy = |n: usize, rng: &mut Rng| match n {
        0..40 => 0.0,
        40..90 => 20.0 + rng.unit(),
        _ => 50.0 + 5.0 * normal(rng),
    };
    let mut rng = Rng::seeded(1);
    assert!(onsets((0..300).map(|n| deploy(n, &mut rng))).is_empty());
    for period in [40.0, 200.0, 700.0] {
        let other =
            |n: usize, rng: &mut Rng| 100.0 + 30.0 * (n as f64 / period * TAU).sin() + 2.0 * normal(rng);
        let alarms = alarms_per_week(other);
        assert!(alarms <= 0.5, "{period}: {alarms}");
    }
}

#[test]
fn steps_and_spikes_are_found_within_half_an_hour() {
    let step = |size: f64| {
        move |_: usize, on: Option<usize>, rng: &mut Rng| 100.0 + normal(rng) + on.map_or(0.0, |_| size)
    };
    assert!(found(6, step(15.0)).0 >= 0.95);
    assert!(found(60, step(4.0)).0 >= 0.9);
    let outage = |_: usize, on: Option<usize>, rng: &mut Rng| match on {
        Some(0..100) => 0.0,
        _ => 50.0 + 5.0 * normal(rng),
    };
    assert!(found(6, outage).0 >= 0.95);
    let spike = |_: usize, on: Option<usize>, rng: &mut Rng| {
        100.0 + normal(rng) + if matches!(on, Some(0..2)) { 12.0 } else { 0.0 }
    };
    assert_eq!(found(6, spike), (1.0, Some("spike")));
    let in_a_wave = |n: usize, on: Option<usize>, rng: &mut Rng| {
        100.0 + 40.0 * wave(n) + 2.0 * normal(rng) + if matches!(on, Some(0..3)) { 35.0 } else { 0.0 }
    };
    assert!(found(6, in_a_wave).0 >= 0.95);
}

#[test]
fn waves_that_are_missing_weaker_or_stronger_are_found_within_the_day() {
    let amplitude = |during: f64| {
        move |n: usize, on: Option<usize>, rng: &mut Rng| {
            let amplitude = if matches!(on, Some(0..288)) { during } else { 40.0 };
            100.0 + amplitude * wave(n) + 2.0 * normal(rng)
        }
    };
    for during in [0.0, 10.0, 65.0] {
        let (share, _) = found(288, amplitude(during));
        assert!(share >= 0.9, "{during}: {share}");
    }
}

#[test]
fn a_line_that_goes_flat_is_found_and_called_so() {
    let flat = |_: usize, on: Option<usize>, rng: &mut Rng| {
        100.0 + if matches!(on, Some(0..300)) { 0.0 } else { normal(rng) }
    };
    assert_eq!(found(250, flat), (1.0, Some("flat")));
}

#[test]
fn a_slow_drift_is_found_and_called_so() {
    // Two hundredths of a standard deviation a step: no two neighbours show it.
    let drift = |_: usize, on: Option<usize>, rng: &mut Rng| {
        100.0 + normal(rng) + on.map_or(0.0, |lasts| (lasts as f64 * 0.02).min(8.0))
    };
    let (share, test) = found(300, drift);
    assert!(share >= 0.9 && test == Some("drift"), "{share} {test:?}");
}

#[test]
fn a_wider_spread_is_found() {
    let spread = |_: usize, on: Option<usize>, rng: &mut Rng| {
        100.0 + normal(rng) * if matches!(on, Some(0..300)) { 3.5 } else { 1.0 }
    };
    let (share, _) = found(200, spread);
    assert!(share >= 0.9, "{share}");
}
