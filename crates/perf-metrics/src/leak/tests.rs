use super::*;
use perf_core::Rng;
use std::f64::consts::TAU;

const MINUTE: Duration = Duration::from_secs(60);
const SAMPLES: u32 = 600;
const DAY: u32 = 1_440;

/// First seeds of the thousands that are tried: nothing about the detector was chosen on the last one.
const THOUSANDS: [u64; 3] = [0, 10_000, 9_000_000_000];

fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0
}

fn series(samples: u32, rng: &mut Rng, mut value: impl FnMut(f64, &mut Rng) -> f64) -> Vec<f64> {
    (0..samples).map(|n| value(f64::from(n), rng)).collect()
}

/// At most one false alarm in a hundred of each thousand seeds of a family that does not leak.
fn never_leaks(mut family: impl FnMut(&mut Rng) -> Vec<f64>) {
    for first in THOUSANDS {
        let verdict = |seed| find_leak(Resource::Heap, &family(&mut Rng::seeded(seed)), MINUTE, None);
        let alarms = (first..first + 1_000).filter_map(verdict).count();
        assert!(alarms <= 10, "{alarms} in a thousand from {first}");
    }
}

/// How many in a hundred days of a family that leaks are found.
fn found(mut family: impl FnMut(&mut Rng) -> Vec<f64>) -> usize {
    let verdict = |seed| find_leak(Resource::Heap, &family(&mut Rng::seeded(seed)), MINUTE, None);
    (0..100).filter_map(verdict).count()
}

#[test]
fn a_correlated_wander_is_no_leak() {
    never_leaks(|rng| {
        let mut at = 0.0;
        series(SAMPLES, rng, |_, rng| {
            at = 0.9 * at + normal(rng);
            100.0 + at
        })
    });
}

#[test]
fn a_sawtooth_is_no_leak() {
    never_leaks(|rng| {
        let length = 5.0 + rng.unit() * 60.0;
        series(SAMPLES, rng, |n, rng| 100.0 + n % length + rng.unit())
    });
}

#[test]
fn a_filling_cache_is_no_leak() {
    never_leaks(|rng| {
        let speed = 0.01 + rng.unit() * 0.2;
        series(SAMPLES, rng, |n, rng| 100.0 + 20.0 * (1.0 + speed * n).ln() + normal(rng))
    });
}

#[test]
fn a_step_is_no_leak_nor_are_two() {
    let step = |n: f64, at: f64| if n > at { 20.0 } else { 0.0 };
    never_leaks(|rng| {
        let at = rng.unit() * f64::from(SAMPLES);
        series(SAMPLES, rng, |n, rng| 100.0 + step(n, at) + normal(rng))
    });
    never_leaks(|rng| {
        let (first, second) = (rng.unit() * f64::from(SAMPLES), rng.unit() * f64::from(SAMPLES));
        series(SAMPLES, rng, |n, rng| 100.0 + step(n, first) + step(n, second) + normal(rng))
    });
}

#[test]
fn a_random_walk_is_no_leak_though_it_may_well_end_high() {
    for samples in [300, SAMPLES] {
        never_leaks(|rng| {
            let mut at = 0.0;
            series(samples, rng, |_, rng| {
                at += normal(rng);
                1_000.0 + at
            })
        });
    }
}

#[test]
fn a_daily_wave_is_no_leak() {
    never_leaks(|rng| {
        let phase = rng.unit() * TAU;
        // At least one whole period is seen: half a wave is a rise for all anyone can know.
        let period = 100.0 + rng.unit() * 500.0;
        series(SAMPLES, rng, |n, rng| 100.0 + 20.0 * (n / period * TAU + phase).sin() + normal(rng))
    });
}

#[test]
fn a_megabyte_an_hour_is_found_under_twenty_of_noise_within_a_day() {
    let mut found = 0;
    for seed in 0..100 {
        let mut rng = Rng::seeded(seed);
        // The noise is on top of what is held, as garbage and traffic are.
        let samples = series(DAY, &mut rng, |n, rng| 500.0 + n / 60.0 + 20.0 * rng.unit());
        if let Some(leak) = find_leak(Resource::Heap, &samples, MINUTE, Some(1000.0)) {
            found += 1;
            assert!((leak.slope - 1.0).abs() < 0.25, "{leak:?}");
            assert!(leak.time_to_limit.unwrap() > Duration::from_secs(300 * 3600));
        }
    }
    assert!(found >= 98, "{found}");
}

#[test]
fn leaks_are_found_within_a_day_under_every_kind_of_noise() {
    let day = f64::from(DAY);
    let correlated = found(|rng| {
        let mut at = 0.0;
        series(DAY, rng, |n, rng| {
            at = 0.9 * at + normal(rng);
            100.0 + at + 40.0 * n / day
        })
    });
    assert!(correlated >= 95, "{correlated}");
    let sawtooth = found(|rng| {
        let length = 5.0 + rng.unit() * 60.0;
        series(DAY, rng, |n, rng| 100.0 + n % length + rng.unit() + 60.0 * n / day)
    });
    assert!(sawtooth >= 80, "{sawtooth}");
    // A socket in ten minutes, now and then: whole numbers, long ties, no two hours alike.
    let sockets = found(|rng| {
        let mut open = 20.0;
        series(DAY, rng, |_, rng| {
            open += f64::from(rng.chance(0.1));
            open
        })
    });
    assert!(sockets >= 90, "{sockets}");
    let faster_and_faster = found(|rng| {
        series(DAY, rng, |n, rng| {
            let part = n / day;
            100.0 + 30.0 * (part + part * part) + normal(rng)
        })
    });
    assert!(faster_and_faster >= 98, "{faster_and_faster}");
}

#[test]
fn resident_growth_alone_is_fragmentation() {
    let growing: Vec<f64> = (0..SAMPLES).map(f64::from).collect();
    let flat = vec![100.0; SAMPLES as usize];
    let class = |allocated: &[f64], resident: &[f64]| {
        find_memory_leak(allocated, resident, MINUTE, None).map(|leak| leak.class)
    };
    assert_eq!(class(&flat, &growing), Some(LeakClass::Fragmentation));
    assert_eq!(class(&growing, &growing), Some(LeakClass::Heap));
    assert_eq!((class(&flat, &flat), find_leak(Resource::Tasks, &growing[..20], MINUTE, None)), (None, None));
}
