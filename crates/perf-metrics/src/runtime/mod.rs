//! What the process runs on: tokio's runtime, the machine's pressure, the cgroup's memory, the allocator.

mod allocator;
#[cfg(feature = "jemalloc")]
mod jemalloc;
#[cfg(feature = "mimalloc")]
mod mimalloc;
mod system;
mod tokio_runtime;

#[cfg(feature = "mimalloc")]
pub use self::mimalloc::MiMalloc;
pub use allocator::{Allocator, AllocatorStats, AllocatorWatch, Purged};
#[cfg(feature = "jemalloc")]
pub use jemalloc::Jemalloc;
pub use system::SystemMetrics;
pub use tokio_runtime::{DEFAULT_CANARY, RuntimeWatch};
