//! SQLite: index advice through a shadow of the database, and applying it.
//!
//! SQLite has no planner interface to ask "what if", so the schema is copied, without a single row, into a database in
//! memory, with statistics sampled from the real one. There, candidate indexes cost nothing to create, and `EXPLAIN QUERY PLAN` says
//! what SQLite would do. The real database is only read.

mod advisor;
mod apply;
mod catalog;
mod health;
mod plan;
mod sample;
mod shadow;

pub use advisor::SqliteAdvisor;
pub use apply::{DEFAULT_MAX_ROWS, SqliteApplied, SqliteStep};
pub use health::{check_integrity, inspect, maintain};
