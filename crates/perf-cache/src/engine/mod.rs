//! Engines of the first tier: where entries are kept and which of them are evicted. Freshness is not their business.

mod adaptive;
#[cfg(feature = "moka")]
mod moka;

use crate::config::{CacheConfig, Capacity, EngineKind};
use crate::entry::Entry;
use arc_swap::Guard;
use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

pub(crate) use adaptive::Simulated;

use adaptive::Adaptive;

/// An entry taken out of an engine for reading.
pub(crate) enum Held<K, V> {
    /// Borrowed from the engine through a hazard slot of this thread, or counted when all slots are taken.
    Borrowed(Guard<Option<Arc<Entry<K, V>>>>),
    Owned(Arc<Entry<K, V>>),
}

impl<K, V> Held<K, V> {
    #[inline]
    fn arc(&self) -> &Arc<Entry<K, V>> {
        match self {
            Self::Owned(entry) => entry,
            Self::Borrowed(guard) => match &**guard {
                Some(entry) => entry,
                // The table hands out a guard only after looking at the entry in it.
                None => unreachable!("an empty slot is never handed out"),
            },
        }
    }

    pub(crate) fn to_arc(&self) -> Arc<Entry<K, V>> {
        Arc::clone(self.arc())
    }
}

impl<K, V> Deref for Held<K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        self.arc()
    }
}

impl<K, V> Clone for Held<K, V> {
    fn clone(&self) -> Self {
        Self::Owned(self.to_arc())
    }
}

/// Entries that an engine let go, to be dropped where no lock is held: what a value does when it is dropped is its own.
#[must_use = "drop it where no lock is held"]
pub(crate) struct Discarded<K, V>(Option<Arc<Entry<K, V>>>, Vec<Arc<Entry<K, V>>>);

impl<K, V> Default for Discarded<K, V> {
    fn default() -> Self {
        Self(None, Vec::new())
    }
}

impl<K, V> Extend<Arc<Entry<K, V>>> for Discarded<K, V> {
    fn extend<T: IntoIterator<Item = Arc<Entry<K, V>>>>(&mut self, entries: T) {
        for entry in entries {
            if self.0.is_none() {
                self.0 = Some(entry);
            } else {
                self.1.push(entry);
            }
        }
    }
}

/// What is shown every entry.
pub(crate) type Visitor<'v, K, V> = &'v mut dyn FnMut(&Arc<Entry<K, V>>);

/// What a cache asks of its engine. Sealed: it is not part of the public interface.
pub(crate) trait Engine<K, V>: Send + Sync {
    /// The entry of this key, if the engine holds one.
    fn get<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Puts the entry in the place of an older one with the same key.
    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V>;

    /// Takes the entry out.
    fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Takes everything out.
    fn clear(&self) -> Discarded<K, V>;

    /// Shows every entry, in no particular order; those that come or go meanwhile may be missed. No lock of the engine is
    /// held while an entry is shown.
    fn visit(&self, show: Visitor<'_, K, V>);

    /// Entries held; may lag a moment behind.
    fn len(&self) -> u64;

    /// Their weight; may lag a moment behind.
    fn weight(&self) -> u64;

    /// Entries evicted for room so far.
    fn evicted(&self) -> u64;

    /// Entries dropped so far because they were of no use any more.
    fn expired(&self) -> u64;

    /// A heavier entry cannot be kept.
    fn max_weight(&self) -> u64;
}

/// The engine that the configuration names.
pub(crate) enum AnyEngine<K, V> {
    Adaptive(Adaptive<K, V>),
    #[cfg(feature = "moka")]
    Moka(moka::Moka<K, V>),
}

impl<K: crate::Key, V: Send + Sync + 'static> AnyEngine<K, V> {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        match config.engine {
            EngineKind::Adaptive => {
                Self::Adaptive(Adaptive::new(config.capacity.amount(), shards(config.capacity)))
            }
            #[cfg(feature = "moka")]
            EngineKind::Moka => Self::Moka(moka::Moka::new(config.capacity.amount())),
        }
    }
}

/// Shards only keep writers apart, and each has a policy that must learn for itself: as few as there are cores to write,
/// and none smaller than is worth a policy of its own.
fn shards(capacity: Capacity) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worth = match capacity {
        Capacity::Bytes(bytes) => bytes >> 23,
        Capacity::Entries(entries) => entries >> 12,
    };
    let most = (cores * 2).next_power_of_two().min(64);
    let worth = usize::try_from(worth).unwrap_or(usize::MAX).clamp(1, most);
    if worth.is_power_of_two() { worth } else { worth.next_power_of_two() / 2 }
}

macro_rules! either {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Self::Adaptive($engine) => $call,
            #[cfg(feature = "moka")]
            Self::Moka($engine) => $call,
        }
    };
}

impl<K: crate::Key, V: Send + Sync + 'static> Engine<K, V> for AnyEngine<K, V> {
    #[inline]
    fn get<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        either!(self, engine => engine.get(hash, key))
    }

    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        either!(self, engine => engine.insert(entry))
    }

    fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        either!(self, engine => engine.remove(hash, key))
    }

    fn clear(&self) -> Discarded<K, V> {
        either!(self, engine => engine.clear())
    }

    fn visit(&self, show: Visitor<'_, K, V>) {
        either!(self, engine => engine.visit(show));
    }

    fn len(&self) -> u64 {
        either!(self, engine => engine.len())
    }

    fn weight(&self) -> u64 {
        either!(self, engine => engine.weight())
    }

    fn evicted(&self) -> u64 {
        either!(self, engine => engine.evicted())
    }

    fn expired(&self) -> u64 {
        either!(self, engine => engine.expired())
    }

    fn max_weight(&self) -> u64 {
        either!(self, engine => engine.max_weight())
    }
}
