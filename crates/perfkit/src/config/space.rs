use perf_cache::CacheSpaceBuilder;
use perf_core::{InvalidConfig, Secret, duration};
use serde::Deserialize;
use std::time::Duration;

/// What all caches of a service share.
///
/// | field | default | why |
/// |---|---|---|
/// | `redis` | none | in process by default; with it, caches with a codec share their values, and all of them their invalidations |
/// | `retain` | 100,000 | as many invalidations as can happen within the longest life of a value |
/// | `degraded_ttl` | 5 s | how old a value may get while Redis is away |
/// | `max_loads` | none | loads that may run at once in all caches together: for a source that all of them share |
/// | `store_timeout` | 100 ms | a hundred times a healthy answer, and little beside most loads |
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheSpaceConfig {
    /// `redis://[user:password@]host:port[/database]`; needs the feature `redis`. Never printed.
    pub redis: Option<Secret<String>>,
    /// Invalidations that Redis remembers for nodes that start or were away.
    pub retain: usize,
    /// Loads that may run at once in all caches together, beside what each allows; no limit by default.
    pub max_loads: Option<u32>,
    /// While the invalidation log cannot be read, no value is served longer than this without being loaded again.
    #[serde(with = "perf_core::duration")]
    pub degraded_ttl: Duration,
    /// How long a call to Redis may take.
    #[serde(with = "perf_core::duration")]
    pub store_timeout: Duration,
}

impl CacheSpaceConfig {
    /// As many invalidations as can happen within the longest life of a value, in most services.
    pub const DEFAULT_RETAIN: usize = 100_000;

    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used. The URL is never part of the message.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.redis.is_some() && !cfg!(feature = "redis") {
            return Err(InvalidConfig::new("redis", "***", "nothing, as the feature `redis` is off"));
        }
        if self.max_loads == Some(0) {
            return Err(InvalidConfig::new("max_loads", 0, "1 or more"));
        }
        if self.retain == 0 {
            return Err(InvalidConfig::new("retain", self.retain, "1 or more"));
        }
        if self.store_timeout.is_zero() {
            return Err(InvalidConfig::new(
                "store_timeout",
                duration::format(self.store_timeout),
                "1ns or more",
            ));
        }
        Ok(())
    }
}

impl Default for CacheSpaceConfig {
    fn default() -> Self {
        Self {
            redis: None,
            retain: Self::DEFAULT_RETAIN,
            max_loads: None,
            degraded_ttl: CacheSpaceBuilder::DEGRADED_TTL,
            store_timeout: CacheSpaceBuilder::STORE_TIMEOUT,
        }
    }
}
