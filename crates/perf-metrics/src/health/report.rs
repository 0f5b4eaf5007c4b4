use super::Lifecycle;
use perf_core::{Component, Status};
use std::time::Duration;

/// The health of a group at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Report {
    /// The group.
    pub group: String,
    /// The verdict: a check that is not fatal makes it at worst degraded.
    pub status: Status,
    /// Why, in one line; empty when all is well.
    pub reason: String,
    /// Where the host is in its life.
    pub lifecycle: Lifecycle,
    /// The checks.
    pub checks: Vec<CheckReport>,
}

/// The health of one check.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// Why; empty when all is well.
    pub reason: String,
    /// Whether the host cannot serve without it.
    pub fatal: bool,
    /// Age of the result; absent before the first one and for components.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub age: Option<Duration>,
}

impl CheckReport {
    pub(super) fn of_component(component: &dyn Component) -> Self {
        let (id, health) = (component.id(), component.health());
        Self {
            name: format!("{}/{}", id.kind(), id.name()),
            status: health.status(),
            reason: health.reason().to_owned(),
            fatal: false,
            age: None,
        }
    }
}

impl Report {
    pub(super) fn of(group: &str, lifecycle: Lifecycle, checks: Vec<CheckReport>) -> Self {
        let mut report =
            Self { group: group.to_owned(), status: Status::Up, reason: String::new(), lifecycle, checks };
        let weighed = |check: &CheckReport| match check.status {
            Status::Unknown | Status::Down if !check.fatal => Status::Degraded,
            status => status,
        };
        let worst = report.checks.iter().max_by_key(|check| weighed(check));
        if let Some((status, reason)) =
            worst.map(|check| (weighed(check), format!("{}: {}", check.name, check.reason)))
            && status != Status::Up
        {
            (report.status, report.reason) = (status, reason);
        }
        report
    }

    /// The same at no better than `status`.
    pub(super) fn capped(mut self, status: Status, reason: &str) -> Self {
        if self.status < status {
            (self.status, self.reason) = (status, reason.to_owned());
        }
        self
    }

    /// Whether a probe should answer 200: degraded still serves, unknown and down do not.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.status, Status::Up | Status::Degraded)
    }
}
