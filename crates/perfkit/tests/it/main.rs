//! The behaviour of the facade: what it refuses, and how it starts and ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the way tests do")]

#[cfg(feature = "webhook")]
mod alerts;
#[cfg(feature = "postgres")]
mod endpoints;
#[cfg(feature = "redis")]
mod rates;
mod refusals;
#[cfg(feature = "sqlite")]
mod serving;
#[cfg(all(feature = "snapshots", feature = "sqlite"))]
mod snapshots;
#[cfg(feature = "sqlite")]
mod tuning;
#[cfg(feature = "websocket")]
mod websockets;
