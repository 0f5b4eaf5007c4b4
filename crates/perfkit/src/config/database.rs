use super::endpoint::{self, EndpointConfig};
use perf_core::{InvalidConfig, Secret, duration};
use perf_dbopt::advise::AdvisorConfig;
#[cfg(feature = "postgres")]
use perf_dbopt::postgres::{ApplyPolicy, TrialPolicy};
use perf_dbopt::{MaintenancePolicy, ObserverConfig};
use perf_pool::PoolConfig;
use perf_pool::balance::BalanceConfig;
use perf_resilience::{BudgetConfig, BulkheadConfig, PipelineConfig};
use serde::Deserialize;
use std::time::Duration;

/// A database: where it is, and how it is used.
///
/// ```
/// let config = perfkit::Config::from_toml(r#"
///     [databases.orders]
///     url = "sqlite::memory:"
///     pool = { max = 4 }
///     queries = { slow = "20ms" }
///     advisor = { max_bytes = 200_000_000 }
///     maintenance = { window = "02:00-05:00", budget = "5m" }
///     resilience = { preset = "database" }
/// "#)?;
/// assert_eq!(config.databases["orders"].pool.max, 4);
/// assert_eq!(config.databases["orders"].advisor.max_bytes, Some(200_000_000));
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// `sqlite:…`, `postgres://…` or `mysql://…`, as sqlx reads it. Never printed: it may hold a password.
    pub url: Secret<String>,
    /// Other servers with the same data: standbys, read replicas. Each has a pool like `pool`.
    #[serde(default)]
    pub replicas: Vec<EndpointConfig>,
    /// How one of several endpoints is chosen, probed, and taken out when it fails.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// The pool of connections, one for each endpoint.
    #[serde(default)]
    pub pool: PoolConfig,
    /// What is recorded of its queries.
    #[serde(default)]
    pub queries: ObserverConfig,
    /// Limits of index advice, for the host's advisor.
    #[serde(default)]
    pub advisor: AdvisorConfig,
    /// What must hold before an index is created on PostgreSQL, for the host's [`IndexApplier`]. It is no consent: that an
    /// index may be created at all is said in code.
    ///
    /// [`IndexApplier`]: perf_dbopt::postgres::IndexApplier
    #[cfg(feature = "postgres")]
    #[serde(default)]
    pub apply: ApplyPolicy,
    /// How long a new index is measured before it is kept or taken back, likewise.
    #[cfg(feature = "postgres")]
    #[serde(default)]
    pub trial: TrialPolicy,
    /// What maintenance may do and when, for the host's scheduler.
    #[serde(default)]
    pub maintenance: MaintenancePolicy,
    /// What stands between callers and the database.
    #[serde(default)]
    pub resilience: ResilienceConfig,
    /// How often the database is asked how it is. Default [`DatabaseConfig::HEALTH_INTERVAL`].
    #[serde(default = "health_interval", with = "perf_core::duration")]
    pub health_interval: Duration,
}

const fn health_interval() -> Duration {
    DatabaseConfig::HEALTH_INTERVAL
}

impl DatabaseConfig {
    /// Often enough that an outage shows within a quarter of a minute.
    pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

    /// A database at `url`, everything else as it comes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url.into()),
            replicas: Vec::new(),
            balance: BalanceConfig::default(),
            pool: PoolConfig::default(),
            queries: ObserverConfig::default(),
            advisor: AdvisorConfig::default(),
            #[cfg(feature = "postgres")]
            apply: ApplyPolicy::default(),
            #[cfg(feature = "postgres")]
            trial: TrialPolicy::default(),
            maintenance: MaintenancePolicy::default(),
            resilience: ResilienceConfig::default(),
            health_interval: Self::HEALTH_INTERVAL,
        }
    }

    /// Checks every section.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.pool.validate().map_err(|error| error.within("pool"))?;
        self.balance.validate().map_err(|error| error.within("balance"))?;
        endpoint::validate(&self.replicas, self.url.expose()).map_err(|error| error.within("replicas"))?;
        self.queries.validate().map_err(|error| error.within("queries"))?;
        self.advisor.validate().map_err(|error| error.within("advisor"))?;
        #[cfg(feature = "postgres")]
        self.apply.validate().map_err(|error| error.within("apply"))?;
        #[cfg(feature = "postgres")]
        self.trial.validate().map_err(|error| error.within("trial"))?;
        self.maintenance.validate().map_err(|error| error.within("maintenance"))?;
        if let Some(bulkhead) = &self.resilience.bulkhead {
            bulkhead.validate().map_err(|error| error.within("bulkhead").within("resilience"))?;
        }
        if let Some(budget) = &self.resilience.budget {
            budget.validate().map_err(|error| error.within("budget").within("resilience"))?;
        }
        if let Some(pipeline) = &self.resilience.pipeline {
            pipeline.validate().map_err(|error| error.within("pipeline").within("resilience"))?;
        }
        if self.health_interval < Duration::from_millis(10) {
            let value = duration::format(self.health_interval);
            return Err(InvalidConfig::new("health_interval", value, "10ms or more"));
        }
        Ok(())
    }
}

/// What stands between callers and a dependency: a preset, perhaps with another bound on concurrency or another budget for
/// retries, or a pipeline written out, which then wins.
///
/// ```
/// use perfkit::resilience::retry::BudgetKind;
///
/// let config = perfkit::Config::from_toml(r#"
///     [databases.orders]
///     url = "sqlite::memory:"
///     [databases.orders.resilience]
///     preset = "database"
///     bulkhead = { limit = 16, queue = 500, max_wait = "2s" }
///     budget.kind.in_flight = { share = 0.2, floor = 3 }
/// "#)?;
/// let resilience = &config.databases["orders"].resilience;
/// assert_eq!(resilience.bulkhead.map(|bulkhead| bulkhead.limit), Some(16));
/// assert!(matches!(resilience.budget.map(|budget| budget.kind), Some(BudgetKind::InFlight(_))));
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ResilienceConfig {
    /// The preset. Default [`ResiliencePreset::Database`].
    pub preset: ResiliencePreset,
    /// How many calls may run and wait, instead of what the preset says.
    pub bulkhead: Option<BulkheadConfig>,
    /// What pays for retries and hedges, instead of the budget of 10 % of the calls that every preset has.
    pub budget: Option<BudgetConfig>,
    /// Every stage by itself.
    pub pipeline: Option<PipelineConfig>,
}

/// Pipelines for the usual dependencies; perf-resilience gives the reasons for their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResiliencePreset {
    /// For a database.
    #[default]
    Database,
    /// For an HTTP service.
    HttpClient,
    /// For a remote cache.
    Cache,
}
