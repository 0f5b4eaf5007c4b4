//! Looking into memory, and flying: the detached side of a load.

use super::flight::{Flight, Shard};
use super::gate::Permit;
use super::land::Landed;
use super::remote::Step;
use super::{LoadContext, LoadOptions, Start, chain::Link};
use crate::Key;
use crate::cache::Inner;
use crate::clock::{Tick, tick};
use crate::engine::{Held, Lane, lane, with_lane};
use crate::entry::Age;
use crate::error::{Erased, Failure};
use crate::hit::{Freshness, Hit};
use crate::load::Loaded;
use crate::remote::port::Position;
use perf_core::{Reason, Rejected, time};
use std::any::Any;
use std::borrow::Borrow;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// What memory has to say about a key.
pub(crate) enum Probe<K, V> {
    /// Serve this.
    Ready(Held<K, V>, Freshness),
    /// Serve this and refresh it in the background.
    Refresh(Held<K, V>, Freshness),
    /// Load it; this much is there for failures and delays.
    Load(Option<Held<K, V>>),
}

/// What a glance at memory gives.
pub(crate) enum Glance<K, V> {
    /// Served, and counted.
    Hit(Hit<K, V>),
    /// There is an entry with a value, about which there is something to decide.
    Held(Held<K, V>),
    /// There is no value.
    Missed,
    /// Not looked.
    Averted,
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// Looks for a key as most hits find theirs, in as few steps as there can be: it is among the values, and may be served
    /// as it is, since nothing was fenced after it was last looked at, the log is followed, and it is neither due for a
    /// refresh nor past its life. Everything else is left to [`Inner::found`].
    ///
    /// Its steps are counted, so it is made part of its callers, and they of theirs.
    #[inline(always)]
    pub(crate) fn glance<Q>(&self, hash: u64, key: &Q, now: Tick) -> Glance<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.is_watched && self.watch(hash, key) {
            return Glance::Averted;
        }
        let Some(lane) = lane() else { return Glance::Averted };
        match self.engine.value(lane, hash, key) {
            Some(held) if held.seen() >= self.space.fences.gate() && held.is_calm(now) => {
                self.numbers.hits.increment_in(lane);
                Glance::Hit(Hit::of_value(held))
            }
            Some(held) => Glance::Held(held),
            None => Glance::Missed,
        }
    }

    /// Shows a read to the observer, if it is one to look at. Whether hits may have to be verified as well.
    #[inline(never)]
    fn watch<Q>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.observer.is_sampled(hash) {
            self.observe(hash, key);
        }
        self.shadow.is_some()
    }

    /// What the engine has of a key, after a glance that was not enough. A hit has been served, and is nothing here.
    #[inline(never)]
    pub(crate) fn found<Q>(&self, glance: Glance<K, V>, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match glance {
            Glance::Held(held) => Some(held),
            Glance::Missed => with_lane(|lane| self.engine.nothing(lane, hash, key)),
            Glance::Averted => self.held(hash, key),
            Glance::Hit(_) => None,
        }
    }

    /// Serves an entry that is fresh, and counts it.
    pub(crate) fn serve(&self, lane: &Lane, held: Held<K, V>) -> Option<Hit<K, V>> {
        let hit = Hit::fresh(held);
        match hit {
            Some(_) => self.numbers.hits.increment_in(lane),
            None => self.numbers.nothing.increment(),
        }
        hit
    }

    /// What to do with what the engine has of a key; counts it.
    #[inline(never)]
    pub(crate) fn probe(&self, found: Option<Held<K, V>>, now: Tick) -> Probe<K, V> {
        let probe = self.judge(found, now);
        match &probe {
            Probe::Ready(held, freshness) | Probe::Refresh(held, freshness) => self.count(held, freshness),
            Probe::Load(_) => self.numbers.misses.increment(),
        }
        probe
    }

    /// Shows a read to the observer. It looks for itself, so that what the read finds can stay in registers.
    #[cold]
    #[inline(never)]
    pub(crate) fn observe<Q>(&self, hash: u64, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let held = self.held(hash, key);
        self.observer.observe(hash, held.as_ref(), || self.numbers.reads());
    }

    /// Looks into memory.
    pub(crate) fn look<Q>(&self, hash: u64, key: &Q) -> Probe<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.judge(self.held(hash, key), tick())
    }

    /// What the engine has of a key.
    pub(crate) fn held<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        with_lane(|lane| self.engine.get(lane, hash, key))
    }

    /// What to do with what the engine has of a key.
    pub(crate) fn judge(&self, found: Option<Held<K, V>>, now: Tick) -> Probe<K, V> {
        let Some(held) = found else { return Probe::Load(None) };
        if !self.is_allowed(&held) {
            return Probe::Load(None);
        }
        if self.is_degraded(&held, now) {
            return Probe::Load(Some(held));
        }
        match held.age(now) {
            Age::Fresh => Probe::Ready(held, Freshness::Fresh),
            Age::RefreshDue => match self.config.sliding {
                Some(idle) => {
                    held.slide(idle, self.config.max_age, now);
                    Probe::Ready(held, Freshness::Fresh)
                }
                None => Probe::Refresh(held, Freshness::Fresh),
            },
            Age::Throttled(reason) => {
                Probe::Ready(held, reason.map_or(Freshness::Refreshing, Freshness::StaleError))
            }
            Age::Stale => Probe::Refresh(held, Freshness::Refreshing),
            Age::ErrorOnly => Probe::Load(Some(held)),
            Age::Dead => Probe::Load(None),
        }
    }

    /// Whether nothing the entry depends on was invalidated since it was loaded.
    #[inline]
    pub(crate) fn is_allowed(&self, entry: &Held<K, V>) -> bool {
        let newest = self.space.fences.newest();
        entry.seen() >= newest || self.is_allowed_at(entry, newest)
    }

    /// Whether the entry has been served too long without news of what other nodes invalidated.
    #[inline]
    fn is_degraded(&self, entry: &Held<K, V>, now: Tick) -> bool {
        let since = self.space.degraded_since.load(Ordering::Relaxed);
        since != u64::MAX && now >= Tick(since).max(entry.stored_at()).after(self.space.degraded_ttl)
    }

    #[cold]
    fn is_allowed_at(&self, entry: &Held<K, V>, newest: u64) -> bool {
        let seen = entry.seen();
        let allowed = seen >= self.cleared_at() && self.space.fences.allow(seen, &entry.tags);
        if allowed {
            entry.confirm(newest);
        }
        allowed
    }

    pub(crate) fn count(&self, held: &Held<K, V>, freshness: &Freshness) {
        if held.value.is_none() {
            self.numbers.nothing.increment();
        } else if freshness.is_stale() {
            self.numbers.stale.increment();
        } else {
            self.numbers.hits.increment();
        }
    }

    /// Starts a load in the background for a value that is still there, unless one is under way.
    #[cold]
    pub(crate) fn refresh(
        self: &Arc<Self>,
        hash: u64,
        key: K,
        start: Start<K, V>,
        options: LoadOptions,
        held: &Held<K, V>,
    ) {
        let mut shard = self.flights.shard(hash);
        if shard.contains_key(&key) {
            return;
        }
        let Some(permit) = self.gate.enter_unasked() else {
            // Refreshes are shed first; the next hit after the throttle asks again.
            self.numbers.shed.increment();
            held.throttle(tick().after(self.config.throttle), None);
            return;
        };
        self.numbers.refreshes.increment();
        let landed = self.depart(&mut shard, hash, key, options, Some(held.clone()), true);
        drop(shard);
        landed.flight.detach();
        landed.launch(start, Some(permit));
    }

    /// A flight for a value that is still there, to be launched with others; `None` when one is under way.
    pub(super) fn depart_refresh(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        options: &LoadOptions,
        held: &Held<K, V>,
    ) -> Option<Landed<K, V>> {
        let mut shard = self.flights.shard(hash);
        (!shard.contains_key(key))
            .then(|| self.depart(&mut shard, hash, key.clone(), options.clone(), Some(held.clone()), true))
    }

    /// Starts a load in the background for a key that nobody asked for yet; whether it was started.
    pub(crate) fn load_unasked(self: &Arc<Self>, hash: u64, key: K, start: Start<K, V>) -> bool {
        if tokio::runtime::Handle::try_current().is_err() {
            return false;
        }
        let mut shard = self.flights.shard(hash);
        let is_there = matches!(self.look(hash, &key), Probe::Ready(..) | Probe::Refresh(..));
        if is_there || shard.contains_key(&key) {
            return false;
        }
        let Some(permit) = self.gate.enter_unasked() else {
            self.numbers.shed.increment();
            return false;
        };
        let landed = self.depart(&mut shard, hash, key, LoadOptions::NONE, None, false);
        drop(shard);
        landed.flight.detach();
        landed.launch(start, Some(permit));
        true
    }

    /// Puts a flight into its shard. The caller launches it after giving the shard back.
    pub(crate) fn depart(
        self: &Arc<Self>,
        shard: &mut Shard<K, V>,
        hash: u64,
        key: K,
        options: LoadOptions,
        base: Option<Held<K, V>>,
        refresh: bool,
    ) -> Landed<K, V> {
        // The position first: what is fenced after it must not be believed, and too much of that does no harm.
        let position = self.space.remote.as_ref().map_or(Position::ZERO, |remote| remote.applied());
        let flight = Arc::new(Flight::new(self.space.fences.newest()));
        if let Some(older) = shard.insert(key.clone(), Arc::clone(&flight)) {
            older.supersede();
        }
        let began = tick();
        Landed { inner: Arc::clone(self), flight, hash, key, base, options, position, refresh, began }
    }

    pub(crate) fn refused(&self, reason: Reason) -> Rejected {
        Rejected::new(reason, self.name.clone())
    }
}

/// How the loader itself ended.
pub(crate) type Loading<V> = Result<Loaded<V>, Failure>;

impl<K: Key, V: Send + Sync + 'static> Landed<K, V> {
    /// Starts the load in a task of its own. Not under the shard's lock: a runtime that is shutting down drops the task
    /// at once, which takes that lock.
    pub(crate) fn launch(self, start: Start<K, V>, permit: Option<Permit>) {
        self.launch_from(start, permit, false);
    }

    /// The same when the second tier has been asked, in vain.
    pub(super) fn launch_asked(self, start: Start<K, V>) {
        self.launch_from(start, None, true);
    }

    fn launch_from(self, start: Start<K, V>, permit: Option<Permit>, asked: bool) {
        let link = Link::new(self.inner.id, self.hash);
        // Without a runtime the flight is dropped here, and its drop tells those who wait.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (flight, nested) = (Arc::clone(&self.flight), link.is_nested());
            let task = runtime.spawn(link.run(self.fly(start, permit, nested, asked)));
            flight.runs_in(task.abort_handle());
        }
    }

    /// Loads, stores, and tells everyone who waits.
    async fn fly(self, start: Start<K, V>, permit: Option<Permit>, nested: bool, asked: bool) {
        let abandon = self.inner.config.abandon_after;
        let step = if asked { Step::Load(None) } else { self.approach().await };
        let Step::Load(lease) = step else { return };
        let permit = match permit {
            Some(permit) => Some(permit),
            None => self.inner.gate.enter(nested, self.inner.config.hard_timeout).await,
        };
        let Some(permit) = permit else {
            self.inner.numbers.refused.increment();
            let refusal = self.inner.refused(Reason::Full);
            self.land(Err(Failure::Overloaded(refusal)), 0);
            return;
        };
        let begun = time::now();
        let context = LoadContext { key: self.key.clone(), base: self.base.clone() };
        let loading = match time::timeout(abandon, caught(start, context)).await {
            Ok(loading) => loading,
            Err(_) => Err(Failure::Timeout(self.inner.refused(Reason::Timeout))),
        };
        drop(permit);
        let taken = begun.elapsed();
        self.inner.numbers.load_time.record_duration(taken);
        let packed = self.land(loading, crate::clock::nanos(taken));
        self.give(packed, lease).await;
    }
}

/// Runs a loader; a panic in it is a result, with its message.
pub(crate) async fn caught<K, V>(start: Start<K, V>, context: LoadContext<K, V>) -> Loading<V> {
    caught_future(move || start(context)).await
}

/// The same for a loader of any result.
pub(super) async fn caught_future<T>(
    start: impl FnOnce() -> Pin<Box<dyn Future<Output = Result<T, Erased>> + Send>>,
) -> Result<T, Failure> {
    let started = catch_unwind(AssertUnwindSafe(start));
    let mut load = started.map_err(|payload| Failure::Panicked(message(&*payload)))?;
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(loaded)) => Poll::Ready(loaded.map_err(|erased: Erased| Failure::Load(erased))),
        Err(payload) => Poll::Ready(Err(Failure::Panicked(message(&*payload)))),
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a message".into()
    }
}
