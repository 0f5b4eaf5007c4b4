use perf_core::time::Duration;
use perf_core::{Backoff, InvalidConfig, Jitter, duration};

/// Two retries: the third attempt succeeds where the first two met a restarting instance, and a fourth rarely helps.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
/// Longer than most answers take, so that the first retry does not meet the same hiccup.
pub const DEFAULT_BASE: Duration = Duration::from_millis(50);
/// A caller rarely waits longer than a few seconds in all.
pub const DEFAULT_CAP: Duration = Duration::from_secs(5);
/// A server that asks for more than half a minute is not worth waiting for within one call.
pub const DEFAULT_HINT_CEILING: Duration = Duration::from_secs(30);
/// An attempt with less time than this only adds load.
pub const DEFAULT_MIN_ATTEMPT_TIME: Duration = Duration::from_millis(1);

/// How the delay grows from retry to retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Growth {
    /// Always the base.
    Constant,
    /// The base, twice the base, three times the base.
    Linear,
    /// Twice as long each time.
    #[default]
    Exponential,
    /// The sum of the two before.
    Fibonacci,
    /// Anywhere between the base and three times the last delay; brings its own jitter.
    Decorrelated,
}

/// What a configuration file can say about retries.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts in all, the first included, 1 to 100; default [`DEFAULT_MAX_ATTEMPTS`].
    pub max_attempts: u32,
    /// How the delay grows; default exponential.
    pub growth: Growth,
    /// The first delay, before jitter; default [`DEFAULT_BASE`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub base: Duration,
    /// The longest computed delay; default [`DEFAULT_CAP`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub cap: Duration,
    /// How the delay is spread; default full.
    pub jitter: Jitter,
    /// The longest wait a server's hint can bring about; default [`DEFAULT_HINT_CEILING`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub hint_ceiling: Duration,
    /// No attempt is begun with less time left than this; default [`DEFAULT_MIN_ATTEMPT_TIME`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub min_attempt_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            growth: Growth::default(),
            base: DEFAULT_BASE,
            cap: DEFAULT_CAP,
            jitter: Jitter::default(),
            hint_ceiling: DEFAULT_HINT_CEILING,
            min_attempt_time: DEFAULT_MIN_ATTEMPT_TIME,
        }
    }
}

impl RetryConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1..=100).contains(&self.max_attempts) {
            return Err(InvalidConfig::new("max_attempts", self.max_attempts, "1 to 100"));
        }
        if self.hint_ceiling < self.base {
            let allowed = format!("at least base, {}", duration::format(self.base));
            return Err(InvalidConfig::new("hint_ceiling", duration::format(self.hint_ceiling), allowed));
        }
        self.backoff().validate()
    }

    /// The delay sequence.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        let shape = match self.growth {
            Growth::Constant => Backoff::constant(self.base),
            Growth::Linear => Backoff::linear(self.base),
            Growth::Exponential => Backoff::exponential(self.base),
            Growth::Fibonacci => Backoff::fibonacci(self.base),
            Growth::Decorrelated => Backoff::decorrelated(self.base),
        };
        shape.cap(self.cap).jitter(self.jitter)
    }
}
