//! The behaviour of perf-pool, one module for each part.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the way tests do")]

mod accounts;
mod acquire;
mod admin;
mod age;
mod create;
mod fake;
mod numbers;
mod returns;
#[cfg(feature = "sqlite")]
mod sqlite;
mod validate;
