use super::builder::BalancedBuilder;
use super::choose::{Chosen, Wish};
use super::discovery::Probe;
use super::state::{State, Turned};
use super::{Balance, BalanceConfig, BalancedLease, EjectorConfig, Endpoint, EndpointView, Role};
use crate::error::{Cause, Error};
use crate::manager::Manager;
use crate::pool::Pool;
use crate::redact::Redacted;
use perf_core::time::{self, Duration, Instant};
use perf_core::{InvalidConfig, Name, Rng};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Makes the pool of an endpoint.
pub(super) type MakePool<M> =
    Box<dyn Fn(&Endpoint) -> Result<Pool<M>, Box<dyn StdError + Send + Sync>> + Send + Sync>;

pub(super) struct Guarded<M: Manager> {
    pub(super) state: State,
    pub(super) pools: BTreeMap<u64, Pool<M>>,
}

pub(super) struct Inner<M: Manager> {
    pub(super) name: Name,
    pub(super) config: BalanceConfig,
    pub(super) balance: Box<dyn Balance>,
    make: MakePool<M>,
    pub(super) probe: Option<Arc<dyn Probe<M>>>,
    guarded: Mutex<Guarded<M>>,
    pub(super) discoveries_failed: AtomicU64,
    pub(super) probes_failed: AtomicU64,
    pub(super) role_changes: AtomicU64,
    /// The task that asks for the list and probes, stopped when the last handle goes.
    watcher: Mutex<Option<JoinHandle<()>>>,
}

/// One pool for each endpoint behind one `acquire`.
///
/// Latency is the time a lease is held; a lease marked [`failed`](BalancedLease::failed) counts as a long one, and speaks
/// against its endpoint. An endpoint that is taken out loses its idle connections and comes back through one probe. One
/// that leaves the list is drained, not cut.
pub struct BalancedPool<M: Manager>(pub(super) Arc<Inner<M>>);

impl<M: Manager> BalancedPool<M> {
    /// Starts to describe pools over several endpoints; `make` makes the pool of each.
    pub fn builder(
        name: impl Into<Name>,
        make: impl Fn(&Endpoint) -> Result<Pool<M>, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    ) -> BalancedBuilder<M> {
        BalancedBuilder::new(name.into(), Box::new(make))
    }

    /// Balances over pools that are there already, by [`P2c`](super::P2c). Endpoints are named by their index.
    #[must_use]
    pub fn new(name: impl Into<Name>, pools: Vec<Pool<M>>) -> Self {
        Self::with(name, pools, super::P2c::default(), EjectorConfig::default(), Rng::from_entropy())
    }

    /// The same with a balance, an ejector and randomness of one's own.
    #[must_use]
    pub fn with(
        name: impl Into<Name>,
        pools: Vec<Pool<M>>,
        balance: impl Balance,
        ejector: EjectorConfig,
        rng: Rng,
    ) -> Self {
        let config = BalanceConfig { ejector, ..BalanceConfig::default() };
        let endpoints: Vec<_> = (0..pools.len()).map(|index| Endpoint::new(index.to_string())).collect();
        let state = State::new(config.clone(), rng, time::now());
        let make = move |endpoint: &Endpoint| -> Result<Pool<M>, Box<dyn StdError + Send + Sync>> {
            let pool = endpoint.name().parse::<usize>().ok().and_then(|index| pools.get(index));
            pool.cloned().ok_or_else(|| InvalidConfig::new("endpoint", endpoint.name(), "an index").into())
        };
        let inner = Inner::new(name.into(), config, Box::new(balance), Box::new(make), None, state);
        // The pools are there: making them cannot fail.
        let _ = inner.update(endpoints, time::now());
        Self(Arc::new(inner))
    }

    /// A connection of the endpoint that is the best choice now, or of another one if that cannot serve.
    ///
    /// A caller goes on to another endpoint when the one it is at cannot be reached, is paused, closed, taken out or down,
    /// and another one is available; to [`tries`](BalanceConfig::tries) of them at most, and all within the
    /// `acquire_timeout` of the first. With no other available it waits where it is, for the server to come back. It never
    /// goes on because a pool is full: that would pass the overload on to the others.
    ///
    /// # Errors
    /// As [`Pool::acquire`] of the endpoint, which counts as failed unless its pool merely refused; after more than one
    /// endpoint [`Error::Exhausted`] with what each of them said; [`Reason::Closed`](perf_core::Reason::Closed) without any.
    ///
    /// # Cancel safety
    /// As [`Pool::acquire`]; it says nothing against the endpoint.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<BalancedLease<M>, Error>> + use<M> {
        self.0.clone().acquire(Wish::default(), Location::caller())
    }

    /// A connection that may be used for what is asked: a [`Writer`](Role::Writer) takes writes as far as is known, a
    /// [`Reader`](Role::Reader) is a writer only if no reader is available.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`Reason::Open`](perf_core::Reason::Open) when no endpoint has that role.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_as(&self, role: Role) -> impl Future<Output = Result<BalancedLease<M>, Error>> + use<M> {
        self.0.clone().acquire(Wish { role: Some(role), ..Wish::default() }, Location::caller())
    }

    /// A connection of the endpoint that owns a key, so that equal keys meet the same caches. If it may not be used, of
    /// the next one in the key's own order.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_for<K: Hash>(
        &self,
        key: K,
    ) -> impl Future<Output = Result<BalancedLease<M>, Error>> + use<M, K> {
        let key = super::rank("key", key);
        self.0.clone().acquire(Wish { key: Some(key), ..Wish::default() }, Location::caller())
    }

    /// Lets no present connection to an endpoint be used again: idle ones are closed now, leased ones when they come back.
    /// The endpoint stays in use.
    ///
    /// # Errors
    /// [`InvalidConfig`] when no endpoint has that name.
    pub fn evict(&self, endpoint: &str) -> Result<(), InvalidConfig> {
        let pool = {
            let guarded = self.0.lock();
            let known = guarded.state.known.iter().find(|known| known.endpoint.name == endpoint);
            known.and_then(|known| guarded.pools.get(&known.id).cloned())
        };
        let unknown = || InvalidConfig::new("endpoint", Redacted(endpoint), "one of the list");
        pool.ok_or_else(unknown)?.evict_all();
        Ok(())
    }

    /// Replaces the list of endpoints. Those that are gone are drained: their leases go on, and nothing new begins there.
    ///
    /// # Errors
    /// The first error of making a pool; that endpoint is left out, the others are there.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<(), Cause> {
        self.0.update(endpoints, time::now())
    }

    /// The pools, one for each endpoint, in the order of the list.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool<M>> {
        let guarded = self.0.lock();
        guarded.state.known.iter().filter_map(|known| guarded.pools.get(&known.id).cloned()).collect()
    }

    /// What choices are made from at this moment, in the order of the list.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointView> {
        let now = time::now();
        self.0.lock().state.views(now)
    }

    /// The names of the endpoints, with what each may be used for as far as is known.
    #[must_use]
    pub fn roles(&self) -> Vec<(String, Option<Role>)> {
        let guarded = self.0.lock();
        guarded.state.known.iter().map(|known| (known.endpoint.name.clone(), known.role)).collect()
    }

    /// The names of the endpoints that are taken out because calls to them fail.
    #[must_use]
    pub fn ejected(&self) -> Vec<String> {
        let state = &self.0.lock().state;
        let out = state.known.iter().enumerate().filter(|(index, _)| state.ejector.is_out(*index));
        out.map(|(_, known)| known.endpoint.name.clone()).collect()
    }
}

impl<M: Manager> Inner<M> {
    pub(super) fn new(
        name: Name,
        config: BalanceConfig,
        balance: Box<dyn Balance>,
        make: MakePool<M>,
        probe: Option<Arc<dyn Probe<M>>>,
        state: State,
    ) -> Self {
        Self {
            name,
            config,
            balance,
            make,
            probe,
            guarded: Mutex::new(Guarded { state, pools: BTreeMap::new() }),
            discoveries_failed: AtomicU64::new(0),
            probes_failed: AtomicU64::new(0),
            role_changes: AtomicU64::new(0),
            watcher: Mutex::new(None),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded<M>> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch_by(&self, task: JoinHandle<()>) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(super) fn update(&self, mut endpoints: Vec<Endpoint>, now: Instant) -> Result<(), Cause> {
        // Pools are made before anything changes: an endpoint without one would be chosen.
        let known: Vec<String> =
            self.lock().state.known.iter().map(|known| known.endpoint.name.clone()).collect();
        let mut made = BTreeMap::new();
        let mut failed = None;
        endpoints.retain(|endpoint| {
            if known.contains(&endpoint.name) || made.contains_key(&endpoint.name) {
                return true;
            }
            match (self.make)(endpoint) {
                Ok(pool) => drop(made.insert(endpoint.name.clone(), pool)),
                Err(error) => {
                    failed.get_or_insert(Cause::new(Unmakeable(error)));
                    return false;
                }
            }
            true
        });
        let mut guarded = self.lock();
        let change = guarded.state.set(endpoints, now);
        for (id, endpoint) in change.joined {
            if let Some(pool) = made.remove(&endpoint.name) {
                guarded.pools.insert(id, pool);
            }
        }
        let left: Vec<_> = change.left.iter().filter_map(|id| guarded.pools.remove(id)).collect();
        drop(guarded);
        for pool in left {
            // Closed from now on; its leases come back in their own time.
            drop(pool.close());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Endpoints that are taken out lose their idle connections at once, and those on loan as they come back; whoever waits
    /// there may go elsewhere.
    pub(super) fn empty(pools: &[Pool<M>]) {
        for pool in pools {
            pool.evict_all();
            pool.stir();
        }
    }

    pub(super) fn finish(&self, call: Chosen, taken: Duration, outcome: Option<bool>, now: Instant) {
        let mut guarded = self.lock();
        let mut ejected = guarded.sweep(now);
        if guarded.state.finish(call, taken, outcome, now) {
            ejected.extend(guarded.pools.get(&call.id).cloned());
        }
        drop(guarded);
        Self::empty(&ejected);
    }

    /// Takes in what a probe said: an endpoint that went down or changed its role trusts none of its connections.
    pub(super) fn probed(&self, endpoint: u64, answer: Option<Option<Role>>, now: Instant) {
        if answer.is_none() {
            self.probes_failed.fetch_add(1, Ordering::Relaxed);
        }
        let mut guarded = self.lock();
        let Turned { health, role } = guarded.state.probed(endpoint, answer, now);
        let pool = guarded.pools.get(&endpoint).cloned();
        drop(guarded);
        let Some(pool) = pool else { return };
        if role.is_some() {
            self.role_changes.fetch_add(1, Ordering::Relaxed);
            pool.evict_all();
        } else if health == Some(false) {
            pool.suspect_all();
        }
        if health == Some(false) {
            pool.stir();
        }
    }

    pub(super) fn demote(&self, endpoint: u64) {
        let mut guarded = self.lock();
        let news = guarded.state.demote(endpoint);
        let pool = guarded.pools.get(&endpoint).filter(|_| news).cloned();
        drop(guarded);
        if let Some(pool) = pool {
            self.role_changes.fetch_add(1, Ordering::Relaxed);
            pool.evict_all();
        }
    }

    pub(super) fn name_of(&self, endpoint: u64) -> Option<String> {
        let guarded = self.lock();
        guarded.state.index(endpoint).map(|index| guarded.state.known[index].endpoint.name.clone())
    }
}

impl<M: Manager> Guarded<M> {
    /// The pools of the endpoints that a sweep takes out, if one is due.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Pool<M>> {
        let Self { state, pools } = self;
        state.sweep(now).iter().filter_map(|id| pools.get(id).cloned()).collect()
    }
}

impl<M: Manager> Drop for Inner<M> {
    fn drop(&mut self) {
        if let Some(task) = self.watcher.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the pool of an endpoint cannot be made")]
struct Unmakeable(#[source] Box<dyn StdError + Send + Sync>);

impl<M: Manager> Clone for BalancedPool<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Manager> fmt::Debug for BalancedPool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedPool").field("name", &self.0.name).field("pools", &self.pools()).finish()
    }
}
