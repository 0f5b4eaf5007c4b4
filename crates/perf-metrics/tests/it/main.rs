//! The behaviour of perf-metrics, one module per part.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod agreement;
mod alerts;
#[cfg(feature = "facade")]
mod facade;
mod formats;
mod health;
mod instruments;
mod judge;
#[cfg(feature = "otlp")]
mod otlp;
mod page;
mod prometheus;
mod protobuf;
#[cfg(any(feature = "otlp", feature = "webhook"))]
mod receiver;
mod table;
#[cfg(all(feature = "tls", feature = "webhook", feature = "otlp"))]
mod tls;
mod tools;
#[cfg(feature = "webhook")]
mod webhook;
