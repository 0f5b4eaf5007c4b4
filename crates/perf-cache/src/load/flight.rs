//! Flights: loads under way, each with any number of callers waiting for it.

use crate::config::CancelPolicy;
use crate::entry::Entry;
use crate::error::Failure;
use crate::hit::Freshness;
use foldhash::fast::RandomState;
use perf_core::Deadline;
use perf_core::time::{self, Instant};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How a flight ended, for everyone who waited.
pub(crate) type Landing<K, V> = Result<(Arc<Entry<K, V>>, Freshness), Failure>;

/// One load under way.
pub(crate) struct Flight<K, V> {
    /// The newest fence when the load began.
    pub(crate) as_of: u64,
    superseded: AtomicBool,
    landing: OnceLock<Landing<K, V>>,
    landed: Notify,
    /// Callers that are still to be woken, once it has landed.
    asleep: AtomicU32,
    /// Callers that wait; [`CLOSED`] once the flight has been given up.
    seats: AtomicU32,
    /// Whether it goes on when nobody waits.
    detached: AtomicBool,
    task: OnceLock<AbortHandle>,
    bell: OnceLock<Bell>,
}

/// Rings once, before the patience of the callers ends that listen to it. Until then they need no timers of their own: one
/// timer stands for a crowd's, and nearly every flight lands before it rings.
struct Bell {
    /// When; `None` where there is no runtime to ring it.
    rings: Option<Instant>,
    rung: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Callers of one flight from whom on a bell is cheaper than a timer for each.
const CROWD: u32 = 8;

/// Nobody can board any more.
const CLOSED: u32 = u32::MAX;

impl<K, V> Flight<K, V> {
    pub(crate) fn new(as_of: u64) -> Self {
        Self {
            as_of,
            superseded: AtomicBool::new(false),
            landing: OnceLock::new(),
            landed: Notify::new(),
            asleep: AtomicU32::new(0),
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
        self.asleep.store(self.waiting(), Ordering::Release);
        self.wake(u32::MAX);
        // Whoever came between the count and now, or is about to lie down.
        self.landed.notify_waiters();
        if let Some(task) = self.bell.get().and_then(|bell| bell.task.as_ref()) {
            task.abort();
        }
    }

    /// Wakes up to so many of those that wait. The one that lands the flight wakes all, and each that is woken helps with
    /// two more: a thousand are awake soon even if the thread that began is taken off its processor in the middle of it.
    fn wake(&self, most: u32) {
        let is_asleep = |asleep: u32| asleep.checked_sub(1);
        for _ in 0..most {
            if self.asleep.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_asleep).is_err() {
                return;
            }
            self.landed.notify_one();
        }
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
    /// The bell of a crowd, if it rings before `end`, halfway through the patience of the first who asks.
    fn bell_before(self: &Arc<Self>, end: Instant) -> Option<&Bell> {
        if self.bell.get().is_none() && self.waiting() < CROWD {
            return None;
        }
        let bell = self.bell.get_or_init(|| self.hang(end));
        bell.rings.is_some_and(|rings| rings <= end).then_some(bell)
    }

    fn hang(self: &Arc<Self>, end: Instant) -> Bell {
        let (now, rung) = (time::now(), Arc::new(AtomicBool::new(false)));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Bell { rings: None, rung, task: None };
        };
        let rings = now + end.saturating_duration_since(now) / 2;
        let ringing = Ringing { flight: Arc::downgrade(self), rung: Arc::clone(&rung) };
        let task = runtime.spawn(async move {
            let ringing = ringing;
            time::sleep_until(rings).await;
            drop(ringing);
        });
        Bell { rings: Some(rings), rung, task: Some(task.abort_handle()) }
    }
}

/// Rings when it is dropped: in time, or when the runtime that should have rung the bell is gone.
struct Ringing<K, V> {
    flight: Weak<Flight<K, V>>,
    rung: Arc<AtomicBool>,
}

impl<K, V> Drop for Ringing<K, V> {
    fn drop(&mut self) {
        self.rung.store(true, Ordering::Release);
        if let Some(flight) = self.flight.upgrade() {
            flight.landed.notify_waiters();
        }
    }
}

impl<K, V> Drop for Seat<K, V> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One caller's place in a flight.
pub(crate) struct Seat<K, V>(Arc<Flight<K, V>>);

impl<K, V> Seat<K, V> {
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        &self.0
    }

    /// The landing, if there is one by now.
    pub(crate) fn landed(&self) -> Option<Landing<K, V>>
    where
        Landing<K, V>: Clone,
    {
        let landing = self.0.landing()?;
        self.0.wake(2);
        Some(landing.clone())
    }

    /// The landing, or `None` when the caller's patience ends before.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the landing stays, and another call returns it.
    pub(crate) async fn landed_by(&self, deadline: Deadline) -> Option<Landing<K, V>>
    where
        Landing<K, V>: Clone,
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        if let Some(end) = deadline.instant() {
            while let Some(bell) = self.0.bell_before(end) {
                let landed = self.0.landed.notified();
                if let Some(landing) = self.landed() {
                    return Some(landing);
                }
                if bell.rung.load(Ordering::Acquire) {
                    break;
                }
                landed.await;
            }
        }
        deadline.run(self.lands()).await.ok()
    }

    async fn lands(&self) -> Landing<K, V>
    where
        Landing<K, V>: Clone,
    {
        loop {
            // The listener is made before the look, so a landing between the two is not missed.
            let landed = self.0.landed.notified();
            if let Some(landing) = self.landed() {
                return landing;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::task::JoinSet;

    type Outcomes = JoinSet<(u64, bool, Duration)>;

    /// Callers that wait so many seconds each, and what becomes of them: their patience, whether they had the landing, when.
    fn crowd(flight: &Arc<Flight<u32, u32>>, patience: impl Iterator<Item = u64>) -> Outcomes {
        let began = time::now();
        let mut callers = JoinSet::new();
        for seconds in patience {
            let seat = flight.board(CancelPolicy::Detach).unwrap();
            callers.spawn(async move {
                let landed = seat.landed_by(Deadline::within(Duration::from_secs(seconds))).await;
                (seconds, landed.is_some(), began.elapsed())
            });
        }
        callers
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_a_crowd_gives_up_when_its_own_patience_ends() {
        let flight = Arc::new(Flight::new(0));
        // Some are less patient than the bell that the first of them hang up, some much more.
        let callers = crowd(&flight, (0..60).map(|index| [10, 4, 11, 60, 10, 6][index % 6]));
        for (patience, landed, taken) in callers.join_all().await {
            assert!(!landed);
            assert_eq!(taken.as_secs(), patience);
        }
        assert_eq!(flight.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_gets_the_landing_before_and_after_the_bell_has_rung() {
        for lands_after in [1, 7] {
            let flight = Arc::new(Flight::new(0));
            // Others who are gone before it lands must not take the wakes of those who stay.
            let mut gone = crowd(&flight, (0..100).map(|_| 10));
            tokio::task::yield_now().await;
            gone.abort_all();
            let callers = crowd(&flight, (0..100).map(|_| 10));
            time::sleep(Duration::from_secs(lands_after)).await;
            flight.land(Err(Failure::Recursive));
            for (_, landed, taken) in callers.join_all().await {
                assert!(landed);
                assert_eq!(taken.as_secs(), lands_after);
            }
        }
    }

    #[test]
    fn a_crowd_whose_runtime_is_gone_keeps_time_by_itself() {
        let flight = Arc::new(Flight::<u32, u32>::new(0));
        let gone = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let seats: Vec<_> = (0..CROWD).map(|_| flight.board(CancelPolicy::Detach).unwrap()).collect();
        {
            let _inside = gone.enter();
            assert!(flight.bell_before(time::now() + Duration::from_secs(3600)).is_some());
        }
        drop(gone);
        let here =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let late = here.block_on(seats[0].landed_by(Deadline::within(Duration::from_secs(7200))));
        assert!(late.is_none());
    }
}
