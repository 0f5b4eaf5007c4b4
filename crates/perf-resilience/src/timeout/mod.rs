//! Gives up on work that takes too long.
//!
//! A deadline is absolute and covers a whole call with all its attempts; a timeout is relative and covers one. The
//! timer is made only when the work first has to wait, and a result that is ready together with the timer wins.

#[cfg(feature = "tower")]
mod layer;

#[cfg(feature = "tower")]
pub use layer::{Limited, LimitedFuture, TimeoutLayer};

use crate::race::{Limit, Over, Race, Timer};
use crate::signal;
use crate::stats::stats;
use perf_core::time::{self, Duration};
use perf_core::{
    Component, ComponentId, Deadline, Desc, InvalidConfig, Name, Reason, Rejected, Sink, Unit, duration,
};
use std::pin::pin;
use std::sync::Arc;

/// What a person waits for without wondering.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

stats! {
    /// What a timeout has seen since it was made.
    TimeoutStats from Counters {
        /// Work that took longer than its own limit.
        timed_out,
        /// Work cut short by the deadline of the call it served.
        deadline_exceeded,
    }
}

/// What a configuration file can say about a timeout.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// The longest the work may take, more than nothing; default [`DEFAULT_TIMEOUT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub limit: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { limit: DEFAULT_TIMEOUT }
    }
}

impl TimeoutConfig {
    /// Checks the limit.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.limit.is_zero() {
            return Err(InvalidConfig::new("limit", duration::format(self.limit), "longer than nothing"));
        }
        Ok(())
    }
}

/// A time limit with a name. Cheap to clone; clones share the numbers.
///
/// ```
/// use perf_core::{CallError, Reason};
/// use perf_resilience::Timeout;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let timeout = Timeout::new("rates", Duration::from_millis(50))?;
/// let never = std::future::pending::<Result<(), CallError<std::io::Error>>>();
/// let error = timeout.run(never).await.unwrap_err();
/// assert_eq!(error.rejected().unwrap().reason(), Reason::Timeout);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Timeout(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    limit: Duration,
    counters: Counters,
}

impl Timeout {
    /// A limit of `limit` for each piece of work.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn new(name: impl Into<Name>, limit: Duration) -> Result<Self, InvalidConfig> {
        Self::from_config(name, &TimeoutConfig { limit })
    }

    /// A limit as a configuration file says it.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn from_config(name: impl Into<Name>, config: &TimeoutConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self(Arc::new(Shared { name: name.into(), limit: config.limit, counters: Counters::default() })))
    }

    /// Runs `work` within the limit, and within the deadline of the surrounding scope.
    ///
    /// # Errors
    /// The work's own error; [`Reason::Timeout`] when the limit ran out, [`Reason::DeadlineExceeded`] when the deadline
    /// did, without polling the work at all if that was before it began.
    ///
    /// # Cancel safety
    /// As cancel safe as the work: dropping the future drops it.
    pub async fn run<T, E: From<Rejected>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let deadline = crate::current_deadline();
        if deadline != Deadline::NEVER && deadline.has_passed(time::now()) {
            return Err(self.over(Over::Deadline));
        }
        let timer = pin!(Timer::new());
        let limit = Limit { timeout: Some(self.0.limit), deadline };
        Race::new(work, timer, limit, &mut None, |over| Err(self.over(over))).await
    }

    fn over<E: From<Rejected>>(&self, over: Over) -> E {
        let counters = &self.0.counters;
        match over {
            Over::Timeout => {
                counters.timed_out.increment();
                Rejected::new(Reason::Timeout, self.0.name.clone()).into()
            }
            Over::Deadline => {
                counters.deadline_exceeded.increment();
                signal::refuse(Rejected::new(Reason::DeadlineExceeded, self.0.name.clone()))
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> TimeoutStats {
        self.0.counters.read()
    }
}

const EXCEEDED: Desc =
    Desc::counter("perf_resilience_timeout_exceeded_total", "Work given up, by which limit", Unit::Count);

impl Component for Timeout {
    fn id(&self) -> ComponentId {
        ComponentId::new("timeout", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (limit, total) in [("timeout", stats.timed_out), ("deadline", stats.deadline_exceeded)] {
            sink.counter(&EXCEEDED, &[("limit", limit)], total);
        }
    }
}
