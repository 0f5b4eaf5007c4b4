use perf_core::time::Duration;
use perf_core::{Evidence, Name};
use std::fmt;

/// The state a breaker is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls go through and are judged.
    Closed,
    /// Calls are refused until the wait is over.
    Open,
    /// A few calls go through as probes.
    HalfOpen,
    /// Refuses everything until resumed.
    ForcedOpen,
    /// Lets everything through and records it, until resumed.
    ForcedClosed,
    /// Lets everything through and does not look, until resumed.
    Disabled,
    /// Lets everything through, and says when it would have opened.
    Observing,
}

impl BreakerState {
    /// Every state: the closed set of the label `state`.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Disabled,
        Self::Observing,
    ];

    /// The label value, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::Observing => "observing",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a breaker opened, or refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Too large a share of calls failed.
    FailureRate {
        /// The share of failures.
        rate: f64,
        /// The share allowed.
        limit: f64,
        /// How many calls the rate is taken over.
        calls: u32,
    },
    /// Too large a share of calls was slow.
    SlowRate {
        /// The share of slow calls.
        rate: f64,
        /// The share allowed.
        limit: f64,
        /// How many calls the rate is taken over.
        calls: u32,
    },
    /// Too many calls failed one after the other.
    InARow {
        /// How many.
        failures: u32,
    },
    /// The probes did not convince.
    ProbesFailed {
        /// How many failed or were slow.
        failed: u32,
        /// How many a probation has.
        probes: u32,
    },
    /// All probes are out, and their answers are awaited.
    Probing {
        /// How many a probation has.
        probes: u32,
    },
    /// Just closed, and letting only a share through.
    Ramping {
        /// The share.
        share: f64,
    },
}

impl Cause {
    /// The number that decided, for the refusal.
    pub(super) fn evidence(self) -> Evidence {
        match self {
            Self::FailureRate { rate, limit, .. } => Evidence { what: "failure rate", observed: rate, limit },
            Self::SlowRate { rate, limit, .. } => Evidence { what: "slow rate", observed: rate, limit },
            Self::InARow { failures } => Evidence {
                what: "failures in a row",
                observed: f64::from(failures),
                limit: f64::from(failures),
            },
            Self::ProbesFailed { failed, probes } => {
                Evidence { what: "failed probes", observed: f64::from(failed), limit: f64::from(probes) }
            }
            Self::Probing { probes } => {
                Evidence { what: "probes out", observed: f64::from(probes), limit: f64::from(probes) }
            }
            Self::Ramping { share } => Evidence { what: "share let through", observed: share, limit: 1.0 },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        match *self {
            Self::FailureRate { rate, limit, calls } => {
                write!(f, "{:.1} % of {calls} calls failed, limit {:.0} %", percent(rate), percent(limit))
            }
            Self::SlowRate { rate, limit, calls } => {
                write!(f, "{:.1} % of {calls} calls were slow, limit {:.0} %", percent(rate), percent(limit))
            }
            Self::InARow { failures } => write!(f, "{failures} calls failed in a row"),
            Self::ProbesFailed { failed, probes } => write!(f, "{failed} of {probes} probes failed"),
            Self::Probing { probes } => write!(f, "all {probes} probes are out"),
            Self::Ramping { share } => write!(f, "only {:.0} % of calls go through yet", percent(share)),
        }
    }
}

/// Something rare that happened to a breaker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BreakerEvent {
    /// It opened.
    Opened {
        /// Why; with several conditions met, the first in the order in-a-row, failures, slow calls.
        cause: Cause,
        /// For how long.
        wait: Duration,
    },
    /// Its wait is over and it lets probes through.
    HalfOpened,
    /// It closed.
    Closed,
    /// It only observes, and would have opened.
    WouldOpen {
        /// Why.
        cause: Cause,
    },
    /// Somebody put it into a state by hand.
    SetByHand {
        /// The state.
        state: BreakerState,
        /// The reason given.
        reason: Name,
    },
}
