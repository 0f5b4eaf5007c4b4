use super::discovery::{Discovery, Probe, Static};
use super::pool::{BalancedPool, Inner, MakePool};
use super::state::State;
use super::watch;
use super::{Balance, BalanceConfig, Endpoint};
use crate::error::Cause;
use crate::manager::Manager;
use perf_core::{InvalidConfig, Name, Rng, time};
use std::fmt;
use std::sync::Arc;

/// Describes a [`BalancedPool`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct BalancedBuilder<M: Manager> {
    name: Name,
    make: MakePool<M>,
    config: BalanceConfig,
    endpoints: Vec<Endpoint>,
    discovery: Option<Box<dyn Discovery>>,
    probe: Option<Arc<dyn Probe<M>>>,
    balance: Option<Box<dyn Balance>>,
    seed: Option<u64>,
}

/// Why a [`BalancedPool`] could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A field of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The pool of an endpoint could not be made.
    #[error(transparent)]
    Endpoint(Cause),
}

impl<M: Manager> BalancedBuilder<M> {
    pub(super) fn new(name: Name, make: MakePool<M>) -> Self {
        Self {
            name,
            make,
            config: BalanceConfig::default(),
            endpoints: Vec::new(),
            discovery: None,
            probe: None,
            balance: None,
            seed: None,
        }
    }

    /// Replaces the whole configuration.
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.config = config;
        self
    }

    /// The endpoints to begin with, and to stay with if there is no discovery.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints = endpoints.into_iter().collect();
        self
    }

    /// Asks for the list of endpoints again and again.
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discovery = Some(Box::new(discovery));
        self
    }

    /// Asks each endpoint whether it lives and what it may be used for.
    pub fn probe(mut self, probe: impl Probe<M>) -> Self {
        self.probe = Some(Arc::new(probe));
        self
    }

    /// Chooses in another way than [`BalanceConfig::strategy`] can say.
    pub fn balance(mut self, balance: impl Balance) -> Self {
        self.balance = Some(Box::new(balance));
        self
    }

    /// Makes choices repeatable, for tests.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pools. With a discovery or a probe, a task asks them until the last handle is dropped; that needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`BuildError`] naming the field, or saying why a pool could not be made.
    pub fn build(self) -> Result<BalancedPool<M>, BuildError> {
        self.config.validate()?;
        if self.endpoints.is_empty() && self.discovery.is_none() {
            return Err(InvalidConfig::new("endpoints", "none", "at least one, or a discovery").into());
        }
        let runtime = tokio::runtime::Handle::try_current();
        let is_watched = self.discovery.is_some() || self.probe.is_some();
        if is_watched && runtime.is_err() {
            return Err(
                InvalidConfig::new("runtime", "none", "a tokio runtime for discovery and probes").into()
            );
        }
        let rng = self.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let now = time::now();
        let state = State::new(self.config.clone(), rng, now);
        let balance = self.balance.unwrap_or_else(|| self.config.strategy.balance());
        let inner = Inner::new(self.name, self.config, balance, self.make, self.probe, state);
        inner.update(self.endpoints.clone(), now).map_err(BuildError::Endpoint)?;
        let inner = Arc::new(inner);
        if let Ok(runtime) = runtime.as_ref()
            && is_watched
        {
            let discovery = self.discovery.unwrap_or_else(|| Box::new(Static::new(self.endpoints)));
            inner.watch_by(runtime.spawn(watch::watch(Arc::downgrade(&inner), discovery)));
        }
        Ok(BalancedPool(inner))
    }
}

impl<M: Manager> fmt::Debug for BalancedBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
