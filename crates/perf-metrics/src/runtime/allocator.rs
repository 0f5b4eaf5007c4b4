use perf_core::{Component, ComponentId, Counter, Desc, Sink, Unit};
use std::sync::Arc;

const ALLOCATED: Desc =
    Desc::gauge("perf_metrics_allocator_allocated_bytes", "Bytes handed out by the allocator", Unit::Bytes);
const ACTIVE: Desc =
    Desc::gauge("perf_metrics_allocator_active_bytes", "Bytes in pages that hold something", Unit::Bytes);
const RESIDENT: Desc =
    Desc::gauge("perf_metrics_allocator_resident_bytes", "Bytes the allocator holds in memory", Unit::Bytes);
const PURGES: Desc =
    Desc::counter("perf_metrics_allocator_purges_total", "Purges that were asked for", Unit::Count);
const FREED: Desc =
    Desc::counter("perf_metrics_allocator_purged_bytes_total", "Bytes given back by purges", Unit::Bytes);

/// What an allocator knows about itself. A number it does not know is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// Bytes handed out to the program.
    pub allocated: Option<u64>,
    /// Bytes in pages that hold at least one allocation.
    pub active: Option<u64>,
    /// Bytes held in memory.
    pub resident: Option<u64>,
}

/// The allocator of the host: `Jemalloc` and `MiMalloc` with the features of these names, or the host's own.
pub trait Allocator: Send + Sync + 'static {
    /// Its numbers.
    fn stats(&self) -> AllocatorStats;

    /// Gives unused memory back to the system.
    fn purge(&self);
}

/// What a purge freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Purged {
    /// Bytes held before, where the allocator says.
    pub before: Option<u64>,
    /// Bytes held after.
    pub after: Option<u64>,
}

impl Purged {
    /// Bytes given back to the system.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.before.zip(self.after).map_or(0, |(before, after)| before.saturating_sub(after))
    }
}

/// The numbers of the host's allocator, and the purge.
pub struct AllocatorWatch {
    allocator: Box<dyn Allocator>,
    purges: Counter,
    freed: Counter,
}

impl AllocatorWatch {
    /// Watches `allocator`.
    pub fn new(allocator: impl Allocator) -> Arc<Self> {
        Arc::new(Self { allocator: Box::new(allocator), purges: Counter::new(), freed: Counter::new() })
    }

    /// Gives unused memory back to the system and says how much that was. Blocks for as long as the allocator takes.
    pub fn purge(&self) -> Purged {
        let before = self.allocator.stats().resident;
        self.allocator.purge();
        let purged = Purged { before, after: self.allocator.stats().resident };
        self.purges.increment();
        self.freed.add(purged.freed());
        purged
    }
}

impl std::fmt::Debug for AllocatorWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AllocatorWatch").field("stats", &self.allocator.stats()).finish_non_exhaustive()
    }
}

impl Component for AllocatorWatch {
    fn id(&self) -> ComponentId {
        ComponentId::new("allocator", "global")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.allocator.stats();
        for (desc, value) in
            [(&ALLOCATED, stats.allocated), (&ACTIVE, stats.active), (&RESIDENT, stats.resident)]
        {
            if let Some(bytes) = value {
                sink.gauge(desc, &[], bytes as f64);
            }
        }
        sink.counter(&PURGES, &[], self.purges.get());
        sink.counter(&FREED, &[], self.freed.get());
    }
}
