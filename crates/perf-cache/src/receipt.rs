//! What became of an invalidation.

use crate::remote::Remote;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What became of an invalidation. Its local effect is always complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whether every remote step is done as well. In-process spaces have none, so theirs always is. Otherwise it is sent
    /// again until it arrives.
    pub acked: bool,
}

/// An invalidation whose local effect is complete; awaiting it waits for the log, a second at most.
///
/// # Cancel safety
/// Dropping it gives up only the waiting: what is remote is done all the same.
#[must_use = "the local effect is there already; await it, or `detach` it, to say whether the rest is waited for"]
pub struct Invalidating(State);

enum State {
    Done,
    Sent(Pin<Box<dyn Future<Output = bool> + Send>>),
}

impl Invalidating {
    pub(crate) const fn local() -> Self {
        Self(State::Done)
    }

    pub(crate) fn remote(remote: &Arc<Remote>, batch: Option<u64>) -> Self {
        let Some(batch) = batch else { return Self::local() };
        let remote = Arc::clone(remote);
        Self(State::Sent(Box::pin(async move { remote.outbox.arrived(batch, remote.timeout * 10).await })))
    }

    /// Gives up waiting: the effect in this process is complete, the rest is done in the background.
    pub fn detach(self) {}
}

impl Future for Invalidating {
    type Output = Receipt;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Receipt> {
        let acked = match &mut self.0 {
            State::Done => true,
            State::Sent(arrived) => ready!(arrived.as_mut().poll(context)),
        };
        Poll::Ready(Receipt { acked })
    }
}

impl fmt::Debug for Invalidating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidating").field("sent", &matches!(self.0, State::Sent(_))).finish()
    }
}
