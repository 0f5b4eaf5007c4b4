//! Which of the things found are worth doing now, in which order, within which time.

use crate::{Finding, FindingKind, Window};
use perf_core::InvalidConfig;
use std::time::Duration;

/// What may be done without asking, and how much of it at once.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct MaintenancePolicy {
    /// The part of the day in which anything is done. `None`: at any time.
    pub window: Option<Window>,
    /// How long one run may take; no action is begun after it, and none may run longer than what is left. `10m`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub budget: Duration,
    /// Actions of one run. `50`.
    pub max_actions: usize,
    /// Whether bloated and left-over indexes are rebuilt and removed as well. `false`: only VACUUM, ANALYZE and the like.
    pub indexes: bool,
}

impl Default for MaintenancePolicy {
    fn default() -> Self {
        Self { window: None, budget: Duration::from_secs(600), max_actions: 50, indexes: false }
    }
}

impl MaintenancePolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.budget.is_zero() {
            let value = perf_core::duration::format(self.budget);
            return Err(InvalidConfig::new("budget", value, "more than zero"));
        }
        Ok(())
    }

    /// The actions worth taking, the most urgent first: what ends in a standstill, then what is severe, then the rest.
    /// Findings without an action, and those this policy leaves to people, are left out.
    ///
    /// ```
    /// use perf_dbopt::{Finding, FindingKind, MaintenancePolicy, Severity};
    ///
    /// let vacuum = Finding::new(FindingKind::NeedsVacuum, Severity::Info, "t", "dead rows").with_action("VACUUM t");
    /// let drop = Finding::new(FindingKind::UnusedIndex, Severity::Info, "i", "unused").with_action("DROP INDEX i");
    /// assert_eq!(MaintenancePolicy::default().plan(&[drop, vacuum]), ["VACUUM t"]);
    /// ```
    #[must_use]
    pub fn plan(&self, findings: &[Finding]) -> Vec<String> {
        let mut wanted: Vec<&Finding> = findings.iter().filter(|finding| self.allows(finding.kind)).collect();
        wanted.sort_by_key(|finding| {
            let urgent = finding.kind == FindingKind::FreezeAge;
            (std::cmp::Reverse((urgent, finding.severity)), finding.kind)
        });
        let mut actions: Vec<String> = Vec::new();
        for action in wanted.iter().filter_map(|finding| finding.action.clone()) {
            if !actions.contains(&action) && actions.len() < self.max_actions {
                actions.push(action);
            }
        }
        actions
    }

    fn allows(&self, kind: FindingKind) -> bool {
        match kind {
            FindingKind::NeedsVacuum
            | FindingKind::NeedsAnalyze
            | FindingKind::FreezeAge
            | FindingKind::Checkpoint
            | FindingKind::FreePages => true,
            FindingKind::IndexBloat | FindingKind::InvalidIndex => self.indexes,
            _ => false,
        }
    }
}

/// What one run of maintenance did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Maintained {
    /// Statements that were run, in order.
    pub done: Vec<String>,
    /// Statements that failed, and what the database said: a lock held by others, a time that ran out.
    pub failed: Vec<(String, String)>,
    /// Statements for which no time was left.
    pub left: Vec<String>,
    /// Whether nothing was done because it is not the time of day for it.
    pub outside_window: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    fn finding(kind: FindingKind, severity: Severity, action: &str) -> Finding {
        Finding::new(kind, severity, "o", "m").with_action(action)
    }

    #[test]
    fn b7_what_ends_in_a_standstill_comes_first_and_dropping_is_left_to_people() {
        let findings = [
            finding(FindingKind::NeedsAnalyze, Severity::Info, "analyze"),
            finding(FindingKind::NeedsVacuum, Severity::Warning, "vacuum"),
            finding(FindingKind::DuplicateIndex, Severity::Critical, "drop"),
            finding(FindingKind::IndexBloat, Severity::Info, "reindex"),
            finding(FindingKind::FreezeAge, Severity::Warning, "freeze"),
            finding(FindingKind::NeedsVacuum, Severity::Warning, "vacuum"),
        ];
        let mut policy = MaintenancePolicy::default();
        assert_eq!(policy.plan(&findings), ["freeze", "vacuum", "analyze"]);
        policy.indexes = true;
        assert_eq!(policy.plan(&findings), ["freeze", "vacuum", "analyze", "reindex"]);
        policy.max_actions = 1;
        assert_eq!(policy.plan(&findings), ["freeze"]);
    }
}
