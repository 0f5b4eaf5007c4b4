use perf_core::InvalidConfig;
use perf_core::time::Duration;

/// Enough for a busy service in front of a database, and little enough for the database to survive it.
pub const DEFAULT_LIMIT: u32 = 64;
/// As many may wait as may run: a queue longer than that only adds latency.
pub const DEFAULT_QUEUE: u32 = 64;
/// Nobody gains from waiting longer than a second for a place.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(1);

/// What a configuration file can say about a bulkhead.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// How many calls may run at once, 1 to a million; default [`DEFAULT_LIMIT`].
    pub limit: u32,
    /// How many may wait, 0 to a million; one more is refused at once. Default [`DEFAULT_QUEUE`].
    pub queue: u32,
    /// How long one may wait, unless its deadline is earlier; default [`DEFAULT_MAX_WAIT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_wait: Duration,
    /// Serves the newest first while the oldest has used up half of its wait: under overload the oldest have often been
    /// given up by their callers. Default on.
    pub newest_first_when_late: bool,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            queue: DEFAULT_QUEUE,
            max_wait: DEFAULT_MAX_WAIT,
            newest_first_when_late: true,
        }
    }
}

/// The largest limit and queue.
pub(super) const MOST: u32 = 1_000_000;

impl BulkheadConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.limit == 0 || self.limit > MOST {
            return Err(InvalidConfig::new("limit", self.limit, format!("1 to {MOST}")));
        }
        if self.queue > MOST {
            return Err(InvalidConfig::new("queue", self.queue, format!("0 to {MOST}")));
        }
        Ok(())
    }
}
