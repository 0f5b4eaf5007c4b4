//! The behaviour of perf-metrics, one module per part.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod alerts;
#[cfg(feature = "facade")]
mod facade;
mod formats;
mod health;
mod judge;
mod page;
mod prometheus;
mod table;
mod tools;
