use async_trait::async_trait;
use perf_core::{Health, InvalidConfig, Name, duration};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Time between two runs of a check: an outage shows within ten seconds, at a load nobody notices.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// Time a check may take: what takes longer than two seconds does not help a request either.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Failures in a row until a check that was up is down, as in Kubernetes: one lost packet is no outage.
pub const DEFAULT_FAILURES: u32 = 3;

/// Successes in a row until a check that was down is up, as in Kubernetes.
pub const DEFAULT_SUCCESSES: u32 = 1;

/// Asks something how it is. Implemented by closures that return a future of [`Health`].
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// Asks. Dropped when it takes longer than its timeout.
    async fn check(&self) -> Health;

    /// Whether the answer depends on the network. Such a check may not decide liveness.
    fn touches_network(&self) -> bool {
        true
    }
}

#[async_trait]
impl<F, A> HealthCheck for F
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Health> + Send + 'static,
{
    async fn check(&self) -> Health {
        self().await
    }
}

/// What it means for the host when a check is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Criticality {
    /// The host cannot serve: readiness fails.
    Fatal,
    /// The host serves less well: readiness warns.
    #[default]
    Degraded,
}

/// A check and how it is run.
///
/// | setting | default | range |
/// |---|---|---|
/// | `criticality` | `Degraded` | |
/// | `interval` | 10 s | 10 ms to 1 day |
/// | `timeout` | 2 s | 1 ms to 1 hour |
/// | `failures` | 3 | at least 1 |
/// | `successes` | 1 | at least 1 |
#[derive(Clone)]
#[must_use = "a check runs once it is added to a `HealthChecksBuilder` and that is started"]
pub struct Check {
    pub(super) name: Name,
    pub(super) check: Arc<dyn HealthCheck>,
    pub(super) touches_network: bool,
    pub(super) criticality: Criticality,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) failures: u32,
    pub(super) successes: u32,
}

impl Check {
    /// A check with the defaults.
    pub fn new(name: impl Into<Name>, check: impl HealthCheck) -> Self {
        Self {
            name: name.into(),
            touches_network: check.touches_network(),
            check: Arc::new(check),
            criticality: Criticality::default(),
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            failures: DEFAULT_FAILURES,
            successes: DEFAULT_SUCCESSES,
        }
    }

    /// What it means when it is down.
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// Time between two runs; each is jittered by up to a tenth, so that instances do not ask in step.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Time a run may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Failures in a row until it is down.
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Successes in a row until it is up again.
    pub fn successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// The answer comes from within the process; the check may decide liveness.
    pub fn local(mut self) -> Self {
        self.touches_network = false;
        self
    }

    pub(super) fn validate(&self) -> Result<(), InvalidCheck> {
        let within = |field: &str, value: Duration, low: Duration, high: Duration| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let allowed = format!("{} to {}", duration::format(low), duration::format(high));
            Err(InvalidCheck::Config(
                InvalidConfig::new(field, duration::format(value), allowed).within(&self.name),
            ))
        };
        within("interval", self.interval, Duration::from_millis(10), Duration::from_secs(86_400))?;
        within("timeout", self.timeout, Duration::from_millis(1), Duration::from_secs(3_600))?;
        for (field, value) in [("failures", self.failures), ("successes", self.successes)] {
            if value == 0 {
                return Err(InvalidCheck::Config(
                    InvalidConfig::new(field, value, "at least 1").within(&self.name),
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("criticality", &self.criticality)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Health checks that cannot be started as described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCheck {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Two checks have one name.
    #[error("two health checks are named `{0}`")]
    Duplicate(Name),
    /// A group names a check that does not exist.
    #[error("the health group `{group}` names the check `{check}`, which does not exist")]
    UnknownCheck {
        /// The group.
        group: String,
        /// The unknown check.
        check: String,
    },
    /// A check that depends on the network is in the group `liveness`.
    #[error(
        "the check `{0}` touches the network, so it cannot decide liveness: a restart would not mend the network"
    )]
    NetworkInLiveness(Name),
}
