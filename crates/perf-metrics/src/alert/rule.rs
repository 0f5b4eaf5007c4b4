use super::signal::Signal;
use super::slo::Burn;
use super::state::Timing;
use perf_core::time::Duration;
use std::collections::BTreeMap;

/// How often an alert may fire within [`DEFAULT_FLAP_WINDOW`] before it counts as flapping.
pub const DEFAULT_FLAPS: usize = 5;

/// The window in which flapping is looked for.
pub const DEFAULT_FLAP_WINDOW: Duration = Duration::from_secs(30 * 60);

/// Who should be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Severity {
    /// Somebody, now.
    Page,
    /// Somebody, in working hours.
    #[default]
    Ticket,
    /// Nobody; it is on the page.
    Info,
}

impl Severity {
    /// The word used as label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Info => "info",
        }
    }
}

/// What becomes of a firing alert without data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Missing {
    /// It goes on firing: not to see a fire is not to have put it out.
    #[default]
    Keep,
    /// It resolves, as in Prometheus.
    Resolve,
}

/// The condition of a rule.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Above { signal: Signal, raise: f64, clear: f64 },
    Below { signal: Signal, raise: f64, clear: f64 },
    Burn(Burn),
}

/// An alert: a signal, a threshold, and how long it must be crossed.
///
/// ```
/// use perf_metrics::{Rule, Severity, Signal};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let rule = Rule::above("PoolExhausted", Signal::quantile("perf_pool_wait_seconds", 0.99, minute), 0.05)
///     .clear(0.03)
///     .hold(Duration::from_secs(30))
///     .severity(Severity::Page)
///     .summary("waiting for a connection takes long");
/// assert_eq!(rule.name(), "PoolExhausted");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a rule is evaluated once it is added to an `AlertsBuilder`"]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) condition: Condition,
    pub(crate) hold: Duration,
    pub(crate) keep_firing: Duration,
    pub(crate) min_samples: u64,
    pub(crate) missing: Missing,
    pub(crate) severity: Severity,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) summary: String,
    pub(crate) inhibited_by: Option<String>,
    pub(crate) flaps: usize,
    pub(crate) flap_window: Duration,
}

impl Rule {
    pub(crate) fn with_condition(name: impl Into<String>, condition: Condition) -> Self {
        Self {
            name: name.into(),
            condition,
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
            min_samples: 0,
            missing: Missing::default(),
            severity: Severity::default(),
            labels: BTreeMap::new(),
            summary: String::new(),
            inhibited_by: None,
            flaps: DEFAULT_FLAPS,
            flap_window: DEFAULT_FLAP_WINDOW,
        }
    }

    /// Alerts when `signal` is above `threshold`.
    pub fn above(name: impl Into<String>, signal: Signal, threshold: f64) -> Self {
        Self::with_condition(name, Condition::Above { signal, raise: threshold, clear: threshold })
    }

    /// Alerts when `signal` is below `threshold`.
    pub fn below(name: impl Into<String>, signal: Signal, threshold: f64) -> Self {
        Self::with_condition(name, Condition::Below { signal, raise: threshold, clear: threshold })
    }

    /// The threshold at which a firing alert resolves; the one at which it fires unless set. Without effect on SLOs.
    pub fn clear(mut self, threshold: f64) -> Self {
        if let Condition::Above { clear, .. } | Condition::Below { clear, .. } = &mut self.condition {
            *clear = threshold;
        }
        self
    }

    /// How long the condition must hold; zero by default.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How long it goes on firing after the condition ceased; zero by default.
    pub fn keep_firing(mut self, keep_firing: Duration) -> Self {
        self.keep_firing = keep_firing;
        self
    }

    /// Samples the signal must rest on; with fewer there is no verdict. Zero by default.
    pub fn min_samples(mut self, min_samples: u64) -> Self {
        self.min_samples = min_samples;
        self
    }

    /// What becomes of it without data.
    pub fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    /// Who should be told.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// A label of the alert.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// One line for people.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// Nobody is told of it while the alert `name` fires.
    pub fn inhibited_by(mut self, name: impl Into<String>) -> Self {
        self.inhibited_by = Some(name.into());
        self
    }

    /// How often it may fire within `window` before it counts as flapping.
    pub fn flapping(mut self, times: usize, window: Duration) -> Self {
        (self.flaps, self.flap_window) = (times, window);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            hold: self.hold,
            keep_firing: self.keep_firing,
            resolve_without_data: self.missing == Missing::Resolve,
            flaps: self.flaps.max(1),
            flap_window: self.flap_window,
        }
    }

    /// Whether it can be exported and evaluated.
    pub(crate) fn validate(&self) -> Result<(), InvalidRule> {
        let finite = match &self.condition {
            Condition::Above { raise, clear, .. } => raise.is_finite() && clear <= raise,
            Condition::Below { raise, clear, .. } => raise.is_finite() && clear >= raise,
            Condition::Burn(burn) => burn.is_valid(),
        };
        if !finite {
            return Err(InvalidRule::Threshold(self.name.clone()));
        }
        if !crate::names::is_metric(&self.name) || self.labels.keys().any(|key| !crate::names::is_label(key))
        {
            return Err(InvalidRule::Name(self.name.clone()));
        }
        Ok(())
    }
}

/// A rule that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRule {
    /// The name, or one of its labels, is not legal.
    #[error("the alert `{0}` needs a name and labels of letters, digits and `_`")]
    Name(String),
    /// A threshold is not finite, the threshold for resolving is on the wrong side, or an objective is not in (0, 1).
    #[error("the thresholds of the alert `{0}` exclude each other or are not finite")]
    Threshold(String),
    /// Two rules have one name.
    #[error("two alerts are named `{0}`")]
    Duplicate(String),
    /// A rule is inhibited by one that does not exist.
    #[error("the alert `{rule}` is inhibited by `{by}`, which does not exist")]
    UnknownInhibitor {
        /// The inhibited rule.
        rule: String,
        /// The unknown one.
        by: String,
    },
}
