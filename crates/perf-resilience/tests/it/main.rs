//! Behaviour of perf-resilience, statement by statement of the design.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

mod breaker;
mod bulkhead;
mod pipeline;
