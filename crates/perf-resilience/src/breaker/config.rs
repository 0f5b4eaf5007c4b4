use perf_core::time::Duration;
use perf_core::{InvalidConfig, duration};

/// Half of all calls failing is beyond any normal error rate, and low enough to act before callers pile up.
pub const DEFAULT_FAILURE_RATE: f64 = 0.5;
/// A hundred calls tell 50 % from 30 % with a probability of error below one in ten thousand.
pub const DEFAULT_WINDOW: Window = Window::Count(100);
/// Twenty calls are needed before a rate means anything (Hystrix' number).
pub const DEFAULT_MIN_CALLS: u32 = 20;
/// Five seconds let a restarted process come up, and cost little when it is up already.
pub const DEFAULT_OPEN_FOR: Duration = Duration::from_secs(5);
/// A dependency that stays down is asked at least once a minute.
pub const DEFAULT_OPEN_CAP: Duration = Duration::from_secs(60);
/// Each fruitless opening waits twice as long as the one before.
pub const DEFAULT_GROWTH: f64 = 2.0;
/// A tenth spreads the probes of a fleet without making the wait unpredictable.
pub const DEFAULT_JITTER: f64 = 0.1;
/// After a minute without trouble the next opening starts from the first wait again.
pub const DEFAULT_STABLE_AFTER: Duration = Duration::from_secs(60);
/// Ten probes tell a dependency that is back from one that answered once.
pub const DEFAULT_PROBES: u32 = 10;
/// A probe that has not reported after ten seconds gives its place to another.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// When every call is slow the dependency is as good as down; used once `slow_call` is set.
pub const DEFAULT_SLOW_RATE: f64 = 1.0;

/// Which calls a rate is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Window {
    /// The last so many calls: costs no clock reading, and never forgets while nobody calls.
    Count(u32),
    /// The calls of the last stretch of time, in ten buckets: forgets by itself, and reads the clock on every call.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    Time(Duration),
}

/// What a configuration file can say about a breaker.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Opens when failures ÷ calls in the window reaches this, in `(0, 1]`; default [`DEFAULT_FAILURE_RATE`].
    pub failure_rate: f64,
    /// Which calls the rates are taken over; default [`DEFAULT_WINDOW`].
    pub window: Window,
    /// No rate is known with fewer calls in the window, 1 up to the window; default [`DEFAULT_MIN_CALLS`].
    pub min_calls: u32,
    /// Opens, before `min_calls` are reached, once the calls still missing cannot bring the rate down; default on.
    pub decide_early: bool,
    /// Opens after so many failures in a row, whatever the rate; default off.
    pub consecutive: Option<u32>,
    /// A call that takes at least this long is slow, even when it succeeds; default off.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub slow_call: Option<Duration>,
    /// Opens when slow calls ÷ calls reaches this, in `(0, 1]`; default [`DEFAULT_SLOW_RATE`].
    pub slow_rate: f64,
    /// How long the first opening lasts; default [`DEFAULT_OPEN_FOR`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub open_for: Duration,
    /// Each opening after a failed probation lasts this many times as long; at least 1, default [`DEFAULT_GROWTH`].
    pub growth: f64,
    /// No opening lasts longer; default [`DEFAULT_OPEN_CAP`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub open_cap: Duration,
    /// The wait is spread by this share either way, in `[0, 1]`; default [`DEFAULT_JITTER`].
    pub jitter: f64,
    /// After so long without an opening the wait starts from `open_for` again; default [`DEFAULT_STABLE_AFTER`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub stable_after: Duration,
    /// How many calls a probation lets through, at once and in total; at least 1, default [`DEFAULT_PROBES`].
    pub probes: u32,
    /// How many of the probes must succeed; by default as many as keep the failures under `failure_rate`.
    pub probe_successes: Option<u32>,
    /// A probe that has not reported after this loses its place; default [`DEFAULT_PROBE_TIMEOUT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub probe_timeout: Duration,
    /// For so long after closing, only a growing share of calls is let through, from 10 %; default off. Worth it only
    /// for dependencies that start cold.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub ramp: Option<Duration>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_rate: DEFAULT_FAILURE_RATE,
            window: DEFAULT_WINDOW,
            min_calls: DEFAULT_MIN_CALLS,
            decide_early: true,
            consecutive: None,
            slow_call: None,
            slow_rate: DEFAULT_SLOW_RATE,
            open_for: DEFAULT_OPEN_FOR,
            growth: DEFAULT_GROWTH,
            open_cap: DEFAULT_OPEN_CAP,
            jitter: DEFAULT_JITTER,
            stable_after: DEFAULT_STABLE_AFTER,
            probes: DEFAULT_PROBES,
            probe_successes: None,
            probe_timeout: DEFAULT_PROBE_TIMEOUT,
            ramp: None,
        }
    }
}

/// The largest window: a million calls are 12 MB.
const MAX_WINDOW: u32 = 1_000_000;

impl BreakerConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        share("failure_rate", self.failure_rate)?;
        share("slow_rate", self.slow_rate)?;
        let most = match self.window {
            Window::Count(size) => {
                within("window.count", size, 1, MAX_WINDOW)?;
                size
            }
            Window::Time(span) => {
                positive("window.time", span)?;
                u32::MAX
            }
        };
        within("min_calls", self.min_calls, 1, most)?;
        within("consecutive", self.consecutive.unwrap_or(1), 1, u32::MAX)?;
        positive("slow_call", self.slow_call.unwrap_or(Duration::MAX))?;
        positive("open_for", self.open_for)?;
        if !(self.growth.is_finite() && self.growth >= 1.0) {
            return Err(InvalidConfig::new("growth", self.growth, "a finite number of at least 1"));
        }
        if self.open_cap < self.open_for {
            let allowed = format!("at least open_for, {}", duration::format(self.open_for));
            return Err(InvalidConfig::new("open_cap", duration::format(self.open_cap), allowed));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(InvalidConfig::new("jitter", self.jitter, "0 to 1"));
        }
        within("probes", self.probes, 1, 10_000)?;
        within("probe_successes", self.probe_successes.unwrap_or(1), 1, self.probes)?;
        positive("probe_timeout", self.probe_timeout)?;
        positive("ramp", self.ramp.unwrap_or(Duration::MAX))
    }

    /// How many probes must succeed for the breaker to close.
    #[must_use]
    pub fn needed_successes(&self) -> u32 {
        self.probe_successes.unwrap_or_else(|| {
            // The fewest failures that reach the rate are one too many.
            let too_many = (self.failure_rate * f64::from(self.probes)).ceil().max(1.0) as u32;
            (self.probes + 1).saturating_sub(too_many).max(1)
        })
    }
}

fn share(field: &str, value: f64) -> Result<(), InvalidConfig> {
    if value > 0.0 && value <= 1.0 {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, value, "above 0, up to 1"))
    }
}

fn within(field: &str, value: u32, low: u32, high: u32) -> Result<(), InvalidConfig> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(InvalidConfig::new(field, value, format!("{low} to {high}")))
}

fn positive(field: &str, value: Duration) -> Result<(), InvalidConfig> {
    if value.is_zero() { Err(InvalidConfig::new(field, "0s", "longer than nothing")) } else { Ok(()) }
}
