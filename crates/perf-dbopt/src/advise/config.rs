use super::search::Limits;
use perf_core::InvalidConfig;
use perf_core::time::now;
use std::time::Duration;

/// New indexes proposed at once unless said otherwise: more than a reviewer reads is no advice.
pub const DEFAULT_MAX_INDEXES: usize = 20;
/// New indexes on one table unless said otherwise: every write pays for each.
pub const DEFAULT_MAX_PER_TABLE: usize = 5;
/// The least share of the workload's cost an index must save unless said otherwise.
pub const DEFAULT_MIN_SAVING: f64 = 0.001;
/// How often the planner is asked at most unless said otherwise; about a second of PostgreSQL's time.
pub const DEFAULT_PLANNER_CALLS: usize = 5000;
/// How long the search takes at most unless said otherwise; the best set found by then is the answer.
pub const DEFAULT_TIME: Duration = Duration::from_secs(2);

/// What a configuration file can say about index advice.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct AdvisorConfig {
    /// Bytes all new indexes may take together; no limit unless said otherwise.
    pub max_bytes: Option<u64>,
    /// New indexes proposed at once, 1 to 1000. [`DEFAULT_MAX_INDEXES`].
    pub max_indexes: usize,
    /// New indexes on one table, 1 to 100. [`DEFAULT_MAX_PER_TABLE`].
    pub max_per_table: usize,
    /// The least share of the workload's cost an index must save, 0 to 1. [`DEFAULT_MIN_SAVING`].
    pub min_saving: f64,
    /// How much dearer one statement may become, as a share, 0 to 10. `0.1`.
    pub max_regression: f64,
    /// Tables with fewer rows are left alone: reading them whole is as quick. `500`.
    pub min_rows: u64,
    /// How often the planner is asked at most. [`DEFAULT_PLANNER_CALLS`].
    pub planner_calls: usize,
    /// How long the search takes at most. [`DEFAULT_TIME`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub time: Duration,
    /// Whether covering indexes are considered. `true`.
    pub covering: bool,
    /// Whether partial indexes are considered. `true`.
    pub partial: bool,
    /// Whether indexes on expressions are considered. `true`.
    pub expressions: bool,
    /// Whether block-range indexes are considered, where a large table's rows lie in the order of a column. `true`.
    pub brin: bool,
}

impl Default for AdvisorConfig {
    fn default() -> Self {
        Self {
            max_bytes: None,
            max_indexes: DEFAULT_MAX_INDEXES,
            max_per_table: DEFAULT_MAX_PER_TABLE,
            min_saving: DEFAULT_MIN_SAVING,
            max_regression: 0.1,
            min_rows: 500,
            planner_calls: DEFAULT_PLANNER_CALLS,
            time: DEFAULT_TIME,
            covering: true,
            partial: true,
            expressions: true,
            brin: true,
        }
    }
}

impl AdvisorConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1..=1000).contains(&self.max_indexes) {
            return Err(InvalidConfig::new("max_indexes", self.max_indexes, "1 to 1000"));
        }
        if !(1..=100).contains(&self.max_per_table) {
            return Err(InvalidConfig::new("max_per_table", self.max_per_table, "1 to 100"));
        }
        if !(0.0..=1.0).contains(&self.min_saving) {
            return Err(InvalidConfig::new("min_saving", self.min_saving, "0 to 1"));
        }
        if !(0.0..=10.0).contains(&self.max_regression) {
            return Err(InvalidConfig::new("max_regression", self.max_regression, "0 to 10"));
        }
        if self.planner_calls == 0 {
            return Err(InvalidConfig::new("planner_calls", self.planner_calls, "at least 1"));
        }
        Ok(())
    }

    /// The limits of a search that begins now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            bytes: self.max_bytes.map_or(f64::INFINITY, |bytes| bytes as f64),
            count: self.max_indexes,
            per_table: self.max_per_table,
            min_saving: self.min_saving,
            max_regression: self.max_regression,
            planner_calls: self.planner_calls,
            deadline: now().checked_add(self.time),
        }
    }
}
