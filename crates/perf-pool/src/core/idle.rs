use super::Entry;
use crate::Order;
use crate::clock::Tick;
use perf_core::time::Duration;
use std::collections::VecDeque;

/// The connections nobody uses, in order of when they were last used.
#[derive(Debug)]
pub(super) struct Idle<C> {
    list: VecDeque<Resting<C>>,
    /// For how long a connection that rests is trusted, in nanoseconds: `check_after` and one more, or not at all.
    trust: u64,
}

/// What decides whether a connection can be used lies beside the pointer to it: to look at the connection itself would
/// be a cache miss under the lock.
#[derive(Debug)]
pub(super) struct Resting<C> {
    pub(super) entry: Box<Entry<C>>,
    pub(super) slot: u32,
    since: Tick,
    /// It may be used before this moment without a closer look.
    trusted_until: Tick,
}

impl<C> Resting<C> {
    #[inline]
    pub(super) fn is_fresh(&self, now: Tick) -> bool {
        now < self.trusted_until
    }
}

impl<C> Idle<C> {
    pub(super) fn new(places: usize, trust: u64) -> Self {
        Self { list: VecDeque::with_capacity(places), trust }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline]
    pub(super) fn pop(&mut self, order: Order) -> Option<Resting<C>> {
        match order {
            Order::Lifo => self.list.pop_back(),
            Order::Fifo => self.list.pop_front(),
        }
    }

    /// Takes the one idle longest.
    pub(super) fn pop_oldest(&mut self) -> Option<Box<Entry<C>>> {
        self.list.pop_front().map(|resting| resting.entry)
    }

    /// `suspect` and ageing connections need a closer look before they are used, whatever the time.
    #[inline]
    pub(super) fn put(&mut self, entry: Box<Entry<C>>, suspect: bool) {
        let since = entry.idle_since;
        let trusted_until = if self.trust == 0 || suspect || entry.ageing {
            Tick::default()
        } else {
            since.max(entry.proven).plus(self.trust).min(entry.expires)
        };
        let resting = Resting { slot: entry.slot, entry, since, trusted_until };
        if self.list.back().is_none_or(|last| last.since <= since) {
            self.list.push_back(resting);
        } else {
            let place = self.list.partition_point(|other| other.since <= since);
            self.list.insert(place, resting);
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry<C>> {
        self.list.get(index).map(|resting| &*resting.entry)
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Box<Entry<C>>> {
        self.list.remove(index).map(|resting| resting.entry)
    }

    pub(super) fn position(&self, wanted: impl Fn(&Entry<C>) -> bool) -> Option<usize> {
        self.list.iter().position(|resting| wanted(&resting.entry))
    }

    /// Each of them is looked at before it is used.
    pub(super) fn distrust(&mut self) {
        self.list.iter_mut().for_each(|resting| resting.trusted_until = Tick::default());
    }

    /// Time that nobody lived through is not time spent idle. None of them is trusted after it.
    pub(super) fn excuse(&mut self, time: Duration, now: Tick) {
        for resting in &mut self.list {
            resting.since = resting.since.after(time).min(now);
            resting.entry.idle_since = resting.since;
        }
    }

    /// Shows each to `look`, which may find that it is ageing.
    pub(super) fn look_at_each(&mut self, mut look: impl FnMut(&mut Entry<C>)) {
        for resting in &mut self.list {
            look(&mut resting.entry);
            if resting.entry.ageing {
                resting.trusted_until = Tick::default();
            }
        }
    }
}
