//! The behaviour of perf-pool, one module for each part.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the way tests do")]

mod acquire;
mod fake;
#[cfg(feature = "sqlite")]
mod sqlite;
