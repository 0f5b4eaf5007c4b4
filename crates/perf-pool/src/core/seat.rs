//! Where a caller waits: what it is given is laid on its seat after the lock of the core is released, so that neither the
//! giver nor the taker holds up anybody else.

use super::{Entry, Refusal};
use crate::sync::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a waiter is given.
#[derive(Debug)]
pub(crate) enum Grant<C> {
    /// A connection; `measured` says whether the time it is held is to be measured.
    Lease { entry: Box<Entry<C>>, measured: bool },
    /// Boxed because it is rare, and a seat is to fit into a cache line.
    Refused(Box<Refusal>),
}

/// The seat of one waiter. The waiter has one handle, the queue has the other; what is laid on the seat comes with the
/// handle of the queue, so that the waiter has both in the end and passes them on for the next one.
#[derive(Debug)]
pub(crate) struct Seat<C, K> {
    content: Mutex<Content<C, K>>,
    /// Its position in the queue; only touched under the lock of the core.
    position: AtomicU64,
}

#[derive(Debug)]
enum Content<C, K> {
    /// The waiter has not polled yet.
    Fresh,
    Waiting(Waker),
    Given(Grant<C>, Taken<C, K>),
    /// The waiter went away after it was chosen: what is meant for it belongs to the next.
    Left,
}

/// What comes with a grant.
#[derive(Debug)]
pub(crate) struct Taken<C, K> {
    /// The other handle of the seat.
    pub(crate) other: Arc<Seat<C, K>>,
    /// The handle on the pool of the one who gave the connection back, who has no more use for it: to count it down and
    /// up again would cost two atomic operations where all the cores meet.
    pub(crate) keeper: Option<K>,
}

impl<C, K> Seat<C, K> {
    fn content(&self) -> MutexGuard<'_, Content<C, K>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was laid here, with the other handle, or keeps the waker for later.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<(Grant<C>, Taken<C, K>)> {
        let mut content = self.content();
        match &mut *content {
            Content::Waiting(waker) => waker.clone_from(context.waker()),
            Content::Fresh => *content = Content::Waiting(context.waker().clone()),
            Content::Left => {}
            Content::Given(..) => {
                if let Content::Given(grant, taken) = std::mem::replace(&mut *content, Content::Fresh) {
                    return Poll::Ready((grant, taken));
                }
            }
        }
        Poll::Pending
    }

    /// Tells the waiter to look for itself.
    pub(crate) fn nudge(&self) {
        let waker = match &*self.content() {
            Content::Waiting(waker) => Some(waker.clone()),
            Content::Fresh | Content::Given(..) | Content::Left => None,
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The waiter goes away after it was chosen. Returns what was laid here already; if nothing was, it will be given
    /// back to the giver.
    pub(super) fn leave(&self) -> Option<Grant<C>> {
        // Bound, so that the handle inside is dropped after the lock is released.
        let before = std::mem::replace(&mut *self.content(), Content::Left);
        match before {
            Content::Given(grant, _) => Some(grant),
            Content::Fresh | Content::Waiting(_) | Content::Left => None,
        }
    }

    pub(super) fn clear(&self) {
        let _before = std::mem::replace(&mut *self.content(), Content::Fresh);
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }
}

/// Both handles of a seat nobody sits on.
#[derive(Debug)]
pub(crate) struct Spare<C, K>(pub(super) Arc<Seat<C, K>>, pub(super) Arc<Seat<C, K>>);

impl<C, K> Spare<C, K> {
    pub(super) fn new() -> Self {
        let seat = Arc::new(Seat { content: Mutex::new(Content::Fresh), position: AtomicU64::new(0) });
        Self(Arc::clone(&seat), seat)
    }

    /// A seat whose waiter has taken what was laid there.
    pub(crate) const fn of(own: Arc<Seat<C, K>>, other: Arc<Seat<C, K>>) -> Self {
        Self(own, other)
    }
}

/// Something for a waiter that was taken out of the queue. To be delivered once the lock of the core is released.
#[derive(Debug)]
#[must_use = "what is not delivered is lost"]
pub(crate) struct Delivery<C, K> {
    pub(super) seat: Arc<Seat<C, K>>,
    pub(super) grant: Grant<C>,
}

impl<C, K> Delivery<C, K> {
    /// Lays it on the seat, with the giver's handle on the pool, and wakes the waiter.
    ///
    /// # Errors
    /// The connection and the handle, when the waiter went away meanwhile.
    #[inline]
    pub(crate) fn deliver(self, keeper: Option<K>) -> Result<(), (Box<Entry<C>>, Option<K>)> {
        let Self { seat, grant } = self;
        let mut content = seat.content();
        if matches!(*content, Content::Left) {
            drop(content);
            return match grant {
                Grant::Lease { entry, .. } => Err((entry, keeper)),
                Grant::Refused(_) => Ok(()),
            };
        }
        let taken = Taken { other: Arc::clone(&seat), keeper };
        let before = std::mem::replace(&mut *content, Content::Given(grant, taken));
        drop(content);
        if let Content::Waiting(waker) = before {
            waker.wake();
        }
        Ok(())
    }
}
