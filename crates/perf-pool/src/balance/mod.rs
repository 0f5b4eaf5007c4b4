//! Choosing among several endpoints, and noticing which of them are ill.
//!
//! [`BalancedPool`] puts one [`Pool`](crate::Pool) behind each endpoint. A [`Balance`] picks by what is known of each; an
//! [`Ejector`] takes out those that fail and lets them come back through one probe.

mod ejector;
mod pick;
mod pool;
mod subset;
#[cfg(all(test, not(perf_loom)))]
mod tests;

pub use ejector::{Ejector, EjectorConfig};
pub use pick::{Balance, EndpointView, LeastLoaded, P2c, RandomPick, RoundRobin, slow_start};
pub use pool::{BalancedLease, BalancedPool};
pub use subset::{rank, subset};
