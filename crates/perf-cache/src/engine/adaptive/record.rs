//! What was hit since the policy last looked: written by readers without a lock, read under the policy's.

use crate::engine::Lane;
use crate::entry::Entry;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Hits of one thread kept at most until the policy looks. When there are more, the oldest are overwritten: a cache that
/// misses so seldom learns nothing from them.
const MOST: u64 = 512;
const LEAST: u64 = 64;
/// Hits handed over at one look, so that no writer pays for many.
const BATCH: usize = 128;
/// How often an entry is noted between two looks. A cache in which everything is hit soon writes nothing at all.
const TIMES: u32 = 3;
/// Looks are counted in steps of one more than that, so that the number in an entry also says how often it was noted.
const LOOK: u32 = TIMES + 1;

/// Hits, in a ring for each thread; a thread writes to no line that another one writes to, as long as there are no more
/// threads than rings. Where two threads share a ring, a hit may be lost, which only blunts the policy.
#[derive(Debug)]
pub(super) struct Record {
    rings: Box<[Ring]>,
    looks: AtomicU32,
}

#[derive(Debug)]
#[repr(align(128))]
struct Ring {
    written: AtomicUsize,
    read: AtomicUsize,
    hits: Box<[AtomicU64]>,
}

impl Record {
    /// For a cache of this capacity, in whatever unit: more than it has entries is never kept.
    pub(super) fn new(capacity: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rings = (cores * 2).next_power_of_two().clamp(4, 32);
        let kept = capacity.clamp(LEAST, MOST).next_power_of_two();
        Self { rings: (0..rings).map(|_| Ring::new(kept)).collect(), looks: AtomicU32::new(LOOK) }
    }

    /// Notes a hit of the thread that has this lane.
    #[inline(always)]
    pub(super) fn hit<K, V>(&self, lane: &Lane, entry: &Entry<K, V>) {
        let (look, noted) = (self.looks.load(Ordering::Relaxed), entry.noted());
        if noted != look + TIMES {
            self.note_again(lane, entry, look, noted);
        }
    }

    #[inline(never)]
    fn note_again<K, V>(&self, lane: &Lane, entry: &Entry<K, V>, look: u32, noted: u32) {
        let times = noted.wrapping_sub(look);
        entry.set_noted(look + if times < TIMES { times + 1 } else { 1 });
        self.note(lane.index(), u64::from(entry.number()) | (entry.hash >> 32 << 32));
    }

    fn note(&self, thread: usize, token: u64) {
        let ring = &self.rings[thread & (self.rings.len() - 1)];
        let at = ring.written.load(Ordering::Relaxed);
        ring.hits[at & (ring.hits.len() - 1)].store(token, Ordering::Relaxed);
        ring.written.store(at.wrapping_add(1), Ordering::Release);
    }

    /// Hands over hits not yet read, as number and upper half of the hash, thread by thread, oldest first. Only one reader
    /// at a time.
    pub(super) fn drain(&self, mut hit: impl FnMut(u32, u64)) {
        let mut left = BATCH;
        for ring in &self.rings {
            let (end, kept) = (ring.written.load(Ordering::Acquire), ring.hits.len());
            let unread = end.wrapping_sub(ring.read.load(Ordering::Relaxed)).min(kept);
            let taken = unread.min(left);
            let begin = end.wrapping_sub(unread);
            for at in 0..taken {
                let token = ring.hits[begin.wrapping_add(at) & (kept - 1)].load(Ordering::Relaxed);
                hit(token as u32, token >> 32);
            }
            ring.read.store(begin.wrapping_add(taken), Ordering::Relaxed);
            left -= taken;
        }
        if left < BATCH {
            // Never zero, which is what a new entry says, and always with room for the times above it.
            let next = self.looks.load(Ordering::Relaxed).wrapping_add(LOOK).max(LOOK);
            self.looks.store(next, Ordering::Relaxed);
        }
    }
}

impl Ring {
    fn new(kept: u64) -> Self {
        Self {
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            hits: (0..kept).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hits_are_handed_over_in_order_and_once() {
        let record = Record::new(10);
        (0..100).for_each(|number| record.note(3, number | number << 32));
        let mut seen = Vec::new();
        record.drain(|number, hash| seen.push((number, hash)));
        assert_eq!(seen, (36..100).map(|number| (number, u64::from(number))).collect::<Vec<_>>());
        record.drain(|_, _| panic!("nothing is left"));
    }

    #[test]
    fn many_hits_are_handed_over_in_parts() {
        let record = Record::new(1 << 30);
        (0..300).for_each(|number| record.note(0, number));
        let mut seen = Vec::new();
        let parts = (0..3).map(|_| {
            record.drain(|number, _| seen.push(number));
            seen.len()
        });
        assert_eq!(parts.collect::<Vec<_>>(), [128, 256, 300]);
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
    }
}
