//! Reads of both tiers that never load.

use crate::Key;
use crate::cache::{Cache, Inner};
use crate::clock::tick;
use crate::hit::{Freshness, Hit, Lookup};
use crate::load::Probe;
use crate::remote::shared::Fetched;
use std::sync::Arc;

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// The value of a key from memory or from the second tier, and never from a loader. What goes wrong is counted and is
    /// a miss. A value that the second tier had is in memory afterwards.
    ///
    /// The wait is bounded by [`store_timeout`](crate::CacheSpaceBuilder::store_timeout).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, MemoryStore, Postcard};
    /// # use std::{convert::Infallible, sync::Arc, time::Duration};
    /// # let store = Arc::new(MemoryStore::new());
    /// let node = || CacheSpace::builder("shop").shared(store.clone(), store.clone()).build();
    /// let (one, other) = (node().await?, node().await?);
    /// # for space in [&one, &other] { space.coherent(Duration::from_secs(1)).await; }
    /// let users: Cache<u64, String> = one.cache("users").codec(Postcard).build()?;
    /// users.get_or_load(&7, || async { Ok::<_, Infallible>(String::from("Ada")) }).await?;
    ///
    /// let users: Cache<u64, String> = other.cache("users").codec(Postcard).build()?;
    /// # tokio::task::yield_now().await;
    /// assert_eq!(users.fetch(&7).await.as_deref().map(String::as_str), Some("Ada"));
    /// assert!(users.fetch(&8).await.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn fetch(&self, key: &K) -> Option<Hit<K, V>> {
        let inner = &self.0;
        match self.lookup(key) {
            Lookup::Unknown => {}
            known => return known.hit(),
        }
        // Neither a timer nor a connection can be had outside of a runtime.
        tokio::runtime::Handle::try_current().ok()?;
        let (remote, shared) = (inner.space.remote.as_ref()?, inner.shared.as_ref()?);
        // The fence first: what is fenced from now on makes what is read refused.
        let as_of = inner.space.fences.newest();
        let named = shared.name(inner.identity.as_ref()?, key);
        let fetched = shared.read_one(remote, &named).await.found()?;
        inner.promote(key, fetched, as_of)
    }

    /// Like [`Cache::fetch`] for many keys, with one round trip to the second tier.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn fetch_many(&self, keys: &[K]) -> Vec<Option<Hit<K, V>>> {
        let inner = &self.0;
        let mut found: Vec<Option<Hit<K, V>>> = Vec::with_capacity(keys.len());
        let mut left = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let lookup = self.lookup(key);
            if matches!(lookup, Lookup::Unknown) {
                left.push(index);
            }
            found.push(lookup.hit());
        }
        if left.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return found;
        }
        let (Some(remote), Some(shared), Some(identity)) =
            (&inner.space.remote, &inner.shared, &inner.identity)
        else {
            return found;
        };
        // The fence first: what is fenced from now on makes what is read refused.
        let as_of = inner.space.fences.newest();
        let names: Vec<_> = left.iter().map(|&index| shared.name(identity, &keys[index])).collect();
        let answers = shared.read(remote, &names).await;
        for (index, answer) in left.into_iter().zip(answers) {
            if let Some(fetched) = answer.found() {
                found[index] = inner.promote(&keys[index], fetched, as_of);
            }
        }
        found
    }
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// Puts a value of the second tier into memory, if nothing has overtaken it since it was read.
    fn promote(self: &Arc<Self>, key: &K, fetched: Fetched<V>, as_of: u64) -> Option<Hit<K, V>> {
        let hash = self.hash(key);
        let remote = self.space.remote.as_ref()?;
        let now = tick();
        let position = fetched.as_of;
        let entry = Arc::new(self.entry_of(hash, key.clone(), fetched, as_of, now));
        let shard = self.flights.shard(hash);
        // Under the lock of the key, which every change of it takes: an invalidation is published before it takes that
        // lock, so it is either seen here, or comes afterwards and removes what is stored here.
        if let Probe::Ready(held, freshness) = self.look(hash, key) {
            return Hit::new(held, freshness);
        }
        let valid = remote.allow(position, entry.tags.iter().copied())
            && as_of >= self.cleared_at()
            && self.space.fences.allow(as_of, &entry.tags)
            && !self.space.holds.holds(now, entry.tags.iter().copied().chain([self.hold_of(hash)]));
        let discarded = valid.then(|| self.store(&entry, now));
        drop(shard);
        drop(discarded);
        valid.then(|| Hit::new(entry.into(), Freshness::Fresh)).flatten()
    }
}
