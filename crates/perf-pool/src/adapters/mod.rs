//! Managers written for other pools, and a tower service that gives each request a lease.

#[cfg(feature = "bb8")]
mod bb8;
#[cfg(feature = "deadpool")]
mod deadpool;
#[cfg(feature = "tower")]
mod tower;

#[cfg(feature = "bb8")]
pub use self::bb8::Bb8;
#[cfg(feature = "deadpool")]
pub use self::deadpool::{Deadpool, DeadpoolError};
#[cfg(feature = "tower")]
pub use self::tower::PooledService;
