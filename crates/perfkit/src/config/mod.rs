//! One configuration for everything: a TOML file, and the environment on top of it.

mod cache;
mod database;
mod endpoint;
mod error;
#[cfg(feature = "redis")]
mod rates;
#[cfg(feature = "snapshots")]
mod snapshots;
mod source;
mod space;
mod tuning;
#[cfg(feature = "websocket")]
mod websocket;

pub use database::{DatabaseConfig, ResilienceConfig, ResiliencePreset};
pub use endpoint::EndpointConfig;
pub(crate) use endpoint::scheme;
pub use error::ConfigError;
#[cfg(feature = "redis")]
pub use rates::SharedRateSection;
#[cfg(feature = "snapshots")]
pub use snapshots::SnapshotConfig;
pub use space::{CacheSpaceConfig, SentinelConfig};
pub use tuning::{ScalingConfig, TuningConfig};
#[cfg(feature = "websocket")]
pub use websocket::WebSocketPoolConfig;

use perf_cache::CacheConfig;
use perf_core::{InvalidConfig, duration};
use perf_http::{ManagementConfig, StandardConfig};
use perf_metrics::{AlertConfig, MetricsConfig, ObjectiveConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use toml::Table;

/// What a configuration file can say about a service.
///
/// | section | what it is |
/// |---|---|
/// | `name` | the service's name, in labels and messages |
/// | `[cache]` | what all caches share: Redis, and what happens without it; see [`CacheSpaceConfig`] |
/// | `[caches.NAME]` | a cache: an optional `preset` and the fields of [`CacheConfig`] |
/// | `[databases.NAME]` | a database: `url`, `[…pool]`, `[…queries]`, `[…resilience]`; see [`DatabaseConfig`] |
/// | `[[databases.NAME.replicas]]`, `[databases.NAME.balance]` | other servers with its data; see [`EndpointConfig`] |
/// | `[shared_rates.NAME]` | a rate that all instances share through Redis (feature `redis`): `redis`, `[…rate]` |
/// | `[snapshots.NAME]` | the backup of a database (feature `snapshots`): `directory`, `every`, `keep` … |
/// | `[websockets.NAME]` | a pool of WebSocket connections (feature `websocket`): `urls`, `headers`, `ca_file`, `[…pool]` |
/// | `[http]` | the layers round the service; see [`StandardConfig`] |
/// | `[management]` | the management listener; see [`ManagementConfig`] |
/// | `[metrics]` | the metrics page; see [`MetricsConfig`] |
/// | `[otlp]` | the exports to OpenTelemetry (feature `otlp`): `collector`, `attributes`, `headers`, `interval`, `timeout` |
/// | `[alerts.NAME]` | an alert: a `metric`, what is measured of it, a threshold; see [`AlertConfig`] |
/// | `[objectives.NAME]` | a service level objective and its burn-rate alerts; see [`ObjectiveConfig`] |
/// | `[webhook]` | where alerts are posted (feature `webhook`): `url`, `token`, `headers` |
/// | `[tuning]` | rounds of self-tuning, none without this section; see [`TuningConfig`] |
/// | `[scaling]` | how many replicas of the service there should be; see [`ScalingConfig`] |
/// | `[shutdown]` | how the service ends; see [`ShutdownConfig`] |
///
/// ```
/// use perfkit::Config;
///
/// let config = Config::from_toml(r#"
///     name = "shop"
///
///     [caches.products]
///     preset = "aggressive"
///     capacity = { bytes = 134217728 }
///
///     [http]
///     timeout = "5s"
/// "#)?;
/// assert_eq!(config.name, "shop");
///
/// let error = Config::from_toml("[http]\ntimeuot = '5s'").unwrap_err();
/// assert!(error.to_string().contains("timeuot"), "{error}");
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The service's name. Default `app`.
    #[serde(default = "default_name")]
    pub name: String,
    /// What all caches share.
    pub cache: CacheSpaceConfig,
    /// The caches, by name.
    #[serde(deserialize_with = "cache::with_presets")]
    pub caches: BTreeMap<String, CacheConfig>,
    /// The databases, by name.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// The rates that all instances share, by name.
    #[cfg(feature = "redis")]
    pub shared_rates: BTreeMap<String, SharedRateSection>,
    /// The backups of databases, by name.
    #[cfg(feature = "snapshots")]
    pub snapshots: BTreeMap<String, SnapshotConfig>,
    /// The pools of WebSocket connections, by name.
    #[cfg(feature = "websocket")]
    pub websockets: BTreeMap<String, WebSocketPoolConfig>,
    /// The layers round the service.
    pub http: StandardConfig,
    /// The management listener; none unless there is a section.
    pub management: Option<ManagementConfig>,
    /// The metrics page.
    pub metrics: MetricsConfig,
    /// The exports to an OpenTelemetry collector; none unless there is a section.
    #[cfg(feature = "otlp")]
    pub otlp: Option<perf_metrics::OtlpConfig>,
    /// The alerts, by name.
    pub alerts: BTreeMap<String, AlertConfig>,
    /// The service level objectives, by name.
    pub objectives: BTreeMap<String, ObjectiveConfig>,
    /// Where alerts are posted.
    #[cfg(feature = "webhook")]
    pub webhook: Option<perf_metrics::WebhookConfig>,
    /// Rounds of self-tuning; none unless there is a section.
    pub tuning: Option<TuningConfig>,
    /// How many replicas of the service there should be.
    pub scaling: ScalingConfig,
    /// How the service ends.
    pub shutdown: ShutdownConfig,
}

fn default_name() -> String {
    "app".to_owned()
}

impl Config {
    /// Reads a TOML text.
    ///
    /// # Errors
    /// [`ConfigError`] naming the line, the unknown field, or the value out of its range.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_table(source::table(text)?)
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// As [`Config::from_toml`], or [`ConfigError::Read`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_toml(&read(path.as_ref())?)
    }

    /// Reads a TOML text, and lays the variables that start with `prefix` and an underscore over it:
    /// `SHOP_DATABASES__ORDERS__POOL__MAX=32` sets `databases.orders.pool.max`.
    ///
    /// ```
    /// use perfkit::Config;
    ///
    /// let variables = [("SHOP_HTTP__TIMEOUT".to_owned(), "2s".to_owned())];
    /// let config = Config::from_toml_and_variables("", "SHOP", variables)?;
    /// assert_eq!(config.http.timeout.as_secs(), 2);
    /// # Ok::<(), perfkit::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Config::from_toml`], or [`ConfigError::Variable`].
    pub fn from_toml_and_variables<I>(text: &str, prefix: &str, variables: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut table = source::table(text)?;
        source::overlay(&mut table, prefix, variables)?;
        Self::from_table(table)
    }

    /// Reads a TOML file and the process's environment; a file that does not exist counts as empty.
    ///
    /// Variables that are not Unicode are left out, as no setting can hold them.
    ///
    /// # Errors
    /// As [`Config::from_toml_and_variables`], or [`ConfigError::Read`] for a file that exists and cannot be read.
    pub fn load(path: impl AsRef<Path>, prefix: &str) -> Result<Self, ConfigError> {
        let text = match read(path.as_ref()) {
            Err(ConfigError::Read(_, error)) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_toml_and_variables(&text, prefix, variables)
    }

    /// Checks every section.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field out of its range, with its whole path.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.cache.validate().map_err(|error| error.within("cache"))?;
        for (name, cache) in &self.caches {
            cache.validate().map_err(|error| error.within(name).within("caches"))?;
        }
        for (name, database) in &self.databases {
            database.validate().map_err(|error| error.within(name).within("databases"))?;
        }
        #[cfg(feature = "redis")]
        for (name, rate) in &self.shared_rates {
            let checked = rate.validate(self.cache.redis.as_ref());
            checked.map_err(|error| error.within(name).within("shared_rates"))?;
        }
        #[cfg(feature = "snapshots")]
        snapshots::validate(&self.snapshots, &self.databases)?;
        #[cfg(feature = "websocket")]
        for (name, websocket) in &self.websockets {
            websocket.validate().map_err(|error| error.within(name).within("websockets"))?;
        }
        if let Some(tuning) = &self.tuning {
            tuning.validate().map_err(|error| error.within("tuning"))?;
        }
        self.scaling.validate().map_err(|error| error.within("scaling"))?;
        self.http.validate().map_err(|error| error.within("http"))?;
        if let Some(management) = &self.management {
            management.validate().map_err(|error| error.within("management"))?;
        }
        self.metrics.validate().map_err(|error| error.within("metrics"))?;
        #[cfg(feature = "otlp")]
        if let Some(otlp) = &self.otlp {
            otlp.validate().map_err(|error| error.within("otlp"))?;
        }
        perf_metrics::configured_rules(&self.alerts, &self.objectives)?;
        #[cfg(feature = "webhook")]
        if let Some(webhook) = &self.webhook {
            webhook.webhook().map_err(|error| error.within("webhook"))?;
        }
        self.shutdown.validate().map_err(|error| error.within("shutdown"))
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            // The message spans lines: what is wrong, then where.
            ConfigError::Field(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        config.validate()?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))
}

/// How a service ends: first it says that it is not ready, then it stops accepting, then it waits for what is under way.
///
/// | field | default | why |
/// |---|---|---|
/// | `drain_delay` | 0 s | with a load balancer in front: as long as it needs to notice |
/// | `timeout` | 20 s | below the 30 s after which orchestrators kill |
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// How long the service goes on serving after it has said that it is not ready. At most 10 minutes.
    #[serde(with = "perf_core::duration")]
    pub drain_delay: Duration,
    /// How long requests and leases under way may take. At most 1 hour.
    #[serde(with = "perf_core::duration")]
    pub timeout: Duration,
}

impl ShutdownConfig {
    /// Below the 30 s after which orchestrators kill.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

    /// Checks both times.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the field that is too long.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, value, most) in [("drain_delay", self.drain_delay, 600), ("timeout", self.timeout, 3600)]
        {
            if value > Duration::from_secs(most) {
                return Err(InvalidConfig::new(field, duration::format(value), format!("0s to {most}s")));
            }
        }
        Ok(())
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { drain_delay: Duration::ZERO, timeout: Self::DEFAULT_TIMEOUT }
    }
}
