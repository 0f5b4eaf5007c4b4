//! One database: its pool, the observer of its queries, and what stands between callers and it.

mod errors;
mod open;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use errors::DatabaseErrors;
pub(crate) use open::{Opened, open};

use perf_core::Name;
use perf_dbopt::QueryStats;
use perf_pool::balance::BalancedPool;
use perf_pool::{Manager, Pool};
use perf_resilience::{ByOutcome, Pipeline};

/// The pipeline of a database, which tells the database's failures from the application's.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub type Guard = Pipeline<ByOutcome<DatabaseErrors>>;
/// The pipeline of a database.
#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
pub type Guard = Pipeline<ByOutcome>;

/// One database. Cheap to clone; clones share everything.
pub struct Database<M: Manager> {
    name: Name,
    pool: Pool<M>,
    balanced: BalancedPool<M>,
    queries: QueryStats,
    guard: Guard,
}

impl<M: Manager> Database<M> {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The pool of connections to its `url`.
    #[must_use]
    pub const fn pool(&self) -> &Pool<M> {
        &self.pool
    }

    /// The pools of all its endpoints, its `url` and its replicas, behind one `acquire`: `acquire_as(Role::Writer)` follows
    /// the writer. Without replicas there is the one endpoint.
    #[must_use]
    pub const fn balanced(&self) -> &BalancedPool<M> {
        &self.balanced
    }

    /// What is known of its queries: `queries().observe(&mut *lease)` is an executor that records.
    #[must_use]
    pub const fn queries(&self) -> &QueryStats {
        &self.queries
    }

    /// Deadline, limits, retry and breaker. Acquire the connection inside, so that the wait for it counts.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl<M: Manager> Clone for Database<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            pool: self.pool.clone(),
            balanced: self.balanced.clone(),
            queries: self.queries.clone(),
            guard: self.guard.clone(),
        }
    }
}

impl<M: Manager> std::fmt::Debug for Database<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}
