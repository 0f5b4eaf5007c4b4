//! Predictive prefetch: what usually comes next in a session is loaded before it is asked for.

use super::budget::Budget;
use super::succession::Succession;
use crate::cache::Cache;
use crate::clock::tick;
use crate::error::{Erased, LoadError};
use crate::hit::Hit;
use crate::load::{LoadContext, LoadFuture, Loaded};
use crate::{Key, load};
use perf_core::{Component, ComponentId, Counter, Desc, InvalidConfig, Sink, Unit};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// What prefetching may cost, and how sure it must be.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct PrefetchConfig {
    /// Bytes that what is learned may take. Default [`PrefetchConfig::MEMORY`].
    pub memory: usize,
    /// A key is prefetched when it came next in at least this share of the cases, in (0, 1]. Default
    /// [`PrefetchConfig::CONFIDENCE`].
    pub confidence: f64,
    /// And at least this often. Default [`PrefetchConfig::SUPPORT`].
    pub support: u32,
    /// Prefetches that may run at once. Default [`PrefetchConfig::MAX_LOADS`].
    pub max_loads: u32,
    /// Prefetches that may start in a second. Default [`PrefetchConfig::MAX_PER_SECOND`].
    pub max_per_second: u32,
    /// While less than this share of what is prefetched is read, the confidence that is asked for rises. In [0, 1].
    /// Default [`PrefetchConfig::MIN_PRECISION`].
    pub min_precision: f64,
}

impl PrefetchConfig {
    /// 1 MiB: what follows some ten thousand keys.
    pub const MEMORY: usize = 1 << 20;
    /// Three in ten: a prefetch that is right that often saves more waiting than it costs.
    pub const CONFIDENCE: f64 = 0.3;
    /// Three times: twice may be chance.
    pub const SUPPORT: u32 = 3;
    /// Four: the source must not notice.
    pub const MAX_LOADS: u32 = 4;
    /// A hundred in a second: beyond it prefetching is a load of its own.
    pub const MAX_PER_SECOND: u32 = 100;
    /// One in five.
    pub const MIN_PRECISION: f64 = 0.2;
    /// Below this nothing can be learned.
    pub const LEAST_MEMORY: usize = 4096;

    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.memory < Self::LEAST_MEMORY {
            return Err(InvalidConfig::new("memory", self.memory, "4096 bytes or more"));
        }
        if !(self.confidence > 0.0 && self.confidence <= 1.0) {
            return Err(InvalidConfig::new("confidence", self.confidence, "above 0, to 1"));
        }
        if !(0.0..=1.0).contains(&self.min_precision) {
            return Err(InvalidConfig::new("min_precision", self.min_precision, "0 to 1"));
        }
        for (field, value) in [
            ("support", self.support),
            ("max_loads", self.max_loads),
            ("max_per_second", self.max_per_second),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(field, 0, "1 or more"));
            }
        }
        Ok(())
    }
}

impl Default for PrefetchConfig {
    fn default() -> Self {
        Self {
            memory: Self::MEMORY,
            confidence: Self::CONFIDENCE,
            support: Self::SUPPORT,
            max_loads: Self::MAX_LOADS,
            max_per_second: Self::MAX_PER_SECOND,
            min_precision: Self::MIN_PRECISION,
        }
    }
}

/// Reads through a cache and loads ahead what usually comes next: [`Cache::prefetcher`]. Cheap to clone; clones learn
/// together.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_cache::{Cache, CacheSpace};
/// use std::convert::Infallible;
///
/// let pages: Cache<u64, String> = CacheSpace::in_process("shop").cache("pages").build()?;
/// let pages = pages.prefetcher(|page| async move { Ok::<_, Infallible>(format!("page {page}")) })?;
/// for user in 0..5 {
///     pages.get(user, &1).await?;
///     pages.get(user, &2).await?;
///     pages.cache().clear().await;
/// }
/// // Whoever reads page 1 now finds page 2 loaded.
/// pages.get(9, &1).await?;
/// # tokio::time::sleep(std::time::Duration::from_millis(20)).await;
/// assert!(pages.cache().contains(&2));
/// # Ok(()) }
/// ```
pub struct Prefetcher<K, V, F>(Arc<Inner<K, V, F>>);

struct Inner<K, V, F> {
    cache: Cache<K, V>,
    loader: F,
    sessions: foldhash::quality::RandomState,
    state: Mutex<State<K>>,
    places: Arc<Semaphore>,
    support: u32,
    refused: Counter,
}

struct State<K> {
    learned: Succession<K>,
    budget: Budget,
}

/// What prefetching has done. All totals are monotone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PrefetchStats {
    /// Prefetches that were started.
    pub issued: u64,
    /// Prefetches whose key was then read.
    pub useful: u64,
    /// Prefetches whose key was not read during the life of its value.
    pub wasted: u64,
    /// Predictions that were not followed because the budget or the places for loads were used up.
    pub refused: u64,
    /// Bytes that what was learned takes.
    pub bytes: u64,
    /// The confidence that is asked for at present.
    pub threshold: f64,
}

impl PrefetchStats {
    /// Share of the prefetches with a known outcome that were of use, in [0, 1]; `None` before there is one.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        let known = self.useful + self.wasted;
        (known > 0).then(|| self.useful as f64 / known as f64)
    }
}

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// Reads through this cache with one loader, and prefetches with it what usually comes next in a session.
    ///
    /// It learns which key follows which from [`Prefetcher::get`], within the memory and load budgets of
    /// [`CacheConfig::prefetch`](crate::CacheConfig::prefetch). Its loads take places that nobody waits for, as refreshes
    /// do.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the configuration cannot be used.
    pub fn prefetcher<F, Fut, E>(&self, loader: F) -> Result<Prefetcher<K, V, F>, InvalidConfig>
    where
        F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let config = &self.config().prefetch;
        config.validate().map_err(|invalid| invalid.within("prefetch"))?;
        let seed = perf_core::Rng::from_entropy().next_u64();
        Ok(Prefetcher(Arc::new(Inner {
            cache: self.clone(),
            loader,
            sessions: foldhash::quality::RandomState::default(),
            state: Mutex::new(State {
                learned: Succession::new(config.memory, seed),
                budget: Budget::new(config, self.config().fresh, tick()),
            }),
            places: Arc::new(Semaphore::new(config.max_loads as usize)),
            support: config.support,
            refused: Counter::new(),
        })))
    }
}

impl<K: Key, V: Send + Sync + 'static, F> Prefetcher<K, V, F> {
    /// The value of `key`, read by `session`: a user, a connection, whoever reads one thing after another.
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn get<Fut, E>(&self, session: impl Hash, key: &K) -> Result<Hit<K, V>, LoadError<E>>
    where
        F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        self.observe(session, key);
        let (loader, own) = (self.0.loader.clone(), key.clone());
        self.0.cache.get_or_load(key, move || loader(own)).await
    }

    /// Learns from a read that was answered otherwise, and prefetches as for [`Prefetcher::get`].
    pub fn observe<Fut, E>(&self, session: impl Hash, key: &K)
    where
        F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let inner = &*self.0;
        let (hash, now) = (inner.cache.0.hash(key), tick());
        // What the key holds on the heap is about what it writes beyond its own size.
        let extra = key.key_bytes().len().saturating_sub(size_of::<K>());
        let likely = {
            let mut state = inner.lock();
            state.budget.read(hash, now);
            state.learned.read(inner.sessions.hash_one(session), hash, key, extra);
            let threshold = state.budget.threshold();
            state.learned.predict(hash, inner.support, threshold)
        };
        for next in likely {
            if !inner.cache.contains(&next.key) {
                self.prefetch(next.hash, next.key);
            }
        }
    }

    fn prefetch<Fut, E>(&self, hash: u64, key: K)
    where
        F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let inner = &*self.0;
        let Ok(place) = Arc::clone(&inner.places).try_acquire_owned() else {
            return inner.refused.increment();
        };
        if !inner.lock().budget.take(hash, tick()) {
            return inner.refused.increment();
        }
        let loader = inner.loader.clone();
        let start: load::Start<K, V> = Box::new(move |context: LoadContext<K, V>| -> LoadFuture<V> {
            Box::pin(async move {
                let _place = place;
                loader(context.key).await.map(Loaded::new).map_err(Erased::new)
            })
        });
        if inner.cache.0.load_unasked(hash, key, start) {
            inner.lock().budget.issue(hash, tick());
        } else {
            inner.refused.increment();
        }
    }

    /// What prefetching has done so far.
    #[must_use]
    pub fn stats(&self) -> PrefetchStats {
        let mut state = self.0.lock();
        state.budget.sweep(tick());
        PrefetchStats {
            issued: state.budget.issued,
            useful: state.budget.useful,
            wasted: state.budget.wasted,
            refused: self.0.refused.get(),
            bytes: state.learned.bytes() as u64,
            threshold: state.budget.threshold(),
        }
    }

    /// The cache it reads through.
    #[must_use]
    pub fn cache(&self) -> &Cache<K, V> {
        &self.0.cache
    }
}

impl<K, V, F> Inner<K, V, F> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V, F> Clone for Prefetcher<K, V, F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V, F> fmt::Debug for Prefetcher<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetcher").field("cache", &self.0.cache).finish_non_exhaustive()
    }
}

const PREFETCHES: Desc = Desc::counter(
    "perf_cache_prefetches_total",
    "Keys loaded before they were asked for, by what became of them",
    Unit::Count,
);
const PRECISION: Desc = Desc::gauge(
    "perf_cache_prefetch_precision_ratio",
    "Share of the prefetches that were of use",
    Unit::Ratio,
);
const THRESHOLD: Desc = Desc::gauge(
    "perf_cache_prefetch_threshold_ratio",
    "Confidence that a prefetch needs at present",
    Unit::Ratio,
);
const BYTES: Desc =
    Desc::gauge("perf_cache_prefetch_bytes", "Memory that what was learned takes", Unit::Bytes);

impl<K: Key, V: Send + Sync + 'static, F: Send + Sync> Component for Prefetcher<K, V, F> {
    fn id(&self) -> ComponentId {
        ComponentId::new("cache_prefetch", self.0.cache.name().clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (result, total) in [
            ("issued", stats.issued),
            ("useful", stats.useful),
            ("wasted", stats.wasted),
            ("refused", stats.refused),
        ] {
            sink.counter(&PREFETCHES, &[("result", result)], total);
        }
        sink.gauge(&PRECISION, &[], stats.precision().unwrap_or(0.0));
        sink.gauge(&THRESHOLD, &[], stats.threshold);
        sink.gauge(&BYTES, &[], stats.bytes as f64);
    }
}
