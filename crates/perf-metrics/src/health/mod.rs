//! Health that is known before anyone asks: checks run in the background, a probe reads the last result.
//!
//! A check that takes longer than its timeout is DOWN; it is told to stop and is not started again while it still runs,
//! so hanging checks never pile up. One that panics is DOWN with the panic's message. Results older than three intervals
//! are UNKNOWN, and unknown is not up.

mod check;
mod lifecycle;
mod report;
mod runner;
mod state;

pub use check::{
    Check, Criticality, DEFAULT_FAILURES, DEFAULT_INTERVAL, DEFAULT_SUCCESSES, DEFAULT_TIMEOUT, HealthCheck,
    InvalidCheck,
};
pub use lifecycle::Lifecycle;
pub use report::{CheckReport, Report};

use lifecycle::LifecycleCell;
use perf_core::{Component, ComponentId, Desc, Health, Name, Registry, Sink, Status, Unit, time};
use runner::Watched;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinHandle;

const STATUS: Desc = Desc::gauge(
    "perf_metrics_health_status",
    "State of a check: 1 up, 0.5 degraded, 0 down; absent while unknown",
    Unit::Count,
);
const RUNS: Desc = Desc::counter("perf_metrics_health_checks_total", "Checks that were started", Unit::Count);
const FAILURES: Desc =
    Desc::counter("perf_metrics_health_failures_total", "Checks that ended down or not at all", Unit::Count);
const DURATION: Desc =
    Desc::histogram("perf_metrics_health_check_seconds", "Time a check took", Unit::Seconds);

/// Background health checks and the life cycle of the host. Dropping it stops the checks.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use perf_core::{Health, Status};
/// use perf_metrics::{Check, Criticality, HealthChecks};
/// use std::time::Duration;
///
/// let health = HealthChecks::builder()
///     .check(Check::new("orders-db", || async { Health::up() }).criticality(Criticality::Fatal))
///     .start()
///     .unwrap();
/// assert_eq!(health.readiness().status, Status::Unknown); // Still starting.
///
/// health.ready();
/// health.settled().await;
/// assert_eq!(health.readiness().status, Status::Up);
///
/// health.drain();
/// assert!(!health.readiness().is_ok());
/// # });
/// ```
pub struct HealthChecks {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    checks: BTreeMap<Name, Arc<Watched>>,
    groups: BTreeMap<String, Vec<Name>>,
    lifecycle: LifecycleCell,
    components: Registry,
}

/// The group whose checks decide readiness; without one of that name every check does.
pub const READINESS: &str = "readiness";

/// The group whose checks decide liveness; it may not contain checks that touch the network.
pub const LIVENESS: &str = "liveness";

impl HealthChecks {
    /// Starts without checks.
    pub fn builder() -> HealthChecksBuilder {
        HealthChecksBuilder::default()
    }

    /// Where the host is in its life.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        self.shared.lifecycle.get()
    }

    /// The host has started: readiness follows its checks from now on. Has no effect once it drains.
    pub fn ready(&self) {
        self.shared.lifecycle.advance(Lifecycle::Ready);
    }

    /// The host stops taking requests: readiness fails from now on.
    pub fn drain(&self) {
        self.shared.lifecycle.advance(Lifecycle::Draining);
    }

    /// The host has stopped: liveness fails from now on, too.
    pub fn stop(&self) {
        self.shared.lifecycle.advance(Lifecycle::Stopped);
    }

    /// Whether the process is worth keeping alive: its liveness group, and that it has not stopped.
    #[must_use]
    pub fn liveness(&self) -> Report {
        let lifecycle = self.lifecycle();
        let report = self.group(LIVENESS).unwrap_or_else(|| Report::of(LIVENESS, lifecycle, Vec::new()));
        match lifecycle {
            Lifecycle::Stopped => report.capped(Status::Down, "the host has stopped"),
            _ => report,
        }
    }

    /// Whether requests should be sent here: the host is ready, and no fatal check is down or unknown.
    #[must_use]
    pub fn readiness(&self) -> Report {
        let lifecycle = self.lifecycle();
        let report =
            self.group(READINESS).unwrap_or_else(|| self.report_of(READINESS, self.shared.checks.keys()));
        match lifecycle {
            Lifecycle::Ready => report,
            Lifecycle::Starting => report.capped(Status::Unknown, "the host is starting"),
            Lifecycle::Draining => report.capped(Status::Down, "the host is draining"),
            Lifecycle::Stopped => report.capped(Status::Down, "the host has stopped"),
        }
    }

    /// Whether the host has started.
    #[must_use]
    pub fn startup(&self) -> Report {
        let report = Report::of("startup", self.lifecycle(), Vec::new());
        match self.lifecycle() {
            Lifecycle::Starting => report.capped(Status::Unknown, "the host is starting"),
            _ => report,
        }
    }

    /// Every check, and every component of the registry.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut checks: Vec<CheckReport> =
            self.shared.checks.values().map(|watched| watched.report(time::now())).collect();
        let components = self.shared.components.components();
        checks.extend(components.iter().map(|component| CheckReport::of_component(&**component)));
        Report::of("all", self.lifecycle(), checks)
    }

    /// The checks of a group, or `None` when there is no such group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Report> {
        let names = self.shared.groups.get(name)?;
        Some(self.report_of(name, names.iter()))
    }

    /// One check, or `None` when there is no such check.
    #[must_use]
    pub fn check(&self, name: &str) -> Option<CheckReport> {
        let watched = self.shared.checks.iter().find(|(known, _)| known.as_str() == name);
        watched.map(|(_, watched)| watched.report(time::now()))
    }

    /// The names of the groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.shared.groups.keys().map(String::as_str)
    }

    /// Waits until every check has had a first result. Each one is bounded by its timeout.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn settled(&self) {
        for watched in self.shared.checks.values() {
            watched.settled().await;
        }
    }

    /// The numbers of the checks, to be registered with [`Metrics`](crate::Metrics).
    #[must_use]
    pub fn component(&self) -> Arc<dyn Component> {
        Arc::new(Numbers(Arc::clone(&self.shared)))
    }

    fn report_of<'a>(&self, group: &str, names: impl Iterator<Item = &'a Name>) -> Report {
        let now = time::now();
        let watched = names.filter_map(|name| self.shared.checks.get(name));
        Report::of(group, self.lifecycle(), watched.map(|watched| watched.report(now)).collect())
    }
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChecks")
            .field("lifecycle", &self.lifecycle())
            .field("checks", &self.shared.checks.keys())
            .field("groups", &self.shared.groups)
            .finish_non_exhaustive()
    }
}

/// The checks as a component: numbers only, so that a report does not contain itself.
struct Numbers(Arc<Shared>);

impl Component for Numbers {
    fn id(&self) -> ComponentId {
        ComponentId::new("health", "checks")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let now = time::now();
        for (name, watched) in &self.0.checks {
            let labels = [("check", name.as_str())];
            match watched.report(now).status {
                Status::Up => sink.gauge(&STATUS, &labels, 1.0),
                Status::Degraded => sink.gauge(&STATUS, &labels, 0.5),
                Status::Down => sink.gauge(&STATUS, &labels, 0.0),
                Status::Unknown => {}
            }
            sink.counter(&RUNS, &labels, watched.runs());
            sink.counter(&FAILURES, &labels, watched.failures());
            sink.histogram(&DURATION, &labels, watched.durations());
        }
    }

    fn health(&self) -> Health {
        Health::up()
    }
}

/// Builds [`HealthChecks`].
#[derive(Debug, Default)]
#[must_use = "no check runs until `start` is called"]
pub struct HealthChecksBuilder {
    checks: Vec<Check>,
    groups: BTreeMap<String, Vec<String>>,
    components: Registry,
}

impl HealthChecksBuilder {
    /// Adds a check.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Adds checks to a group: [`READINESS`], [`LIVENESS`], or one of the host's own.
    pub fn group<'a>(mut self, name: &str, checks: impl IntoIterator<Item = &'a str>) -> Self {
        let members = self.groups.entry(name.to_owned()).or_default();
        members.extend(checks.into_iter().map(str::to_owned));
        self
    }

    /// Shows the health of a registry's components in the full report.
    pub fn components(mut self, registry: &Registry) -> Self {
        self.components = registry.clone();
        self
    }

    /// Starts the checks on the present tokio runtime.
    ///
    /// # Errors
    /// [`InvalidCheck`] when two checks have one name, a setting is out of range, a group names an unknown check, or a
    /// check in the group `liveness` touches the network: restarting this process would not mend the network.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(self) -> Result<HealthChecks, InvalidCheck> {
        let mut checks = BTreeMap::new();
        for check in self.checks {
            check.validate()?;
            let name = check.name.clone();
            if checks.insert(name.clone(), Arc::new(Watched::new(check))).is_some() {
                return Err(InvalidCheck::Duplicate(name));
            }
        }
        let groups = self.groups.into_iter().map(|(group, members)| {
            let members =
                members.into_iter().map(|name| member(&checks, &group, name)).collect::<Result<_, _>>();
            members.map(|members| (group, members))
        });
        let groups = groups.collect::<Result<_, _>>()?;
        let tasks = checks.values().map(|watched| tokio::spawn(runner::run(Arc::clone(watched)))).collect();
        let shared =
            Shared { checks, groups, lifecycle: LifecycleCell::default(), components: self.components };
        Ok(HealthChecks { shared: Arc::new(shared), tasks })
    }
}

fn member(checks: &BTreeMap<Name, Arc<Watched>>, group: &str, name: String) -> Result<Name, InvalidCheck> {
    let Some((name, watched)) = checks.get_key_value(&Name::from(name.clone())) else {
        return Err(InvalidCheck::UnknownCheck { group: group.to_owned(), check: name });
    };
    if group == LIVENESS && watched.touches_network() {
        return Err(InvalidCheck::NetworkInLiveness(name.clone()));
    }
    Ok(name.clone())
}
