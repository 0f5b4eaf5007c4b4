use perf_core::{Name, Rejected, duration};
use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// The error of a manager, shared by everyone it concerns. Its text and its sources are the manager's.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl Cause {
    /// Takes in an error.
    pub fn new(error: impl StdError + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error itself, to be looked at by its type.
    #[must_use]
    pub fn get(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Who has held a connection longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where it was acquired.
    pub site: &'static Location<'static>,
    /// For how long it has been held.
    pub held: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held {} by {}:{}", whole_milliseconds(self.held), self.site.file(), self.site.line())
    }
}

/// What a caller met whose time ran out while all connections were in use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "timed out after {} waiting for a connection of `{pool}`: {in_use} in use, {waiters} waiting{}",
    whole_milliseconds(*.waited), longest(*.holder)
)]
#[non_exhaustive]
pub struct Saturated {
    /// The pool.
    pub pool: Name,
    /// How long the caller waited.
    pub waited: Duration,
    /// Connections out on lease.
    pub in_use: usize,
    /// Callers still waiting.
    pub waiters: usize,
    /// Who has held a connection longest.
    pub holder: Option<Holder>,
    /// The same as the one refusal type of the house, so that it can be found behind this error.
    #[source]
    pub refusal: Rejected,
}

/// An endpoint that was tried, and why it gave no connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tried {
    /// The endpoint, without a password or a query if its name is a URL.
    pub endpoint: String,
    /// What it said.
    pub error: Error,
}

/// Several endpoints were tried, and none gave a connection. Its source is the error of the last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exhausted {
    /// The balanced pool.
    pub pool: Name,
    /// The endpoints in the order they were tried, at least two.
    pub tried: Vec<Tried>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} endpoints of `{}` gave a connection", self.tried.len(), self.pool)?;
        for (index, Tried { endpoint, error }) in self.tried.iter().enumerate() {
            write!(f, "{} {endpoint}: {error}", if index == 0 { ":" } else { ";" })?;
            if let Some(cause) = error.source() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Exhausted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.tried.last().map(|last| &last.error as &(dyn StdError + 'static))
    }
}

/// Why there is no connection. When a time ran out it says which wait it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pool refused without waiting: it is closed, its queue is full, or the wait would outlast the deadline.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// The deadline passed while all connections were in use.
    #[error(transparent)]
    Saturated(Box<Saturated>),
    /// The deadline passed while connections were being made, or making one failed for good.
    #[error(
        "no connection of `{pool}` after {} and {attempts} failed attempts to connect",
        whole_milliseconds(*.waited)
    )]
    Connecting {
        /// The pool.
        pool: Name,
        /// How long the caller waited.
        waited: Duration,
        /// Attempts that failed in a row.
        attempts: u32,
        /// The last error of the manager; none while the first attempt is still under way.
        source: Option<Cause>,
    },
    /// The deadline passed while an idle connection was being checked or a returned one put in order.
    #[error("timed out after {} checking a connection of `{pool}`", whole_milliseconds(*.waited))]
    Validating {
        /// The pool.
        pool: Name,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The deadline passed while the pool was paused.
    #[error("timed out after {} while `{}` was paused", whole_milliseconds(*.waited), .refusal.policy())]
    Paused {
        /// How long the caller waited.
        waited: Duration,
        /// The same as the one refusal type of the house.
        #[source]
        refusal: Rejected,
    },
    /// The manager panicked while it made the connection this caller was waiting for.
    #[error("the manager of `{pool}` panicked while connecting")]
    ManagerPanicked {
        /// The pool.
        pool: Name,
    },
    /// Several endpoints of a [`BalancedPool`](crate::balance::BalancedPool) were tried, and none gave a connection.
    #[error(transparent)]
    Exhausted(Box<Exhausted>),
    /// A caller would have to wait, but there is no tokio runtime here.
    #[error("no connection of `{pool}` is idle, and there is no tokio runtime to wait in")]
    NoRuntime {
        /// The pool.
        pool: Name,
    },
}

impl Error {
    /// The refusal behind the error, if it is one.
    #[must_use]
    pub fn rejected(&self) -> Option<&Rejected> {
        Rejected::find(self)
    }

    /// Whether a time ran out; of several endpoints, at the last.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Exhausted(all) => all.tried.last().is_some_and(|last| last.error.is_timeout()),
            Self::Saturated(_) | Self::Connecting { .. } | Self::Validating { .. } | Self::Paused { .. } => {
                true
            }
            Self::Rejected(_) | Self::ManagerPanicked { .. } | Self::NoRuntime { .. } => false,
        }
    }

    /// Whether the pool is closed, so that no later call can succeed; of several endpoints, all of their pools.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Rejected(refusal) => refusal.reason() == perf_core::Reason::Closed,
            Self::Exhausted(all) => all.tried.iter().all(|tried| tried.error.is_closed()),
            _ => false,
        }
    }
}

fn longest(holder: Option<Holder>) -> String {
    holder.map(|holder| format!(", {holder}")).unwrap_or_default()
}

/// Waits are told in whole milliseconds: the rest is noise.
fn whole_milliseconds(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    duration::format(Duration::from_millis(millis))
}
