use super::shared::Shared;
use crate::clock::Tick;
use crate::core::{Entry, SeatId};
use crate::manager::Manager;
use perf_core::time::Duration;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A connection on loan. It dereferences to the real connection and goes back when it is dropped.
///
/// Dropping it never waits, never spawns and never panics, and works outside a runtime. A lease dropped while its
/// thread panics, or whose [`guard`](Lease::guard) did not finish, is put in order before the next user gets it.
#[must_use = "a lease that is dropped at once goes back at once"]
pub struct Lease<M: Manager> {
    /// There until the lease is dropped or detached.
    held: Option<Held<M>>,
    /// The seat on which its user waited, kept for another.
    seat: Option<SeatId>,
    /// When it began, if the time it is held is measured.
    measured: Option<Tick>,
    tainted: bool,
}

struct Held<M: Manager> {
    shared: Arc<Shared<M>>,
    entry: Box<Entry<M::Connection>>,
}

impl<M: Manager> Lease<M> {
    #[inline]
    pub(super) fn new(shared: Arc<Shared<M>>, entry: Box<Entry<M::Connection>>, measured: bool) -> Self {
        let measured = measured.then(|| shared.clock.now());
        Self { held: Some(Held { shared, entry }), seat: None, measured, tainted: false }
    }

    #[inline]
    pub(super) fn after_waiting(mut self, seat: SeatId) -> Self {
        self.seat = Some(seat);
        self
    }

    /// Marks the connection as one to be put in order before anyone else uses it.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Runs `work` on the connection. If it is cancelled or panics, the connection counts as dirty.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`; the connection is put in order before anyone else uses it.
    pub async fn guard<T>(&mut self, work: impl AsyncFnOnce(&mut M::Connection) -> T) -> T {
        let before = std::mem::replace(&mut self.tainted, true);
        let result = work(&mut *self).await;
        self.tainted = before;
        result
    }

    /// Takes the connection out of the pool for good; the pool may make another in its place.
    #[must_use = "a detached connection belongs to the caller"]
    pub fn detach(mut self) -> M::Connection {
        let Some(Held { shared, entry }) = self.held.take() else { unreachable!("{MISSING}") };
        let now = shared.clock.now();
        shared.with(|core| {
            self.seat.take().into_iter().for_each(|seat| core.reuse(seat));
            core.detach(&entry, now);
        });
        entry.connection
    }

    /// How long the connection has existed.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.held().shared.clock.now().since(self.held().entry.born)
    }

    fn held(&self) -> &Held<M> {
        let Some(held) = &self.held else { unreachable!("{MISSING}") };
        held
    }
}

/// Only `drop` and `detach` take the connection, and both consume the lease.
const MISSING: &str = "a lease has its connection until it is gone";

impl<M: Manager> Deref for Lease<M> {
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        &self.held().entry.connection
    }
}

impl<M: Manager> DerefMut for Lease<M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        let Some(held) = &mut self.held else { unreachable!("{MISSING}") };
        &mut held.entry.connection
    }
}

impl<M: Manager> Drop for Lease<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(Held { shared, entry }) = self.held.take() {
            shared.give_back(entry, self.seat.take(), (self.tainted, self.measured));
        }
    }
}

impl<M: Manager> fmt::Debug for Lease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pool", &self.held().shared.name).finish_non_exhaustive()
    }
}
