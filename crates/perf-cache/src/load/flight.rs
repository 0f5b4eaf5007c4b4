//! Flights: loads under way, each with any number of callers waiting for it.

use crate::entry::Entry;
use crate::error::Failure;
use crate::hit::Freshness;
use foldhash::fast::RandomState;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// How a flight ended, for everyone who waited.
pub(crate) type Landing<K, V> = Result<(Arc<Entry<K, V>>, Freshness), Failure>;

/// One load under way.
pub(crate) struct Flight<K, V> {
    /// The newest fence when the load began.
    pub(crate) as_of: u64,
    superseded: AtomicBool,
    landing: OnceLock<Landing<K, V>>,
    landed: Notify,
}

impl<K, V> Flight<K, V> {
    pub(crate) fn new(as_of: u64) -> Self {
        Self { as_of, superseded: AtomicBool::new(false), landing: OnceLock::new(), landed: Notify::new() }
    }

    /// Marks the flight as overtaken by an invalidation: its value is for those who wait, not for the cache.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Ends the flight. Only the first landing counts.
    pub(crate) fn land(&self, landing: Landing<K, V>) {
        // A second landing can only come from the guard of a flight that has landed; there is nothing to tell.
        let _ = self.landing.set(landing);
        self.landed.notify_waiters();
    }

    pub(crate) fn landing(&self) -> Option<&Landing<K, V>> {
        self.landing.get()
    }

    /// A place for one more caller that waits.
    pub(crate) fn board(self: &Arc<Self>) -> Seat<K, V> {
        Seat(Arc::clone(self))
    }
}

/// One caller's place in a flight.
pub(crate) struct Seat<K, V>(Arc<Flight<K, V>>);

impl<K, V> Seat<K, V> {
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        &self.0
    }

    /// Waits for the landing.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the landing stays, and another call returns it.
    pub(crate) async fn landed(&self) -> Landing<K, V>
    where
        Landing<K, V>: Clone,
    {
        loop {
            // The listener is made before the look, so a landing between the two is not missed.
            let landed = self.0.landed.notified();
            if let Some(landing) = self.0.landing() {
                return landing.clone();
            }
            landed.await;
        }
    }
}

/// The flights of one shard of keys. Its lock also orders every change to an entry of these keys: a store and an
/// invalidation of one key never overlap.
pub(crate) type Shard<K, V> = HashMap<K, Arc<Flight<K, V>>, RandomState>;

/// All flights of a cache.
pub(crate) struct Flights<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
}

impl<K: Hash + Eq, V> Flights<K, V> {
    /// Enough that two keys seldom meet, few enough to clear in a moment.
    const SHARDS: usize = 64;

    pub(crate) fn new() -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The shard of a key, locked.
    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        // The upper bits: the engine uses the lower ones.
        let index = (hash >> 58) as usize % self.shards.len();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Overtakes the flight of one key, if there is one. The caller holds the shard.
    pub(crate) fn supersede<Q>(shard: &mut Shard<K, V>, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(flight) = shard.remove(key) {
            flight.supersede();
        }
    }

    /// Overtakes all flights.
    pub(crate) fn supersede_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.drain().for_each(|(_, flight)| flight.supersede());
        }
    }

    /// Flights under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}
