//! Policies that keep a service up when what it calls is slow, failing or overloaded: they know which call they judge,
//! never multiply load, and cost next to nothing.
//!
//! ```
//! use perf_core::CallError;
//! use perf_resilience::{Call, Pipeline};
//! use std::io;
//!
//! async fn load_user(id: u64) -> io::Result<String> {
//!     Ok(format!("user {id}"))
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // Deadline, bounded concurrency, two attempts within a budget, breaker, attempt timeout.
//! let database = Pipeline::database("users-db")?.build()?;
//!
//! // Reading may be done twice. The error type is the caller's; it only has to be `From<Rejected>`.
//! let user: Result<String, CallError<io::Error>> = database
//!     .run_with(Call::new().idempotent(true), |_attempt| async {
//!         load_user(7).await.map_err(CallError::Failed)
//!     })
//!     .await;
//! assert_eq!(user.unwrap(), "user 7");
//!
//! // A write is not, and is never tried again on its own.
//! let written = database.run(|_| async { Ok::<_, CallError<io::Error>>(1) }).await;
//! assert_eq!(written.unwrap(), 1);
//! assert_eq!(database.stats().succeeded, 2);
//! # Ok::<(), perf_core::InvalidConfig>(())
//! # }).unwrap();
//! ```
//!
//! # The parts
//!
//! | part | what it is for |
//! |---|---|
//! | [`Pipeline`] | several policies in the one order that works; presets for databases, HTTP services and caches |
//! | [`Breaker`] | stops calling what fails, and finds out when it is back |
//! | [`Retry`], [`Budget`] | tries again when it helps, is safe and is paid for |
//! | [`Timeout`], [`with_deadline`], [`current_deadline`] | gives up in time, all the way down |
//! | [`Bulkhead`] | bounds how many run and how many wait |
//! | [`rate`] | bounds how often, evenly, for all or for each key |
//! | [`adaptive`] | a bound on concurrency that finds itself |
//! | [`throttle`] | asks a dependency less when it refuses too much |
//! | [`hedge`] | a second request when the first is slow |
//! | [`fallback`], [`degradation`] | second-best answers, and what to leave out under pressure |
//! | [`classify`] | what errors of well-known libraries mean |
//! | [`Gate`], [`Pass`], [`Now`] | what every policy that may refuse has in common |
//! | [`Judge`], [`Verdict`], [`ByOutcome`] | what a result means |
//! | [`ResilienceExt`] | policies as methods on futures |
//!
//! Every policy can be used in three ways on the same object: `run` a future through it, `enter` it by hand, or put it
//! into a [`Pipeline`].
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `serde` | configuration from TOML or the environment | the `serde` crate |
//! | `tower` | tower layers for every policy | `tower-layer`, `tower-service` |
//! | `sqlite`, `postgres` | what errors of sqlx mean ([`classify`]), and snapshot targets | the `sqlx` crate and its driver |
//! | `redis` | what errors of redis mean, a rate shared through Redis, and a snapshot target | the `redis` crate |
//! | `snapshot` | backup and restore | `sha2`, `serde_json`, files and processes of tokio |
//! | `zstd`, `encryption` | snapshots that are compressed, encrypted | `zstd`, `ring` |
//! | `backoff` | conversions for hosts that still hold types of the `backoff` crate; not in `full` | two unmaintained crates |
//! | `chaos` | disturbs calls on purpose; not in `full` | nothing |
//!
//! # What it is not
//!
//! It knows no HTTP, no cache and no pool. It spawns nothing, and starts no timer for work that never waits.

pub mod adaptive;
pub mod breaker;
pub mod bulkhead;
#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "backoff")]
pub mod classic;
pub mod classify;
pub mod degradation;
pub mod fallback;
pub mod hedge;
pub mod pipeline;
pub mod rate;
pub mod retry;
#[cfg(feature = "snapshot")]
pub mod snapshot;
pub mod throttle;
pub mod timeout;

mod event;
mod ext;
mod gate;
mod judge;
#[cfg(feature = "tower")]
mod layer;
mod race;
mod scope;
mod signal;
mod stats;
mod sync;

pub use breaker::{Breaker, BreakerBuilder, BreakerConfig, BreakerEvent, BreakerState, BreakerStats};
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadConfig, BulkheadStats, Permit, Priority};
pub use ext::ResilienceExt;
pub use gate::{Gate, Leaving, Now, Pass, Token};
pub use judge::{Again, ByOutcome, Judge, JudgeFn, Verdict, judge_with};
#[cfg(feature = "tower")]
pub use layer::{GateLayer, Gated, GatedFuture};
pub use pipeline::{Attempt, Call, Pipeline, PipelineBuilder, PipelineConfig, PipelineStats};
pub use retry::{
    Budget, BudgetBuilder, BudgetConfig, BudgetStats, Retry, RetryBuilder, RetryConfig, RetryStats,
};
pub use scope::{Scoped, current_deadline, with_deadline};
pub use timeout::{Timeout, TimeoutConfig, TimeoutStats};
