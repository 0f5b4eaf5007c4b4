//! The miss-ratio curve of a running cache: what its hit ratio would be with less memory and with more.
//!
//! Keys are sampled by their hash, and scaled-down caches of several sizes, each with the real policy, see every read of
//! the sampled keys and no other (Waldspurger and others, *Cache Modeling and Optimization using Miniature Simulations*,
//! USENIX ATC 2017). A sample may by chance hold too many or too few of the hottest keys; since those are hits at any size,
//! the difference between the reads that were sampled and those that should have been is counted as hits (the adjustment of
//! SHARDS, USENIX FAST 2015).

use crate::engine::Simulated;

/// The sizes, as multiples of the present one.
pub(crate) const FACTORS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// What a cache would do at another size.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CurvePoint {
    /// Multiple of the present capacity: ½, 1, 2 or 4.
    pub factor: f64,
    /// That capacity, in the unit of the cache's.
    pub capacity: u64,
    /// Share of reads whose key would be there, in [0, 1]. Reads that miss because a life ended or an invalidation came
    /// count as hits here: they would miss at any size.
    pub hit_ratio: f64,
}

/// The miniature caches of one cache.
#[derive(Debug)]
pub(crate) struct Curve {
    capacity: u64,
    /// Share of the keys that is sampled.
    rate: f64,
    sizes: [Size; FACTORS.len()],
    sampled: f64,
    expected: f64,
    /// Reads of all keys when `expected` was last brought up to date.
    settled: u64,
    /// Sampled reads since then.
    unsettled: u32,
    /// Mean weight of what was hit lately: that of a miss is not known before it is loaded.
    weight: f64,
}

#[derive(Debug)]
struct Size {
    cache: Simulated,
    hits: f64,
}

/// Keys that the miniature at the present size should hold.
pub(crate) const KEYS: f64 = 512.0;
/// Keys held by the largest miniature beyond which the sample is halved.
const MOST: usize = 16_384;
/// Sampled reads after which older ones count half: the curve follows the traffic.
const FADING: f64 = 65_536.0;

impl Curve {
    pub(crate) fn new(capacity: u64, rate: f64, weight: f64, reads: u64) -> Self {
        let size = |factor: f64| Size {
            cache: Simulated::new((capacity as f64 * rate * factor).round() as u64),
            hits: 0.0,
        };
        Self {
            capacity,
            rate,
            sizes: FACTORS.map(size),
            sampled: 0.0,
            expected: 0.0,
            settled: reads,
            unsettled: 0,
            weight,
        }
    }

    /// A sampled key was read, and before that `repeats` times the one read last.
    pub(crate) fn read(&mut self, hash: u64, weight: Option<u64>, repeats: u32) {
        if let Some(weight) = weight {
            self.weight += (weight as f64 - self.weight) / 64.0;
        }
        let weight = weight.unwrap_or(self.weight as u64).max(1);
        self.unsettled = self.unsettled.saturating_add(1 + repeats);
        self.sampled += 1.0 + f64::from(repeats);
        for size in &mut self.sizes {
            size.hits += f64::from(repeats) + f64::from(u8::from(size.cache.read(hash, weight)));
        }
    }

    /// Brings the sample up to date with the reads of all keys; whether it must be halved.
    pub(crate) fn settle(&mut self, reads: u64) {
        self.expected += reads.saturating_sub(self.settled) as f64 * self.rate;
        self.settled = reads;
        self.unsettled = 0;
        if self.expected > FADING {
            self.expected /= 2.0;
            self.sampled /= 2.0;
            self.sizes.iter_mut().for_each(|size| size.hits /= 2.0);
        }
    }

    /// Whether more is held than the curve may cost.
    pub(crate) fn is_too_large(&self) -> bool {
        self.sizes.iter().any(|size| size.cache.len() > MOST)
    }

    /// The same with half the keys, from the start.
    pub(crate) fn halved(&self) -> Self {
        Self::new(self.capacity, self.rate / 2.0, self.weight, self.settled)
    }

    pub(crate) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether sampled reads have come in a number at which to settle.
    pub(crate) const fn is_due(&self) -> bool {
        self.unsettled >= 1024
    }

    /// The curve, or nothing before there is any evidence.
    pub(crate) fn points(&self) -> Vec<CurvePoint> {
        if self.expected < 1.0 {
            return Vec::new();
        }
        let missing = self.expected - self.sampled;
        let point = |(size, factor): (&Size, f64)| CurvePoint {
            factor,
            capacity: (self.capacity as f64 * factor) as u64,
            hit_ratio: ((size.hits + missing) / self.expected).clamp(0.0, 1.0),
        };
        self.sizes.iter().zip(FACTORS).map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::{Rng, Zipf};

    /// Exact: the same policy at full size over all keys.
    fn exact(capacity: u64, keys: &[u64]) -> f64 {
        let mut cache = Simulated::new(capacity);
        keys.iter().filter(|key| cache.read(mix(**key), 1)).count() as f64 / keys.len() as f64
    }

    fn mix(key: u64) -> u64 {
        (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    fn check(keys: &[u64], capacity: u64, rate: f64, error: f64) {
        let mut curve = Curve::new(capacity, rate, 1.0, 0);
        for &key in keys {
            let hash = mix(key);
            if f64::from((hash >> 16) as u32) < rate * f64::from(u32::MAX) {
                curve.read(hash, None, 0);
            }
        }
        curve.settle(keys.len() as u64);
        for point in curve.points() {
            let actual = exact(point.capacity, keys);
            assert!(
                (point.hit_ratio - actual).abs() <= error,
                "{}×: {:.3} for {actual:.3}",
                point.factor,
                point.hit_ratio
            );
        }
    }

    #[test]
    fn the_curve_of_skewed_reads_is_within_three_points_of_the_exact_one() {
        let (zipf, mut rng) = (Zipf::new(40_000, 0.9), Rng::seeded(11));
        let keys: Vec<u64> = (0..300_000).map(|_| zipf.sample(&mut rng)).collect();
        check(&keys, 4_000, 0.125, 0.03);
    }

    #[test]
    fn the_curve_of_a_loop_shows_where_it_begins_to_fit() {
        let keys: Vec<u64> = (0..200_000).map(|at| at % 6_000).collect();
        check(&keys, 4_000, 0.125, 0.05);
    }

    #[test]
    fn the_curve_of_heavy_skew_does_not_depend_on_who_is_in_the_sample() {
        let (zipf, mut rng) = (Zipf::new(100_000, 1.1), Rng::seeded(12));
        let keys: Vec<u64> = (0..200_000).map(|_| zipf.sample(&mut rng)).collect();
        check(&keys, 8_000, 1.0 / 16.0, 0.03);
    }
}
