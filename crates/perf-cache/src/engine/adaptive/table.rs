//! A hash table whose readers take no lock: open addressing over slots that are swapped atomically.
//!
//! All writers of a table hold one lock, which the owner keeps. A reader may overlook an entry that a writer is moving at
//! that moment; the count of moves tells it, and it then asks under the lock.

use crate::entry::Entry;
use arc_swap::{ArcSwapOption, Guard};
use std::borrow::Borrow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

struct Slot<K, V> {
    /// The hash of the entry; 0 ends a probe.
    hash: AtomicU64,
    entry: ArcSwapOption<Entry<K, V>>,
}

type Slots<K, V> = Box<[Slot<K, V>]>;

/// What a reader found.
pub(super) enum Found<K, V> {
    Entry(Guard<Option<Arc<Entry<K, V>>>>),
    Nothing,
    /// Entries were being moved: ask again under the lock.
    Unsure,
}

/// The table. Outgrown slots stay allocated, though empty, since a reader may still be looking at them: together they are
/// as large as the present ones.
pub(super) struct Table<K, V> {
    sizes: [OnceLock<Slots<K, V>>; SIZES],
    current: AtomicUsize,
    /// Odd while entries are being moved.
    moves: AtomicU64,
}

const SMALLEST: usize = 64;
const SIZES: usize = 32;

impl<K: Eq, V> Table<K, V> {
    pub(super) fn new() -> Self {
        let table = Self {
            sizes: [const { OnceLock::new() }; SIZES],
            current: AtomicUsize::new(0),
            moves: AtomicU64::new(0),
        };
        table.slots_of(0);
        table
    }

    fn slots_of(&self, size: usize) -> &Slots<K, V> {
        self.sizes[size].get_or_init(|| {
            (0..SMALLEST << size)
                .map(|_| Slot { hash: AtomicU64::new(0), entry: ArcSwapOption::const_empty() })
                .collect()
        })
    }

    fn slots(&self) -> &Slots<K, V> {
        self.slots_of(self.current.load(Ordering::Acquire))
    }

    /// The entry of a key, without a lock.
    #[inline]
    pub(super) fn get<Q>(&self, hash: u64, key: &Q) -> Found<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let moves = self.moves.load(Ordering::Acquire);
        let slots = self.slots();
        let (hash, mask) = (hash.max(1), slots.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            let slot = &slots[at];
            let found = slot.hash.load(Ordering::Acquire);
            if found == hash {
                let guard = slot.entry.load();
                if guard.as_ref().is_some_and(|entry| entry.key.borrow() == key) {
                    return Found::Entry(guard);
                }
            } else if found == 0 {
                break;
            }
            at = (at + 1) & mask;
        }
        let unmoved = moves.is_multiple_of(2) && self.moves.load(Ordering::Acquire) == moves;
        if unmoved { Found::Nothing } else { Found::Unsure }
    }

    /// The entry of this hash for which `is` holds. Under the lock.
    pub(super) fn find(&self, hash: u64, is: impl Fn(&Entry<K, V>) -> bool) -> Option<Arc<Entry<K, V>>> {
        let slots = self.slots();
        slots[Self::position(slots, hash, is)?].entry.load_full()
    }

    /// Puts an entry where there is none of its key; `held` is how many there are. Under the lock.
    pub(super) fn insert(&self, entry: Arc<Entry<K, V>>, held: usize) {
        if (held + 1) * 5 > self.slots().len() * 3 {
            self.grow();
        }
        Self::place(self.slots(), entry);
    }

    /// Puts an entry in the place of another with the same key, which it returns. Under the lock.
    pub(super) fn replace(
        &self,
        entry: Arc<Entry<K, V>>,
        is: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<Arc<Entry<K, V>>> {
        let slots = self.slots();
        let at = Self::position(slots, entry.hash, is)?;
        slots[at].entry.swap(Some(entry))
    }

    /// Takes out the entry of this hash for which `is` holds. Under the lock.
    pub(super) fn remove(&self, hash: u64, is: impl Fn(&Entry<K, V>) -> bool) -> Option<Arc<Entry<K, V>>> {
        let slots = self.slots();
        let at = Self::position(slots, hash, is)?;
        let removed = slots[at].entry.swap(None);
        self.moves.fetch_add(1, Ordering::AcqRel);
        Self::close(slots, at);
        self.moves.fetch_add(1, Ordering::AcqRel);
        removed
    }

    /// Everything that is in it. Under the lock.
    pub(super) fn all(&self) -> Vec<Arc<Entry<K, V>>> {
        self.slots().iter().filter_map(|slot| slot.entry.load_full()).collect()
    }

    /// Takes out everything. Under the lock.
    pub(super) fn clear(&self) -> Vec<Arc<Entry<K, V>>> {
        self.moves.fetch_add(1, Ordering::AcqRel);
        let removed = self.slots().iter().filter_map(|slot| {
            slot.hash.store(0, Ordering::Release);
            slot.entry.swap(None)
        });
        let removed = removed.collect();
        self.moves.fetch_add(1, Ordering::AcqRel);
        removed
    }

    fn position(slots: &Slots<K, V>, hash: u64, is: impl Fn(&Entry<K, V>) -> bool) -> Option<usize> {
        let (hash, mask) = (hash.max(1), slots.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            match slots[at].hash.load(Ordering::Relaxed) {
                0 => return None,
                found if found == hash && slots[at].entry.load().as_ref().is_some_and(|entry| is(entry)) => {
                    return Some(at);
                }
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn place(slots: &Slots<K, V>, entry: Arc<Entry<K, V>>) {
        let (hash, mask) = (entry.hash.max(1), slots.len() - 1);
        let mut at = hash as usize & mask;
        while slots[at].hash.load(Ordering::Relaxed) != 0 {
            at = (at + 1) & mask;
        }
        // The entry first: a reader that sees the hash finds it.
        slots[at].entry.store(Some(entry));
        slots[at].hash.store(hash, Ordering::Release);
    }

    /// Moves the entries behind a gap up, so that no probe ends before its entry.
    fn close(slots: &Slots<K, V>, mut gap: usize) {
        let mask = slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let hash = slots[at].hash.load(Ordering::Relaxed);
            if hash == 0 {
                break;
            }
            let from_home = at.wrapping_sub(hash as usize) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                slots[gap].entry.store(slots[at].entry.load_full());
                slots[gap].hash.store(hash, Ordering::Release);
                gap = at;
            }
        }
        slots[gap].hash.store(0, Ordering::Release);
        slots[gap].entry.store(None);
    }

    fn grow(&self) {
        let current = self.current.load(Ordering::Relaxed);
        if current + 1 >= SIZES {
            return;
        }
        let (old, new) = (self.slots_of(current), self.slots_of(current + 1));
        self.moves.fetch_add(1, Ordering::AcqRel);
        for entry in old.iter().filter_map(|slot| slot.entry.load_full()) {
            Self::place(new, entry);
        }
        self.current.store(current + 1, Ordering::Release);
        for slot in old {
            slot.hash.store(0, Ordering::Release);
            slot.entry.store(None);
        }
        self.moves.fetch_add(1, Ordering::AcqRel);
    }
}
