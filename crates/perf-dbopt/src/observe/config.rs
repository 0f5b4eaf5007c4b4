use perf_core::InvalidConfig;
use std::time::Duration;

/// Statements kept apart unless said otherwise: a large application has a few hundred; each costs about
/// 9 KiB, and as much again for each thread that sends it often.
pub const DEFAULT_MAX_STATEMENTS: usize = 2000;
/// A query that takes this long is slow unless said otherwise: people notice a page that waits for two of them.
pub const DEFAULT_SLOW: Duration = Duration::from_millis(50);
/// Slow queries remembered unless said otherwise: enough for a page, small enough to never matter.
pub const DEFAULT_SLOW_LOG: usize = 128;
/// Repetitions of one single-row statement inside one request that count as N+1 unless said otherwise: a page that
/// loads a handful of things one by one is common and harmless, eight are a loop.
pub const DEFAULT_N_PLUS_ONE: u32 = 8;
/// Routes kept apart unless said otherwise: those of a large application.
pub const DEFAULT_MAX_ROUTES: usize = 500;
/// How often at most one statement is explained when it is slow, unless said otherwise.
pub const DEFAULT_EXPLAIN_EVERY: Duration = Duration::from_secs(600);

/// What a configuration file can say about observing queries.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ObserverConfig {
    /// Whether queries are recorded at all. `true`.
    pub enabled: bool,
    /// Statements kept apart, 1 to 100 000; beyond it the least used share one line. [`DEFAULT_MAX_STATEMENTS`].
    pub max_statements: usize,
    /// From which time on a query is slow. [`DEFAULT_SLOW`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub slow: Duration,
    /// Slow queries remembered, 0 to 10 000. [`DEFAULT_SLOW_LOG`].
    pub slow_log: usize,
    /// Repetitions inside one scope that count as N+1, at least 2. [`DEFAULT_N_PLUS_ONE`].
    pub n_plus_one: u32,
    /// Routes kept apart, 0 to 100 000. [`DEFAULT_MAX_ROUTES`].
    pub max_routes: usize,
    /// How often at most one slow statement asks for its plan. [`DEFAULT_EXPLAIN_EVERY`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub explain_every: Duration,
}

impl Default for ObserverConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_statements: DEFAULT_MAX_STATEMENTS,
            slow: DEFAULT_SLOW,
            slow_log: DEFAULT_SLOW_LOG,
            n_plus_one: DEFAULT_N_PLUS_ONE,
            max_routes: DEFAULT_MAX_ROUTES,
            explain_every: DEFAULT_EXPLAIN_EVERY,
        }
    }
}

impl ObserverConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1..=100_000).contains(&self.max_statements) {
            return Err(InvalidConfig::new("max_statements", self.max_statements, "1 to 100000"));
        }
        if self.slow_log > 10_000 {
            return Err(InvalidConfig::new("slow_log", self.slow_log, "0 to 10000"));
        }
        if self.n_plus_one < 2 {
            return Err(InvalidConfig::new("n_plus_one", self.n_plus_one, "at least 2"));
        }
        if self.max_routes > 100_000 {
            return Err(InvalidConfig::new("max_routes", self.max_routes, "0 to 100000"));
        }
        Ok(())
    }
}
