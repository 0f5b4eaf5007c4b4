//! What a cache holds in memory: the values, and apart from them the knowledge that there is nothing.

use crate::clock::Tick;
use crate::config::{CacheConfig, Capacity};
use crate::engine::{AnyEngine, Discarded, Engine, Held, Lane, Listener, Visitor};
use crate::entry::Entry;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two engines. Negative entries live in one of their own, whose capacity is a share of the cache's: whoever asks for
/// random keys that do not exist evicts what others asked for in vain, and never a value.
pub(crate) struct Memory<K, V> {
    values: AnyEngine<K, V>,
    nothing: AnyEngine<K, V>,
    /// Whether there ever was a negative entry; until then a miss does not look for one.
    any_nothing: AtomicBool,
}

/// Below this a share is no use: an engine needs some room to tell one entry from another.
const LEAST: Capacities = Capacities { entries: 8, bytes: 4096 };

struct Capacities {
    entries: u64,
    bytes: u64,
}

impl<K: crate::Key, V: Send + Sync + 'static> Memory<K, V> {
    pub(crate) fn new(config: &CacheConfig, listener: Option<&Listener<K, V>>) -> Self {
        let capacity = match config.capacity {
            Capacity::Bytes(bytes) => Capacity::Bytes(share(bytes, config.negative_share).max(LEAST.bytes)),
            Capacity::Entries(entries) => {
                Capacity::Entries(share(entries, config.negative_share).max(LEAST.entries))
            }
        };
        Self {
            values: AnyEngine::new(config, listener.cloned()),
            nothing: AnyEngine::new(&CacheConfig { capacity, ..config.clone() }, listener.cloned()),
            any_nothing: AtomicBool::new(false),
        }
    }

    pub(crate) fn get<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.value(lane, hash, key).or_else(|| self.nothing(lane, hash, key))
    }

    /// The entry of a key that has a value.
    #[inline(always)]
    pub(crate) fn value<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.values.get(lane, hash, key)
    }

    /// The entry that remembers that there is nothing under a key.
    pub(crate) fn nothing<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.negative()?.get(lane, hash, key)
    }

    /// The engine of negative entries, if there ever was one.
    fn negative(&self) -> Option<&AnyEngine<K, V>> {
        self.any_nothing.load(Ordering::Acquire).then_some(&self.nothing)
    }

    /// Puts the entry in the place of an older one with the same key. The caller holds the shard of the key, so that the
    /// two engines change together.
    pub(crate) fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        let older = if entry.value.is_some() {
            self.negative().map(|engine| engine.remove(entry.hash, &entry.key))
        } else {
            self.any_nothing.store(true, Ordering::Release);
            Some(self.values.remove(entry.hash, &entry.key))
        };
        let engine = if entry.value.is_some() { &self.values } else { &self.nothing };
        let discarded = engine.insert(entry);
        older.into_iter().fold(discarded, Discarded::and)
    }

    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q) -> Discarded<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let negative = self.negative().map(|engine| engine.remove(hash, key));
        negative.into_iter().fold(self.values.remove(hash, key), Discarded::and)
    }

    pub(crate) fn clear(&self) -> Discarded<K, V> {
        self.values.clear().and(self.nothing.clear())
    }

    /// Shows every entry, in no particular order; those that come or go meanwhile may be missed.
    pub(crate) fn visit(&self, show: Visitor<'_, K, V>) {
        self.values.visit(show);
        self.nothing.visit(show);
    }

    pub(crate) fn levels(&self) -> Levels {
        Levels {
            entries: self.values.len() + self.nothing.len(),
            nothing: self.nothing.len(),
            weight: self.values.weight() + self.nothing.weight(),
            evicted: self.values.evicted() + self.nothing.evicted(),
            expired: self.values.expired() + self.nothing.expired(),
        }
    }

    /// A heavier entry cannot be kept.
    pub(crate) fn max_weight(&self) -> u64 {
        self.values.max_weight()
    }
}

/// What the engines say about themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    pub(crate) entries: u64,
    pub(crate) nothing: u64,
    pub(crate) weight: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
}

fn share(capacity: u64, share: f64) -> u64 {
    (capacity as f64 * share) as u64
}

/// How much of a sliding life must have passed since it was last extended before a read extends it again: reads of a hot
/// entry would otherwise all write to it.
pub(crate) const SLIDE_STEP: u32 = 16;

impl<K, V> Entry<K, V> {
    /// Extends the life of an entry that was read, to `idle` from now at least, within `max_age` of its load.
    pub(crate) fn slide(&self, idle: std::time::Duration, max_age: std::time::Duration, now: Tick) {
        let end = self.stored_at().after(max_age);
        let fresh = now.after(idle).min(end);
        self.prolong(fresh, now.after(idle / SLIDE_STEP).min(fresh));
    }
}
