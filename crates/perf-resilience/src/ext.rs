use crate::race::{Limit, Over, Race, Timer};
use crate::{Breaker, Bulkhead, signal};
use perf_core::time::{self, Duration};
use perf_core::{Deadline, Name, Reason, Rejected};
use std::pin::pin;

/// The name refusals of [`ResilienceExt::within`] carry.
const WITHIN: Name = Name::from_static("within");

/// Policies as methods on any future that gives a `Result` whose error can be a refusal.
///
/// ```
/// use perf_core::{CallError, Reason};
/// use perf_resilience::{Breaker, ResilienceExt};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let breaker = Breaker::builder("users-db").build()?;
/// let fetch = async { Ok::<_, CallError<std::io::Error>>("ada") };
/// assert_eq!(fetch.through(&breaker).within(Duration::from_secs(1)).await.unwrap(), "ada");
///
/// let stuck = std::future::pending::<Result<(), CallError<std::io::Error>>>();
/// let error = stuck.within(Duration::from_millis(5)).await.unwrap_err();
/// assert_eq!(error.rejected().unwrap().reason(), Reason::Timeout);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
pub trait ResilienceExt<T, E: From<Rejected>>: Future<Output = Result<T, E>> + Sized {
    /// Gives up after `limit`, counted from when the future is first polled and has to wait.
    fn within(self, limit: Duration) -> impl Future<Output = Result<T, E>>;

    /// Gives up at `deadline`, and does not even begin once it has passed.
    fn before(self, deadline: Deadline) -> impl Future<Output = Result<T, E>>;

    /// Runs if the breaker lets it, every error counting as a failure.
    fn through(self, breaker: &Breaker) -> impl Future<Output = Result<T, E>>;

    /// Runs in a place of its own.
    fn inside(self, bulkhead: &Bulkhead) -> impl Future<Output = Result<T, E>>;
}

impl<T, E: From<Rejected>, F: Future<Output = Result<T, E>>> ResilienceExt<T, E> for F {
    async fn within(self, limit: Duration) -> Result<T, E> {
        let timer = pin!(Timer::new());
        let limit = Limit { timeout: Some(limit), deadline: crate::current_deadline() };
        Race::new(self, timer, limit, &mut None, |over| Err(exceeded(over))).await
    }

    async fn before(self, deadline: Deadline) -> Result<T, E> {
        let deadline = deadline.earliest(crate::current_deadline());
        if deadline != Deadline::NEVER && deadline.has_passed(time::now()) {
            return Err(exceeded(Over::Deadline));
        }
        let timer = pin!(Timer::new());
        let limit = Limit { timeout: None, deadline };
        Race::new(self, timer, limit, &mut None, |over| Err(exceeded(over))).await
    }

    async fn through(self, breaker: &Breaker) -> Result<T, E> {
        breaker.run(self).await
    }

    async fn inside(self, bulkhead: &Bulkhead) -> Result<T, E> {
        bulkhead.run(self).await
    }
}

fn exceeded<E: From<Rejected>>(over: Over) -> E {
    match over {
        Over::Timeout => Rejected::new(Reason::Timeout, WITHIN).into(),
        Over::Deadline => signal::refuse(Rejected::new(Reason::DeadlineExceeded, WITHIN)),
    }
}
