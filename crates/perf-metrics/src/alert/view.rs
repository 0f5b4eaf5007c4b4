use super::rule::Severity;
use super::state::AlertState;
use perf_core::time::Duration;
use std::collections::BTreeMap;

/// An alert as it stands.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AlertView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: AlertState,
    /// Its last value; absent without data.
    pub value: Option<f64>,
    /// How long it has been pending or firing.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub active_for: Option<Duration>,
    /// How long there has been no data.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub no_data_for: Option<Duration>,
    /// Why there is no verdict: `insufficient_history`, `insufficient_traffic`, or nothing.
    pub insufficient: Option<&'static str>,
    /// Whether it fires too often to be believed.
    pub flapping: bool,
    /// Whether nobody is told because another alert fires.
    pub inhibited: bool,
    /// Who should be told.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
}

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Change {
    /// It started to fire.
    Fired,
    /// It stopped.
    Resolved,
    /// It does both so often that nothing more is said until it is quiet.
    Flapping,
}

/// Something to tell somebody.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AlertEvent {
    /// The alert.
    pub name: String,
    /// What happened.
    pub change: Change,
    /// The value at that moment; absent without data.
    pub value: Option<f64>,
    /// How long its condition has held, or had held when it resolved.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub active_for: Duration,
    /// Who should be told.
    pub severity: Severity,
    /// The labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// One line for people.
    pub summary: String,
}
