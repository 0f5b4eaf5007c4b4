use perf_core::{InvalidConfig, Secret};
use perf_resilience::rate::SharedRateConfig;
use serde::Deserialize;

/// A rate for each key that all instances of the service share through Redis; [`Stack::shared_rate`] gives it out.
///
/// ```
/// let config = perfkit::Config::from_toml(r#"
///     [cache]
///     redis = "redis://cache-1"
///
///     [shared_rates.logins]
///     rate = { quota = { permits = 5, per = "1m", burst = 5 }, when_down = { local = { instances = 4 } } }
///
///     [shared_rates.exports]
///     redis = "redis://:7b1f@limits-1"
///     rate = { when_down = "closed", timeout = "50ms" }
/// "#)?;
/// assert_eq!(config.shared_rates["logins"].rate.quota.permits, 5);
/// assert!(!format!("{config:?}").contains("7b1f"));
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
///
/// [`Stack::shared_rate`]: crate::Stack::shared_rate
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SharedRateSection {
    /// `redis://[user:password@]host:port[/database]`; default the `redis` of the section `[cache]`. Never printed.
    pub redis: Option<Secret<String>>,
    /// The rate, and what decides while Redis does not.
    pub rate: SharedRateConfig,
}

impl SharedRateSection {
    /// Where Redis is: its own, or that of the caches.
    pub(crate) fn place<'c>(&'c self, caches: Option<&'c Secret<String>>) -> Option<&'c str> {
        self.redis.as_ref().or(caches).map(|url| url.expose().as_str())
    }

    /// Checks the rate, and that there is a Redis; `caches` is that of the caches.
    pub(super) fn validate(&self, caches: Option<&Secret<String>>) -> Result<(), InvalidConfig> {
        if self.place(caches).is_none() {
            return Err(InvalidConfig::new("redis", "nothing", "a URL here or in the section `cache`"));
        }
        self.rate.validate().map_err(|error| error.within("rate"))
    }
}
