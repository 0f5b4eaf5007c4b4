//! The keys that are read most: Space-Saving over sampled reads (Metwally, Agrawal and El Abbadi, *Efficient Computation of
//! Frequent and Top-k Elements in Data Streams*, ICDT 2005).

/// Keys counted at once: a key with more than this share of the reads, 1/128, is never missed for long.
const COUNTED: usize = 128;
/// Sampled reads after which older ones count half: what is hot is what is hot now.
const FADING: u64 = 16_384;

/// A key that is read often.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HotKey<K> {
    /// The key.
    pub key: K,
    /// Its share of the reads, estimated, in [0, 1]; never less than the true share in the sample.
    pub share: f64,
}

#[derive(Debug)]
struct Counted<K> {
    hash: u64,
    count: u64,
    /// How much of the count may belong to others.
    error: u64,
    /// Known from the second read on: most keys are never read twice here, and need not be cloned.
    key: Option<K>,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct HotKeys<K> {
    counted: Vec<Counted<K>>,
    total: u64,
}

impl<K: Clone> HotKeys<K> {
    pub(crate) fn new() -> Self {
        Self { counted: Vec::with_capacity(COUNTED), total: 0 }
    }

    /// A key was read; `key` is there when the cache holds it.
    pub(crate) fn read(&mut self, hash: u64, key: Option<&K>) {
        self.total += 1;
        if let Some(counted) = self.counted.iter_mut().find(|counted| counted.hash == hash) {
            counted.count += 1;
            if counted.key.is_none() {
                counted.key = key.cloned();
            }
        } else if self.counted.len() < COUNTED {
            self.counted.push(Counted { hash, count: 1, error: 0, key: None });
        } else if let Some(least) = self.counted.iter_mut().min_by_key(|counted| counted.count) {
            *least = Counted { hash, count: least.count + 1, error: least.count, key: None };
        }
        if self.total >= FADING {
            self.fade();
        }
    }

    fn fade(&mut self) {
        self.total /= 2;
        self.counted.retain_mut(|counted| {
            counted.count /= 2;
            counted.error /= 2;
            counted.count > 0
        });
    }

    /// The keys read most, most first. Keys whose count may be all others' are left out.
    pub(crate) fn top(&self, most: usize) -> Vec<HotKey<K>> {
        let mut sure: Vec<_> =
            self.counted.iter().filter(|counted| counted.count > counted.error + 1).collect();
        sure.sort_by_key(|counted| std::cmp::Reverse(counted.count - counted.error));
        let hot = |counted: &Counted<K>| {
            let share = counted.count as f64 / self.total.max(1) as f64;
            counted.key.clone().map(|key| HotKey { key, share })
        };
        sure.into_iter().filter_map(hot).take(most).collect()
    }

    /// Share of the reads that the ten keys read most have.
    pub(crate) fn concentration(&self) -> f64 {
        let mut counts: Vec<u64> = self.counted.iter().map(|counted| counted.count - counted.error).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.iter().take(10).sum::<u64>() as f64 / self.total.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::{Rng, Zipf};

    #[test]
    fn the_hottest_keys_are_found_in_order_with_their_shares() {
        let (zipf, mut rng, mut hot) = (Zipf::new(100_000, 1.0), Rng::seeded(3), HotKeys::new());
        let mut counts = std::collections::HashMap::<u64, u64>::new();
        for _ in 0..16_000 {
            let key = zipf.sample(&mut rng);
            *counts.entry(key).or_default() += 1;
            hot.read(key, Some(&key));
        }
        let mut exact: Vec<_> = counts.into_iter().collect();
        exact.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let found = hot.top(5);
        for (hot, (key, count)) in found.iter().zip(&exact) {
            assert_eq!(hot.key, *key);
            let share = *count as f64 / 16_000.0;
            assert!(hot.share >= share && hot.share < share + 0.01, "{} for {share}", hot.share);
        }
        assert!(hot.concentration() > 0.2);
    }

    #[test]
    fn a_scan_of_keys_read_once_has_no_hot_keys() {
        let mut hot = HotKeys::new();
        (0..10_000_u64).for_each(|key| hot.read(key, Some(&key)));
        assert_eq!(hot.top(10), []);
        assert!(hot.concentration() < 0.01, "{}", hot.concentration());
    }

    #[test]
    fn what_was_hot_gives_way_to_what_is() {
        let mut hot = HotKeys::new();
        (0..10_000).for_each(|_| hot.read(1, Some(&1)));
        (0..40_000).for_each(|_| hot.read(2, Some(&2)));
        assert_eq!(hot.top(1)[0].key, 2);
    }
}
