//! The instants at which an open load plans its requests.

use super::profile::{Profile, Stage};
use perf_core::Rng;
use perf_core::time::Duration;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the requests of an open load are spread in time. Both keep the planned rate exactly on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arrivals {
    /// As independent people arrive: exponential gaps. The default, because it is what real traffic is nearest to.
    #[default]
    Poisson,
    /// At even distances.
    Constant,
}

/// One planned request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its number in the whole run, from 0, whatever the number of shards.
    pub index: u64,
    /// When it is to be sent, from the start of the run.
    pub at: Duration,
}

/// The planned instants of one shard of a run: an iterator in order of time.
///
/// Instants are the inverse of the rate's integral, so they neither drift nor depend on the resolution of a timer. Shard `k` of
/// `n` takes every `n`-th instant; the union of all shards is the schedule of the undivided run.
///
/// ```
/// use perf_load::{Arrivals, Schedule, Stage};
/// use std::time::Duration;
///
/// let stages = [Stage::hold(4.0, Duration::from_secs(1))];
/// let millis: Vec<u128> =
///     Schedule::new(Arrivals::Constant, &stages, 42).map(|planned| planned.at.as_millis()).collect();
/// assert_eq!(millis, [0, 250, 500, 750]);
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    profile: Arc<Profile>,
    rng: Rng,
    next_index: u64,
    area: f64,
    shard: u64,
    shards: u64,
}

impl Schedule {
    /// The schedule of a whole run.
    #[must_use]
    pub fn new(arrivals: Arrivals, stages: &[Stage], seed: u64) -> Self {
        Self::of_shard(arrivals, Arc::new(Profile::new(stages)), seed, 0, 1)
    }

    /// The part of shard `shard` out of `shards` of the same schedule. A shard beyond `shards` has no requests.
    #[must_use]
    pub fn shard(self, shard: u64, shards: u64) -> Self {
        Self { shard, shards: shards.max(1), ..self }
    }

    pub(crate) fn of_shard(
        arrivals: Arrivals,
        profile: Arc<Profile>,
        seed: u64,
        shard: u64,
        shards: u64,
    ) -> Self {
        let mut rng = Rng::seeded(seed);
        // The first constant arrival is at the start; the first Poisson arrival is one gap after it.
        let area = match arrivals {
            Arrivals::Constant => 0.0,
            Arrivals::Poisson => rng.exponential(1.0),
        };
        Self { arrivals, profile, rng, next_index: 0, area, shard, shards: shards.max(1) }
    }

    fn advance(&mut self) -> Option<Planned> {
        let at = self.profile.time_of_area(self.area)?;
        let planned = Planned { index: self.next_index, at };
        self.next_index += 1;
        self.area = match self.arrivals {
            Arrivals::Constant => self.next_index as f64,
            Arrivals::Poisson => self.area + self.rng.exponential(1.0),
        };
        Some(planned)
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.shard >= self.shards {
            return None;
        }
        loop {
            let planned = self.advance()?;
            if planned.index % self.shards == self.shard {
                return Some(planned);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hold(rate: f64, seconds: u64) -> [Stage; 1] {
        [Stage::hold(rate, Duration::from_secs(seconds))]
    }

    // L1: planned instants are the inverse of the rate's integral; the sum is off by at most one request.
    #[test]
    fn a_constant_rate_is_planned_exactly() {
        let instants: Vec<Planned> = Schedule::new(Arrivals::Constant, &hold(800.0, 10), 1).collect();
        assert_eq!(instants.len(), 8_000);
        for (index, planned) in instants.iter().enumerate() {
            assert_eq!(planned.at, Duration::from_nanos(index as u64 * 1_250_000));
        }
    }

    #[test]
    fn a_ramp_is_planned_by_the_square_root_of_time() {
        let stages = [Stage::ramp(100.0, Duration::from_secs(10))];
        let instants: Vec<Planned> = Schedule::new(Arrivals::Constant, &stages, 1).collect();
        assert_eq!(instants.len(), 500);
        for planned in instants {
            let expected = (planned.index as f64 / 5.0).sqrt();
            assert!((planned.at.as_secs_f64() - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let instants: Vec<f64> = Schedule::new(Arrivals::Poisson, &hold(1_000.0, 100), 7)
            .map(|planned| planned.at.as_secs_f64())
            .collect();
        let n = instants.len() as f64;
        assert!((n - 100_000.0).abs() < 4.0 * 100_000_f64.sqrt(), "{n}");
        let mut gaps: Vec<f64> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_by(f64::total_cmp);
        // Kolmogorov and Smirnov: the largest distance from the exponential distribution, at the 0.1 % level.
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(rank, gap)| ((rank as f64 + 0.5) / n - (1.0 - (-1_000.0 * gap).exp())).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.95 / n.sqrt(), "{distance}");
    }

    proptest! {
        // L2: K workers take every K-th instant, and their union is the schedule of one worker.
        #[test]
        fn the_union_of_the_shards_is_the_whole_schedule(
            seed in any::<u64>(),
            shards in 1..7_u64,
            poisson in any::<bool>(),
            rate in 1.0..500.0_f64,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let stages = [Stage::ramp(rate, Duration::from_secs(2)), Stage::hold(rate / 2.0, Duration::from_secs(1))];
            let whole = Schedule::new(arrivals, &stages, seed);
            let mut union: Vec<Planned> =
                (0..shards).flat_map(|shard| whole.clone().shard(shard, shards)).collect();
            union.sort_by_key(|planned| planned.index);
            prop_assert_eq!(union, whole.collect::<Vec<_>>());
        }

        #[test]
        fn instants_never_go_back(seed in any::<u64>(), rate in 1.0..2_000.0_f64) {
            let stages = [Stage::ramp(rate, Duration::from_secs(1)), Stage::ramp(0.0, Duration::from_secs(1))];
            let instants: Vec<Planned> = Schedule::new(Arrivals::Poisson, &stages, seed).collect();
            prop_assert!(instants.windows(2).all(|pair| pair[0].at <= pair[1].at));
            prop_assert!(instants.iter().all(|planned| planned.at <= Duration::from_secs(2)));
        }
    }
}
