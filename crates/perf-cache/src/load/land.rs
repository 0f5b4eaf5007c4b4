//! The end of a flight: what is stored, what is told, in every case.

use super::failures::Remembered;
use super::flight::{Flight, Shard};
use super::run::Loading;
use super::{Found, Landing, LoadOptions, Loaded};
use crate::Key;
use crate::cache::Inner;
use crate::clock::{Tick, tick};
use crate::engine::{Discarded, Held, Priority};
use crate::entry::{Age, Draft, Entry, Lives};
use crate::error::Failure;
use crate::hit::Freshness;
use crate::remote::port::Position;
use crate::remote::shared::{Fetched, Outgoing};
use perf_core::Reason;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A flight on its way down. Dropping it in the air (a runtime that shuts down) tells those who wait.
pub(crate) struct Landed<K: Key, V: Send + Sync + 'static> {
    pub(crate) inner: Arc<Inner<K, V>>,
    pub(crate) flight: Arc<Flight<K, V>>,
    pub(crate) hash: u64,
    pub(crate) key: K,
    /// The value past its life that was there when the load began.
    pub(crate) base: Option<Held<K, V>>,
    pub(crate) options: LoadOptions,
    /// How far the log had been followed when the load began.
    pub(crate) position: Position,
    /// The load renews a value that is still served: the second tier has nothing newer.
    pub(crate) refresh: bool,
    /// When the load began.
    pub(crate) began: Tick,
}

pub(super) use crate::remote::shared::Packed;

impl<K: Key, V: Send + Sync + 'static> Landed<K, V> {
    /// Stores what was loaded, unless it was overtaken, and tells everyone.
    pub(crate) fn land(&self, loading: Loading<V>, load_nanos: u64) -> Option<Packed> {
        self.count(&loading);
        let inner = Arc::clone(&self.inner);
        let mut shard = inner.flights.shard(self.hash);
        let mut discarded = Discarded::default();
        let (landing, kept) = match loading {
            Ok(loaded) => self.keep(loaded, load_nanos, &mut discarded),
            Err(failure) => (self.fall_back(failure), None),
        };
        if let Err(failure) = &landing {
            self.remember(failure);
        }
        self.leave(&mut shard);
        drop(shard);
        let kept = kept.zip(landing.as_ref().ok().map(|(entry, _)| Arc::clone(entry)));
        // Those who wait come first; what is left to do is nobody's wait.
        self.flight.land(landing);
        drop(discarded);
        kept.and_then(|(lives, entry)| self.pack(&entry, lives))
    }

    /// Takes the flight out of its shard, if it is still the one of its key.
    fn leave(&self, shard: &mut Shard<K, V>) {
        if shard.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            shard.remove(&self.key);
        }
    }

    fn count(&self, loading: &Loading<V>) {
        let numbers = &self.inner.numbers;
        match loading {
            Ok(_) => numbers.failing.store(0, Ordering::Relaxed),
            Err(_) => _ = numbers.failing.fetch_add(1, Ordering::Relaxed),
        }
        match loading {
            Ok(Loaded { found: Found::Nothing, .. }) => numbers.missing.increment(),
            Ok(_) => numbers.loaded.increment(),
            Err(Failure::Panicked(_)) => numbers.panicked.increment(),
            Err(Failure::Timeout(_)) => numbers.abandoned.increment(),
            Err(Failure::Overloaded(_)) => {}
            Err(_) => numbers.failed.increment(),
        }
    }

    /// Makes the entry and stores it if nothing it depends on was invalidated since the load began.
    fn keep(
        &self,
        loaded: Loaded<V>,
        load_nanos: u64,
        discarded: &mut Discarded<K, V>,
    ) -> (Landing<K, V>, Option<Lives>) {
        let now = tick();
        let Loaded { found, tags: added, fresh, etag, priority, store } = loaded;
        let mut tags = self.options.tags.clone();
        tags.extend(added.iter().map(crate::Tag));
        let lives =
            self.inner.lives(fresh.or(self.options.fresh), matches!(found, Found::Nothing), load_nanos);
        self.inner.identify(&self.key, &mut tags);
        let value = match found {
            Found::Value(value) => Some(value),
            Found::Nothing => None,
            Found::NotModified => return (self.renew(lives, now), None),
        };
        let draft = Draft {
            hash: self.hash,
            weight: self.inner.weigh(&self.key, value.as_ref()),
            key: self.key.clone(),
            value,
            tags: tags.to_boxed(),
            etag,
            priority: self.inner.rank(priority),
            as_of: self.flight.as_of,
        };
        let entry = Arc::new(Entry::new(draft, lives, now).at(self.position));
        if self.is_overtaken(&entry) {
            self.inner.numbers.superseded.increment();
            return (Ok((entry, Freshness::Superseded)), None);
        }
        if self.is_held(&entry.tags) {
            self.inner.numbers.held.increment();
            return (Ok((entry, Freshness::Superseded)), None);
        }
        self.inner.failures.forget(&self.key);
        if store {
            *discarded = self.inner.store(&entry, now);
        }
        let lives = (store && !lives.fresh.is_zero()).then_some(lives);
        (Ok((entry, Freshness::Fresh)), lives)
    }

    /// Lands with a value of the second tier.
    pub(crate) fn land_fetched(&self, fetched: Fetched<V>) {
        let inner = Arc::clone(&self.inner);
        let now = tick();
        let entry = Arc::new(inner.entry_of(self.hash, self.key.clone(), fetched, self.flight.as_of, now));
        let mut shard = inner.flights.shard(self.hash);
        let overtaken = self.is_overtaken(&entry);
        let discarded = if overtaken { Discarded::default() } else { inner.store(&entry, now) };
        self.leave(&mut shard);
        drop(shard);
        drop(discarded);
        let freshness = if overtaken { Freshness::Superseded } else { Freshness::Fresh };
        self.flight.land(Ok((entry, freshness)));
    }

    /// Does not load after all: the value that is there has to do for a while.
    pub(super) fn forgo(&self) {
        let Some(base) = &self.base else { return };
        let now = tick();
        base.throttle(now.after(self.inner.config.throttle), None);
        let mut shard = self.inner.flights.shard(self.hash);
        self.leave(&mut shard);
        drop(shard);
        let freshness = if now < base.fresh_until() { Freshness::Fresh } else { Freshness::Refreshing };
        self.flight.land(Ok((base.to_arc(), freshness)));
    }

    /// What the second tier is to be given.
    fn pack(&self, entry: &Entry<K, V>, lives: Lives) -> Option<Packed> {
        let inner = &self.inner;
        let (remote, shared) = (inner.space.remote.as_ref()?, inner.shared.as_ref()?);
        let name = shared.name(inner.identity.as_ref()?, &self.key);
        let outgoing = Outgoing {
            value: entry.value.as_ref(),
            tags: &entry.tags,
            as_of: self.position,
            fresh: lives.fresh,
            tail: Duration::ZERO,
        };
        shared.pack(remote, name, &outgoing)
    }

    /// Gives the value that is there a new life, if it is still the one that was confirmed.
    fn renew(&self, lives: Lives, now: crate::clock::Tick) -> Landing<K, V> {
        let Some(base) = &self.base else {
            return Err(Failure::Load(crate::error::Erased::new(
                "the loader said `not modified`, but there is no value to keep",
            )));
        };
        let entry = base.to_arc();
        let held = self.inner.held(self.hash, &self.key);
        let same = held.is_some_and(|held| std::ptr::eq(&raw const *held, Arc::as_ptr(&entry)));
        if self.is_held(&entry.tags) {
            self.inner.numbers.held.increment();
            return Ok((entry, Freshness::Superseded));
        }
        if self.is_overtaken(&entry) || !same {
            self.inner.numbers.superseded.increment();
            return Ok((entry, Freshness::Superseded));
        }
        entry.renew(lives, self.flight.as_of, now);
        Ok((entry, Freshness::Fresh))
    }

    fn is_overtaken(&self, entry: &Entry<K, V>) -> bool {
        let as_of = self.flight.as_of;
        self.flight.is_superseded()
            || as_of < self.inner.cleared_at()
            || !self.inner.space.fences.allow(as_of, &entry.tags)
    }

    /// Whether a hold-off forbids to keep what this load gives.
    pub(crate) fn is_held(&self, tags: &[u64]) -> bool {
        let key = self.inner.hold_of(self.hash);
        self.inner.space.holds.holds(self.began, tags.iter().copied().chain([key]))
    }

    /// Remembers an error, if that is wanted and nothing has overtaken the load.
    fn remember(&self, failure: &Failure) {
        let life = self.inner.config.errors;
        if life.is_zero() || self.flight.is_superseded() || !self.inner.is_worth_remembering(failure) {
            return;
        }
        let now = tick();
        let error = Remembered {
            failure: failure.clone(),
            until: now.after(life),
            as_of: self.flight.as_of,
            tags: self.options.tags.to_boxed(),
        };
        self.inner.failures.put(self.key.clone(), error, now);
    }

    /// Serves what is left of an older value instead of the failure, if that is allowed.
    fn fall_back(&self, failure: Failure) -> Landing<K, V> {
        let now = tick();
        let Some(held) = self.inner.held(self.hash, &self.key) else { return Err(failure) };
        let useful = held.age(now) != Age::Dead && self.inner.is_allowed(&held);
        if !useful || held.value.is_none() || !self.inner.tolerates(&failure) {
            return Err(failure);
        }
        let why = failure.message();
        held.throttle(now.after(self.inner.config.throttle), Some(Arc::clone(&why)));
        Ok((held.to_arc(), Freshness::StaleError(why)))
    }
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// The entry of a value that the second tier had.
    pub(super) fn entry_of(
        &self,
        hash: u64,
        key: K,
        fetched: Fetched<V>,
        as_of: u64,
        now: Tick,
    ) -> Entry<K, V> {
        self.numbers.filled.increment();
        let Fetched { value, tags, fresh, as_of: position } = fetched;
        let usual = self.lives(None, value.is_none(), 0);
        // It ends where the second tier says, and not later than a load of our own would.
        let fresh = fresh.min(usual.fresh);
        let lives = Lives { fresh, refresh: usual.refresh.min(fresh), ..usual };
        let weight = self.weigh(&key, value.as_ref());
        let (tags, etag, priority) = (tags.into(), None, Priority::Normal);
        let draft = Draft { hash, weight, key, value, tags, etag, priority, as_of };
        Entry::new(draft, lives, now).at(position)
    }
}

impl<K: Key, V: Send + Sync + 'static> Drop for Landed<K, V> {
    fn drop(&mut self) {
        if self.flight.landing().is_some() {
            return;
        }
        self.inner.numbers.abandoned.increment();
        let mut shard = self.inner.flights.shard(self.hash);
        self.leave(&mut shard);
        drop(shard);
        self.flight.land(Err(Failure::Shutdown(self.inner.refused(Reason::Closed))));
    }
}
