//! mimalloc and its purge, which is a C function without a safe interface.
#![expect(unsafe_code, reason = "the purge of mimalloc is a C function; see ARCHITECTURE.md")]

use super::allocator::{Allocator, AllocatorStats};
use crate::process;
pub use mimalloc::MiMalloc;

/// mimalloc counts what it has reserved and not what it gave back (`mi_process_info` says the same before and after a
/// purge that halves the process), so the resident memory of the process stands for what it holds (Linux; elsewhere
/// unknown). A purge gives back what the calling thread's heap and those of ended threads no longer use.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: perf_metrics::MiMalloc = perf_metrics::MiMalloc;
///
/// let watch = perf_metrics::AllocatorWatch::new(perf_metrics::MiMalloc);
/// drop(vec![0_u8; 64 << 20]);
/// println!("{} bytes given back", watch.purge().freed());
/// ```
impl Allocator for MiMalloc {
    fn stats(&self) -> AllocatorStats {
        AllocatorStats { allocated: None, active: None, resident: process::resident_bytes() }
    }

    fn purge(&self) {
        // SAFETY: takes no pointer, and may be called by any thread at any time.
        unsafe { libmimalloc_sys::mi_collect(true) }
    }
}
