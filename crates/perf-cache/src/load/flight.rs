//! Flights: loads under way, each with any number of callers waiting for it.

use super::bell::Bell;
use super::sleepers::{Bed, Sleepers};
use super::waiting::Waiting;
use crate::config::CancelPolicy;
use crate::entry::Entry;
use crate::error::Failure;
use crate::hit::Freshness;
use foldhash::fast::RandomState;
use perf_core::Deadline;
use perf_core::time::Instant;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use tokio::task::AbortHandle;

/// How a flight ended, for everyone who waited.
pub(crate) type Landing<K, V> = Result<(Arc<Entry<K, V>>, Freshness), Failure>;

/// One load under way.
pub(crate) struct Flight<K, V> {
    /// The newest fence when the load began.
    pub(crate) as_of: u64,
    superseded: AtomicBool,
    landing: OnceLock<Landing<K, V>>,
    sleepers: Sleepers,
    /// Callers that wait; [`CLOSED`] once the flight has been given up.
    seats: AtomicU32,
    /// Whether it goes on when nobody waits.
    detached: AtomicBool,
    task: OnceLock<AbortHandle>,
    bell: OnceLock<Bell>,
}

/// Callers of one flight from whom on a bell is cheaper than a timer for each.
pub(super) const CROWD: u32 = 8;

/// Nobody can board any more.
const CLOSED: u32 = u32::MAX;

impl<K, V> Flight<K, V> {
    pub(crate) fn new(as_of: u64) -> Self {
        Self {
            as_of,
            superseded: AtomicBool::new(false),
            landing: OnceLock::new(),
            sleepers: Sleepers::default(),
            seats: AtomicU32::new(0),
            detached: AtomicBool::new(false),
            task: OnceLock::new(),
            bell: OnceLock::new(),
        }
    }

    /// Goes on whoever gives up.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
    }

    /// Names the task that runs it, which ends with the last caller unless the flight is detached.
    pub(crate) fn runs_in(&self, task: AbortHandle) {
        // A flight is launched once.
        let _ = self.task.set(task);
    }

    /// Callers that wait.
    pub(crate) fn waiting(&self) -> u32 {
        match self.seats.load(Ordering::Acquire) {
            CLOSED => 0,
            seats => seats,
        }
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
        self.sleepers.wake_all();
        if let Some(bell) = self.bell.get() {
            bell.stop();
        }
    }

    /// Lets those who wait look at what their patience says.
    pub(super) fn rouse(&self) {
        self.sleepers.rouse();
    }

    pub(crate) fn landing(&self) -> Option<&Landing<K, V>> {
        self.landing.get()
    }

    /// A place for one more caller that waits; `None` when the last one has just given the flight up.
    pub(crate) fn board(self: &Arc<Self>, policy: CancelPolicy) -> Option<Seat<K, V>> {
        if policy == CancelPolicy::Detach {
            self.detach();
        }
        self.seats
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |seats| {
                (seats != CLOSED).then_some(seats.saturating_add(1))
            })
            .ok()
            .map(|_| Seat(Arc::clone(self)))
    }

    /// One caller less; the last one ends the flight, unless it goes on without callers.
    fn leave(&self) {
        let ends =
            self.task.get().filter(|_| !self.detached.load(Ordering::Acquire) && self.landing().is_none());
        let left = self.seats.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seats| match seats {
            CLOSED => None,
            1 if ends.is_some() => Some(CLOSED),
            seats => Some(seats.saturating_sub(1)),
        });
        if let (Ok(1), Some(task)) = (left, ends) {
            task.abort();
        }
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Flight<K, V> {
    /// Whether the bell of a crowd is still to ring, and before `end`. The first of a crowd to ask hangs it up.
    pub(super) fn has_bell_before(self: &Arc<Self>, end: Instant) -> bool {
        if self.bell.get().is_none() && self.waiting() < CROWD {
            return false;
        }
        self.bell.get_or_init(|| Bell::hang(self, end)).rings_before(end)
    }
}

/// One caller's place in a flight.
pub(crate) struct Seat<K, V>(Arc<Flight<K, V>>);

impl<K, V> Drop for Seat<K, V> {
    fn drop(&mut self) {
        // Nobody counts those who leave after the landing, and a thousand do at once.
        if self.0.landing().is_none() {
            self.0.leave();
        }
    }
}

impl<K, V> Seat<K, V> {
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        &self.0
    }

    /// Waits for the landing until the caller's patience ends.
    pub(crate) const fn waits(self, patience: Deadline) -> Waiting<K, V> {
        Waiting::new(self, patience)
    }

    /// The landing, if there is one by now. Whoever sees it helps to wake those who still sleep.
    pub(super) fn landed(&self) -> Option<Landing<K, V>>
    where
        Landing<K, V>: Clone,
    {
        let landing = self.0.landing()?;
        self.0.sleepers.help();
        Some(landing.clone())
    }

    /// Sleeps until the landing or the bell; `false` when the flight has landed.
    pub(super) fn lies_down(&self, bed: &mut Option<Bed>, waker: &Waker) -> bool {
        self.0.sleepers.lie_down(bed, waker, || self.0.landing().is_some())
    }

    /// Gives the bed back, if it can still be of use.
    pub(super) fn rises(&self, bed: Bed) {
        if self.0.landing().is_none() {
            self.0.sleepers.rise(bed);
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
