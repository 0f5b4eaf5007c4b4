use super::SizingMode;
use perf_core::InvalidConfig;
use perf_core::time::Duration;

/// What a configuration file can say about sizing. The defaults are the constants of this type.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SizingConfig {
    /// What is done with advice.
    pub mode: SizingMode,
    /// Never fewer. At least 1.
    pub min: usize,
    /// Never more: the share of this instance in what the server allows.
    pub max: usize,
    /// Safety above the load, in square roots of it. 0 to 10.
    pub beta: f64,
    /// The pool grows at once when its waits, at the 95th percentile, are longer.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub wait_goal: Duration,
    /// Loads are remembered for this many observations. At least 2.
    pub window: usize,
    /// The pool shrinks only if this share was idle for the whole window. 0 to 1.
    pub idle_share: f64,
}

impl SizingConfig {
    /// One caller in twelve waits (Halfin and Whitt: 0.085).
    pub const DEFAULT_BETA: f64 = 1.5;
    /// A wait nobody notices.
    pub const DEFAULT_WAIT_GOAL: Duration = Duration::from_millis(5);
    /// A minute at one observation per second.
    pub const DEFAULT_WINDOW: usize = 60;
    /// Less idle than this is the safety that β asks for.
    pub const DEFAULT_IDLE_SHARE: f64 = 0.25;

    /// The share of one of `instances` in `percent` of a server's `max_connections`, as the largest size.
    #[must_use]
    pub fn share_of(mut self, max_connections: usize, percent: usize, instances: usize) -> Self {
        self.max = (max_connections * percent.min(100) / 100 / instances.max(1)).max(1);
        self.min = self.min.min(self.max);
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.min == 0 || self.min > self.max {
            return Err(InvalidConfig::new("min", self.min, format!("1 to max, {}", self.max)));
        }
        if !(0.0..=10.0).contains(&self.beta) {
            return Err(InvalidConfig::new("beta", self.beta, "0 to 10"));
        }
        if self.window < 2 {
            return Err(InvalidConfig::new("window", self.window, "at least 2"));
        }
        if !(0.0..=1.0).contains(&self.idle_share) {
            return Err(InvalidConfig::new("idle_share", self.idle_share, "0 to 1"));
        }
        Ok(())
    }
}

impl Default for SizingConfig {
    fn default() -> Self {
        Self {
            mode: SizingMode::default(),
            min: 1,
            max: crate::PoolConfig::DEFAULT_MAX,
            beta: Self::DEFAULT_BETA,
            wait_goal: Self::DEFAULT_WAIT_GOAL,
            window: Self::DEFAULT_WINDOW,
            idle_share: Self::DEFAULT_IDLE_SHARE,
        }
    }
}
