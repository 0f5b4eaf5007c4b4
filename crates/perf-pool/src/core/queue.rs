use super::{Caller, Entry};
use crate::clock::Tick;
use crate::error::Cause;
use perf_core::time::Duration;
use perf_core::{Ticket, WaitList};
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
    pub(crate) since: Tick,
    pub(crate) deadline: Tick,
    pub(crate) caller: Caller,
}

/// The waiters in order of arrival, with their deadlines. One timer serves them all: it is set for the earliest
/// deadline known, so with equal limits a newcomer never has to move it.
#[derive(Debug)]
pub(super) struct Queue<C> {
    list: WaitList<Grant<C>, Waiting>,
    /// No deadline is earlier.
    next_deadline: Tick,
}

impl<C> Queue<C> {
    pub(super) const fn new() -> Self {
        Self { list: WaitList::noted(), next_deadline: Tick::NEVER }
    }

    /// Joins the end. Also says whether the timer has to be set to an earlier moment.
    pub(super) fn join(&mut self, waker: Waker, waiting: Waiting) -> (Ticket, bool) {
        let sooner = waiting.deadline < self.next_deadline;
        if sooner {
            self.next_deadline = waiting.deadline;
        }
        (self.list.join_noted(waker, waiting), sooner)
    }

    pub(super) fn poll(&mut self, ticket: Ticket, context: &mut Context<'_>) -> Poll<Grant<C>> {
        self.list.poll(ticket, context)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Grant<C>> {
        self.list.leave(ticket)
    }

    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) const fn next_deadline(&self) -> Tick {
        self.next_deadline
    }

    /// Who is served next.
    pub(super) fn oldest(&self) -> Option<&Waiting> {
        self.list.oldest_note()
    }

    /// Hands a connection to the oldest waiter, or gives it back when nobody waits.
    #[inline]
    pub(super) fn hand(&mut self, entry: Box<Entry<C>>) -> Result<Waker, Box<Entry<C>>> {
        self.list.hand_over(Grant::Lease(entry)).map_err(|grant| match grant {
            Grant::Lease(entry) => entry,
            Grant::Refused(_) => unreachable!("what is given back is what was handed over"),
        })
    }

    /// Sends the oldest waiter away.
    pub(super) fn refuse_oldest(&mut self, refusal: Refusal) -> Option<Waker> {
        self.list.hand_over(Grant::Refused(refusal)).ok()
    }

    /// Sends away everyone whose time is up; `each` gets their wakers.
    pub(super) fn expire(&mut self, now: Tick, mut each: impl FnMut(Waker)) {
        if self.next_deadline > now {
            return;
        }
        let late: Vec<Ticket> =
            self.list.notes().filter(|(_, waiting)| waiting.deadline <= now).map(|(late, _)| late).collect();
        for ticket in late {
            if let Ok(waker) = self.list.hand_to(ticket, Grant::Refused(Refusal::TimedOut)) {
                each(waker);
            }
        }
        self.next_deadline =
            self.list.notes().map(|(_, waiting)| waiting.deadline).min().unwrap_or(Tick::NEVER);
    }
}
