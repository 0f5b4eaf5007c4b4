use super::seat::{Delivery, Grant, Seat, Spare};
use super::{Caller, Entry};
use crate::clock::Tick;
use crate::error::Cause;
use perf_core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

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

/// Who waits, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) since: Tick,
    pub(crate) deadline: Tick,
    pub(crate) caller: Caller,
}

#[derive(Debug)]
struct Item<C, K> {
    seat: Arc<Seat<C, K>>,
    waiting: Waiting,
}

/// The waiters in order of arrival, with their deadlines. One timer serves them all: it is set for the earliest
/// deadline known, so with equal limits a newcomer never has to move it.
///
/// The order is a ring. Who leaves from the middle leaves a gap, which is closed when there are more gaps than waiters.
#[derive(Debug)]
pub(super) struct Queue<C, K> {
    order: VecDeque<Option<Item<C, K>>>,
    /// The position of the first in the ring; positions only grow.
    front: u64,
    waiting: usize,
    /// No deadline is earlier.
    next_deadline: Tick,
    /// Seats to be used again, so that a steady number of waiters allocates nothing.
    spare: Vec<Spare<C, K>>,
}

/// So many gaps are not worth closing.
const GAPS: usize = 32;

impl<C, K> Queue<C, K> {
    pub(super) const fn new() -> Self {
        Self { order: VecDeque::new(), front: 0, waiting: 0, next_deadline: Tick::NEVER, spare: Vec::new() }
    }

    /// Joins the end. Also says whether the timer has to be set to an earlier moment.
    #[inline]
    pub(super) fn join(&mut self, waiting: Waiting) -> (Arc<Seat<C, K>>, bool) {
        let Spare(own, seat) = self.spare.pop().unwrap_or_else(Spare::new);
        seat.set_position(self.front + self.order.len() as u64);
        self.order.push_back(Some(Item { seat, waiting }));
        self.waiting += 1;
        let sooner = waiting.deadline < self.next_deadline;
        if sooner {
            self.next_deadline = waiting.deadline;
        }
        (own, sooner)
    }

    /// A waiter goes away.
    ///
    /// # Errors
    /// The seat, when its waiter was chosen already.
    pub(super) fn leave(&mut self, seat: Arc<Seat<C, K>>) -> Result<(), Arc<Seat<C, K>>> {
        let index = seat.position().checked_sub(self.front).map(|index| index as usize);
        let item = index
            .and_then(|index| self.order.get_mut(index))
            .and_then(|place| place.take_if(|item| Arc::ptr_eq(&item.seat, &seat)));
        let Some(item) = item else { return Err(seat) };
        self.waiting -= 1;
        seat.clear();
        self.reuse(Spare(seat, item.seat));
        self.close_gaps();
        Ok(())
    }

    #[inline]
    pub(super) fn reuse(&mut self, spare: Spare<C, K>) {
        self.spare.push(spare);
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) const fn next_deadline(&self) -> Tick {
        self.next_deadline
    }

    /// The oldest waiter: the first in the ring is never a gap.
    fn first(&self) -> Option<&Item<C, K>> {
        self.order.front()?.as_ref()
    }

    /// Since when the oldest waiter has waited.
    pub(super) fn oldest_since(&self) -> Option<Tick> {
        self.first().map(|item| item.waiting.since)
    }

    /// The seat of the oldest waiter.
    pub(super) fn oldest_seat(&self) -> Option<Arc<Seat<C, K>>> {
        self.first().map(|item| Arc::clone(&item.seat))
    }

    pub(super) fn is_oldest(&self, seat: &Arc<Seat<C, K>>) -> bool {
        self.first().is_some_and(|item| Arc::ptr_eq(&item.seat, seat))
    }

    /// Who has waited longest.
    #[inline]
    pub(super) fn oldest_caller(&self) -> Option<Caller> {
        self.first().map(|item| item.waiting.caller)
    }

    /// Chooses the oldest waiter for a connection, or gives it back when nobody waits.
    #[inline]
    pub(super) fn hand(
        &mut self,
        entry: Box<Entry<C>>,
        measured: bool,
    ) -> Result<Delivery<C, K>, Box<Entry<C>>> {
        match self.pop() {
            None => Err(entry),
            Some(item) => Ok(Delivery { seat: item.seat, grant: Grant::Lease { entry, measured } }),
        }
    }

    /// Sends the oldest waiter away.
    pub(super) fn refuse_oldest(&mut self, refusal: Refusal) -> Option<Delivery<C, K>> {
        self.pop().map(|item| Delivery { seat: item.seat, grant: Grant::Refused(Box::new(refusal)) })
    }

    /// Sends away everyone whose time is up.
    pub(super) fn expire(&mut self, now: Tick, mut each: impl FnMut(Delivery<C, K>)) {
        if self.next_deadline > now {
            return;
        }
        self.next_deadline = Tick::NEVER;
        for place in &mut self.order {
            if let Some(item) = place.take_if(|item| item.waiting.deadline <= now) {
                self.waiting -= 1;
                each(Delivery { seat: item.seat, grant: Grant::Refused(Box::new(Refusal::TimedOut)) });
            } else if let Some(item) = place {
                self.next_deadline = self.next_deadline.min(item.waiting.deadline);
            }
        }
        self.close_gaps();
    }

    #[inline]
    fn pop(&mut self) -> Option<Item<C, K>> {
        let first = self.order.pop_front()?;
        self.front += 1;
        self.waiting -= usize::from(first.is_some());
        self.skip_gaps();
        first
    }

    #[inline]
    fn skip_gaps(&mut self) {
        // Without gaps, which is the rule, nobody's place has to be looked at.
        while self.order.len() > self.waiting && self.order.front().is_some_and(Option::is_none) {
            self.order.pop_front();
            self.front += 1;
        }
    }

    fn close_gaps(&mut self) {
        self.skip_gaps();
        if self.order.len() > 2 * self.waiting + GAPS {
            // New positions, so that those of waiters chosen earlier stay unknown.
            self.front += self.order.len() as u64;
            self.order.retain(Option::is_some);
            for (position, item) in (self.front..).zip(self.order.iter().flatten()) {
                item.seat.set_position(position);
            }
        }
    }
}
