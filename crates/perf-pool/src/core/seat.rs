//! Where a caller waits: what it is given is laid on its seat after the lock of the core is released, so that neither the
//! giver nor the taker holds up anybody else.

use super::{Entry, Refusal};
use crate::sync::{Mutex, MutexGuard};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a waiter is given.
#[derive(Debug)]
pub(crate) enum Grant<C> {
    /// A connection; `measured` says whether the time it is held is to be measured.
    Lease { entry: Box<Entry<C>>, measured: bool },
    /// Boxed because it is rare, and a seat is to fit into a cache line.
    Refused(Box<Refusal>),
}

/// Which seat. Whoever has one has it alone, until it is given back to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatId(NonZeroU32);

/// The seat of one waiter, on a cache line of its own: beside another it would move from core to core with that one's
/// traffic as well, and what a hand-off costs would be a matter of where chance has laid them.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Seat<C> {
    content: Mutex<Content<C>>,
    /// Its position in the queue, or the next free seat; only touched under the lock of the core.
    place: AtomicU64,
}

#[derive(Debug)]
enum Content<C> {
    /// Nobody sits here, or the waiter has not polled yet.
    Fresh,
    Waiting(Waker),
    Given(Grant<C>),
    /// The waiter went away after it was chosen: what is meant for it belongs to the next.
    Left,
}

/// What a waiter left behind that was chosen already.
#[derive(Debug)]
pub(super) enum LeftBehind<C> {
    /// What was laid on its seat, which is free now.
    Grant(Grant<C>),
    /// Nothing was yet: the giver will find the seat empty and give both back. The waker is to be dropped off the lock.
    Nothing(Option<Waker>),
}

impl<C> Seat<C> {
    fn new() -> Self {
        Self { content: Mutex::new(Content::Fresh), place: AtomicU64::new(0) }
    }

    fn content(&self) -> MutexGuard<'_, Content<C>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was laid here, or keeps the waker for later.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Grant<C>> {
        let mut content = self.content();
        let before = match &*content {
            Content::Left => return Poll::Pending,
            Content::Waiting(waker) if waker.will_wake(context.waker()) => return Poll::Pending,
            Content::Fresh | Content::Waiting(_) => {
                std::mem::replace(&mut *content, Content::Waiting(context.waker().clone()))
            }
            Content::Given(_) => std::mem::replace(&mut *content, Content::Fresh),
        };
        // A waker that is replaced is dropped after the lock.
        drop(content);
        match before {
            Content::Given(grant) => Poll::Ready(grant),
            Content::Fresh | Content::Waiting(_) | Content::Left => Poll::Pending,
        }
    }

    /// Tells the waiter to look for itself.
    pub(crate) fn nudge(&self) {
        let waker = match &*self.content() {
            Content::Waiting(waker) => Some(waker.clone()),
            Content::Fresh | Content::Given(_) | Content::Left => None,
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The waiter goes away after it was chosen.
    pub(super) fn leave(&self) -> LeftBehind<C> {
        let mut content = self.content();
        let given = matches!(*content, Content::Given(_));
        let before = std::mem::replace(&mut *content, if given { Content::Fresh } else { Content::Left });
        drop(content);
        match before {
            Content::Given(grant) => LeftBehind::Grant(grant),
            Content::Waiting(waker) => LeftBehind::Nothing(Some(waker)),
            Content::Fresh | Content::Left => LeftBehind::Nothing(None),
        }
    }

    /// The waiter goes away before it was chosen. Its waker is to be dropped off the lock of the core.
    pub(super) fn clear(&self) -> Option<Waker> {
        match std::mem::replace(&mut *self.content(), Content::Fresh) {
            Content::Waiting(waker) => Some(waker),
            Content::Fresh | Content::Given(_) | Content::Left => None,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.place.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, position: u64) {
        self.place.store(position, Ordering::Relaxed);
    }
}

/// The seats of one pool. They never move, and stay for as long as the pool does.
#[derive(Debug)]
pub(crate) struct Seats<C> {
    /// Each as large as all those before it.
    rows: [OnceLock<Box<[Seat<C>]>>; ROWS],
}

/// As many rows as the number of a seat can need.
const ROWS: usize = (u32::BITS - FIRST_ROW.ilog2() + 1) as usize;
const FIRST_ROW: u32 = 16;
/// Only a seat that was made has a number.
const MISSING: &str = "a seat with a number is in its row";

impl<C> Seats<C> {
    pub(super) const fn new() -> Self {
        Self { rows: [const { OnceLock::new() }; ROWS] }
    }

    /// The row of a seat, its length, and the place in it.
    const fn locate(id: SeatId) -> (usize, u32, u32) {
        let index = id.0.get() - 1;
        if index < FIRST_ROW {
            return (0, FIRST_ROW, index);
        }
        let length = 1 << index.ilog2();
        ((index.ilog2() - FIRST_ROW.ilog2() + 1) as usize, length, index - length)
    }

    #[inline]
    pub(crate) fn get(&self, id: SeatId) -> &Seat<C> {
        let (row, _, place) = Self::locate(id);
        let seat = self.rows[row].get().and_then(|row| row.get(place as usize));
        let Some(seat) = seat else { unreachable!("{MISSING}") };
        seat
    }

    /// Makes the seat of this number, with its whole row.
    fn make(&self, id: SeatId) {
        let (row, length, _) = Self::locate(id);
        self.rows[row].get_or_init(|| (0..length).map(|_| Seat::new()).collect());
    }
}

/// Which seats are free.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Free {
    /// The one that was used last; each names the next.
    first: Option<SeatId>,
    made: u32,
}

impl Free {
    #[inline]
    pub(super) fn take<C>(&mut self, seats: &Seats<C>) -> SeatId {
        let Some(id) = self.first else { return self.make(seats) };
        self.first = NonZeroU32::new(seats.get(id).position() as u32).map(SeatId);
        id
    }

    #[cold]
    fn make<C>(&mut self, seats: &Seats<C>) -> SeatId {
        // Four thousand million waiters do not fit into any memory.
        self.made = self.made.saturating_add(1);
        let id = SeatId(NonZeroU32::MIN.saturating_add(self.made - 1));
        seats.make(id);
        id
    }

    /// How many are free, and how many there are.
    #[cfg(all(test, not(perf_loom)))]
    pub(super) fn count<C>(&self, seats: &Seats<C>) -> (u32, u32) {
        let next = |id: &SeatId| NonZeroU32::new(seats.get(*id).position() as u32).map(SeatId);
        let free = std::iter::successors(self.first, next).zip(0..self.made).count();
        (free as u32, self.made)
    }

    #[inline]
    pub(super) fn put<C>(&mut self, seats: &Seats<C>, id: SeatId) {
        seats.get(id).set_position(self.first.map_or(0, |next| u64::from(next.0.get())));
        self.first = Some(id);
    }
}

/// Something for a waiter that was taken out of the queue. To be delivered once the lock of the core is released.
#[derive(Debug)]
#[must_use = "what is not delivered is lost"]
pub(crate) struct Delivery<C> {
    pub(super) seat: SeatId,
    pub(super) grant: Grant<C>,
}

/// What could not be delivered, because the waiter went away meanwhile. All of it goes back to the core.
#[derive(Debug)]
#[must_use = "what is not taken back is lost"]
pub(crate) struct Undelivered<C> {
    pub(crate) seat: SeatId,
    pub(crate) entry: Option<Box<Entry<C>>>,
}

impl<C> Delivery<C> {
    /// Lays it on the seat and wakes the waiter.
    ///
    /// # Errors
    /// All of it, when the waiter went away meanwhile.
    #[inline]
    pub(crate) fn deliver(self, seats: &Seats<C>) -> Result<(), Undelivered<C>> {
        let Self { seat: id, grant } = self;
        let mut content = seats.get(id).content();
        if matches!(*content, Content::Left) {
            *content = Content::Fresh;
            drop(content);
            let entry = match grant {
                Grant::Lease { entry, .. } => Some(entry),
                Grant::Refused(_) => None,
            };
            return Err(Undelivered { seat: id, entry });
        }
        let before = std::mem::replace(&mut *content, Content::Given(grant));
        drop(content);
        if let Content::Waiting(waker) = before {
            waker.wake();
        }
        Ok(())
    }
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_seat_fills_one_cache_line() {
        assert_eq!((size_of::<Seat<u64>>(), align_of::<Seat<u64>>()), (64, 64));
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let places: Vec<_> = (1..=4096)
            .filter_map(NonZeroU32::new)
            .map(|id| {
                let (row, length, place) = Seats::<()>::locate(SeatId(id));
                assert!(place < length);
                (row, place)
            })
            .collect();
        assert!(places.windows(2).all(|two| two[0] < two[1]), "in order, and none twice");
        assert_eq!(Seats::<()>::locate(SeatId(NonZeroU32::MAX)).0, ROWS - 1);
    }

    #[test]
    fn the_seat_used_last_is_taken_first_and_none_is_taken_twice() {
        let (seats, mut free) = (Seats::<()>::new(), Free::default());
        let taken: Vec<_> = (0..100).map(|_| free.take(&seats)).collect();
        assert!((1..100).all(|n| !taken[..n].contains(&taken[n])));
        taken.iter().for_each(|&id| free.put(&seats, id));
        let again: Vec<_> = (0..100).map(|_| free.take(&seats)).collect();
        assert!(again.iter().eq(taken.iter().rev()));
        assert!(!taken.contains(&free.take(&seats)), "then a new one");
    }
}
