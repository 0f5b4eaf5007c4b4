//! The behaviour of perf-http, one module for each part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod browser;
mod conditional;
#[cfg(feature = "serde")]
mod config;
mod layers;
mod management;
mod metrics;
mod page;
mod rate;
mod server;
mod support;
