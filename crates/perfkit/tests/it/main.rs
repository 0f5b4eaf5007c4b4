//! The behaviour of the facade: what it refuses, and how it starts and ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the way tests do")]

mod refusals;
#[cfg(feature = "sqlite")]
mod serving;
