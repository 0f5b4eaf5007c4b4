//! How a cache is put together: what configuration says, and what only code can.

use crate::cache::Cache;
use crate::config::{CacheConfig, CancelPolicy, Capacity, Preset, Refresh, WhenFull};
use crate::engine::{Cause, Listener};
use crate::observe::Shadow;
use crate::remote::codec::Codec;
use crate::remote::compress::Compression;
use crate::remote::shared::{Identity, Shared};
use crate::space::CacheSpace;
use crate::{EngineKind, Key};
use perf_core::{InvalidConfig, Name};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;
type Tolerance = Box<dyn Fn(&(dyn Any + Send + Sync)) -> bool + Send + Sync>;

/// What only code can give a cache.
pub(crate) struct Parts<K, V> {
    weigher: Option<Weigher<K, V>>,
    tolerance: Option<Tolerance>,
    remembers: Option<Tolerance>,
    pub(crate) shadow: Option<Shadow<V>>,
    pub(crate) seed: Option<u64>,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) text: Option<fn(&K) -> String>,
    codec: Option<Box<dyn Codec<V>>>,
    schema: u32,
    max_stored_bytes: usize,
}

/// What an entry costs beside its key and value: the entry itself, its place in the table and in the policy.
const OVERHEAD: u64 = 128;

impl<K, V> Parts<K, V> {
    pub(crate) fn weigh(&self, key: &K, value: Option<&V>) -> u64 {
        let own = match (&self.weigher, value) {
            (Some(weigher), Some(value)) => weigher(key, value),
            _ => (size_of::<K>() + size_of::<V>()) as u64,
        };
        own.saturating_add(OVERHEAD)
    }

    /// How values go to the second tier, if they do.
    pub(crate) fn shared(&mut self, identity: &Identity, compression: Compression) -> Option<Shared<V>>
    where
        V: Send + Sync + 'static,
    {
        let codec = self.codec.take()?;
        Some(Shared::new(identity, codec, self.schema, compression, self.max_stored_bytes))
    }

    pub(crate) fn tolerates(&self, error: &(dyn Any + Send + Sync)) -> bool {
        self.tolerance.as_ref().is_none_or(|tolerates| tolerates(error))
    }

    pub(crate) fn is_worth_remembering(&self, error: &(dyn Any + Send + Sync)) -> bool {
        self.remembers.as_ref().is_none_or(|remembers| remembers(error))
    }
}

/// Builds a [`Cache`]. Setters never fail; [`CacheBuilder::build`] says what is wrong.
#[must_use = "a builder does nothing until `build`"]
pub struct CacheBuilder<K, V> {
    space: CacheSpace,
    name: String,
    config: CacheConfig,
    parts: Parts<K, V>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Send + Sync + 'static> CacheBuilder<K, V> {
    /// Eight mebibytes: beyond it a value holds up everything else on the connection.
    pub const MAX_STORED_BYTES: usize = 8 << 20;

    pub(crate) fn new(space: CacheSpace, name: String) -> Self {
        let parts = Parts {
            weigher: None,
            tolerance: None,
            remembers: None,
            shadow: None,
            seed: None,
            listener: None,
            text: None,
            codec: None,
            schema: 0,
            max_stored_bytes: Self::MAX_STORED_BYTES,
        };
        Self { space, name, config: CacheConfig::default(), parts, types: PhantomData }
    }

    /// Replaces all settings that configuration can say.
    pub fn config(mut self, config: CacheConfig) -> Self {
        self.config = config;
        self
    }

    /// Replaces all settings that configuration can say with those of a preset.
    pub fn preset(self, preset: Preset) -> Self {
        self.config(preset.into())
    }

    /// What the first tier may hold: [`Bytes`](crate::Bytes) or [`Entries`](crate::Entries).
    pub fn capacity(mut self, capacity: impl Into<Capacity>) -> Self {
        self.config.capacity = capacity.into();
        self
    }

    /// Life of a value; zero stores nothing, [`Duration::MAX`] never ends before `max_age`.
    pub const fn fresh(mut self, life: Duration) -> Self {
        self.config.fresh = life;
        self
    }

    /// When a hit starts a refresh ahead of the end of the life.
    pub const fn refresh(mut self, refresh: Refresh) -> Self {
        self.config.refresh = refresh;
        self
    }

    /// How long past its life a value is served while a refresh runs.
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.config.stale_while_revalidate = window;
        self
    }

    /// How long past its life a value is served when the load fails with an error for which `tolerates` holds.
    /// Errors of other types than `E` are not tolerated; panics and timeouts are.
    pub fn stale_if_error<E: 'static>(
        mut self,
        window: Duration,
        tolerates: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.stale_if_error = window;
        self.parts.tolerance = Some(Box::new(move |error| error.downcast_ref().is_some_and(&tolerates)));
        self
    }

    /// Remembers errors of loaders for which `remembers` holds: for this life callers get the same error without a load.
    /// Errors of other types than `E`, panics and timeouts are not remembered. A value put in, an invalidation of the key
    /// or of a tag of the call, and [`Cache::clear`] end it.
    pub fn cache_errors<E: 'static>(
        mut self,
        life: Duration,
        remembers: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.errors = life;
        self.parts.remembers = Some(Box::new(move |error| error.downcast_ref().is_some_and(&remembers)));
        self
    }

    /// After a failed load, how long a stale value is served before the next attempt.
    pub const fn throttle(mut self, wait: Duration) -> Self {
        self.config.throttle = wait;
        self
    }

    /// Life of the knowledge that there is nothing.
    pub const fn negative(mut self, life: Duration) -> Self {
        self.config.negative = life;
        self
    }

    /// Share of the capacity that the knowledge of what does not exist may take, beside the values.
    pub const fn negative_share(mut self, share: f64) -> Self {
        self.config.negative_share = share;
        self
    }

    /// A read extends the life to this much from then, within [`max_age`](Self::max_age).
    pub const fn sliding(mut self, idle: Duration) -> Self {
        self.config.sliding = Some(idle);
        self
    }

    /// No life is longer than this, whatever extends it.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = age;
        self
    }

    /// How long a caller waits when there is a stale value to serve instead, and how long at all.
    pub const fn timeouts(mut self, soft: Duration, hard: Duration) -> Self {
        self.config.soft_timeout = Some(soft);
        self.config.hard_timeout = hard;
        self
    }

    /// Random share by which lives are lengthened, in [0, 1].
    pub const fn jitter(mut self, share: f64) -> Self {
        self.config.jitter = share;
        self
    }

    /// Loads that may run at once.
    pub const fn max_loads(mut self, loads: u32) -> Self {
        self.config.max_loads = loads;
        self
    }

    /// What happens to a load when as many as may run at once are running.
    pub const fn when_full(mut self, policy: WhenFull) -> Self {
        self.config.when_full = policy;
        self
    }

    /// What happens to a load when nobody waits for it any more.
    pub const fn on_cancel(mut self, policy: CancelPolicy) -> Self {
        self.config.cancel = policy;
        self
    }

    /// A heavier value is returned but not kept.
    pub const fn max_entry_bytes(mut self, bytes: u64) -> Self {
        self.config.max_entry_bytes = Some(bytes);
        self
    }

    /// Which engine keeps the entries.
    pub const fn engine(mut self, engine: EngineKind) -> Self {
        self.config.engine = engine;
        self
    }

    /// Whether entries may be pinned high or low; the engine `moka` asks for false.
    pub const fn priorities(mut self, may_be_pinned: bool) -> Self {
        self.config.priorities = may_be_pinned;
        self
    }

    /// Lets other nodes purge this cache with [`Cache::purge_pattern`]: its keys are matched as they are displayed. Without
    /// it such a purge ends everything that this node holds of the cache.
    pub fn purgeable(mut self) -> Self
    where
        K: fmt::Display,
    {
        self.parts.text = Some(ToString::to_string);
        self
    }

    /// The bytes that a key and its value take. Without it they are taken at the size of their types, which misses what
    /// they hold on the heap.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.parts.weigher = Some(Box::new(weigher));
        self
    }

    /// Told of every entry that memory lets go, and why: to close what a value stands for, or to keep it elsewhere.
    ///
    /// It is called on the thread that made the room or the change, after it, without a lock of the cache, and may use the
    /// cache. `None` is the knowledge that there was nothing. A panic in it is that thread's. Without a listener, values are
    /// dropped some writes later, once nobody reads them.
    ///
    /// ```
    /// # use perf_cache::{Cache, CacheSpace, Cause};
    /// # use std::sync::{Arc, Mutex};
    /// let gone = Arc::new(Mutex::new(Vec::new()));
    /// let log = Arc::clone(&gone);
    /// let users: Cache<u64, String> = CacheSpace::in_process("shop")
    ///     .cache("users")
    ///     .on_removal(move |key, _, cause| log.lock().unwrap().push((*key, cause)))
    ///     .build()
    ///     .unwrap();
    /// users.insert(7, String::from("Ada"));
    /// users.insert(7, String::from("Grace"));
    /// users.clear();
    /// assert_eq!(*gone.lock().unwrap(), [(7, Cause::Replaced), (7, Cause::Invalidated)]);
    /// ```
    pub fn on_removal(mut self, listener: impl Fn(&K, Option<&V>, Cause) + Send + Sync + 'static) -> Self {
        self.parts.listener = Some(Arc::new(listener));
        self
    }

    /// How values become bytes, which puts them into the space's second tier, if it has one.
    pub fn codec(mut self, codec: impl Codec<V>) -> Self {
        self.parts.codec = Some(Box::new(codec));
        self
    }

    /// Whether values are compressed on their way to the second tier.
    pub const fn compress(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// Of all nodes that miss a key at the same time, one loads it, and the others wait for what it stores in the second
    /// tier. If the one that loads dies, another takes over after `life`, which should be longer than nearly all loads. The
    /// same holds for refreshes. Without a second tier, and while it cannot be reached, every node loads for itself.
    pub const fn lease(mut self, life: Duration) -> Self {
        self.config.lease = Some(life);
        self
    }

    /// The version of the value's type in the second tier. Raise it when the type changes: values of other versions are
    /// neither read nor overwritten.
    pub const fn schema(mut self, version: u32) -> Self {
        self.parts.schema = version;
        self
    }

    /// Larger values are not written to the second tier, nor read from it. Default [`Self::MAX_STORED_BYTES`].
    pub const fn max_stored_bytes(mut self, bytes: usize) -> Self {
        self.parts.max_stored_bytes = bytes;
        self
    }

    /// Verifies this share of the hits of loading calls, in [0, 1]: the value is loaded again in the background, and whether
    /// it is `same` as the one that was served is counted (`perf_cache_shadow_total`). A value that differs was changed
    /// without an invalidation. The loads take places that nobody waits for, and are skipped when those are scarce.
    pub fn shadow(mut self, share: f64, same: impl Fn(&V, &V) -> bool + Send + Sync + 'static) -> Self {
        self.parts.shadow = Some(Shadow::new(share, same));
        self
    }

    /// Share of the keys that are observed for [`Cache::miss_ratio_curve`] at most, in [0, 1]; 0 observes nothing, neither
    /// for [`Cache::hot_keys`].
    pub const fn sampling(mut self, share: f64) -> Self {
        self.config.sampling = share;
        self
    }

    /// What prefetching may cost: [`Cache::prefetcher`].
    pub fn prefetch(mut self, config: crate::PrefetchConfig) -> Self {
        self.config.prefetch = config;
        self
    }

    /// Offers loaders a value that a tag has invalidated as the base of `not modified`.
    pub const fn allow_invalidated_base(mut self, allowed: bool) -> Self {
        self.config.allow_invalidated_base = allowed;
        self
    }

    /// Makes jitter and early refreshes repeatable.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.parts.seed = Some(seed);
        self
    }

    /// The cache.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range, or when the space already has a cache of this name.
    pub fn build(self) -> Result<Cache<K, V>, InvalidConfig> {
        self.config.validate().map_err(|invalid| invalid.within(&self.name))?;
        let shadowed = self.parts.shadow.as_ref().map_or(0.0, Shadow::share);
        if !(0.0..=1.0).contains(&shadowed) {
            return Err(InvalidConfig::new("shadow", shadowed, "0 to 1").within(&self.name));
        }
        self.space.claim(&self.name)?;
        let name = Name::from(format!("{}.{}", self.space.name(), self.name));
        Ok(Cache::new(name, &self.name, self.config, self.space.inner(), self.parts))
    }
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder").field("name", &self.name).field("config", &self.config).finish()
    }
}
