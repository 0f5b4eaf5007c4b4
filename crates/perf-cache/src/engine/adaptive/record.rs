//! What was hit since the policy last looked: written by readers without a lock, read under the policy's.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Hits of each thread kept until the next miss. When there are more, the oldest are overwritten: a cache that misses so
/// seldom learns nothing from them.
const KEPT: usize = 64;

/// Hits, in a ring for each thread; a thread writes to no line that another one writes to, as long as there are no more
/// threads than rings. Where two threads share a ring, a hit may be lost, which only blunts the policy.
#[derive(Debug)]
pub(super) struct Record(Box<[Ring]>);

#[derive(Debug)]
#[repr(align(128))]
struct Ring {
    written: AtomicUsize,
    read: AtomicUsize,
    hits: [AtomicU64; KEPT],
}

impl Record {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rings = (cores * 2).next_power_of_two().clamp(4, 32);
        Self((0..rings).map(|_| Ring::new()).collect())
    }

    #[inline]
    pub(super) fn hit(&self, token: u64) {
        let ring = &self.0[thread_index() & (self.0.len() - 1)];
        let at = ring.written.load(Ordering::Relaxed);
        ring.hits[at % KEPT].store(token, Ordering::Relaxed);
        ring.written.store(at.wrapping_add(1), Ordering::Release);
    }

    /// Hands over the hits not yet read, thread by thread, oldest first. Only one reader at a time.
    pub(super) fn drain(&self, mut hit: impl FnMut(u64)) {
        for ring in &self.0 {
            let end = ring.written.load(Ordering::Acquire);
            let unread = end.wrapping_sub(ring.read.load(Ordering::Relaxed)).min(KEPT);
            for back in (1..=unread).rev() {
                hit(ring.hits[end.wrapping_sub(back) % KEPT].load(Ordering::Relaxed));
            }
            ring.read.store(end, Ordering::Relaxed);
        }
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            hits: [const { AtomicU64::new(0) }; KEPT],
        }
    }
}

/// A small number that differs from thread to thread.
#[inline]
fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
    // A thread that is ending has no number any more; which ring it writes to does not matter.
    INDEX
        .try_with(|index| {
            if index.get() == usize::MAX {
                index.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
            }
            index.get()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hits_are_handed_over_in_order_and_once() {
        let record = Record::new();
        (0..100).for_each(|token| record.hit(token));
        let mut seen = Vec::new();
        record.drain(|token| seen.push(token));
        assert_eq!(seen, (36..100).collect::<Vec<_>>());
        record.drain(|_| panic!("nothing is left"));
    }
}
