use super::ring::Ring;
use super::seat::{Delivery, Free, Grant, SeatId, Seats};
use super::{Caller, Entry};
use crate::clock::Tick;
use crate::error::Cause;
use perf_core::time::Duration;
use std::sync::Arc;
use std::task::Waker;

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

#[derive(Clone, Copy, Debug)]
struct Item {
    seat: SeatId,
    waiting: Waiting,
}

/// The waiters in order of arrival, with their deadlines. One timer serves them all: it is set for the earliest
/// deadline known, so with equal limits a newcomer never has to move it.
///
/// The order is a ring. Who leaves from the middle leaves a gap, which is closed when there are more gaps than waiters.
/// What every waiter writes comes first, as the core has it.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Queue<C> {
    waiting: u32,
    /// Seats to be used again, so that a steady number of waiters allocates nothing.
    free: Free,
    order: Ring<Item>,
    /// No deadline is earlier.
    next_deadline: Tick,
    pub(super) seats: Arc<Seats<C>>,
}

/// A waiter was taken out of the queue already.
#[derive(Debug)]
pub(super) struct Chosen;

/// So many gaps are not worth closing.
const GAPS: usize = 32;

impl<C> Queue<C> {
    pub(super) fn new() -> Self {
        Self {
            waiting: 0,
            free: Free::default(),
            order: Ring::new(),
            next_deadline: Tick::NEVER,
            seats: Arc::new(Seats::new()),
        }
    }

    /// Joins the end. Also says whether the timer has to be set to an earlier moment.
    #[inline]
    pub(super) fn join(&mut self, waiting: Waiting) -> (SeatId, bool) {
        let seat = self.free.take(&self.seats);
        self.seats.get(seat).set_position(self.order.next());
        self.order.push(Item { seat, waiting });
        self.waiting += 1;
        let sooner = waiting.deadline < self.next_deadline;
        if sooner {
            self.next_deadline = waiting.deadline;
        }
        (seat, sooner)
    }

    /// A waiter goes away, and leaves its waker, to be dropped off the lock.
    ///
    /// # Errors
    /// [`Chosen`], when it was chosen already.
    pub(super) fn leave(&mut self, seat: SeatId) -> Result<Option<Waker>, Chosen> {
        let place = self.order.place(self.seats.get(seat).position());
        if place.and_then(|place| place.take_if(|item| item.seat == seat)).is_none() {
            return Err(Chosen);
        }
        self.waiting -= 1;
        let waker = self.seats.get(seat).clear();
        self.reuse(seat);
        self.close_gaps();
        Ok(waker)
    }

    #[inline]
    pub(super) fn reuse(&mut self, seat: SeatId) {
        self.free.put(&self.seats, seat);
    }

    #[cfg(all(test, not(perf_loom)))]
    pub(super) fn free_seats(&self) -> (u32, u32) {
        self.free.count(&self.seats)
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting as usize
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) const fn next_deadline(&self) -> Tick {
        self.next_deadline
    }

    /// The oldest waiter: the first in the ring is never a gap.
    fn first(&self) -> Option<&Item> {
        self.order.first()?
    }

    /// Since when the oldest waiter has waited.
    pub(super) fn oldest_since(&self) -> Option<Tick> {
        self.first().map(|item| item.waiting.since)
    }

    /// The seat of the oldest waiter.
    pub(super) fn oldest_seat(&self) -> Option<SeatId> {
        self.first().map(|item| item.seat)
    }

    pub(super) fn is_oldest(&self, seat: SeatId) -> bool {
        self.first().is_some_and(|item| item.seat == seat)
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
    ) -> Result<Delivery<C>, Box<Entry<C>>> {
        match self.pop() {
            None => Err(entry),
            Some(item) => Ok(Delivery { seat: item.seat, grant: Grant::Lease { entry, measured } }),
        }
    }

    /// Sends the oldest waiter away.
    pub(super) fn refuse_oldest(&mut self, refusal: Refusal) -> Option<Delivery<C>> {
        self.pop().map(|item| Delivery { seat: item.seat, grant: Grant::Refused(Box::new(refusal)) })
    }

    /// Sends away everyone whose time is up.
    pub(super) fn expire(&mut self, now: Tick, mut each: impl FnMut(Delivery<C>)) {
        if self.next_deadline > now {
            return;
        }
        self.next_deadline = Tick::NEVER;
        for number in self.order.numbers() {
            let Some(place) = self.order.place(number) else { continue };
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
    fn pop(&mut self) -> Option<Item> {
        let first = self.order.pop()?;
        self.waiting -= u32::from(first.is_some());
        self.skip_gaps();
        first
    }

    #[inline]
    fn skip_gaps(&mut self) {
        // Without gaps, which is the rule, nobody's place has to be looked at.
        while self.order.len() > self.len() && self.order.first().is_some_and(|first| first.is_none()) {
            self.order.pop();
        }
    }

    fn close_gaps(&mut self) {
        self.skip_gaps();
        if self.order.len() > 2 * self.len() + GAPS {
            self.order.close_gaps(|item, position| self.seats.get(item.seat).set_position(position));
        }
    }
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;
    use crate::core::Core;
    use std::mem::offset_of;

    #[test]
    fn what_every_waiter_writes_is_on_the_line_of_the_lock() {
        let (lock, both_ends) = (size_of::<u64>(), 2 * size_of::<u64>());
        let end = lock + offset_of!(Core<u64>, queue) + offset_of!(Queue<u64>, order) + both_ends;
        assert!(end <= 64, "{end}");
    }
}
