use crate::error::Holder;
use perf_core::time::Instant;
use std::fmt;
use std::panic::Location;

/// A connection and what the pool knows about it. Boxed once, so that moving a lease moves a pointer.
pub(crate) struct Entry<C> {
    pub(crate) connection: C,
    /// Its place in the table of leases.
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) born: Instant,
    pub(crate) expires: Option<Instant>,
    /// When it was last known to be good: made, checked or reset.
    pub(crate) proven: Instant,
    /// The epoch of suspicion in which its latest proof was begun.
    pub(crate) epoch: u64,
    /// Whether it was under suspicion already when its check began, so that failing is no news.
    pub(crate) doubted: bool,
    /// When it was last given back.
    pub(crate) idle_since: Instant,
    /// Whether it is about to expire, so that another is being made to take its place.
    pub(crate) ageing: bool,
}

impl<C> fmt::Debug for Entry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("slot", &self.slot).field("born", &self.born).finish_non_exhaustive()
    }
}

/// Who holds a connection, since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) since: Instant,
    pub(crate) site: &'static Location<'static>,
    pub(crate) task: Option<tokio::task::Id>,
    /// Whether it has been reported as held for too long.
    pub(crate) reported: bool,
    /// Whether the time it is held is measured.
    pub(crate) sampled: bool,
}

impl Hold {
    /// A lease taken now by the running task.
    pub(crate) fn new(since: Instant, site: &'static Location<'static>) -> Self {
        Self { since, site, task: tokio::task::try_id(), reported: false, sampled: false }
    }

    pub(crate) fn holder(&self, now: Instant) -> Holder {
        Holder { site: self.site, held: now.saturating_duration_since(self.since) }
    }
}
