use perf_core::{InvalidConfig, duration};
use perf_pool::sizing::{ReplicaConfig, SizingMode};
use serde::Deserialize;
use std::time::Duration;

/// Rounds of self-tuning: what is wrong is looked for, pools whose `sizing` only advises are proposed a size, and every
/// proposal is written down. Nothing is changed unless it is enabled.
///
/// ```
/// let config = perfkit::Config::from_toml(r#"
///     [databases.orders]
///     url = "sqlite::memory:"
///     pool = { max = 8, sizing = { mode = "advise", min = 2, max = 32 } }
///
///     [tuning]
///     enabled = true
///     interval = "10m"
/// "#)?;
/// assert!(config.tuning.is_some_and(|tuning| tuning.enabled));
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TuningConfig {
    /// Whether proposals are carried out. Default false.
    pub enabled: bool,
    /// Time between two rounds. 1 second to 1 day, default [`perf_metrics::DEFAULT_CYCLE`].
    #[serde(with = "perf_core::duration")]
    pub interval: Duration,
}

impl Default for TuningConfig {
    fn default() -> Self {
        Self { enabled: false, interval: perf_metrics::DEFAULT_CYCLE }
    }
}

impl TuningConfig {
    /// Checks the interval.
    ///
    /// # Errors
    /// [`InvalidConfig`] for an interval out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        in_range("interval", self.interval)
    }
}

/// How many replicas of the service there should be: [`Stack::autoscale`](crate::Stack::autoscale) observes, and asks a
/// `ScaleTarget` of the host for them.
///
/// ```
/// let config = perfkit::Config::from_toml(r#"
///     [scaling]
///     mode = "act"
///     interval = "30s"
///     replicas = { min = 2, max = 12, cpu_goal = 0.5 }
/// "#)?;
/// assert_eq!(config.scaling.replicas.max, 12);
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ScalingConfig {
    /// What is done with advice: `act`, `advise` or `shadow`. Default `advise`.
    pub mode: SizingMode,
    /// Time between two observations. 1 second to 1 day, default [`ScalingConfig::DEFAULT_INTERVAL`].
    #[serde(with = "perf_core::duration")]
    pub interval: Duration,
    /// The bounds and goals.
    pub replicas: ReplicaConfig,
}

impl ScalingConfig {
    /// Kubernetes' number.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        in_range("interval", self.interval)?;
        self.replicas.validate().map_err(|error| error.within("replicas"))
    }
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self {
            mode: SizingMode::default(),
            interval: Self::DEFAULT_INTERVAL,
            replicas: ReplicaConfig::default(),
        }
    }
}

fn in_range(field: &'static str, value: Duration) -> Result<(), InvalidConfig> {
    if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&value) {
        return Err(InvalidConfig::new(field, duration::format(value), "1s to 1d"));
    }
    Ok(())
}
