use super::state::{Pace, turn};
use super::{Counters, RateConfig, RateStats, collect};
use crate::sync::{Mutex, MutexGuard, lock};
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use perf_core::time::{Duration, Instant};
use perf_core::{Component, ComponentId, Desc, Name, Reason, Rejected, Sink, Ticker, Unit};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// The wait for more permits than a burst has.
const NEVER: u64 = u64::MAX;

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
    ticker: Ticker,
    pace: Pace,
    keys_per_shard: usize,
    /// Seeded at random for each limit, because keys are often chosen by strangers; a stranger who found collisions all the
    /// same would lengthen one chain of one shard, which `max_keys` bounds. One hash picks the shard and the place in it.
    hasher: RandomState,
    shards: Box<[Padded<K>]>,
    overflow: Mutex<u64>,
    counters: Counters,
    overflowed: perf_core::Counter,
}

/// On a cache line of its own, so that threads with different keys do not disturb each other.
#[derive(Debug)]
#[repr(align(64))]
struct Padded<K>(Mutex<Shard<K>>);

#[derive(Debug)]
struct Shard<K> {
    tails: HashTable<(K, u64)>,
    /// Before this moment no key has its full burst again, so looking for one is pointless.
    sweep_at: u64,
}

impl<K: Hash + Eq> KeyedRate<K> {
    pub(super) fn new(name: Name, config: &RateConfig) -> Self {
        let shards = SHARDS.min(config.max_keys);
        let shard = || Padded(Mutex::new(Shard { tails: HashTable::new(), sweep_at: 0 }));
        Self(Arc::new(Inner {
            name,
            ticker: Ticker::new(),
            pace: Pace::new(config.quota.interval(), config.quota.burst),
            keys_per_shard: config.max_keys / shards,
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: RandomState::default(),
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
        let now = self.0.ticker.now();
        self.0.take(key, 1, now)
    }

    /// Takes `permits` of `key` if they are there now.
    ///
    /// # Errors
    /// As [`KeyedRate::try_acquire`]; without a time when they are more than the burst, for then they never will be.
    pub fn try_acquire_many(&self, key: &K, permits: u32) -> Result<(), Rejected>
    where
        K: Clone,
    {
        let now = self.0.ticker.now();
        self.0.take(key, permits, now)
    }

    /// As [`KeyedRate::try_acquire`], at a known moment.
    ///
    /// # Errors
    /// As [`KeyedRate::try_acquire`].
    pub fn try_acquire_at(&self, key: &K, now: Instant) -> Result<(), Rejected>
    where
        K: Clone,
    {
        let now = self.0.ticker.at(now);
        self.0.take(key, 1, now)
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(&shard.0).tails.len()).sum()
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
    #[inline]
    fn take(&self, key: &K, permits: u32, now: u64) -> Result<(), Rejected> {
        let hash = self.hasher.hash_one(key);
        let mut wait = self.wait(key, hash, permits, now);
        if wait > 0 {
            let confirmed = self.ticker.confirmed(now);
            if confirmed != now {
                wait = self.wait(key, hash, permits, confirmed);
            }
        }
        if wait == 0 {
            self.counters.admitted.increment();
            return Ok(());
        }
        self.counters.refused.increment();
        let rejected = Rejected::new(Reason::RateLimited, self.name.clone());
        Err(if wait == NEVER { rejected } else { rejected.retry_after(Duration::from_nanos(wait)) })
    }

    /// Takes the permits and gives 0, or gives the wait and takes nothing.
    #[inline]
    fn wait(&self, key: &K, hash: u64, permits: u32, now: u64) -> u64 {
        let mut shard = lock(&self.shard_of(hash).0);
        match shard.tails.find_mut(hash, |(known, _)| known == key) {
            Some((_, tail)) => take(self.pace, tail, now, permits),
            None => self.first(key, hash, (now, permits), shard),
        }
    }

    /// The first request of a key, or the first since it was forgotten.
    #[cold]
    fn first(
        &self,
        key: &K,
        hash: u64,
        (now, permits): (u64, u32),
        mut shard: MutexGuard<'_, Shard<K>>,
    ) -> u64 {
        if shard.tails.len() >= self.keys_per_shard {
            shard.sweep(now);
        }
        if shard.tails.len() < self.keys_per_shard {
            let mut tail = 0;
            let wait = take(self.pace, &mut tail, now, permits);
            shard.sweep_at = shard.sweep_at.min(tail);
            shard.tails.insert_unique(hash, (key.clone(), tail), |(key, _)| self.hasher.hash_one(key));
            return wait;
        }
        drop(shard);
        self.overflowed.increment();
        take(self.pace, &mut lock(&self.overflow), now, permits)
    }

    /// The table takes its place from the lowest bits and its tag from the highest, so the shard is picked by those between.
    fn shard_of(&self, hash: u64) -> &Padded<K> {
        let middle = u64::from((hash >> 16) as u32);
        &self.shards[((middle * self.shards.len() as u64) >> 32) as usize]
    }
}

/// Moves `tail` and gives 0, or gives the wait and leaves it.
#[inline]
fn take(pace: Pace, tail: &mut u64, now: u64, permits: u32) -> u64 {
    match turn(pace, *tail, now, permits) {
        Some(turn) if turn.wait == 0 => {
            *tail = turn.tail;
            0
        }
        Some(turn) => turn.wait,
        None => NEVER,
    }
}

impl<K> Shard<K> {
    /// Forgets the keys that have their full burst again.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_at {
            return;
        }
        self.tails.retain(|(_, tail)| *tail > now);
        self.sweep_at = self.tails.iter().map(|(_, tail)| *tail).min().unwrap_or(u64::MAX);
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
