use super::{DEFAULT_MAX_KEYS, MAX_QUOTAS};
use perf_core::{InvalidConfig, Name};
use std::time::Duration;

/// How much a client may do: `count` units per `per`, at most `burst` of them at once.
///
/// ```
/// use perf_http::rate::Quota;
///
/// let quota = Quota::per_second(50).burst(100).named("api");
/// assert_eq!((quota.count, quota.burst), (50, 100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Quota {
    /// What clients see it called in the fields `RateLimit` and `RateLimit-Policy`.
    pub name: Name,
    /// Units that come back in each `per`, from 1.
    pub count: u32,
    /// The time in which `count` units come back, 1 ms to 1 day.
    pub per: Duration,
    /// Units a client that was away may use at once, from 1. By default as many as `count`.
    pub burst: u32,
}

impl Quota {
    /// `count` units per `per`.
    pub fn new(count: u32, per: Duration) -> Self {
        Self { name: Name::from_static("default"), count, per, burst: count }
    }

    /// `count` units per second.
    pub fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// `count` units per minute.
    pub fn per_minute(count: u32) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// `count` units per hour.
    pub fn per_hour(count: u32) -> Self {
        Self::new(count, Duration::from_secs(3600))
    }

    /// How many units may be used at once.
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// What clients see it called.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Nanoseconds until one unit comes back, rounded up: never more than the quota is let through.
    pub(super) fn nanos_per_unit(&self) -> u64 {
        let nanos = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        nanos.div_ceil(u64::from(self.count.max(1)))
    }

    /// Nanoseconds in which an empty bucket fills up.
    pub(super) fn nanos_to_fill(&self) -> u64 {
        self.nanos_per_unit().saturating_mul(u64::from(self.burst))
    }

    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let field = |name| format!("quotas.{}.{name}", self.name);
        if self.count == 0 {
            return Err(InvalidConfig::new(field("count"), self.count, "1 or more"));
        }
        if self.burst == 0 {
            return Err(InvalidConfig::new(field("burst"), self.burst, "1 or more"));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&self.per) {
            return Err(InvalidConfig::new(
                field("per"),
                perf_core::duration::format(self.per),
                "1ms to 86400s",
            ));
        }
        // The name is written into a quoted string of a header field.
        let writable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(writable) {
            return Err(InvalidConfig::new(field("name"), &self.name, "1 to 64 of A-Z a-z 0-9 - _ ."));
        }
        Ok(())
    }
}

/// What a configuration file can say about a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct QuotaConfig {
    /// What clients see it called.
    pub name: Name,
    /// Units that come back in each `per`.
    pub count: u32,
    /// The time in which `count` units come back.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub per: Duration,
    /// Units that may be used at once; as many as `count` when left out.
    #[cfg_attr(feature = "serde", serde(default))]
    pub burst: Option<u32>,
}

impl From<&QuotaConfig> for Quota {
    fn from(config: &QuotaConfig) -> Self {
        let quota = Self::new(config.count, config.per).named(config.name.clone());
        match config.burst {
            Some(burst) => quota.burst(burst),
            None => quota,
        }
    }
}

/// What a configuration file can say about a rate limit.
///
/// | field | default | why |
/// |---|---|---|
/// | `quotas` | none | only the host knows what its clients need; without one nothing is limited |
/// | `max_keys` | 100,000 | see [`DEFAULT_MAX_KEYS`] |
/// | `trusted_proxies` | none | `X-Forwarded-For` is anybody's word until somebody vouches for it |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// What every client may do; all of them apply, at most four.
    pub quotas: Vec<QuotaConfig>,
    /// How many clients are told apart, 1 to 100,000,000.
    pub max_keys: usize,
    /// Addresses and blocks of the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { quotas: Vec::new(), max_keys: DEFAULT_MAX_KEYS, trusted_proxies: Vec::new() }
    }
}

impl RateLimitConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        validate(&self.quotas.iter().map(Quota::from).collect::<Vec<_>>(), self.max_keys)?;
        crate::TrustedProxies::parse(self.trusted_proxies.iter().map(String::as_str)).map(drop)
    }
}

pub(super) fn validate(quotas: &[Quota], max_keys: usize) -> Result<(), InvalidConfig> {
    if quotas.len() > MAX_QUOTAS {
        return Err(InvalidConfig::new("quotas", quotas.len(), format!("at most {MAX_QUOTAS}")));
    }
    if !(1..=100_000_000).contains(&max_keys) {
        return Err(InvalidConfig::new("max_keys", max_keys, "1 to 100000000"));
    }
    quotas.iter().try_for_each(Quota::validate)
}
