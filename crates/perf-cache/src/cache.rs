//! The cache itself: reads, writes and invalidations.

use crate::builder::Parts;
use crate::clock::{Tick, tick};
use crate::config::{CacheConfig, Refresh};
use crate::engine::{Discarded, Held, Priority, with_lane};
use crate::entry::{Entry, Lives};
use crate::error::Failure;
use crate::hit::{Freshness, Hit, Lookup};
use crate::key::CacheKey;
use crate::load::{
    Adaptive, Failures, Find, Flights, Gate, GetOrLoad, Glance, LoadCall, Optional, Plain, Value,
};
use crate::memory::{Memory, SLIDE_STEP};
use crate::observe::{CurvePoint, HotKey, Observer, Shadow};
use crate::remote::shared::{Identity, Shared};
use crate::space::{Purge, SpaceInner};
use crate::stats::{CacheStats, Numbers};
use crate::{Invalidating, Key};
use perf_core::{Component, ComponentId, Name, Rng, Sink};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A cache of `V` by `K`. Cheap to clone; clones share everything.
///
/// It is made by [`CacheSpace::cache`](crate::CacheSpace::cache). A read that finds its value in memory costs tens of
/// nanoseconds, takes no lock of ours and allocates nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_cache::{Bytes, Cache, CacheSpace};
/// use std::convert::Infallible;
/// use std::time::Duration;
///
/// let space = CacheSpace::in_process("shop");
/// let users: Cache<u64, String> =
///     space.cache("users").capacity(Bytes(8 << 20)).fresh(Duration::from_secs(60)).build()?;
///
/// let user = users.get_or_load(&7, || async { Ok::<_, Infallible>(String::from("Ada")) }).await?;
/// assert_eq!(*user, "Ada");
/// assert_eq!(users.get(&7).as_deref().map(String::as_str), Some("Ada"));
/// users.invalidate(&7).await;
/// assert!(users.get(&7).is_none());
/// # Ok(()) }
/// ```
pub struct Cache<K, V>(pub(crate) Arc<Inner<K, V>>);

/// What the clones of a cache share.
pub(crate) struct Inner<K, V> {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) name: Name,
    pub(crate) config: CacheConfig,
    pub(crate) engine: Memory<K, V>,
    pub(crate) flights: Flights<K, V>,
    pub(crate) space: Arc<SpaceInner>,
    pub(crate) numbers: Numbers,
    pub(crate) observer: Observer<K>,
    pub(crate) shadow: Option<Shadow<V>>,
    /// Whether there is more to a read than its answer: an observer, or hits to verify.
    pub(crate) is_watched: bool,
    pub(crate) gate: Gate,
    pub(crate) failures: Failures<K>,
    /// Its name among all nodes, if there are others.
    pub(crate) identity: Option<Identity>,
    pub(crate) shared: Option<Shared<V>>,
    /// How its keys are written, for other nodes that purge it by pattern.
    pub(crate) text: Option<fn(&K) -> String>,
    pub(crate) this: Weak<Self>,
    hasher: foldhash::fast::RandomState,
    parts: Parts<K, V>,
    cleared_at: AtomicU64,
    rng: Mutex<Rng>,
}

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    pub(crate) fn new(
        name: Name,
        own: &str,
        config: CacheConfig,
        space: Arc<SpaceInner>,
        mut parts: Parts<K, V>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let hasher = foldhash::fast::RandomState::default();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let rng = parts.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let identity = space.remote.as_ref().map(|_| Identity::new(&space.name, own));
        let (observer, shadow) = (Observer::new(id, &config), parts.shadow.take());
        let inner = Arc::new_cyclic(|this| Inner {
            this: Weak::clone(this),
            text: parts.text,
            is_watched: observer.is_on() || shadow.is_some(),
            id,
            name,
            engine: Memory::new(&config, parts.listener.take().as_ref()),
            flights: Flights::new(),
            shared: identity.as_ref().and_then(|identity| parts.shared(identity, config.compression)),
            identity,
            gate: Gate::new(config.max_loads, config.when_full, space.loads.clone()),
            space,
            numbers: Numbers::default(),
            observer,
            shadow,
            failures: Failures::new(),
            hasher,
            parts,
            cleared_at: AtomicU64::new(0),
            rng: Mutex::new(rng),
            config,
        });
        if let Some(identity) = &inner.identity {
            let this: Weak<dyn Purge> = Weak::<Inner<K, V>>::clone(&inner.this);
            inner.space.let_purge(identity.namespace, this);
        }
        Self(inner)
    }

    /// Reads from memory alone: never waits, never loads. Values past their life are not returned, but for one that stands
    /// in for a load that failed, until the next attempt: its [`freshness`](Hit::freshness) says so.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<Hit<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.0;
        let (now, hash) = (tick(), inner.hash(key));
        match inner.glance(hash, key, now) {
            Glance::Hit(hit) => Some(hit),
            other => inner.lookup(inner.found(other, hash, key), now).hit(),
        }
    }

    /// Like [`Cache::get`], but tells "there is nothing" from "not known".
    #[inline]
    pub fn lookup<Q>(&self, key: &Q) -> Lookup<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.0;
        let (now, hash) = (tick(), inner.hash(key));
        match inner.glance(hash, key, now) {
            Glance::Hit(hit) => Lookup::Found(hit),
            other => inner.lookup(inner.found(other, hash, key), now),
        }
    }

    /// Whether [`Cache::get`] would return a value. Not counted as a read.
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        use crate::load::Probe;
        match self.0.look(self.0.hash(key), key) {
            Probe::Ready(held, _) => held.value.is_some(),
            Probe::Refresh(held, freshness) => held.value.is_some() && !freshness.is_stale(),
            Probe::Load(_) => false,
        }
    }

    /// The value of `key`: from memory, or else from `loader`, which runs once however many ask at the same time.
    ///
    /// The loader runs in a task of its own and is not cancelled with its callers: its value is stored for the next ones.
    /// Options come before `.await`: [`tags`](LoadCall::tags), [`fresh`](LoadCall::fresh),
    /// [`deadline`](LoadCall::deadline), [`timeout`](LoadCall::timeout).
    ///
    /// # Errors
    /// [`LoadError`](crate::LoadError): the loader's own error, its panic, a timeout, too many loads.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    #[inline]
    pub fn get_or_load<'c, Q, F>(&'c self, key: &'c Q, loader: F) -> GetOrLoad<'c, K, V, Q, F>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        LoadCall::new(self, key, Plain(loader))
    }

    /// Like [`Cache::get_or_load`] for sources that may have nothing: `None` is remembered for the negative life.
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    #[inline]
    pub fn find_or_load<'c, Q, F>(&'c self, key: &'c Q, loader: F) -> LoadCall<'c, K, V, Q, Optional<F>, Find>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        LoadCall::new(self, key, Optional(loader))
    }

    /// Like [`Cache::get_or_load`] with a loader that sees what the cache still holds, and says how long its value lives
    /// and which tags it has.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, Loaded, tag};
    /// # use std::{convert::Infallible, time::Duration};
    /// # let users: Cache<u64, String> = CacheSpace::in_process("shop").cache("users").build()?;
    /// let user = users
    ///     .load_with(&7, |context| async move {
    ///         let name = format!("user {}", context.key());
    ///         Ok::<_, Infallible>(Loaded::new(name).tag(tag!("org", 3)).fresh(Duration::from_secs(5)))
    ///     })
    ///     .await?;
    /// assert_eq!(*user, "user 7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    #[inline]
    pub fn load_with<'c, Q, F, Fut>(
        &'c self,
        key: &'c Q,
        loader: F,
    ) -> LoadCall<'c, K, V, Q, Adaptive<F>, Value>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(crate::LoadContext<K, V>) -> Fut,
    {
        LoadCall::new(self, key, Adaptive(loader))
    }

    /// Like [`Cache::load_with`] for sources that may have nothing: [`Loaded::nothing`](crate::Loaded::nothing) gives `None`.
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    #[inline]
    pub fn find_with<'c, Q, F, Fut>(
        &'c self,
        key: &'c Q,
        loader: F,
    ) -> LoadCall<'c, K, V, Q, Adaptive<F>, Find>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(crate::LoadContext<K, V>) -> Fut,
    {
        LoadCall::new(self, key, Adaptive(loader))
    }

    /// Puts a value in, without tags, for the configured life. Loads of this key that are under way are overtaken.
    ///
    /// The value is in memory when this returns. Where there are other nodes, they are told that what they know of the key
    /// is over; when that has arrived, the second tier gets the value, if the cache has a codec and the value has not been
    /// invalidated, replaced or evicted meanwhile. That happens in the background and needs a tokio runtime: outside of one,
    /// and while the log or the second tier cannot be reached, other nodes load the value for themselves.
    ///
    /// Of two nodes that put in different values at once, the one whose record comes later in the log wins, which is not
    /// always the one that changed the source later: after a change [`invalidate`](Self::invalidate) is the safer call.
    pub fn insert(&self, key: K, value: V) {
        self.insert_with(key, crate::Loaded::new(value));
    }

    /// Like [`Cache::insert`], with tags and a life of its own. A life of zero removes what was there.
    pub fn insert_with(&self, key: K, loaded: crate::Loaded<V>) {
        self.0.put(key, loaded);
    }

    /// Removes what is known of `key` and overtakes its loads: what began before is seen by no read that starts after.
    ///
    /// The local effect is there when this returns; awaiting the result waits for what is remote.
    pub fn invalidate<Q>(&self, key: &Q) -> Invalidating
    where
        K: Borrow<Q>,
        Q: CacheKey + Hash + Eq + ?Sized,
    {
        let published = self.0.publish_key(key);
        self.0.forget(key);
        published
    }

    /// Ends the life of `key`, but keeps the value for failures of the next load.
    pub fn expire<Q>(&self, key: &Q) -> Invalidating
    where
        K: Borrow<Q>,
        Q: CacheKey + Hash + Eq + ?Sized,
    {
        let inner = &*self.0;
        let published = inner.publish_key(key);
        let hash = inner.hash(key);
        let mut shard = inner.flights.shard(hash);
        Flights::supersede(&mut shard, key);
        inner.failures.forget(key);
        if let Some(held) = inner.held(hash, key) {
            held.expire(tick());
        }
        inner.numbers.invalidated.increment();
        published
    }

    /// Drops everything this cache holds and overtakes all its loads.
    pub fn clear(&self) -> Invalidating {
        let inner = &*self.0;
        let namespace = inner.identity.as_ref().map(|identity| identity.namespace);
        let published = namespace.map_or_else(Invalidating::local, |fence| inner.space.publish(&[fence]));
        inner.space.fences.other(|number| inner.cleared_at.store(number, Ordering::Release));
        inner.flights.supersede_all();
        inner.failures.clear();
        drop(inner.engine.clear());
        inner.numbers.invalidated.increment();
        published
    }

    /// What it has done so far, and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let levels = self.0.engine.levels();
        let mean = levels.weight as f64 / levels.entries.max(1) as f64;
        let hits = self.0.numbers.hits.get() + self.0.numbers.stale.get();
        self.0.numbers.snapshot(levels, self.0.observer.saved_bytes(hits, mean))
    }

    /// The keys that are read most, most first, at most 128: from one read in 256, so it takes some thousand reads before
    /// they show. Empty when [`sampling`](CacheConfig::sampling) is 0.
    #[must_use]
    pub fn hot_keys(&self, most: usize) -> Vec<HotKey<K>> {
        self.0.observer.hot_keys(most)
    }

    /// What the hit ratio would be at a half of the present capacity, at the present one, at twice and at four times it:
    /// empty before there is evidence, and when [`sampling`](CacheConfig::sampling) is 0.
    ///
    /// With 512 sampled keys at the present size the error is about three points. Caches of less than 512 entries divided
    /// by `sampling` have fewer.
    #[must_use]
    pub fn miss_ratio_curve(&self) -> Vec<CurvePoint> {
        self.0.observer.points(self.0.numbers.reads())
    }

    /// Its name: that of the space and its own.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &CacheConfig {
        &self.0.config
    }

    /// Loads under way.
    #[must_use]
    pub fn loading(&self) -> usize {
        self.0.flights.len()
    }
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline(never)]
    fn lookup(&self, found: Option<Held<K, V>>, now: Tick) -> Lookup<K, V> {
        use crate::load::Probe;
        match self.judge(found, now) {
            Probe::Ready(held, Freshness::Fresh) | Probe::Refresh(held, Freshness::Fresh) => {
                with_lane(|lane| self.serve(lane, held)).map_or(Lookup::Nothing, Lookup::Found)
            }
            Probe::Ready(held, freshness) => {
                self.count(&held, &freshness);
                Hit::new(held, freshness).map_or(Lookup::Nothing, Lookup::Found)
            }
            Probe::Refresh(..) | Probe::Load(_) => {
                self.numbers.misses.increment();
                Lookup::Unknown
            }
        }
    }

    /// The fence of the last clear.
    pub(crate) fn cleared_at(&self) -> u64 {
        self.cleared_at.load(Ordering::Acquire)
    }

    /// Tells other nodes that what they know of a key is over.
    pub(crate) fn publish_key<Q: CacheKey + ?Sized>(&self, key: &Q) -> Invalidating {
        let fence = self.identity.as_ref().map(|identity| identity.key(key));
        fence.map_or_else(Invalidating::local, |fence| self.space.publish(&[fence]))
    }

    /// The fences of an entry beside its tags: its own key's and its namespace's, as other nodes name them.
    pub(crate) fn identify(&self, key: &K, tags: &mut crate::tag::Tags) {
        if let Some(identity) = &self.identity {
            tags.push(crate::Tag(identity.namespace));
            tags.push(crate::Tag(identity.key(key)));
        }
    }

    pub(crate) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut shard = self.flights.shard(hash);
        Flights::supersede(&mut shard, key);
        self.failures.forget(key);
        let removed = self.engine.remove(hash, key);
        // The value's own drop must not run under our lock.
        drop(shard);
        drop(removed);
        self.numbers.invalidated.increment();
    }

    /// Puts an entry in. The caller holds the shard of its key and has checked the fences.
    pub(crate) fn store(&self, entry: &Arc<Entry<K, V>>, now: Tick) -> Discarded<K, V> {
        let oversized = entry.weight > self.max_weight();
        if oversized {
            self.numbers.oversized.increment();
        }
        if oversized || entry.dead_at() <= now {
            self.engine.remove(entry.hash, &entry.key)
        } else {
            self.engine.insert(Arc::clone(entry))
        }
    }

    fn max_weight(&self) -> u64 {
        let configured = match self.config.capacity {
            crate::Capacity::Bytes(bytes) => self.config.max_entry_bytes.unwrap_or((bytes / 8).max(1)),
            crate::Capacity::Entries(_) => 1,
        };
        configured.min(self.engine.max_weight())
    }

    /// How an entry ranks for which this priority is asked.
    pub(crate) fn rank(&self, asked: Priority) -> Priority {
        if self.config.priorities { asked } else { Priority::Normal }
    }

    /// The weight of a value, in the unit of the capacity; at least 1.
    pub(crate) fn weigh(&self, key: &K, value: Option<&V>) -> u64 {
        match self.config.capacity {
            crate::Capacity::Entries(_) => 1,
            crate::Capacity::Bytes(_) => self.parts.weigh(key, value).max(1),
        }
    }

    /// The lives of a value: the configured ones or the wish of a loader, with jitter, within the greatest age.
    pub(crate) fn lives(&self, wish: Option<Duration>, nothing: bool, load_nanos: u64) -> Lives {
        let config = &self.config;
        let life = wish.unwrap_or(if nothing { config.negative } else { config.fresh });
        if nothing || life.is_zero() {
            let fresh = life.min(config.max_age);
            return Lives { fresh, refresh: fresh, stale: Duration::ZERO, error: Duration::ZERO };
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = scaled(life, 1.0 + config.jitter * rng.unit()).min(config.max_age);
        let refresh = match config.refresh {
            Refresh::Off => config.sliding.map_or(fresh, |idle| idle / SLIDE_STEP),
            Refresh::Fraction(share) => scaled(fresh, share),
            Refresh::After(after) => after,
            Refresh::XFetch(beta) => {
                let early = rng.exponential(load_nanos as f64 * beta);
                fresh.saturating_sub(Duration::from_nanos(early as u64))
            }
        };
        Lives { fresh, refresh, stale: config.stale_while_revalidate, error: config.stale_if_error }
    }

    /// What a hold-off of the key with this hash is called, apart from tags.
    pub(crate) fn hold_of(&self, hash: u64) -> u64 {
        hash ^ self.id.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Whether this failure is one of those that `cache_errors` names.
    pub(crate) fn is_worth_remembering(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::Load(erased) if self.parts.is_worth_remembering(&*erased.error))
    }

    /// Whether this failure may be answered with a stale value.
    pub(crate) fn tolerates(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Load(erased) => self.parts.tolerates(&*erased.error),
            Failure::Recursive | Failure::Missing => false,
            _ => true,
        }
    }
}

/// `life × factor`, as long as that fits.
fn scaled(life: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(life.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Key, V: Send + Sync + 'static> Component for Cache<K, V> {
    fn id(&self) -> ComponentId {
        ComponentId::new("cache", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        self.0.numbers.collect(&self.stats(), self.0.config.capacity.amount(), sink);
        crate::stats::collect_observed(&self.miss_ratio_curve(), self.0.observer.concentration(), sink);
    }
}
