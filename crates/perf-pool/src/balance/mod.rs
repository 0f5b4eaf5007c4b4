//! Choosing among several endpoints, and noticing which of them are ill.
//!
//! [`BalancedPool`] puts one [`Pool`](crate::Pool) behind each endpoint. A [`Balance`] picks by what is known of each; an
//! [`Ejector`] takes out those that fail and lets them come back through one probe. A [`Discovery`] names the endpoints,
//! and a [`Probe`] tells whether each lives and whether it takes writes.
//!
//! ```text
//!  list, discovery ─► subset ─► role: writer? reader? ─► priority group ─► available? ─► balance or ring ─► its pool
//!                                   ▲                         ▲                ▲
//!                            probe, error 25006       healthy share spills   probe, ejector, panic threshold
//! ```

mod acquire;
mod builder;
mod choose;
mod component;
mod config;
mod discovery;
mod ejector;
mod endpoint;
mod health;
mod lease;
mod pick;
mod pool;
mod ring;
mod state;
mod subset;
#[cfg(all(test, not(perf_loom)))]
mod tests;
mod watch;

pub use builder::{BalancedBuilder, BuildError};
pub use component::METRICS;
pub use config::{BalanceConfig, Strategy};
#[cfg(feature = "mysql")]
pub use discovery::MySqlRole;
#[cfg(feature = "postgres")]
pub use discovery::PostgresRole;
pub use discovery::{Alive, Discovery, Dns, Probe, Static};
pub use ejector::{Ejector, EjectorConfig};
pub use endpoint::{Endpoint, Role};
pub use health::spill;
pub use lease::BalancedLease;
pub use pick::{Balance, EndpointView, LeastLoaded, P2c, RandomPick, RoundRobin, slow_start};
pub use pool::BalancedPool;
pub use ring::Ring;
pub use subset::{rank, subset};
