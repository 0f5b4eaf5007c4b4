use super::choose::Chosen;
use super::pool::Inner;
use crate::manager::Manager;
use crate::pool::Lease;
use perf_core::time::{self, Instant};
use std::error::Error as StdError;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A call under way, until it is dropped.
pub(super) struct Call<M: Manager> {
    pub(super) inner: Arc<Inner<M>>,
    pub(super) chosen: Chosen,
    pub(super) began: Instant,
    /// How it ended; none for a caller that went away.
    pub(super) outcome: Option<bool>,
}

impl<M: Manager> Drop for Call<M> {
    fn drop(&mut self) {
        let now = time::now();
        let taken = now.saturating_duration_since(self.began);
        self.inner.finish(self.chosen, taken, self.outcome, now);
    }
}

/// A connection on loan from one of several endpoints.
#[must_use = "a lease that is dropped at once goes back at once"]
pub struct BalancedLease<M: Manager> {
    pub(super) lease: Lease<M>,
    pub(super) call: Call<M>,
}

impl<M: Manager> BalancedLease<M> {
    /// The name of the endpoint it belongs to; none once that has left the list.
    #[must_use]
    pub fn endpoint(&self) -> Option<String> {
        self.call.inner.name_of(self.call.chosen.id)
    }

    /// Says that the call failed in a way that speaks against the endpoint.
    pub fn failed(&mut self) {
        self.call.outcome = Some(false);
    }

    /// Says how the call failed. If the probe knows the error for that of a writer that takes no writes any more, the
    /// endpoint is a reader from now on and none of its connections, this one included, is used again; a failed call is
    /// counted in any case.
    pub fn failed_with(&mut self, error: &(dyn StdError + 'static)) {
        self.failed();
        let inner = &self.call.inner;
        if inner.probe.as_ref().is_some_and(|probe| probe.is_read_only(error)) {
            inner.demote(self.call.chosen.id);
        }
    }
}

impl<M: Manager> Deref for BalancedLease<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.lease
    }
}

impl<M: Manager> DerefMut for BalancedLease<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.lease
    }
}

impl<M: Manager> fmt::Debug for BalancedLease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedLease").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}
