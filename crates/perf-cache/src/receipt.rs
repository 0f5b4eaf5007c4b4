//! What became of an invalidation.

use std::pin::Pin;
use std::task::{Context, Poll};

/// What became of an invalidation. Its local effect is always complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whether every remote step is done as well. In-process spaces have none, so theirs always is.
    pub acked: bool,
}

/// An invalidation whose local effect is complete; awaiting it waits for what is remote.
///
/// # Cancel safety
/// Dropping it gives up only the waiting: what is remote is done all the same.
#[must_use = "the local effect is there already; await it, or drop it explicitly, to say whether the rest is waited for"]
#[derive(Debug)]
pub struct Invalidating(Receipt);

impl Invalidating {
    pub(crate) const fn local() -> Self {
        Self(Receipt { acked: true })
    }

    /// Gives up waiting: the effect in this process is complete, the rest is done in the background.
    pub fn detach(self) {}
}

impl Future for Invalidating {
    type Output = Receipt;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Receipt> {
        Poll::Ready(self.0)
    }
}
