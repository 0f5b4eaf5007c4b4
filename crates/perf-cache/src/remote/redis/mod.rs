//! Redis as the second tier and as the invalidation log: one server, whoever Sentinel says is the primary, or a Cluster.

mod clock;
mod config;
mod leases;
mod link;
mod push;
mod scan;
mod store;
mod stream;

pub use config::{Invalidation, RedisConfig};
pub use store::RedisStore;
