//! A space: the caches of one application, and the tags they share.

use crate::builder::CacheBuilder;
use crate::clock::tick;
use crate::collector::Collector;
use crate::fence::Fences;
use crate::hold::Holds;
use crate::remote::Remote;
use crate::remote::guard::{StoreGuard, Trip};
use crate::remote::order::Order;
use crate::remote::port::{InvalidationLog, Store};
use crate::stats::SpaceStats;
use crate::{Invalidating, Key, Tag};
use perf_core::{
    Component, ComponentId, Deadline, Health, Histogram, InvalidConfig, Name, Sink, duration, time,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The caches of one application. Tags are shared by all caches of a space. Cheap to clone; clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_cache::{Cache, CacheSpace, Loaded, tag};
///
/// let space = CacheSpace::builder("shop").build().await?;
/// let users: Cache<u64, String> = space.cache("users").build()?;
/// users.insert_with(7, Loaded::new(String::from("Ada")).tag(tag!("org", 3)));
///
/// space.invalidate_tags([tag!("org", 3)]).await;
/// assert!(users.get(&7).is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CacheSpace(Arc<SpaceInner>);

/// What the caches of a space share.
pub(crate) struct SpaceInner {
    pub(crate) name: Name,
    pub(crate) fences: Fences,
    /// Since when the log has not been followed; the greatest number while it is.
    pub(crate) degraded_since: AtomicU64,
    pub(crate) degraded_ttl: Duration,
    pub(crate) remote: Option<Arc<Remote>>,
    pub(crate) holds: Holds,
    /// Places for loads of all its caches, if there is a limit.
    pub(crate) loads: Option<Arc<Semaphore>>,
    names: Mutex<BTreeSet<String>>,
    /// Its caches, by their namespaces: other nodes may order them to purge themselves.
    purgers: Mutex<Vec<(u64, Weak<dyn Purge>)>>,
}

/// A cache that purges itself when another node says so.
pub(crate) trait Purge: Send + Sync {
    /// Whether it can match its keys with a pattern.
    fn is_purgeable(&self) -> bool;

    fn purge_by(&self, pattern: &str);
}

impl SpaceInner {
    /// Lets other nodes purge a cache by pattern.
    pub(crate) fn let_purge(&self, namespace: u64, cache: Weak<dyn Purge>) {
        self.purgers().push((namespace, cache));
    }

    /// Whether an order can be followed to the letter; also where there is no such cache, and so nothing to purge.
    pub(crate) fn can_purge(&self, order: &Order) -> bool {
        self.purger(order).is_none_or(|cache| cache.is_purgeable())
    }

    /// Does what another node has ordered, here.
    pub(crate) fn purge(&self, order: &Order) {
        if let Some(cache) = self.purger(order) {
            cache.purge_by(&order.pattern);
        }
    }

    fn purger(&self, order: &Order) -> Option<Arc<dyn Purge>> {
        let purgers = self.purgers();
        purgers.iter().filter(|(of, _)| *of == order.namespace).find_map(|(_, cache)| cache.upgrade())
    }

    /// Sends an order to other nodes, if there are any.
    pub(crate) fn order(&self, order: &Order) -> Invalidating {
        let Some(remote) = &self.remote else { return Invalidating::local() };
        match order.encode() {
            Some(numbers) => Invalidating::remote(remote, remote.order(numbers)),
            // Too long to be told: all of the cache, everywhere.
            None => self.publish(&[order.namespace]),
        }
    }

    fn purgers(&self) -> MutexGuard<'_, Vec<(u64, Weak<dyn Purge>)>> {
        self.purgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log is followed to its end, or it cannot be read.
    pub(crate) fn log_is_followed(&self, followed: bool) {
        if followed {
            self.degraded_since.store(u64::MAX, Ordering::Release);
        } else {
            self.degraded_since.fetch_min(tick().0, Ordering::AcqRel);
        }
        self.fences.close(!followed);
    }

    /// Invalidations may have been missed: nothing loaded so far is served any more.
    pub(crate) fn forget_everything(&self) {
        self.fences.everything();
    }

    pub(crate) fn is_coherent(&self) -> bool {
        self.degraded_since.load(Ordering::Acquire) == u64::MAX
    }

    /// Sends fences to other nodes, if there are any.
    pub(crate) fn publish(&self, fences: &[u64]) -> Invalidating {
        let Some(remote) = self.remote.as_ref().filter(|_| !fences.is_empty()) else {
            return Invalidating::local();
        };
        Invalidating::remote(remote, remote.publish(fences))
    }
}

impl Drop for SpaceInner {
    fn drop(&mut self) {
        if let Some(remote) = &self.remote {
            remote.stop();
        }
    }
}

impl CacheSpace {
    /// A builder for the space of this name.
    pub fn builder(name: impl Into<Name>) -> CacheSpaceBuilder {
        CacheSpaceBuilder {
            name: name.into(),
            max_fences: Fences::LIMIT,
            degraded_ttl: CacheSpaceBuilder::DEGRADED_TTL,
            timeout: CacheSpaceBuilder::STORE_TIMEOUT,
            max_loads: None,
            guard: None,
            shared: None,
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// A space within this process, with the defaults.
    pub fn in_process(name: impl Into<Name>) -> Self {
        Self(Arc::new(SpaceInner {
            name: name.into(),
            fences: Fences::new(Fences::LIMIT),
            degraded_since: AtomicU64::new(u64::MAX),
            degraded_ttl: CacheSpaceBuilder::DEGRADED_TTL,
            remote: None,
            holds: Holds::default(),
            loads: None,
            names: Mutex::default(),
            purgers: Mutex::default(),
        }))
    }

    /// A builder for the cache of this name within the space.
    pub fn cache<K: Key, V: Send + Sync + 'static>(&self, name: impl Into<String>) -> CacheBuilder<K, V> {
        CacheBuilder::new(self.clone(), name.into())
    }

    /// Invalidates every entry, in every cache of the space, whose latest write has one of these tags; loads under way
    /// whose results turn out to have one are not stored. All of them at one moment.
    ///
    /// The cost does not depend on how many entries have the tags. The local effect is there when this returns.
    pub fn invalidate_tags(&self, tags: impl IntoIterator<Item = Tag>) -> Invalidating {
        let fences: Vec<u64> = tags.into_iter().map(Tag::hash).collect();
        // What the second tier holds must be refused before memory can ask it again.
        let published = self.0.publish(&fences);
        self.0.fences.tags(fences);
        published
    }

    /// Whether the log is followed, so that invalidations by other nodes arrive. Always true within one process.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        self.0.is_coherent()
    }

    /// Waits until the log is followed, `limit` at most. Nothing requires it: until then reads are answered from memory
    /// and loaders, for [`degraded_ttl`](CacheSpaceBuilder::degraded_ttl) at most.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn coherent(&self, limit: Duration) -> bool {
        let deadline = Deadline::within(limit);
        while !self.is_coherent() && !deadline.has_passed(time::now()) {
            time::sleep(Duration::from_millis(5)).await;
        }
        self.is_coherent()
    }

    /// What the second tier and the log have done so far; zeros within one process.
    #[must_use]
    pub fn stats(&self) -> SpaceStats {
        self.0.remote.as_ref().map_or_else(SpaceStats::default, |remote| SpaceStats::of(remote))
    }

    /// Collects invalidations to be published together, after a transaction commits.
    pub fn collector(&self) -> Collector {
        Collector::new(self.clone())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Tags whose invalidation is remembered one by one.
    #[must_use]
    pub fn fences(&self) -> usize {
        self.0.fences.len()
    }

    pub(crate) fn inner(&self) -> Arc<SpaceInner> {
        Arc::clone(&self.0)
    }

    /// Takes a cache name for good.
    pub(crate) fn claim(&self, name: &str) -> Result<(), InvalidConfig> {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(InvalidConfig::new("name", name, "a name that no other cache of the space has"))
        }
    }
}

impl Component for CacheSpace {
    fn id(&self) -> ComponentId {
        ComponentId::new("cache_space", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let none = Histogram::new();
        let lag = self.0.remote.as_ref().map_or(&none, |remote| &remote.numbers.lag);
        self.stats().collect(self.is_coherent(), lag, sink);
    }

    fn health(&self) -> Health {
        if self.is_coherent() {
            Health::up()
        } else {
            Health::degraded("the invalidation log cannot be read: values live for `degraded_ttl` at most")
        }
    }
}

impl fmt::Debug for CacheSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheSpace").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Builds a [`CacheSpace`].
#[must_use = "a builder does nothing until `build`"]
pub struct CacheSpaceBuilder {
    name: Name,
    max_fences: usize,
    degraded_ttl: Duration,
    timeout: Duration,
    max_loads: Option<u32>,
    guard: Option<Arc<dyn StoreGuard>>,
    shared: Option<(Arc<dyn Store>, Arc<dyn InvalidationLog>)>,
    #[cfg(feature = "redis")]
    redis: Option<crate::RedisConfig>,
}

impl CacheSpaceBuilder {
    /// Five seconds: what users put up with when an update made elsewhere is late.
    pub const DEGRADED_TTL: Duration = Duration::from_secs(5);
    /// A hundred milliseconds: a hundred times a healthy answer, and little beside most loads.
    pub const STORE_TIMEOUT: Duration = Duration::from_millis(100);
    /// A tier that may take longer is no cache; and multiples of the limit bound what happens in the background.
    pub const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(3600);

    /// Tags whose invalidation is remembered one by one, 65,536 by default. When there are more, the older half is
    /// forgotten, and whatever was loaded before those is loaded again.
    pub const fn max_fences(mut self, fences: usize) -> Self {
        self.max_fences = fences;
        self
    }

    /// Loads that may run at once in all caches of the space together, beside what each allows; no limit by default.
    pub const fn max_loads(mut self, loads: u32) -> Self {
        self.max_loads = Some(loads);
        self
    }

    /// While the log cannot be read, no value is served longer than this without being loaded again. Default
    /// [`Self::DEGRADED_TTL`].
    pub const fn degraded_ttl(mut self, life: Duration) -> Self {
        self.degraded_ttl = life;
        self
    }

    /// How long a call to the second tier may take, at most [`Self::MAX_STORE_TIMEOUT`]. Default [`Self::STORE_TIMEOUT`].
    pub const fn store_timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// What decides whether the second tier is asked, instead of [`Trip`](crate::Trip).
    pub fn guard(mut self, guard: Arc<dyn StoreGuard>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// A second tier and a log of one's own. Caches with a [`codec`](CacheBuilder::codec) use the tier; all use the log.
    pub fn shared(mut self, store: Arc<dyn Store>, log: Arc<dyn InvalidationLog>) -> Self {
        self.shared = Some((store, log));
        self
    }

    /// Redis as the second tier and the log.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, config: crate::RedisConfig) -> Self {
        self.redis = Some(config);
        self
    }

    /// The space. It does not wait for Redis and does not fail because Redis is down.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range.
    pub async fn build(self) -> Result<CacheSpace, InvalidConfig> {
        if self.max_fences < 2 {
            return Err(InvalidConfig::new("max_fences", self.max_fences, "2 or more"));
        }
        if self.max_loads == Some(0) {
            return Err(InvalidConfig::new("max_loads", 0, "1 or more"));
        }
        if self.timeout.is_zero() || self.timeout > Self::MAX_STORE_TIMEOUT {
            let value = duration::format(self.timeout);
            return Err(InvalidConfig::new("store_timeout", value, "1ns to 1h"));
        }
        self.assemble()
    }

    fn assemble(self) -> Result<CacheSpace, InvalidConfig> {
        let shared = self.ports()?;
        let remote = shared.map(|(store, log)| {
            let guard = self.guard.clone().unwrap_or_else(|| Arc::new(Trip::default()));
            Arc::new(Remote::new(Some(store), Some(log), guard, self.timeout))
        });
        let since = if remote.is_some() { tick().0 } else { u64::MAX };
        let inner = Arc::new(SpaceInner {
            name: self.name,
            fences: Fences::new(self.max_fences),
            degraded_since: AtomicU64::new(since),
            degraded_ttl: self.degraded_ttl,
            remote,
            holds: Holds::default(),
            loads: self.max_loads.map(|loads| Arc::new(Semaphore::new(loads as usize))),
            names: Mutex::default(),
            purgers: Mutex::default(),
        });
        if let Some(remote) = &inner.remote {
            inner.fences.close(true);
            remote.start(&inner);
        }
        Ok(CacheSpace(inner))
    }

    #[cfg(feature = "redis")]
    fn ports(&self) -> Result<Option<Ports>, InvalidConfig> {
        let Some(config) = &self.redis else { return Ok(self.shared.clone()) };
        let redis = Arc::new(crate::RedisStore::new(&self.name, config)?);
        let log = redis.log();
        Ok(Some((redis, log)))
    }

    #[cfg(not(feature = "redis"))]
    fn ports(&self) -> Result<Option<Ports>, InvalidConfig> {
        Ok(self.shared.clone())
    }
}

type Ports = (Arc<dyn Store>, Arc<dyn InvalidationLog>);

impl fmt::Debug for CacheSpaceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheSpaceBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
