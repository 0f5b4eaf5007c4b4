use crate::clock::Tick;
use crate::error::Holder;
use perf_core::time::Duration;
use std::fmt;
use std::panic::Location;

/// A connection and what the pool knows about it. Boxed once, so that moving a lease moves a pointer; on cache lines of its
/// own, because the one beside it may be in use on another core.
#[repr(align(64))]
pub(crate) struct Entry<C> {
    pub(crate) connection: C,
    /// Its place in the table of leases.
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// The epoch of suspicion in which its latest proof was begun.
    pub(crate) epoch: u64,
    /// When it was last given back.
    pub(crate) idle_since: Tick,
    /// From this moment on its age is looked at when it comes back.
    pub(crate) ages_at: Tick,
    pub(crate) expires: Tick,
    pub(crate) born: Tick,
    /// When it was last known to be good: made, checked or reset.
    pub(crate) proven: Tick,
    /// Whether it was under suspicion already when its check began, so that failing is no news.
    pub(crate) doubted: bool,
    /// Whether it is about to expire, so that another is being made to take its place.
    pub(crate) ageing: bool,
}

impl<C> Entry<C> {
    /// Marks it as ageing when it expires within `lead`; says whether that is news.
    pub(super) fn begins_to_age(&mut self, now: Tick, lead: Duration) -> bool {
        let begins = !self.ageing && self.expires != Tick::NEVER && self.expires.since(now) <= lead;
        self.ageing |= begins;
        begins
    }
}

impl<C> fmt::Debug for Entry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("slot", &self.slot).field("born", &self.born).finish_non_exhaustive()
    }
}

/// Who asks for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) site: &'static Location<'static>,
    pub(crate) task: Option<tokio::task::Id>,
}

impl Caller {
    /// The running task, at this place in the code.
    #[inline]
    pub(crate) fn here(site: &'static Location<'static>) -> Self {
        Self { site, task: tokio::task::try_id() }
    }
}

/// Who holds a connection, since when. On a cache line of its own, as the connection is.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Hold {
    pub(crate) since: Tick,
    pub(crate) caller: Caller,
    /// Whether it has been reported as held for too long.
    pub(crate) reported: bool,
}

impl Hold {
    pub(crate) const fn new(since: Tick, caller: Caller) -> Self {
        Self { since, caller, reported: false }
    }

    pub(crate) const fn holder(&self, now: Tick) -> Holder {
        Holder { site: self.caller.site, held: now.since(self.since) }
    }
}
