//! Barging: a returned connection rests, and whoever comes first takes it, as long as the oldest waiter has not waited for
//! too long. It saves a change of tasks for each lease, and costs fairness within the bound.

use super::{Caller, Core, SeatId, Take};
use crate::clock::Tick;
use crate::pool::Fairness;
use std::task::Waker;

impl<C> Core<C> {
    /// Until when a newcomer may take what the oldest waiter could have; none where the order is strict or nobody waits.
    fn barging_until(&self) -> Option<Tick> {
        match self.config.fairness {
            Fairness::Strict => None,
            Fairness::Barging { max_wait } => self.queue.oldest_since().map(|since| since.after(max_wait)),
        }
    }

    /// Whether a newcomer may be served before those who wait.
    pub(super) fn may_barge(&self, now: Tick) -> bool {
        self.barging_until().is_some_and(|until| now < until)
    }

    /// Tells the oldest waiter that a connection rests.
    pub(super) fn nudge_oldest(&mut self) {
        if !self.idle.is_empty() {
            self.effects.nudges.extend(self.queue.oldest_seat());
            // Should it not come, the connection is handed to it when its patience ends.
            let ends = self.patience_ends();
            self.effects.signal |= ends.is_some_and(|at| self.next_wake.is_none_or(|next| at < next));
        }
    }

    /// When a connection that rests is handed to the oldest waiter, who has not come for it.
    pub(super) fn patience_ends(&self) -> Option<Tick> {
        self.barging_until().filter(|_| !self.idle.is_empty())
    }

    /// A waiter that was told looks for itself: if it is the oldest, it takes a connection that rests.
    /// Its waker comes back with that, to be dropped off the lock.
    pub(crate) fn take_as_oldest(
        &mut self,
        seat: SeatId,
        now: Tick,
        caller: Caller,
    ) -> (Take<C>, Option<Waker>) {
        if !self.open || !self.queue.is_oldest(seat) {
            return (Take::Wait, None);
        }
        let taken = match self.pop_idle() {
            Some(resting) if resting.is_fresh(now) => self.lease(resting, now, caller),
            Some(resting) => self.take_with_care(resting, now, caller),
            None => Take::Wait,
        };
        let mut waker = None;
        if matches!(taken, Take::Lease { .. }) {
            // It is in the queue, as was seen above.
            waker = self.queue.leave(seat).unwrap_or_default();
            self.nudge_oldest();
        }
        (taken, waker)
    }
}
