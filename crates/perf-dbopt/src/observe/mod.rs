//! Observing the queries a process sends: per statement, per route, and the slow ones.

mod config;
mod entry;
mod event;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod executor;
mod numbers;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod plans;
mod recording;
mod routes;
mod scope;
mod stats;
mod table;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "tracing")]
pub use self::tracing::SqlxLayer;
pub use config::{
    DEFAULT_EXPLAIN_EVERY, DEFAULT_MAX_ROUTES, DEFAULT_MAX_STATEMENTS, DEFAULT_N_PLUS_ONE, DEFAULT_SLOW,
    DEFAULT_SLOW_LOG, ObserverConfig,
};
pub use entry::QueryStat;
pub use event::{NPlusOne, QueryEnd, QueryEvent, SlowQuery};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use executor::{Observed, RowsAffected};
pub use numbers::{ObserverStats, SERIES};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use plans::{DEFAULT_PLAN_TIMEOUT, ObservedWithPlans, PlanRequests, SlowPlans};
pub use recording::Recording;
pub use routes::{RouteStat, StatementShare};
pub use scope::batch;
pub use stats::{QueryStats, QueryStatsBuilder};
