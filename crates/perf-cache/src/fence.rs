//! Fences: what was invalidated, and when, counted instead of timed.

use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// The invalidations that one node knows of, in the order in which it learned of them.
///
/// Every invalidation takes the next number. A load notes the newest number when it *starts*; its result is valid as long
/// as nothing it depends on was fenced with a higher one. No clock is involved, so no skew can hide an invalidation, and
/// tags that only the load's result reveals are covered like those known before.
#[derive(Debug)]
pub(crate) struct Fences {
    /// What an entry must have seen to be served without a second look: the newest number, or more than there can be while
    /// the gate is closed. It changes under the lock of the table.
    gate: AtomicU64,
    /// The number of the newest fence; it is published after the table holds that fence.
    newest: AtomicU64,
    /// Nothing older than this is valid: what was fenced before it has been forgotten.
    floor: AtomicU64,
    tags: RwLock<HashMap<u64, u64, RandomState>>,
    limit: usize,
}

impl Fences {
    /// Fences kept one by one: 64 Ki tags take about 2 MiB.
    pub(crate) const LIMIT: usize = 65_536;
    const CLOSED: u64 = u64::MAX;

    pub(crate) fn new(limit: usize) -> Self {
        Self {
            gate: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            tags: RwLock::default(),
            limit: limit.max(2),
        }
    }

    /// The number of the newest fence. Everything that starts from now on is at least as new.
    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// What an entry must have seen to be served without a second look.
    #[inline]
    pub(crate) fn gate(&self) -> u64 {
        self.gate.load(Ordering::Acquire)
    }

    /// While the gate is closed, every entry is looked at a second time. One at a time closes and opens it.
    pub(crate) fn close(&self, closed: bool) {
        if closed == (self.gate() == Self::CLOSED) {
            return;
        }
        let _table = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let gate = if closed { Self::CLOSED } else { self.newest.load(Ordering::Relaxed) };
        self.gate.store(gate, Ordering::Release);
    }

    /// Makes a number the newest. Under the lock of the table.
    fn publish(&self, number: u64) {
        self.newest.store(number, Ordering::Release);
        if self.gate.load(Ordering::Relaxed) != Self::CLOSED {
            self.gate.store(number, Ordering::Release);
        }
    }

    /// Fences tags, all with one number, and returns it.
    pub(crate) fn tags(&self, tags: impl IntoIterator<Item = u64>) -> u64 {
        let mut table = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let number = self.newest.load(Ordering::Relaxed) + 1;
        for tag in tags {
            if table.len() >= self.limit && !table.contains_key(&tag) {
                self.forget_oldest(&mut table);
            }
            table.insert(tag, number);
        }
        self.publish(number);
        number
    }

    /// Takes a number for a fence kept elsewhere; `publish` stores it before anyone can see it.
    pub(crate) fn other(&self, publish: impl FnOnce(u64)) -> u64 {
        let _table = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let number = self.newest.load(Ordering::Relaxed) + 1;
        publish(number);
        self.publish(number);
        number
    }

    /// Fences everything there is.
    pub(crate) fn everything(&self) {
        let mut table = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let number = self.newest.load(Ordering::Relaxed) + 1;
        table.clear();
        self.floor.store(number, Ordering::Release);
        self.publish(number);
    }

    /// Whether what was loaded as of `as_of` and depends on `tags` is still valid.
    pub(crate) fn allow(&self, as_of: u64, tags: &[u64]) -> bool {
        if as_of < self.floor.load(Ordering::Acquire) {
            return false;
        }
        if tags.is_empty() || as_of >= self.newest() {
            return true;
        }
        let table = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        // The floor may have risen, with fences forgotten, between the first look and the lock.
        as_of >= self.floor.load(Ordering::Acquire)
            && tags.iter().all(|tag| table.get(tag).is_none_or(|&fence| fence <= as_of))
    }

    /// What invalidated something as of `as_of` that depends on `tags`, as far as this table knows.
    pub(crate) fn blame(&self, as_of: u64, tags: &[u64]) -> Option<crate::Fenced> {
        if as_of < self.floor.load(Ordering::Acquire) {
            return Some(crate::Fenced::Everything);
        }
        let table = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        let fenced = tags.iter().find(|tag| table.get(tag).is_some_and(|&fence| fence > as_of));
        fenced.map(|&tag| crate::Fenced::Tag(crate::Tag(tag)))
    }

    /// Tags fenced one by one.
    pub(crate) fn len(&self) -> usize {
        self.tags.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Drops the older half; what may depend on it is refused from then on, which costs loads and is never wrong.
    fn forget_oldest(&self, table: &mut HashMap<u64, u64, RandomState>) {
        let mut numbers: Vec<u64> = table.values().copied().collect();
        let middle = numbers.len() / 2;
        let (_, &mut median, _) = numbers.select_nth_unstable(middle);
        table.retain(|_, number| *number > median);
        self.floor.fetch_max(median, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fence_reaches_what_began_before_it_and_nothing_else() {
        let fences = Fences::new(8);
        let before = fences.newest();
        fences.tags([1]);
        assert!(!fences.allow(before, &[1]) && fences.allow(before, &[2]) && fences.allow(before, &[]));
        assert!(fences.allow(fences.newest(), &[1]));
    }

    #[test]
    fn no_entry_passes_a_closed_gate_and_an_open_one_is_at_the_newest_fence() {
        let fences = Fences::new(4);
        fences.tags([1]);
        assert_eq!(fences.gate(), fences.newest());
        fences.close(true);
        fences.tags([2]);
        assert_eq!((fences.gate(), fences.newest()), (u64::MAX, 2));
        fences.close(false);
        assert_eq!(fences.gate(), 2);
    }

    #[test]
    fn too_many_fences_raise_the_floor() {
        let fences = Fences::new(4);
        let before = fences.newest();
        (0..10).for_each(|tag| {
            fences.tags([tag]);
        });
        assert!(fences.len() <= 4);
        assert!(!fences.allow(before, &[]) && fences.allow(fences.newest(), &[3]));
    }

    proptest! {
        /// The oracle remembers every fence for ever; a bounded table may refuse more, never less.
        #[test]
        fn nothing_fenced_is_ever_allowed(ops in prop::collection::vec((0..6_u64, any::<bool>()), 1..200)) {
            let fences = Fences::new(3);
            let mut history: Vec<u64> = Vec::new();
            let mut entries: Vec<(u64, usize, u64)> = Vec::new();
            for (tag, fence) in ops {
                if fence {
                    fences.tags([tag]);
                    history.push(tag);
                } else {
                    entries.push((fences.newest(), history.len(), tag));
                }
                for &(as_of, seen, tag) in &entries {
                    if history[seen..].contains(&tag) {
                        prop_assert!(!fences.allow(as_of, &[tag]));
                    }
                }
            }
        }
    }
}
