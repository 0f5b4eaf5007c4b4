//! What the process runs on: tokio's runtime, the machine's pressure, the cgroup's memory, the allocator.

mod allocator;
mod system;
mod tokio_runtime;

pub use allocator::{Allocator, AllocatorStats, AllocatorWatch, Purged};
pub use system::SystemMetrics;
pub use tokio_runtime::{DEFAULT_CANARY, RuntimeWatch};
