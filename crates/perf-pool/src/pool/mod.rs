//! The pool: handles, leases, and the task behind them.

mod acquire;
mod balanced;
mod builder;
mod close;
mod component;
mod config;
mod environment;
mod lease;
mod maintain;
mod shared;
mod stats;

pub use acquire::Acquire;
pub use builder::Builder;
pub use close::{CloseReport, Unreturned};
pub use config::{Fairness, Order, PoolConfig};
pub use lease::Lease;
pub use stats::{METRICS, PoolStats};

use crate::error::{Error, Holder};
use crate::manager::Manager;
use acquire::Patience;
use perf_core::time::Duration;
use perf_core::{Deadline, HistogramSnapshot, InvalidConfig, Name};
use shared::Shared;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A pool of connections. Cheap to clone; the clones are one pool, which closes when the last of them is dropped.
///
/// ```
/// # use perf_pool::Manager;
/// # struct Numbers;
/// # impl Manager for Numbers {
/// #     type Connection = u32;
/// #     type Error = std::io::Error;
/// #     async fn connect(&self) -> Result<u32, std::io::Error> { Ok(7) }
/// #     async fn check(&self, _: &mut u32) -> Result<(), std::io::Error> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = perf_pool::Pool::builder(Numbers).name("numbers").max(4).build()?;
/// let lease = pool.acquire().await?;
/// assert_eq!((*lease, pool.stats().leased), (7, 1));
/// drop(lease);
/// assert_eq!(pool.stats().idle, 1);
/// # Ok(())
/// # }
/// ```
pub struct Pool<M: Manager> {
    shared: Arc<Shared<M>>,
}

impl<M: Manager> Pool<M> {
    /// Starts to describe a pool of the connections that `manager` makes.
    pub fn builder(manager: M) -> Builder<M> {
        Builder::new(manager)
    }

    /// A connection, waiting no longer than `acquire_timeout`.
    ///
    /// # Errors
    /// [`Error`] says which wait ran out, or why the pool refuses.
    #[track_caller]
    pub fn acquire(&self) -> Acquire<'_, M> {
        Acquire::new(&self.shared, Location::caller(), Patience::Configured)
    }

    /// A connection, waiting until `deadline` instead of for `acquire_timeout`.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    #[track_caller]
    pub fn acquire_until(&self, deadline: Deadline) -> Acquire<'_, M> {
        Acquire::new(&self.shared, Location::caller(), Patience::Until(deadline))
    }

    /// A connection that is idle and needs no check, or none. Works outside a runtime.
    ///
    /// # Errors
    /// As [`Pool::acquire`], at once.
    #[track_caller]
    pub fn try_acquire(&self) -> Result<Lease<M>, Error> {
        Acquire::new(&self.shared, Location::caller(), Patience::Configured).now_or_never()
    }

    /// Acquires a connection and runs `work` on it. If `work` is cancelled or panics, the connection is put in order
    /// before anyone else uses it.
    ///
    /// # Errors
    /// As [`Pool::acquire`]; what `work` returns is returned as it is.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`.
    #[track_caller]
    pub fn with<'p, T, W>(&'p self, work: W) -> impl Future<Output = Result<T, Error>> + use<'p, T, W, M>
    where
        W: AsyncFnOnce(&mut M::Connection) -> T + 'p,
        T: 'p,
    {
        let acquire = self.acquire();
        async move {
            let mut lease = acquire.await?;
            Ok(lease.guard(work).await)
        }
    }

    /// Waits until `min_idle` connections are there, at most for `warmup_timeout`.
    ///
    /// # Errors
    /// [`Error::Connecting`] when the time ran out, or at once when the manager calls an error permanent.
    ///
    /// # Cancel safety
    /// Nothing is lost: connections go on being made.
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.shared.warm_up().await
    }

    /// Closes the pool: whoever waits or comes is refused from the moment of the call, idle connections are closed.
    /// The future waits for the leases to come back, at most for `drain_timeout`, and says which did not.
    ///
    /// It may be called more than once and from several tasks.
    ///
    /// # Cancel safety
    /// The pool is closed even if the future is never polled.
    pub fn close(&self) -> impl Future<Output = CloseReport> + Send + use<M> {
        close::close(&self.shared)
    }

    /// Whether [`close`](Pool::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Gives out no lease until [`resume`](Pool::resume). Waiters wait on, and their deadlines with them.
    pub fn pause(&self) {
        self.shared.with(|core| core.pause());
        self.shared.signal.notify_one();
        self.stir();
    }

    /// Goes on after [`pause`](Pool::pause).
    pub fn resume(&self) {
        self.shared.with(|core| core.resume(self.shared.clock.now()));
    }

    /// Lets no present connection be used again: idle ones are closed now, leased ones when they come back.
    pub fn evict_all(&self) {
        self.shared.with(|core| core.evict_all(self.shared.clock.now()));
    }

    /// Trusts no idle connection until it has been checked, because the server is known to have gone away.
    pub fn suspect_all(&self) {
        self.shared.with(|core| core.suspect());
    }

    /// Changes `max`. Growing serves waiters at once; shrinking lets leases finish and closes what is too much.
    ///
    /// # Errors
    /// [`InvalidConfig`] outside 1 to [`PoolConfig::LARGEST_MAX`].
    pub fn resize(&self, max: usize) -> Result<(), InvalidConfig> {
        let config = PoolConfig { max, ..PoolConfig::default() };
        config.validate()?;
        self.shared.with(|core| core.resize(max, self.shared.clock.now()));
        Ok(())
    }

    /// What has happened so far, and how it stands.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::read(&self.shared.lock())
    }

    /// The size that the [`sizing`](PoolConfig::sizing) of the configuration advises; none before its first advice, or
    /// without such a section.
    #[must_use]
    pub fn advised(&self) -> Option<usize> {
        Some(self.shared.advised.load(std::sync::atomic::Ordering::Relaxed)).filter(|advised| *advised > 0)
    }

    /// Who holds connections at this moment.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        let now = self.shared.clock.now();
        self.shared.lock().holders(now)
    }

    /// The name the pool goes by in errors and numbers.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// The configuration at this moment.
    #[must_use]
    pub fn config(&self) -> PoolConfig {
        self.shared.lock().config.clone()
    }

    /// Whoever makes the connections.
    #[must_use]
    pub fn manager(&self) -> &M {
        &self.shared.manager
    }

    /// How long callers waited that had to wait, so far.
    #[must_use]
    pub fn waits(&self) -> HistogramSnapshot {
        self.shared.waits.snapshot()
    }

    /// How long leases were held, so far.
    #[must_use]
    pub fn holds(&self) -> HistogramSnapshot {
        self.shared.holds.snapshot()
    }

    /// How long leases are held, on average; none before the first came back.
    #[must_use]
    pub fn mean_hold(&self) -> Option<Duration> {
        self.shared.lock().mean_hold()
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Manager> Drop for Pool<M> {
    fn drop(&mut self) {
        // Whoever sees the count reach zero also sees everything the other handles did before.
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.with(|core| core.close());
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.name).field("stats", &self.stats()).finish()
    }
}
