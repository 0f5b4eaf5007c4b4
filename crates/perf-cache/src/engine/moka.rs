//! moka as the engine: TinyLFU admission over an LRU, entries weighed by us.

use super::{Cause, Discarded, Engine, Held, Lane, Listener, Visitor};
use crate::entry::Entry;
use moka::notification::RemovalCause;
use perf_core::Counter;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// A moka cache of our entries. moka's own clock cannot be paused, so its expiry is not used: freshness is ours.
pub(crate) struct Moka<K, V> {
    cache: moka::sync::Cache<K, Arc<Entry<K, V>>, foldhash::quality::RandomState>,
    evicted: Arc<Counter>,
}

impl<K: crate::Key, V: Send + Sync + 'static> Moka<K, V> {
    pub(crate) fn new(capacity: u64, listener: Option<Listener<K, V>>) -> Self {
        let evicted = Arc::new(Counter::new());
        let counter = Arc::clone(&evicted);
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry<K, V>>| u32::try_from(entry.weight).unwrap_or(u32::MAX))
            .eviction_listener(move |_, entry: Arc<Entry<K, V>>, cause| {
                let cause = match cause {
                    RemovalCause::Size => Cause::Room,
                    RemovalCause::Expired => Cause::Expired,
                    RemovalCause::Replaced => Cause::Replaced,
                    RemovalCause::Explicit => Cause::Invalidated,
                };
                if cause == Cause::Room {
                    counter.increment();
                }
                if let Some(listener) = &listener {
                    listener(&entry.key, entry.value.as_ref(), cause);
                }
            })
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self { cache, evicted }
    }
}

impl<K: crate::Key, V: Send + Sync + 'static> Engine<K, V> for Moka<K, V> {
    fn get<Q>(&self, _: &'static Lane, _: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cache.get(key).map(Held::from)
    }

    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        self.cache.insert(entry.key.clone(), entry);
        Discarded::default()
    }

    fn remove<Q>(&self, _: u64, key: &Q) -> Discarded<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut discarded = Discarded::default();
        if let Some(entry) = self.cache.remove(key) {
            discarded.free(entry);
        }
        discarded
    }

    fn clear(&self) -> Discarded<K, V> {
        self.cache.invalidate_all();
        Discarded::default()
    }

    fn visit(&self, show: Visitor<'_, K, V>) {
        self.cache.iter().for_each(|(_, entry)| show(&entry));
    }

    fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    fn weight(&self) -> u64 {
        self.cache.weighted_size()
    }

    fn evicted(&self) -> u64 {
        self.evicted.get()
    }

    fn expired(&self) -> u64 {
        // moka is not told when our entries end; they wait for eviction.
        0
    }

    fn max_weight(&self) -> u64 {
        u64::from(u32::MAX)
    }
}
