//! What alerts remember, to be kept across a restart.

use super::state::AlertState;
use perf_core::time::Duration;
use std::collections::BTreeMap;

/// What [`Alerts`](crate::Alerts) remember at a moment: where each alert is, and the past of every total a rate or an
/// objective looks at. Kept in a file by the host, it lets alerts and burn rates go on after a restart instead of
/// beginning anew.
///
/// ```
/// use perf_metrics::{AlertState, Alerts, Metrics, Rule, Signal};
/// use std::time::Duration;
///
/// let metrics = Metrics::builder().build().unwrap();
/// let depth = metrics.gauge("depth", "Depth").get().unwrap();
/// let rule = || Rule::above("Full", Signal::level("depth"), 9.0).hold(Duration::from_secs(60));
/// let (before, now) = (Alerts::builder().rule(rule()).build(&metrics).unwrap(), perf_core::time::now());
/// depth.set(10.0);
/// before.tick(now);
/// before.tick(now + Duration::from_secs(50));
/// let remembered = before.snapshot();
///
/// // The process starts again five seconds later.
/// let after = Alerts::builder().rule(rule()).build(&metrics).unwrap();
/// after.restore(&remembered, Duration::from_secs(5), now + Duration::from_secs(55));
/// after.tick(now + Duration::from_secs(66));
/// assert_eq!(after.views()[0].state, AlertState::Firing);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AlertsSnapshot {
    /// The alerts that are pending or firing, by name.
    pub(crate) alerts: BTreeMap<String, AlertMemory>,
    /// The past of each total, by its expression.
    pub(crate) totals: BTreeMap<String, TotalMemory>,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct AlertMemory {
    pub(crate) state: AlertState,
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub(crate) active_for: Duration,
    /// Somebody was told.
    pub(crate) told: bool,
}

/// A total as it was: for each resolution how many seconds ago it was what.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct TotalMemory {
    pub(crate) total: f64,
    pub(crate) levels: Vec<Vec<(f64, f64)>>,
}
