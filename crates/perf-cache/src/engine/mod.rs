//! Engines of the first tier: where entries are kept and which of them are evicted. Freshness is not their business.

mod adaptive;
mod cause;
mod held;
mod lane;
#[cfg(feature = "moka")]
mod moka;
mod priority;
mod sync;

use crate::config::{CacheConfig, Capacity, EngineKind};
use crate::entry::Entry;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

pub(crate) use adaptive::Simulated;

use adaptive::Adaptive;

pub use cause::Cause;
pub(crate) use lane::{Lane, LaneCounter, lane, with_lane};
pub use priority::Priority;

/// An entry taken out of an engine for reading.
pub(crate) type Held<K, V> = held::Held<Entry<K, V>>;

/// Told of every entry that an engine let go, and why.
pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, Option<&V>, Cause) + Send + Sync>;

/// Entries that an engine let go, to be dropped where no lock is held: what a value does when it is dropped, and what a
/// listener does, is their own.
#[must_use = "drop it where no lock is held"]
pub(crate) struct Discarded<K, V> {
    freed: Vec<Arc<Entry<K, V>>>,
    told: Vec<(Arc<Entry<K, V>>, Cause)>,
    listener: Option<Listener<K, V>>,
}

impl<K, V> Default for Discarded<K, V> {
    fn default() -> Self {
        Self::told_to(None)
    }
}

impl<K, V> Discarded<K, V> {
    const fn told_to(listener: Option<Listener<K, V>>) -> Self {
        Self { freed: Vec::new(), told: Vec::new(), listener }
    }

    fn free(&mut self, entry: Arc<Entry<K, V>>) {
        self.freed.push(entry);
    }

    /// The listener, if there is one, is told once no lock is held.
    fn tell(&mut self, cause: Cause, entry: impl FnOnce() -> Arc<Entry<K, V>>) {
        if self.listener.is_some() {
            self.told.push((entry(), cause));
        }
    }
}

impl<K, V> Discarded<K, V> {
    /// These and others, of the same listener.
    pub(crate) fn and(mut self, mut others: Self) -> Self {
        self.freed.append(&mut others.freed);
        self.told.append(&mut others.told);
        self
    }
}

impl<K, V> Drop for Discarded<K, V> {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            self.told.iter().for_each(|(entry, cause)| listener(&entry.key, entry.value.as_ref(), *cause));
        }
        held::sweep_abandoned();
    }
}

/// What is shown every entry.
pub(crate) type Visitor<'v, K, V> = &'v mut dyn FnMut(&Arc<Entry<K, V>>);

/// What a cache asks of its engine. Sealed: it is not part of the public interface.
pub(crate) trait Engine<K, V>: Send + Sync {
    /// The entry of this key, if the engine holds one. The lane is the calling thread's.
    fn get<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Puts the entry in the place of an older one with the same key.
    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V>;

    /// Takes the entry out.
    fn remove<Q>(&self, hash: u64, key: &Q) -> Discarded<K, V>
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
    pub(crate) fn new(config: &CacheConfig, listener: Option<Listener<K, V>>) -> Self {
        match config.engine {
            EngineKind::Adaptive => {
                Self::Adaptive(Adaptive::new(config.capacity.amount(), shards(config.capacity), listener))
            }
            #[cfg(feature = "moka")]
            EngineKind::Moka => Self::Moka(moka::Moka::new(config.capacity.amount(), listener)),
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
    // A hit is so few steps that a call in between would show.
    #[inline(always)]
    fn get<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        either!(self, engine => engine.get(lane, hash, key))
    }

    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        either!(self, engine => engine.insert(entry))
    }

    fn remove<Q>(&self, hash: u64, key: &Q) -> Discarded<K, V>
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
