use perf_core::InvalidConfig;
use perf_core::time::Duration;

/// Nobody gains from waiting longer than a second for a turn.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(1);
/// Keys a keyed limiter remembers: a hundred thousand take about 8 MB.
pub const DEFAULT_MAX_KEYS: usize = 100_000;

/// So many permits in so much time, and how many of them may be taken at once.
///
/// ```
/// use perf_resilience::rate::{per_minute, per_second};
///
/// assert_eq!(per_second(500).burst(50).burst, 50);
/// assert_eq!(per_minute(30).burst, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Quota {
    /// How many permits, at least 1.
    pub permits: u32,
    /// In how much time.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub per: Duration,
    /// How many may be taken at once after a pause, at least 1.
    pub burst: u32,
}

/// So many permits a second, one at a time unless [`Quota::burst`] says otherwise.
#[must_use]
pub const fn per_second(permits: u32) -> Quota {
    Quota { permits, per: Duration::from_secs(1), burst: 1 }
}

/// So many permits a minute, one at a time unless [`Quota::burst`] says otherwise.
#[must_use]
pub const fn per_minute(permits: u32) -> Quota {
    Quota { permits, per: Duration::from_secs(60), burst: 1 }
}

impl Quota {
    /// How many permits may be taken at once after a pause.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.permits == 0 {
            return Err(InvalidConfig::new("permits", self.permits, "1 and above"));
        }
        if self.burst == 0 {
            return Err(InvalidConfig::new("burst", self.burst, "1 and above"));
        }
        let per = self.per.as_nanos();
        if per < u128::from(self.permits) || per > 86_400_000_000_000 {
            let allowed = "at least a nanosecond for each permit, at most a day";
            return Err(InvalidConfig::new("per", perf_core::duration::format(self.per), allowed));
        }
        Ok(())
    }

    /// Nanoseconds between two permits, rounded up so that the rate is never exceeded.
    pub(super) fn interval(&self) -> u64 {
        u64::try_from(self.per.as_nanos().div_ceil(u128::from(self.permits.max(1)))).unwrap_or(u64::MAX)
    }
}

/// What a configuration file can say about a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RateConfig {
    /// The rate and the burst; default 100 a second, 10 at once.
    pub quota: Quota,
    /// How long one may wait for a turn; default [`DEFAULT_MAX_WAIT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_wait: Duration,
    /// How many keys a keyed limiter remembers, 1 to 10 million; default [`DEFAULT_MAX_KEYS`].
    pub max_keys: usize,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self { quota: per_second(100).burst(10), max_wait: DEFAULT_MAX_WAIT, max_keys: DEFAULT_MAX_KEYS }
    }
}

impl RateConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.quota.validate().map_err(|e| e.within("quota"))?;
        if !(1..=10_000_000).contains(&self.max_keys) {
            return Err(InvalidConfig::new("max_keys", self.max_keys, "1 to 10000000"));
        }
        Ok(())
    }
}
