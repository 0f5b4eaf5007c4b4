//! What threads are reading at this moment: hazard slots, in a lane for each thread (Michael, "Hazard Pointers: Safe
//! Memory Reclamation for Lock-Free Objects", 2004).
//!
//! A reader writes the address of what it is about to use into a slot of its own lane, and looks once more whether it is
//! still there. Whoever takes something away looks through all lanes before it lets go. Between a reader's two steps there
//! must be a fence; on Linux it costs the reader nothing, because whoever takes something away makes *all* threads of the
//! process pass a fence instead (`membarrier`).

use super::sync::{AtomicU64, AtomicUsize, Ordering, fence};
use std::cell::Cell;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What a thread may hold without counting. A thread that holds more than this many hits at once counts the others.
pub(crate) const SLOTS: usize = 7;

/// The address of something in use, or 0.
#[derive(Debug)]
pub(crate) struct Slot(AtomicUsize);

impl Slot {
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        // Whoever held something here before is done with it, also if that was another thread.
        self.0.load(Ordering::Acquire) == 0
    }

    #[inline]
    fn set(&self, address: usize) {
        self.0.store(address, Ordering::Release);
    }

    #[inline]
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// The slots of one thread. Only their thread fills them; any thread may clear one that it was handed.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Lane {
    slots: [Slot; SLOTS],
    /// For the moment in which something is counted; always free otherwise.
    brief: Slot,
    /// Whether others make this lane's thread pass a fence when it matters.
    is_fenced_by_others: bool,
    index: usize,
}

impl Lane {
    pub(crate) fn new(index: usize, is_fenced_by_others: bool) -> Self {
        let slot = || Slot(AtomicUsize::new(0));
        Self { slots: std::array::from_fn(|_| slot()), brief: slot(), is_fenced_by_others, index }
    }

    /// A small number that no other lane has.
    #[inline]
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// The slot that is free unless the thread holds something.
    #[inline]
    pub(crate) const fn first(&self) -> &Slot {
        &self.slots[0]
    }

    /// A slot for as long as the caller likes, if one is free, or else the brief one.
    pub(crate) fn slot(&self) -> (&Slot, bool) {
        match self.slots.iter().find(|slot| slot.is_free()) {
            Some(slot) => (slot, true),
            None => (&self.brief, false),
        }
    }

    /// Announces an address. What is read afterwards is read after the announcement can be seen.
    #[inline(always)]
    pub(crate) fn announce(&self, slot: &Slot, address: usize) {
        slot.set(address);
        if self.is_fenced_by_others {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// Adds the addresses announced here.
    pub(crate) fn collect(&self, addresses: &mut Vec<usize>) {
        let slots = self.slots.iter().chain([&self.brief]);
        addresses.extend(slots.map(|slot| slot.0.load(Ordering::Acquire)).filter(|address| *address != 0));
    }
}

/// A monotone total of what threads do on hits. A thread whose lane has a stripe adds with a plain load and store.
#[derive(Debug)]
pub(crate) struct LaneCounter(Box<[Stripe]>);

#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    /// Written only by the thread that has the lane of this number.
    own: AtomicU64,
    /// Written by threads with higher ones.
    shared: AtomicU64,
}

impl LaneCounter {
    #[inline(always)]
    pub(crate) fn increment_in(&self, lane: &Lane) {
        match self.0.get(lane.index) {
            // Nobody else writes this cell, so nothing can come between the load and the store.
            Some(Stripe { own, .. }) => {
                own.store(own.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
            None => self.increment_shared(lane.index),
        }
    }

    #[cold]
    fn increment_shared(&self, index: usize) {
        self.0[index % self.0.len()].shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        with_lane(|lane| self.increment_in(lane));
    }

    /// The total; additions running at the same time may or may not be seen.
    pub(crate) fn get(&self) -> u64 {
        let of = |stripe: &Stripe| {
            stripe.own.load(Ordering::Relaxed).wrapping_add(stripe.shared.load(Ordering::Relaxed))
        };
        self.0.iter().fold(0, |sum, stripe| sum.wrapping_add(of(stripe)))
    }
}

impl Default for LaneCounter {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let stripes = (2 * cores).next_power_of_two().clamp(4, 16);
        let stripe = |_| Stripe { own: AtomicU64::new(0), shared: AtomicU64::new(0) };
        Self((0..stripes).map(stripe).collect())
    }
}

/// All lanes of the process, in chunks that never go away.
pub(crate) struct Lanes {
    chunks: [OnceLock<Box<[Lane]>>; CHUNKS],
    free: Mutex<Free>,
}

struct Free {
    /// Lanes whose threads have ended.
    returned: Vec<usize>,
    /// Lanes handed out at least once.
    used: usize,
}

/// The first chunk has this many lanes, each further one twice as many as the one before.
const FIRST: usize = 32;
const CHUNKS: usize = 26;

static LANES: Lanes = Lanes::new();

impl Lanes {
    const fn new() -> Self {
        let free = Free { returned: Vec::new(), used: 0 };
        Self { chunks: [const { OnceLock::new() }; CHUNKS], free: Mutex::new(free) }
    }

    /// The chunk of a lane and its place in there.
    const fn place(index: usize) -> (usize, usize) {
        let chunk = (index / FIRST + 1).ilog2() as usize;
        (chunk, index - FIRST * ((1 << chunk) - 1))
    }

    /// A lane that is nobody else's. More threads than there can be lanes do not fit into an address space.
    fn take(&'static self) -> (usize, &'static Lane) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.returned.pop().unwrap_or(free.used);
        free.used = free.used.max(index + 1);
        let (chunk, place) = Self::place(index);
        let lanes = self.chunks[chunk].get_or_init(|| {
            let fenced = membarrier::is_ready();
            let first = index - place;
            (first..first + (FIRST << chunk)).map(|index| Lane::new(index, fenced)).collect()
        });
        (index, &lanes[place])
    }

    fn give_back(&self, index: usize) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).returned.push(index);
    }

    /// Whether no other thread has a lane, so that nobody needs to pass a fence. One that takes a lane after this takes it
    /// under the same lock, and so sees everything that was removed before; one that gave its lane back has done that too.
    fn are_all_ours(&self) -> bool {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.used - free.returned.len() == usize::from(lane().is_some())
    }

    /// Every address in use by any thread that had it before this call, in order; `None` when that cannot be told now.
    fn in_use(&self) -> Option<Vec<usize>> {
        if !self.are_all_ours() {
            membarrier::all_threads_pass_a_fence()?;
        }
        let mut addresses = Vec::new();
        for lane in self.chunks.iter().map_while(OnceLock::get).flatten() {
            lane.collect(&mut addresses);
        }
        addresses.sort_unstable();
        Some(addresses)
    }
}

/// Every address in use by any thread that had it before this call, in order; `None` when that cannot be told now.
pub(crate) fn in_use() -> Option<Vec<usize>> {
    LANES.in_use()
}

thread_local! {
    static LANE: Cell<Option<&'static Lane>> = const { Cell::new(None) };
    /// Hands the lane back when the thread ends.
    static LEASE: Lease = {
        let (index, lane) = LANES.take();
        Lease { index, lane }
    };
}

struct Lease {
    index: usize,
    lane: &'static Lane,
}

impl Drop for Lease {
    fn drop(&mut self) {
        LANE.set(None);
        // Hits of this thread that live on somewhere else keep their slots taken.
        LANES.give_back(self.index);
    }
}

/// The lane of this thread, if it has one by now: [`with_lane`] gives it one.
#[inline]
pub(crate) fn lane() -> Option<&'static Lane> {
    LANE.get()
}

/// Does something with the lane of this thread.
#[inline]
pub(crate) fn with_lane<R>(work: impl FnOnce(&'static Lane) -> R) -> R {
    match LANE.get() {
        Some(lane) => work(lane),
        None => with_first_lane(work),
    }
}

#[cold]
#[inline(never)]
fn with_first_lane<R>(work: impl FnOnce(&'static Lane) -> R) -> R {
    if let Ok(lane) = LEASE.try_with(|lease| lease.lane) {
        LANE.set(Some(lane));
        return work(lane);
    }
    // A thread that is ending borrows one for a moment.
    let (index, lane) = LANES.take();
    let done = work(lane);
    LANES.give_back(index);
    done
}

/// The kernel's way to make every thread of the process pass a fence.
#[cfg(all(target_os = "linux", not(perf_loom)))]
mod membarrier {
    use rustix::thread::{MembarrierCommand as Command, membarrier};
    use std::sync::OnceLock;
    use std::sync::atomic::{Ordering, fence};

    /// Whether the kernel knows it (Linux 4.14) and lets us. Settled before the first lane is made.
    pub(super) fn is_ready() -> bool {
        static READY: OnceLock<bool> = OnceLock::new();
        *READY.get_or_init(|| membarrier(Command::RegisterPrivateExpedited).is_ok())
    }

    pub(super) fn all_threads_pass_a_fence() -> Option<()> {
        fence(Ordering::SeqCst);
        if !is_ready() {
            return Some(());
        }
        // A process that was forked off may have to register again.
        let passed = membarrier(Command::PrivateExpedited).or_else(|_| {
            membarrier(Command::RegisterPrivateExpedited)?;
            membarrier(Command::PrivateExpedited)
        });
        passed.ok()
    }
}

/// Where there is no such way, readers pass a fence of their own.
#[cfg(any(not(target_os = "linux"), perf_loom))]
mod membarrier {
    use super::{Ordering, fence};

    pub(super) const fn is_ready() -> bool {
        false
    }

    pub(super) fn all_threads_pass_a_fence() -> Option<()> {
        fence(Ordering::SeqCst);
        Some(())
    }
}
