use super::Pool;
use super::config::{Fairness, Order, PoolConfig};
use super::shared::{Listener, Setup, Shared};
use crate::clock::Clock;
use crate::core::Core;
use crate::event::PoolEvent;
use crate::manager::Manager;
use crate::sizing::SizingConfig;
use perf_core::time::Duration;
use perf_core::{InvalidConfig, Name, Rng};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// Describes a [`Pool`]: its configuration, plus what only code can say.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<M: Manager> {
    manager: M,
    name: Name,
    config: PoolConfig,
    setup: Option<Setup<M>>,
    listener: Option<Listener>,
    seed: Option<u64>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $kind:ty,)*) => {
        $(
            $(#[$doc])*
            pub fn $field(mut self, $field: $kind) -> Self {
                self.config.$field = $field.into();
                self
            }
        )*
    };
}

impl<M: Manager> Builder<M> {
    /// The name of a pool that was given none.
    pub const DEFAULT_NAME: &'static str = "pool";

    pub(super) fn new(manager: M) -> Self {
        Self {
            manager,
            name: Name::from_static(Self::DEFAULT_NAME),
            config: PoolConfig::default(),
            setup: None,
            listener: None,
            seed: None,
        }
    }

    /// The name the pool goes by in errors and numbers.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Replaces the whole configuration.
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    setters! {
        /// [`PoolConfig::max`].
        max: usize,
        /// [`PoolConfig::min_idle`].
        min_idle: usize,
        /// [`PoolConfig::max_waiters`].
        max_waiters: impl Into<Option<usize>>,
        /// [`PoolConfig::max_connecting`].
        max_connecting: usize,
        /// [`PoolConfig::acquire_timeout`].
        acquire_timeout: Duration,
        /// [`PoolConfig::connect_timeout`].
        connect_timeout: Duration,
        /// [`PoolConfig::check_timeout`].
        check_timeout: Duration,
        /// [`PoolConfig::close_timeout`].
        close_timeout: Duration,
        /// [`PoolConfig::drain_timeout`].
        drain_timeout: Duration,
        /// [`PoolConfig::warmup_timeout`].
        warmup_timeout: Duration,
        /// [`PoolConfig::check_after`].
        check_after: Duration,
        /// [`PoolConfig::keepalive`].
        keepalive: impl Into<Option<Duration>>,
        /// [`PoolConfig::max_lifetime`].
        max_lifetime: impl Into<Option<Duration>>,
        /// [`PoolConfig::idle_timeout`].
        idle_timeout: impl Into<Option<Duration>>,
        /// [`PoolConfig::keep`].
        keep: impl Into<Option<usize>>,
        /// [`PoolConfig::overflow_linger`].
        overflow_linger: Duration,
        /// [`PoolConfig::replace_overlap`].
        replace_overlap: usize,
        /// [`PoolConfig::leak_after`].
        leak_after: impl Into<Option<Duration>>,
        /// [`PoolConfig::maintenance_interval`].
        maintenance_interval: Duration,
        /// [`PoolConfig::retry_base`].
        retry_base: Duration,
        /// [`PoolConfig::retry_cap`].
        retry_cap: Duration,
        /// [`PoolConfig::fail_fast`].
        fail_fast: bool,
        /// [`PoolConfig::refuse_hopeless`].
        refuse_hopeless: bool,
        /// [`PoolConfig::order`].
        order: Order,
        /// [`PoolConfig::fairness`].
        fairness: Fairness,
        /// [`PoolConfig::sizing`].
        sizing: impl Into<Option<SizingConfig>>,
    }

    /// Prepares each fresh connection before its first use, within `connect_timeout`: `|c| Box::pin(async move { … })`.
    pub fn setup<F>(mut self, setup: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut M::Connection,
            ) -> Pin<Box<dyn Future<Output = Result<(), M::Error>> + Send + 'c>>
            + Send
            + Sync
            + 'static,
    {
        self.setup = Some(Box::new(setup));
        self
    }

    /// Is told about rare things. It must not block; if it panics, the event is lost and nothing else.
    pub fn on_event(mut self, listener: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Makes lifetimes and backoff repeatable, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pool. Inside a tokio runtime its maintenance task starts and `min_idle` connections are made; elsewhere
    /// that happens when the first caller has to wait.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn build(self) -> Result<Pool<M>, InvalidConfig> {
        self.config.validate()?;
        let rng = self.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let clock = Clock::new();
        let core = Core::new(self.config, rng, clock.now());
        let shared = Arc::new(Shared::new(core, clock, self.manager, self.name, self.setup, self.listener));
        // Without a runtime the task starts later.
        let _ = shared.ensure_running();
        Ok(Pool { shared })
    }
}

impl<M: Manager> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
