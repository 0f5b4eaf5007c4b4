//! A fair waiter list: the bulkhead queues in it; the pool, whose waiters are many and hot, has seats of its own.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// A place in a [`WaitList`]. It is given back through [`WaitList::leave`]; the guard that holds it does so on drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

impl Ticket {
    /// The number of its place, an index for what an owner keeps beside the list: places are reused, so the largest
    /// number ever seen is below the largest number of waiters at one time.
    #[must_use]
    pub const fn place(self) -> usize {
        self.slot as usize
    }
}

/// Waiters in order of arrival, to whom a `T` is handed directly: a newcomer can never take what a waiter was given.
///
/// It is plain data: no lock, no clock, no task. The owner keeps it behind its mutex and wakes wakers *after* unlocking.
/// Places are kept in a slab, so a steady number of waiters allocates nothing. Every operation is O(1), averaged over
/// those who leave from the middle of the queue.
///
/// ```
/// use perf_core::WaitList;
/// use std::task::{Context, Poll, Waker};
///
/// let mut context = Context::from_waker(Waker::noop());
/// let mut list = WaitList::new();
/// let first = list.join(context.waker().clone());
/// let second = list.join(context.waker().clone());
/// list.hand_over("permit").unwrap().wake();
/// assert_eq!(list.poll(first, &mut context), Poll::Ready("permit"));
/// assert_eq!(list.poll(second, &mut context), Poll::Pending);
/// assert_eq!(list.leave(second), None);
/// assert!(list.is_empty());
/// ```
#[derive(Debug)]
pub struct WaitList<T> {
    slots: Vec<Slot<T>>,
    /// The order of arrival, in a ring rather than in links from slot to slot: a link is a write to the cache line of
    /// another waiter. The first and the last ticket are those of waiters; between them may be some of those who left.
    order: VecDeque<Ticket>,
    free: u32,
    waiting: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    /// Nobody's; `next` is the next free slot.
    Vacant { next: u32 },
    /// In the queue.
    Waiting(Waker),
    /// Out of the queue, holding what it was given until it polls.
    Ready(T),
}

/// No slot.
const NONE: u32 = u32::MAX;

/// So many tickets of those who left from the middle are not worth tidying up.
const CLUTTER: usize = 32;

impl<T> WaitList<T> {
    /// A list without waiters.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), order: VecDeque::new(), free: NONE, waiting: 0 }
    }

    /// Joins the end of the queue.
    pub fn join(&mut self, waker: Waker) -> Ticket {
        let state = State::Waiting(waker);
        let ticket = match self.slots.get_mut(self.free as usize) {
            Some(place) => {
                let ticket = Ticket { slot: self.free, generation: place.generation };
                if let State::Vacant { next } = std::mem::replace(&mut place.state, state) {
                    self.free = next;
                }
                ticket
            }
            None => {
                self.slots.push(Slot { generation: 0, state });
                Ticket { slot: (self.slots.len() - 1) as u32, generation: 0 }
            }
        };
        self.order.push_back(ticket);
        self.waiting += 1;
        ticket
    }

    /// Takes what the waiter was given, which gives up its place, or keeps the waker for later.
    ///
    /// A ticket that was given up already stays pending for ever; its holder has nothing to wait for.
    pub fn poll(&mut self, ticket: Ticket, context: &mut Context<'_>) -> Poll<T> {
        let Some(place) = self.place(ticket) else { return Poll::Pending };
        match &mut place.state {
            State::Waiting(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            _ => self.vacate(ticket).map_or(Poll::Pending, Poll::Ready),
        }
    }

    /// Gives `value` to the oldest waiter and returns the waker to wake, or gives it back when nobody waits.
    ///
    /// # Errors
    /// The value itself, when nobody waits.
    pub fn hand_over(&mut self, value: T) -> Result<Waker, T> {
        let Some(ticket) = self.order.pop_front() else { return Err(value) };
        let given = self.give(ticket, value);
        self.tidy_front();
        given
    }

    /// Gives `value` to the *newest* waiter: under overload the oldest have often been given up by their callers.
    ///
    /// # Errors
    /// The value itself, when nobody waits.
    pub fn hand_over_newest(&mut self, value: T) -> Result<Waker, T> {
        let Some(ticket) = self.order.pop_back() else { return Err(value) };
        let given = self.give(ticket, value);
        self.tidy_back();
        given
    }

    /// Gives `value` to one particular waiter, wherever it stands in the queue: its time is up, or its call is refused.
    ///
    /// # Errors
    /// The value itself, when that waiter was given something before or has left.
    pub fn hand_to(&mut self, ticket: Ticket, value: T) -> Result<Waker, T> {
        let given = self.give(ticket, value);
        if given.is_ok() {
            self.tidy();
        }
        given
    }

    /// The waiter at the head of the queue.
    #[must_use]
    pub fn oldest(&self) -> Option<Ticket> {
        self.order.front().copied()
    }

    /// Gives up a place. Returns what the waiter had been given but not taken: it belongs to the next waiter.
    #[must_use = "what was handed over and not taken belongs to the next waiter"]
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let waits = matches!(self.place(ticket)?.state, State::Waiting(_));
        let given = self.vacate(ticket);
        if waits {
            self.waiting -= 1;
            self.tidy();
        }
        given
    }

    /// How many wait in the queue; those who were given something but have not polled yet are not counted.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting as usize
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Gives `value` to a waiter in the queue, whose ticket the caller takes out of the order.
    fn give(&mut self, ticket: Ticket, value: T) -> Result<Waker, T> {
        let Some(place) = self.slots.get_mut(ticket.slot as usize) else { return Err(value) };
        if place.generation != ticket.generation || !matches!(place.state, State::Waiting(_)) {
            return Err(value);
        }
        self.waiting -= 1;
        match std::mem::replace(&mut place.state, State::Ready(value)) {
            State::Waiting(waker) => Ok(waker),
            // Looked at above; a no-op waker keeps this total without a panic.
            State::Vacant { .. } | State::Ready(_) => Ok(Waker::noop().clone()),
        }
    }

    fn place(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        let place = self.slots.get_mut(ticket.slot as usize)?;
        (place.generation == ticket.generation && !matches!(place.state, State::Vacant { .. }))
            .then_some(place)
    }

    fn waits(&self, ticket: Ticket) -> bool {
        let place = self.slots.get(ticket.slot as usize);
        place.is_some_and(|p| p.generation == ticket.generation && matches!(p.state, State::Waiting(_)))
    }

    fn vacate(&mut self, ticket: Ticket) -> Option<T> {
        let place = &mut self.slots[ticket.slot as usize];
        place.generation = place.generation.wrapping_add(1);
        let left = std::mem::replace(&mut place.state, State::Vacant { next: self.free });
        self.free = ticket.slot;
        match left {
            State::Ready(value) => Some(value),
            State::Waiting(_) | State::Vacant { .. } => None,
        }
    }

    /// Somebody left the queue other than by its head: tickets that nobody holds are cleared away at the ends, and in
    /// the middle once they are more than those who wait.
    fn tidy(&mut self) {
        self.tidy_front();
        self.tidy_back();
        if self.order.len() > 2 * self.len() + CLUTTER {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|ticket| self.waits(*ticket));
            self.order = order;
        }
    }

    fn tidy_front(&mut self) {
        // Without clutter, which is the rule, there is no need to look at anybody's place.
        while self.order.len() > self.len() && self.order.front().is_some_and(|t| !self.waits(*t)) {
            self.order.pop_front();
        }
    }

    fn tidy_back(&mut self) {
        while self.order.len() > self.len() && self.order.back().is_some_and(|t| !self.waits(*t)) {
            self.order.pop_back();
        }
    }
}

impl<T> Default for WaitList<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn taken<T>(poll: Poll<T>) -> Option<T> {
        match poll {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_a_leaver_was_given_comes_back() {
        let mut list = WaitList::new();
        let ticket = list.join(Waker::noop().clone());
        list.hand_over(5).unwrap();
        assert_eq!(list.leave(ticket), Some(5));
        assert_eq!(list.leave(ticket), None, "a place is given up once");
    }

    #[test]
    fn an_old_ticket_does_not_reach_the_new_holder_of_its_place() {
        let mut list = WaitList::new();
        let old = list.join(Waker::noop().clone());
        assert_eq!(list.leave(old), None);
        let new = list.join(Waker::noop().clone());
        list.hand_over(1).unwrap();
        assert_eq!(taken(list.poll(old, &mut context())), None);
        assert_eq!(list.leave(old), None);
        assert_eq!(taken(list.poll(new, &mut context())), Some(1));
    }

    #[test]
    fn the_newest_can_be_served_first() {
        let mut list = WaitList::new();
        let tickets: Vec<_> = (0..3).map(|_| list.join(Waker::noop().clone())).collect();
        list.hand_over_newest(9).unwrap();
        assert_eq!(taken(list.poll(tickets[2], &mut context())), Some(9));
        list.hand_over(1).unwrap();
        assert_eq!(taken(list.poll(tickets[0], &mut context())), Some(1));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn one_particular_waiter_can_be_served_once() {
        let mut list = WaitList::new();
        assert_eq!(list.oldest(), None);
        let tickets: Vec<_> = (0..3).map(|_| list.join(Waker::noop().clone())).collect();
        assert_eq!(tickets.iter().map(|t| t.place()).collect::<Vec<_>>(), [0, 1, 2]);
        list.hand_to(tickets[1], 7).unwrap();
        assert_eq!(list.hand_to(tickets[1], 8).unwrap_err(), 8, "it was given something before");
        assert_eq!((list.len(), list.oldest()), (2, Some(tickets[0])));
        assert_eq!(taken(list.poll(tickets[1], &mut context())), Some(7));
        assert_eq!(list.leave(tickets[0]), None);
        assert_eq!(list.hand_to(tickets[0], 9).unwrap_err(), 9, "it has left");
        assert_eq!(list.oldest(), Some(tickets[2]));
    }

    #[test]
    fn those_who_leave_from_the_middle_leave_no_clutter() {
        let mut list = WaitList::new();
        let first: Ticket = list.join(Waker::noop().clone());
        for _ in 0..10_000 {
            let middle = list.join(Waker::noop().clone());
            let last = list.join(Waker::noop().clone());
            assert_eq!(list.leave(middle), None);
            list.hand_over_newest(1).unwrap();
            assert_eq!(taken(list.poll(last, &mut context())), Some(1));
        }
        let several: Vec<_> = (0..1000).map(|_| list.join(Waker::noop().clone())).collect();
        let last = list.join(Waker::noop().clone());
        several.into_iter().for_each(|ticket| assert_eq!(list.leave(ticket), None));
        assert!(list.order.len() <= 2 * list.len() + CLUTTER, "{} tickets", list.order.len());
        assert_eq!((list.len(), list.oldest()), (2, Some(first)));
        list.hand_over(7).unwrap();
        assert_eq!(list.oldest(), Some(last));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        HandOver,
        HandOverNewest,
        Leave(usize),
        Poll(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Join),
            Just(Step::HandOver),
            Just(Step::HandOverNewest),
            (0..8_usize).prop_map(Step::Leave),
            (0..8_usize).prop_map(Step::Poll),
        ]
    }

    proptest! {
        /// The oracle: a queue of tickets and a map of what was handed to whom.
        #[test]
        fn behaves_like_a_queue_and_a_map(steps in prop::collection::vec(step(), 0..200)) {
            let mut list = WaitList::new();
            let mut queue = std::collections::VecDeque::new();
            let mut held = std::collections::HashMap::new();
            let mut tickets = Vec::new();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Join => {
                        let ticket = list.join(Waker::noop().clone());
                        queue.push_back(ticket);
                        tickets.push(ticket);
                    }
                    Step::HandOver | Step::HandOverNewest => {
                        let newest = matches!(step, Step::HandOverNewest);
                        let chosen = if newest { queue.pop_back() } else { queue.pop_front() };
                        let given = if newest { list.hand_over_newest(value) } else { list.hand_over(value) };
                        prop_assert_eq!(given.is_ok(), chosen.is_some());
                        chosen.map(|ticket| held.insert(ticket, value));
                    }
                    Step::Leave(n) | Step::Poll(n) if !tickets.is_empty() => {
                        let ticket = tickets[n % tickets.len()];
                        let expected = held.remove(&ticket);
                        if matches!(step, Step::Leave(_)) {
                            queue.retain(|waiting| *waiting != ticket);
                            prop_assert_eq!(list.leave(ticket), expected);
                        } else {
                            prop_assert_eq!(taken(list.poll(ticket, &mut context())), expected);
                        }
                    }
                    Step::Leave(_) | Step::Poll(_) => {}
                }
                prop_assert_eq!(list.len(), queue.len());
            }
        }
    }
}
