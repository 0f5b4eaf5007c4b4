//! The behaviour of perf-cache, one module per subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod ahead;
mod batches;
#[cfg(feature = "json")]
mod cluster;
mod collector;
mod following;
mod invalidation;
mod leases;
mod limits;
mod lives;
mod loading;
#[cfg(feature = "macros")]
mod macros;
mod numbers;
#[cfg(feature = "redis")]
mod outage;
mod overtaken;
mod priorities;
mod purging;
#[cfg(feature = "redis")]
mod pushed;
#[cfg(feature = "sqlx")]
mod queries;
#[cfg(all(feature = "redis", feature = "lz4"))]
mod redis;
mod refresh;
mod second_tier;
mod seeing;
mod simulation;
#[cfg(feature = "redis")]
mod topology;
mod traces;
