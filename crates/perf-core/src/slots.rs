//! Which stripe a thread writes, and whether it has that stripe to itself.
//!
//! A thread that is alone on a stripe adds with a plain load and store, which costs a quarter of an atomic addition. As
//! many threads as there are stripes get one each, handed back when the thread ends; the others share.

use crate::sync::Mutex;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::PoisonError;

/// More stripes than this cost memory and reading time and win nothing measurable.
const MAX_STRIPES: usize = 16;

/// A thread that has not asked yet.
const UNSET: usize = usize::MAX;

/// Slots from here on are shared.
const SHARED: usize = 1 << 32;

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(UNSET) };
    /// Hands the slot back when the thread ends.
    static LEASE: Lease = Lease(SLOTS.take(stripes()));
}

#[cfg(not(perf_loom))]
static SLOTS: Slots = Slots::new();

#[cfg(perf_loom)]
loom::lazy_static! {
    static ref SLOTS: Slots = Slots::new();
}

/// How many stripes striped numbers have: twice the cores, so that a few threads beside the workers get one as well.
pub(crate) fn stripes() -> usize {
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (2 * cores).next_power_of_two().clamp(4, MAX_STRIPES)
    })
}

/// The slot of this thread: a stripe's index when it has that stripe to itself, and something larger otherwise.
#[inline]
pub(crate) fn current() -> usize {
    let slot = SLOT.get();
    if slot == UNSET { first() } else { slot }
}

/// The stripe of a thread that shares.
#[inline]
pub(crate) fn shared(slot: usize, stripes: usize) -> usize {
    // The number of stripes is a power of two.
    slot & (stripes - 1)
}

#[cold]
fn first() -> usize {
    // A thread that is ending has no lease any more, and shares.
    let slot = LEASE.try_with(|lease| lease.0).unwrap_or(SHARED);
    SLOT.set(slot);
    slot
}

struct Lease(usize);

impl Drop for Lease {
    fn drop(&mut self) {
        // What the thread still counts while it ends, it counts as one that shares.
        SLOT.set(SHARED);
        SLOTS.give_back(self.0);
    }
}

/// The slots that are taken. The lock orders the last addition of one owner before the first of the next.
pub(crate) struct Slots(Mutex<Taken>);

struct Taken {
    owned: u32,
    sharing: usize,
}

impl Slots {
    #[cfg(not(perf_loom))]
    const fn new() -> Self {
        Self(Mutex::new(Taken { owned: 0, sharing: 0 }))
    }

    #[cfg(perf_loom)]
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Taken { owned: 0, sharing: 0 }))
    }

    /// The lowest free slot below `stripes`, or one that is shared.
    pub(crate) fn take(&self, stripes: usize) -> usize {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.owned.trailing_ones() as usize;
        if free < stripes {
            taken.owned |= 1 << free;
            return free;
        }
        taken.sharing = taken.sharing.wrapping_add(1);
        SHARED | (taken.sharing & (SHARED - 1))
    }

    pub(crate) fn give_back(&self, slot: usize) {
        if slot < SHARED {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).owned &= !(1 << slot);
        }
    }
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_handed_back_and_others_share() {
        let slots = Slots::new();
        assert_eq!((slots.take(2), slots.take(2)), (0, 1));
        assert!(slots.take(2) >= SHARED);
        slots.give_back(0);
        assert_eq!(slots.take(2), 0);
    }

    #[test]
    fn a_thread_keeps_its_slot() {
        assert_eq!(current(), current());
        assert!(shared(SHARED | 7, 4) == 3);
    }
}
