//! Behaviour of perf-resilience, statement by statement of the design.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

mod adaptive;
mod breaker;
mod budget;
mod bulkhead;
mod cancellation;
#[cfg(feature = "chaos")]
mod chaos;
mod compositions;
mod degradation;
mod features;
mod hedge;
mod numbers;
mod partitions;
mod pipeline;
mod ports;
mod rate;
mod retry;
#[cfg(feature = "redis")]
mod shared_rate;
mod simulations;
#[cfg(feature = "snapshot")]
mod snapshot;
mod storm;
mod timeout;
#[cfg(feature = "tower")]
mod tower;
