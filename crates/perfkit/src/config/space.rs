use perf_cache::CacheSpaceBuilder;
use perf_core::{InvalidConfig, Secret, duration};
use serde::Deserialize;
use std::time::Duration;

/// What all caches of a service share.
///
/// | field | default | why |
/// |---|---|---|
/// | `redis` | none | in process by default; with it, caches with a codec share their values, and all of them their invalidations |
/// | `sentinel` | none | instead of `redis`: the primary that Sentinel names |
/// | `cluster` | none | instead of `redis`: a Redis Cluster |
/// | `invalidation` | `log` | the one that loses nothing; `pub_sub` and `tracking` drop everything after an interruption |
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
    /// The primary that Sentinel names, instead of one server; needs the feature `redis`.
    pub sentinel: Option<SentinelConfig>,
    /// The addresses of some nodes of a Redis Cluster, instead of one server; needs the feature `redis`.
    pub cluster: Vec<Secret<String>>,
    /// How nodes tell each other what is invalid.
    #[cfg(feature = "redis")]
    pub invalidation: perf_cache::Invalidation,
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
        let places = [
            ("redis", self.redis.is_some()),
            ("sentinel", self.sentinel.is_some()),
            ("cluster", !self.cluster.is_empty()),
        ];
        let mut named = places.iter().filter(|(_, is_named)| *is_named);
        if let Some((field, _)) = named.next().filter(|_| !cfg!(feature = "redis")) {
            return Err(InvalidConfig::new(*field, "***", "nothing, as the feature `redis` is off"));
        }
        if let Some((field, _)) = named.next() {
            return Err(InvalidConfig::new(*field, "***", "one of `redis`, `sentinel` and `cluster`"));
        }
        if self.sentinel.as_ref().is_some_and(|sentinel| sentinel.urls.is_empty()) {
            return Err(InvalidConfig::new("sentinel.urls", "none", "one address or more"));
        }
        if self.max_loads == Some(0) {
            return Err(InvalidConfig::new("max_loads", 0, "1 or more"));
        }
        if self.retain == 0 {
            return Err(InvalidConfig::new("retain", self.retain, "1 or more"));
        }
        if self.store_timeout.is_zero() || self.store_timeout > CacheSpaceBuilder::MAX_STORE_TIMEOUT {
            return Err(InvalidConfig::new(
                "store_timeout",
                duration::format(self.store_timeout),
                "1ns to 1h",
            ));
        }
        Ok(())
    }
}

impl Default for CacheSpaceConfig {
    fn default() -> Self {
        Self {
            redis: None,
            sentinel: None,
            cluster: Vec::new(),
            #[cfg(feature = "redis")]
            invalidation: perf_cache::Invalidation::default(),
            retain: Self::DEFAULT_RETAIN,
            max_loads: None,
            degraded_ttl: CacheSpaceBuilder::DEGRADED_TTL,
            store_timeout: CacheSpaceBuilder::STORE_TIMEOUT,
        }
    }
}

/// Where the sentinels are and what they watch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SentinelConfig {
    /// Addresses of sentinels; user, password and database in them are those of the servers. Never printed.
    pub urls: Vec<Secret<String>>,
    /// The name under which they watch the primary.
    pub service: String,
    /// The password of the sentinels themselves, if they have one. Never printed.
    #[serde(default)]
    pub password: Option<Secret<String>>,
}

#[cfg(feature = "redis")]
impl CacheSpaceConfig {
    /// Where Redis is, if it is used at all.
    pub(crate) fn redis(&self) -> Option<perf_cache::RedisConfig> {
        use perf_cache::RedisConfig;
        let exposed =
            |urls: &[Secret<String>]| urls.iter().map(|url| url.expose().clone()).collect::<Vec<_>>();
        let place = match (&self.redis, &self.sentinel) {
            (Some(url), _) => RedisConfig::url(url.expose()),
            (None, Some(sentinel)) => {
                let config = RedisConfig::sentinel(exposed(&sentinel.urls), &sentinel.service);
                match &sentinel.password {
                    Some(password) => config.sentinel_password(password.expose()),
                    None => config,
                }
            }
            (None, None) if !self.cluster.is_empty() => RedisConfig::cluster(exposed(&self.cluster)),
            (None, None) => return None,
        };
        Some(place.retain(self.retain).invalidation(self.invalidation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CacheSpaceConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn one_place_may_be_named_and_nothing_of_it_is_printed() {
        let both = read("redis = 'redis://a'\ncluster = ['redis://u:hunter2@b']").unwrap();
        assert!(both.validate().is_err());
        assert!(!format!("{both:?}").contains("hunter2"));
        let none = read("sentinel = { urls = [], service = 'perf' }").unwrap();
        assert!(none.validate().is_err());
        assert!(read("sentinel = { url = 'x' }").is_err());
    }

    #[cfg(feature = "redis")]
    #[test]
    fn every_place_and_kind_can_be_said() {
        for text in [
            "redis = 'redis://127.0.0.1:1'\ninvalidation = 'tracking'",
            "sentinel = { urls = ['redis://127.0.0.1:1'], service = 'perf', password = 'x' }",
            "cluster = ['redis://127.0.0.1:1', 'redis://127.0.0.1:2']",
        ] {
            let config = read(text).unwrap();
            assert!(config.validate().is_ok() && config.redis().is_some(), "{text}");
        }
        assert!(CacheSpaceConfig::default().redis().is_none());
    }
}
