//! jemalloc: its numbers and its purge, through the safe parts of `tikv-jemalloc-ctl`.

use super::allocator::{Allocator, AllocatorStats};
use tikv_jemalloc_ctl::{Access as _, AsName as _, arenas, epoch, stats};
pub use tikv_jemallocator::Jemalloc;

/// The numbers of jemalloc, wherever it is the allocator: all of them when it is the global one.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: perf_metrics::Jemalloc = perf_metrics::Jemalloc;
///
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let watch = perf_metrics::AllocatorWatch::new(perf_metrics::Jemalloc);
/// metrics.register(watch.clone()).unwrap().keep();
/// assert!(metrics.text().contains("perf_metrics_allocator_allocated_bytes"));
/// drop(vec![0_u8; 64 << 20]);
/// assert!(watch.purge().after.is_some());
/// ```
impl Allocator for Jemalloc {
    fn stats(&self) -> AllocatorStats {
        // jemalloc answers from a copy of its numbers, which is renewed by this.
        if epoch::advance().is_err() {
            return AllocatorStats::default();
        }
        let bytes = |read: tikv_jemalloc_ctl::Result<usize>| read.ok().map(|bytes| bytes as u64);
        AllocatorStats {
            allocated: bytes(stats::allocated::read()),
            active: bytes(stats::active::read()),
            resident: bytes(stats::resident::read()),
        }
    }

    /// An arena whose unused pages may live no longer at all gives them back at once; afterwards they may live as long as
    /// before. (`arena.<i>.purge` does the same and has no safe interface.)
    fn purge(&self) {
        let arenas = arenas::narenas::read().unwrap_or(0);
        for arena in 0..arenas {
            for pages in ["dirty", "muzzy"] {
                let name = format!("arena.{arena}.{pages}_decay_ms\0");
                let name = name.as_str().name();
                // An arena nobody has used yet has no such setting, and nothing to give back.
                let before: tikv_jemalloc_ctl::Result<isize> = name.read();
                if let Ok(before) = before
                    && name.write(0_isize).is_ok()
                {
                    // It was legal a moment ago.
                    let _ = name.write(before);
                }
            }
        }
    }
}
