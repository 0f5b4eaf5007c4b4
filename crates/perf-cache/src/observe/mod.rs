//! What a running cache shows of itself: hot keys, the curve of its hit ratio over memory, bytes saved, and whether its
//! values are still right. All of it looks at a few reads only, so that a hit pays for a comparison and a countdown.

mod curve;
mod explain;
mod hot;
pub(crate) mod sample;
mod shadow;

pub use curve::CurvePoint;
pub use explain::{EntryState, Explanation, Fenced, Loading};
pub use hot::HotKey;

pub(crate) use shadow::{Shadow, ShadowNumbers};

use crate::config::{CacheConfig, Capacity};
use crate::engine::Held;
use curve::Curve;
use hot::HotKeys;
use perf_core::Counter;
use sample::PERIOD;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The observer of one cache.
#[derive(Debug)]
pub(crate) struct Observer<K> {
    /// Which cache it is, for what threads remember.
    id: u64,
    /// Keys whose hash is below this are sampled for the curve.
    threshold: AtomicU32,
    /// Whether anything is observed.
    is_on: bool,
    weighs_bytes: bool,
    /// Apart, so that writing to it does not take from other threads the line that every read looks at.
    seen: Box<Seen<K>>,
}

/// What sampled reads write to.
#[derive(Debug)]
struct Seen<K> {
    curve: Mutex<Curve>,
    hot: Mutex<HotKeys<K>>,
    /// Bytes that hits gave from memory, estimated from sampled ones.
    bytes: Counter,
    /// The greatest estimate without sampled hits.
    estimate: AtomicU64,
}

/// What the weight of an entry is taken to be before any is known.
const USUAL_WEIGHT: f64 = 1024.0;

impl<K: Clone> Observer<K> {
    pub(crate) fn new(id: u64, config: &CacheConfig) -> Self {
        let (entries, weight) = match config.capacity {
            Capacity::Bytes(bytes) => (bytes as f64 / USUAL_WEIGHT, USUAL_WEIGHT),
            Capacity::Entries(entries) => (entries as f64, 1.0),
        };
        let rate = (curve::KEYS / entries.max(1.0)).min(config.sampling);
        Self {
            id,
            threshold: AtomicU32::new(threshold(rate)),
            is_on: config.sampling > 0.0,
            weighs_bytes: matches!(config.capacity, Capacity::Bytes(_)),
            seen: Box::new(Seen {
                curve: Mutex::new(Curve::new(config.capacity.amount(), rate, weight, 0)),
                hot: Mutex::new(HotKeys::new()),
                bytes: Counter::new(),
                estimate: AtomicU64::new(0),
            }),
        }
    }

    /// Whether any read is looked at.
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether this read is one of those that are looked at.
    #[inline]
    pub(crate) fn is_sampled(&self, hash: u64) -> bool {
        self.is_on && (sample::is_due() | self.is_in_curve(hash))
    }

    #[inline]
    fn is_in_curve(&self, hash: u64) -> bool {
        // Bits that choose neither a slot nor a shard, so that the sample is spread over all of them.
        ((hash >> 8) as u32) < self.threshold.load(Ordering::Relaxed)
    }

    /// Looks at a sampled read. `reads` counts all reads so far. Never waits: what finds another at work is lost.
    pub(crate) fn observe<V>(&self, hash: u64, held: Option<&Held<K, V>>, reads: impl FnOnce() -> u64) {
        if sample::take_due() {
            self.count(hash, held);
        }
        if self.is_in_curve(hash)
            && let Some(repeats) = sample::repeats(self.id ^ hash.rotate_left(17))
            && let Ok(mut curve) = self.seen.curve.try_lock()
        {
            curve.read(hash, held.map(|held| held.weight), repeats);
            if curve.is_due() {
                self.settle(&mut curve, reads());
            }
        }
    }

    fn count<V>(&self, hash: u64, held: Option<&Held<K, V>>) {
        if let Ok(mut hot) = self.seen.hot.try_lock() {
            hot.read(hash, held.map(|held| &held.key));
        }
        if let Some(held) = held
            && self.weighs_bytes
            && held.value.is_some()
        {
            self.seen.bytes.add(held.weight.saturating_mul(PERIOD));
        }
    }

    fn settle(&self, curve: &mut Curve, reads: u64) {
        curve.settle(reads);
        if curve.is_too_large() {
            *curve = curve.halved();
            self.threshold.store(threshold(curve.rate()), Ordering::Relaxed);
        }
    }

    pub(crate) fn points(&self, reads: u64) -> Vec<CurvePoint> {
        let mut curve = self.seen.curve.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&mut curve, reads);
        curve.points()
    }

    pub(crate) fn hot_keys(&self, most: usize) -> Vec<HotKey<K>> {
        self.seen.hot.lock().unwrap_or_else(PoisonError::into_inner).top(most)
    }

    pub(crate) fn concentration(&self) -> f64 {
        self.seen.hot.lock().unwrap_or_else(PoisonError::into_inner).concentration()
    }

    /// Bytes that hits gave from memory: from the weight of sampled hits, or else from the mean weight of what is held.
    pub(crate) fn saved_bytes(&self, hits: u64, mean_weight: f64) -> u64 {
        if self.is_on || !self.weighs_bytes {
            return self.seen.bytes.get();
        }
        // A total must not fall when the mean does.
        let estimate = (hits as f64 * mean_weight) as u64;
        self.seen.estimate.fetch_max(estimate, Ordering::Relaxed).max(estimate)
    }
}

fn threshold(rate: f64) -> u32 {
    (rate * f64::from(u32::MAX)) as u32
}
