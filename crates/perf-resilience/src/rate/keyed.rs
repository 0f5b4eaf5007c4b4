use super::state::{Pace, turn};
use super::{Counters, RateConfig, RateStats, collect};
use crate::sync::{Mutex, lock};
use perf_core::time::{self, Duration, Instant};
use perf_core::{Component, ComponentId, Desc, Name, Reason, Rejected, Sink, Unit};
use std::collections::HashMap;
use std::hash::{Hash, Hasher, RandomState};
use std::sync::Arc;

/// Shards, so that two cores rarely want the same lock.
const SHARDS: usize = 32;

/// A rate limit for each key, bounded in memory. Cheap to clone; clones share the rates.
///
/// When all places are taken, only keys that have their full burst again are forgotten, which changes nothing for them.
/// A new key for which there is no place shares one limit with the others like it, so that an attacker who invents keys
/// gains nothing and cannot make known keys forget what they spent.
///
/// ```
/// use perf_resilience::rate::{RateLimit, per_second};
///
/// let limit = RateLimit::builder("per-user").quota(per_second(1)).build_keyed::<u64>()?;
/// assert!(limit.try_acquire(&7).is_ok());
/// assert!(limit.try_acquire(&7).is_err());
/// assert!(limit.try_acquire(&8).is_ok());
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Debug)]
pub struct KeyedRate<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    name: Name,
    origin: Instant,
    pace: Pace,
    keys_per_shard: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
    overflow: Mutex<u64>,
    counters: Counters,
    overflowed: perf_core::Counter,
}

#[derive(Debug)]
struct Shard<K> {
    tails: HashMap<K, u64, RandomState>,
    /// Before this moment no key has its full burst again, so looking for one is pointless.
    sweep_at: u64,
}

impl<K: Hash + Eq> KeyedRate<K> {
    pub(super) fn new(name: Name, config: &RateConfig) -> Self {
        let hasher = RandomState::new();
        let shards = SHARDS.min(config.max_keys);
        let shard = || Mutex::new(Shard { tails: HashMap::with_hasher(hasher.clone()), sweep_at: 0 });
        Self(Arc::new(Inner {
            name,
            origin: time::now(),
            pace: Pace { interval: config.quota.interval(), burst: config.quota.burst },
            keys_per_shard: config.max_keys / shards,
            shards: (0..shards).map(|_| shard()).collect(),
            hasher,
            overflow: Mutex::new(0),
            counters: Counters::default(),
            overflowed: perf_core::Counter::new(),
        }))
    }

    /// Takes one permit of `key` if it is there now.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], with the time until the permit would be there. Nothing is taken then.
    pub fn try_acquire(&self, key: &K) -> Result<(), Rejected>
    where
        K: Clone,
    {
        self.try_acquire_at(key, time::now())
    }

    /// As [`KeyedRate::try_acquire`], at a known moment.
    ///
    /// # Errors
    /// As [`KeyedRate::try_acquire`].
    pub fn try_acquire_at(&self, key: &K, now: Instant) -> Result<(), Rejected>
    where
        K: Clone,
    {
        let inner = &*self.0;
        let since = now.saturating_duration_since(inner.origin);
        let now =
            since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()));
        let wait = inner.take(key, now);
        if wait == 0 {
            inner.counters.admitted.increment();
            return Ok(());
        }
        inner.counters.refused.increment();
        Err(Rejected::new(Reason::RateLimited, inner.name.clone()).retry_after(Duration::from_nanos(wait)))
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).tails.len()).sum()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> RateStats {
        self.0.counters.read()
    }

    /// How many requests shared the limit of the keys without a place.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.0.overflowed.get()
    }
}

impl<K: Hash + Eq + Clone> Inner<K> {
    fn take(&self, key: &K, now: u64) -> u64 {
        let mut shard = lock(&self.shards[self.shard_of(key)]);
        if let Some(tail) = shard.tails.get_mut(key) {
            return take(self.pace, tail, now);
        }
        if shard.tails.len() >= self.keys_per_shard {
            shard.sweep(now);
        }
        if shard.tails.len() < self.keys_per_shard {
            let mut tail = 0;
            let wait = take(self.pace, &mut tail, now);
            shard.sweep_at = shard.sweep_at.min(tail);
            shard.tails.insert(key.clone(), tail);
            return wait;
        }
        drop(shard);
        self.overflowed.increment();
        take(self.pace, &mut lock(&self.overflow), now)
    }

    /// A cheap hash picks the shard; the map's own keyed hash keeps attackers from filling one bucket.
    fn shard_of(&self, key: &K) -> usize {
        let mut hasher = Multiply(self.hasher_seed());
        key.hash(&mut hasher);
        (hasher.0 >> 32) as usize % self.shards.len()
    }

    fn hasher_seed(&self) -> u64 {
        // The address differs from limiter to limiter, which is all the variety that spreading over shards needs.
        std::ptr::from_ref(&self.hasher) as u64
    }
}

/// Moves `tail` and gives 0, or gives the wait and leaves it.
fn take(pace: Pace, tail: &mut u64, now: u64) -> u64 {
    match turn(pace, *tail, now, 1) {
        Some(turn) if turn.wait == 0 => {
            *tail = turn.tail;
            0
        }
        Some(turn) => turn.wait,
        None => u64::MAX,
    }
}

impl<K: Hash + Eq> Shard<K> {
    /// Forgets the keys that have their full burst again.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_at {
            return;
        }
        self.tails.retain(|_, tail| *tail > now);
        self.sweep_at = self.tails.values().copied().min().unwrap_or(u64::MAX);
    }
}

struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K> Clone for KeyedRate<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

const KEYS: Desc = Desc::gauge("perf_resilience_rate_keys", "Keys remembered", Unit::Count);
const OVERFLOWED: Desc =
    Desc::counter("perf_resilience_rate_overflowed_total", "Requests of keys without a place", Unit::Count);

impl<K: Hash + Eq + Send> Component for KeyedRate<K> {
    fn id(&self) -> ComponentId {
        ComponentId::new("rate", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        collect(&self.stats(), sink);
        sink.gauge(&KEYS, &[], self.len() as f64);
        sink.counter(&OVERFLOWED, &[], self.overflowed());
    }
}
