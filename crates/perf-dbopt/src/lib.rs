//! Finds what is slow, proves which index helps, applies it safely, and takes it back if it did not.
//!
//! The observer records what an application sends through sqlx; the advisor proposes indexes the planner says it would
//! use; nothing is changed without an explicit [`Apply`].
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use perf_dbopt::sqlite::SqliteAdvisor;
//! use perf_dbopt::{Apply, Dialect, QueryStats};
//! use sqlx::{Connection, Executor, SqliteConnection};
//!
//! let mut conn = SqliteConnection::connect("sqlite::memory:").await?;
//! conn.execute("create table orders (id integer primary key, customer integer, day text)").await?;
//! conn.execute(
//!     "insert into orders (customer, day) with recursive n(i) as (values(1) union all select i + 1 from n where i < 4000) \
//!      select i % 300, i from n",
//! )
//! .await?;
//!
//! // Observe: wrap the executor each query is sent through.
//! let stats = QueryStats::new("shop", Dialect::Sqlite);
//! for customer in 0..50 {
//!     let query = sqlx::query("select id, day from orders where customer = ?").bind(customer);
//!     query.fetch_all(stats.observe(&mut conn)).await?;
//! }
//! assert_eq!(stats.top(1)[0].calls(), 50);
//!
//! // Advise: what would make the observed workload cheaper, and for whom.
//! let advisor = SqliteAdvisor::default();
//! let advice = advisor.advise(&mut conn, &stats.workload()).await?;
//! assert_eq!(advice.create[0].serves[0].calls, 50);
//!
//! // Apply: only with the caller's word.
//! let applied = advisor.apply(&mut conn, &advice, &Apply::confirmed_by("release 42")).await?;
//! assert_eq!(applied.created().count(), advice.create.len());
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`fingerprint()`], [`normalize()`], [`statements()`] | statements as bytes, for three dialects, without allocation or regular expressions |
//! | [`QueryStats`] | per-statement and per-route statistics, slow-query log, N+1 detection; a `Component` |
//! | [`Finding`], [`advise_pool`] | what is wrong with a database, and with the size of a pool |
//! | [`advise`] | candidates, search within a budget, advice with reasons |
#![cfg_attr(
    feature = "postgres",
    doc = "| [`postgres`] | plans of normalised statements, what-if through HypoPG, apply, verify, revert, inspection |"
)]
#![cfg_attr(feature = "mysql", doc = "| [`mysql`] | what MySQL and MariaDB tell of statements and indexes |")]
#![cfg_attr(feature = "sqlite", doc = "| [`sqlite`] | what-if through a shadow database, apply and revert |")]
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `sqlite` | the observer, advisor and checks for SQLite | sqlx with a bundled SQLite: its C code is compiled |
//! | `postgres` | the same for PostgreSQL | sqlx's PostgreSQL driver |
//! | `mysql` | the same for MySQL and MariaDB, as far as they allow | sqlx's MySQL driver |
//! | `tracing` | the observer without touching the host's code | `tracing-subscriber`'s registry; sqlx formats every statement |
//! | `serde` | configuration and advice as data | nothing beyond `serde` |
//!
//! # What it is not
//!
//! It owns no connection pool, runs nothing in the background by itself, and never executes DDL or maintenance without an
//! [`Apply`] from the caller. Values of queries never leave the process: what is shown is the normal form.

pub mod advise;
mod apply;
mod error;
mod finding;
mod maintenance;
#[cfg(feature = "mysql")]
pub mod mysql;
mod observe;
mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
mod report;
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "serde")]
mod text;
mod window;

pub use advise::{Workload, WorkloadQuery};
pub use apply::Apply;
pub use error::Error;
pub use finding::{Finding, FindingKind, Severity};
pub use maintenance::{Maintained, MaintenancePolicy};
pub use observe::*;
pub use pool::{PoolAdvice, PoolEvidence, PoolVerdict, advise_pool};
pub use report::{Report, StatementLine};
pub use sql::{
    Dialect, FINGERPRINT_VERSION, Fingerprint, Lexer, Token, TokenKind, fingerprint, normalize, statements,
};
pub use window::{InvalidWindow, Window};
