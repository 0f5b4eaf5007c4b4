use crate::breaker::BreakerConfig;
use crate::bulkhead::BulkheadConfig;
use crate::retry::{BudgetConfig, RetryConfig};
use perf_core::time::Duration;
use perf_core::{InvalidConfig, duration};

/// What a configuration file can say about a pipeline. A section that is left out is a stage that is left out, except
/// for the bound on concurrency and the budget, which are there unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// How long a call may take with all its attempts; none by default.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub deadline: Option<Duration>,
    /// How many calls may run at once and wait for that; `None` for no bound.
    pub bulkhead: Option<BulkheadConfig>,
    /// When to try again; never by default.
    pub retry: Option<RetryConfig>,
    /// What pays for retries and hedges.
    pub budget: BudgetConfig,
    /// Whether every operation through this pipeline may be done twice; default no.
    pub idempotent: bool,
    /// When to stop calling; never by default.
    pub breaker: Option<BreakerConfig>,
    /// How long one attempt may take; no limit but the deadline by default.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub attempt_timeout: Option<Duration>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            deadline: None,
            bulkhead: Some(BulkheadConfig::default()),
            retry: None,
            budget: BudgetConfig::default(),
            idempotent: false,
            breaker: None,
            attempt_timeout: None,
        }
    }
}

impl PipelineConfig {
    /// Checks every section, and that they fit together.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if let Some(bulkhead) = &self.bulkhead {
            bulkhead.validate().map_err(|e| e.within("bulkhead"))?;
        }
        if let Some(retry) = &self.retry {
            retry.validate().map_err(|e| e.within("retry"))?;
        }
        self.budget.validate().map_err(|e| e.within("budget"))?;
        if let Some(breaker) = &self.breaker {
            breaker.validate().map_err(|e| e.within("breaker"))?;
        }
        check_times(self.deadline, self.attempt_timeout)
    }
}

pub(super) fn check_times(
    deadline: Option<Duration>,
    attempt_timeout: Option<Duration>,
) -> Result<(), InvalidConfig> {
    for (field, time) in [("deadline", deadline), ("attempt_timeout", attempt_timeout)] {
        if time == Some(Duration::ZERO) {
            return Err(InvalidConfig::new(field, "0s", "longer than nothing"));
        }
    }
    match (deadline, attempt_timeout) {
        (Some(deadline), Some(attempt)) if attempt > deadline => Err(InvalidConfig::new(
            "attempt_timeout",
            duration::format(attempt),
            format!("at most the deadline, {}", duration::format(deadline)),
        )),
        _ => Ok(()),
    }
}
