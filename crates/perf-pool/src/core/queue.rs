use super::Entry;
use crate::error::Cause;
use perf_core::time::{Duration, Instant};
use perf_core::{Deadline, Ticket, WaitList};
use std::panic::Location;
use std::task::{Context, Poll, Waker};

/// Why a caller does not get a connection.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Closed,
    Full,
    /// The predicted wait is longer than the time left.
    Hopeless(Duration),
    TimedOut,
    /// Connecting failed, and waiting would be for nothing.
    Failed(Cause),
    Panicked,
    /// The maintenance task is gone with its runtime: join again, so that another is started.
    Orphaned,
}

/// What a waiter is given.
#[derive(Debug)]
pub(crate) enum Grant<C> {
    Lease(Box<Entry<C>>),
    Refused(Refusal),
}

/// Who waits, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) since: Instant,
    pub(crate) deadline: Deadline,
    pub(crate) site: &'static Location<'static>,
    pub(crate) task: Option<tokio::task::Id>,
}

/// The waiters in order of arrival, with their deadlines. One timer serves them all: it is set for the earliest
/// deadline known, so with equal limits a newcomer never has to move it.
#[derive(Debug)]
pub(super) struct Queue<C> {
    list: WaitList<Grant<C>>,
    /// By the place of the ticket. What belongs to someone who left is overwritten by the next in its place.
    waiting: Vec<Option<(Ticket, Waiting)>>,
    /// No deadline is earlier.
    next_deadline: Option<Instant>,
}

impl<C> Queue<C> {
    pub(super) const fn new() -> Self {
        Self { list: WaitList::new(), waiting: Vec::new(), next_deadline: None }
    }

    /// Joins the end. Also says whether the timer has to be set to an earlier moment.
    pub(super) fn join(&mut self, waker: Waker, waiting: Waiting) -> (Ticket, bool) {
        let ticket = self.list.join(waker);
        let place = ticket.place();
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, None);
        }
        self.waiting[place] = Some((ticket, waiting));
        let Some(deadline) = waiting.deadline.instant() else { return (ticket, false) };
        let sooner = self.next_deadline.is_none_or(|next| deadline < next);
        if sooner {
            self.next_deadline = Some(deadline);
        }
        (ticket, sooner)
    }

    pub(super) fn poll(&mut self, ticket: Ticket, context: &mut Context<'_>) -> Poll<Grant<C>> {
        self.list.poll(ticket, context)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Grant<C>> {
        self.list.leave(ticket)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Who is served next.
    pub(super) fn oldest(&self) -> Option<Waiting> {
        let ticket = self.list.oldest()?;
        self.waiting.get(ticket.place()).copied().flatten().map(|(_, waiting)| waiting)
    }

    /// Hands a connection to the oldest waiter, or gives it back when nobody waits.
    pub(super) fn hand(&mut self, entry: Box<Entry<C>>) -> Result<Waker, Grant<C>> {
        self.list.hand_over(Grant::Lease(entry))
    }

    /// Sends the oldest waiter away.
    pub(super) fn refuse_oldest(&mut self, refusal: Refusal) -> Option<Waker> {
        self.list.hand_over(Grant::Refused(refusal)).ok()
    }

    /// Sends away everyone whose time is up; `each` gets their wakers.
    pub(super) fn expire(&mut self, now: Instant, mut each: impl FnMut(Waker)) {
        if self.next_deadline.is_none_or(|next| next > now) {
            return;
        }
        let mut earliest = Deadline::NEVER;
        for place in &mut self.waiting {
            let Some((ticket, waiting)) = *place else { continue };
            if !waiting.deadline.has_passed(now) {
                earliest = earliest.earliest(waiting.deadline);
                continue;
            }
            *place = None;
            if let Ok(waker) = self.list.hand_to(ticket, Grant::Refused(Refusal::TimedOut)) {
                each(waker);
            }
        }
        self.next_deadline = earliest.instant();
    }
}
