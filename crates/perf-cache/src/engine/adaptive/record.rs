//! What was hit since the policy last looked: written by readers without a lock, read under the policy's.

use crate::engine::Lane;
use crate::entry::Entry;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Hits of each thread kept until the next miss. When there are more, the oldest are overwritten: a cache that misses so
/// seldom learns nothing from them.
const KEPT: usize = 64;

/// Hits, in a ring for each thread; a thread writes to no line that another one writes to, as long as there are no more
/// threads than rings. Where two threads share a ring, a hit may be lost, which only blunts the policy.
///
/// Between two looks of the policy an entry is noted once, however often it is hit: a cache in which everything is hit
/// writes nothing at all.
#[derive(Debug)]
pub(super) struct Record {
    rings: Box<[Ring]>,
    /// Looks of the policy so far; entries say at which they were noted last.
    looks: AtomicU32,
}

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
        Self { rings: (0..rings).map(|_| Ring::new()).collect(), looks: AtomicU32::new(1) }
    }

    /// Notes a hit of the thread that has this lane.
    #[inline]
    pub(super) fn hit<K, V>(&self, lane: &Lane, entry: &Entry<K, V>) {
        let look = self.looks.load(Ordering::Relaxed);
        if entry.noted() != look {
            entry.set_noted(look);
            self.note(lane.index(), u64::from(entry.number()) | (entry.hash >> 32 << 32));
        }
    }

    #[inline(never)]
    fn note(&self, thread: usize, token: u64) {
        let ring = &self.rings[thread & (self.rings.len() - 1)];
        let at = ring.written.load(Ordering::Relaxed);
        ring.hits[at % KEPT].store(token, Ordering::Relaxed);
        ring.written.store(at.wrapping_add(1), Ordering::Release);
    }

    /// Hands over the hits not yet read, as number and upper half of the hash, thread by thread, oldest first. Only one
    /// reader at a time.
    pub(super) fn drain(&self, mut hit: impl FnMut(u32, u64)) {
        let mut any = false;
        for ring in &self.rings {
            let end = ring.written.load(Ordering::Acquire);
            let unread = end.wrapping_sub(ring.read.load(Ordering::Relaxed)).min(KEPT);
            any |= unread > 0;
            for back in (1..=unread).rev() {
                let token = ring.hits[end.wrapping_sub(back) % KEPT].load(Ordering::Relaxed);
                hit(token as u32, token >> 32);
            }
            ring.read.store(end, Ordering::Relaxed);
        }
        if any {
            self.looks.store(self.looks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hits_are_handed_over_in_order_and_once() {
        let record = Record::new();
        (0..100).for_each(|number| record.note(3, number | number << 32));
        let mut seen = Vec::new();
        record.drain(|number, hash| seen.push((number, hash)));
        assert_eq!(seen, (36..100).map(|number| (number, u64::from(number))).collect::<Vec<_>>());
        record.drain(|_, _| panic!("nothing is left"));
    }
}
