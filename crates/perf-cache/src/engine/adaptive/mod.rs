//! Our own engine: reads without a lock, and a policy that adapts itself to the traffic.

mod boundary;
mod evict;
mod ghost;
mod list;
mod node;
mod plan;
mod policy;
mod record;
mod simulate;
mod sketch;
mod table;
mod tournament;
mod wheel;

use super::held::{Bin, Removed};
use super::{Cause, Discarded, Engine, Held, Lane, Listener, Visitor};
use crate::clock::{Tick, tick};
use crate::entry::Entry;
use perf_core::Counter;
use policy::Policy;
use record::Record;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::{Found, Table};
use wheel::Wheel;

pub(crate) use simulate::Simulated;

/// Entries spread over shards, each with its own share of the capacity, its own policy and its own lock for writers.
///
/// A hit probes the table of its shard, borrows the entry through a hazard slot of its own thread, and notes the hit in a
/// ring of its own thread: no lock, no allocation, and no write to a line that another thread writes to.
pub(crate) struct Adaptive<K, V> {
    shards: Box<[Shard<K, V>]>,
    capacity: u64,
    listener: Option<Listener<K, V>>,
    evicted: Counter,
    expired: Counter,
}

struct Shard<K, V> {
    table: Table<K, V>,
    record: Record,
    state: Mutex<State<K, V>>,
    /// Takes what is still being read when the shard goes. A pointer, because only `new` knows that the types allow it.
    abandon: fn(Bin<Entry<K, V>>),
}

struct State<K, V> {
    policy: Policy,
    wheel: Wheel,
    bin: Bin<Entry<K, V>>,
    /// Weight in the bin.
    binned: u64,
}

/// Dead entries dropped by one insertion at most, so that no writer pays for many.
const PURGED: usize = 8;
/// Entries taken out before it is looked which of them are still being read: a look costs some microseconds.
const BATCH: usize = 32;
/// The share of the capacity, as a divisor, that may wait for that look.
const WAITING: u64 = 64;

impl<K: Eq + Send + Sync + 'static, V: Send + Sync + 'static> Adaptive<K, V> {
    /// An engine of this capacity over this many shards.
    pub(crate) fn new(capacity: u64, shards: usize, listener: Option<Listener<K, V>>) -> Self {
        let shards = shards.max(1).next_power_of_two();
        let share = (capacity / shards as u64).max(1);
        let shard = |_| Shard {
            table: Table::new(),
            record: Record::new(share),
            state: Mutex::new(State {
                policy: Policy::new(share),
                wheel: Wheel::default(),
                bin: Bin::default(),
                binned: 0,
            }),
            abandon: Bin::abandon,
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            capacity: share,
            listener,
            evicted: Counter::new(),
            expired: Counter::new(),
        }
    }
}

impl<K, V> Adaptive<K, V> {
    #[inline]
    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // Bits that neither the tables nor the flights use.
        &self.shards[(hash >> 40) as usize & (self.shards.len() - 1)]
    }

    fn sum(&self, of: impl Fn(&Policy) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(&shard.lock().policy)).sum()
    }

    fn discarded(&self) -> Discarded<K, V> {
        Discarded::told_to(self.listener.clone())
    }
}

impl<K, V> Shard<K, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the policy what was hit since it last looked.
    fn drain(&self, state: &mut State<K, V>) {
        self.record.drain(|number, hash| {
            // The number may belong to another entry by now.
            if state.policy.hash(number).is_some_and(|held| held >> 32 == hash) {
                state.policy.hit(number);
            }
        });
    }
}

impl<K: Eq, V> Shard<K, V> {
    /// Entries were being moved while a reader looked: it asks again with them at rest.
    #[cold]
    #[inline(never)]
    fn find_locked<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let _state = self.lock();
        self.table.find(hash, |entry| entry.key.borrow() == key)
    }

    /// Drops an entry that the policy or the wheel has named.
    fn drop_number(&self, state: &mut State<K, V>, number: u32, cause: Cause, to: &mut Discarded<K, V>) {
        let hash = state.policy.hash(number).unwrap_or_default();
        let removed = self.table.remove(hash, |entry| entry.number() == number);
        state.wheel.cross_out(number);
        state.policy.remove(number);
        state.discard(removed, cause, to);
    }

    /// Drops a few entries that are of no use to anyone any more.
    fn purge(&self, state: &mut State<K, V>, now: Tick, expired: &Counter, to: &mut Discarded<K, V>) {
        for _ in 0..PURGED {
            let Some(number) = state.wheel.due(now) else { return };
            let hash = state.policy.hash(number).unwrap_or_default();
            let end = self.table.find(hash, |entry| entry.number() == number).map(|entry| entry.dead_at());
            match end {
                Some(end) if end > now => state.wheel.enter(number, end),
                _ => {
                    expired.increment();
                    self.drop_number(state, number, Cause::Expired, to);
                }
            }
        }
    }
}

impl<K, V> State<K, V> {
    fn discard(&mut self, removed: Option<Removed<Entry<K, V>>>, cause: Cause, to: &mut Discarded<K, V>) {
        let Some(removed) = removed else { return };
        to.tell(cause, || removed.to_arc());
        self.binned += removed.weight;
        self.bin.put(removed);
    }

    /// Lets go of what was taken out, once there is enough of it and as far as nobody reads it any more.
    fn sweep(&mut self, capacity: u64, to: &mut Discarded<K, V>) {
        // A cache of a few entries would look at every eviction; a quarter of it may wait there.
        let waiting = (capacity / WAITING).max((capacity / 4).min(BATCH as u64));
        if self.bin.len() >= BATCH || self.binned > waiting {
            self.sweep_now(to);
        }
    }

    fn sweep_now(&mut self, to: &mut Discarded<K, V>) {
        self.bin.sweep(|entry| {
            self.binned -= entry.weight;
            to.free(entry);
        });
    }
}

impl<K, V> Drop for Shard<K, V> {
    fn drop(&mut self) {
        let mut bin = std::mem::take(&mut self.lock().bin);
        self.table.clear().into_iter().for_each(|removed| bin.put(removed));
        (self.abandon)(bin);
    }
}

impl<K: Eq + Send + Sync, V: Send + Sync> Engine<K, V> for Adaptive<K, V> {
    #[inline(always)]
    fn get<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let held = match shard.table.get(lane, hash, key) {
            Found::Entry(held) => held,
            Found::Nothing => return None,
            Found::Unsure => shard.find_locked(hash, key)?,
        };
        shard.record.hit(lane, &held);
        Some(held)
    }

    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        let shard = self.shard(entry.hash);
        let mut discarded = self.discarded();
        let mut state = shard.lock();
        let state = &mut *state;
        shard.drain(state);
        shard.purge(state, tick(), &self.expired, &mut discarded);
        let (hash, weight, end, priority) = (entry.hash, entry.weight, entry.dead_at(), entry.priority);
        let older = shard.table.find(hash, |held| held.key == entry.key).map(|older| older.number());
        let number = match older {
            Some(number) => {
                entry.set_number(number);
                state.policy.update(number, priority, weight);
                let removed = shard.table.replace(entry, |held| held.number() == number);
                state.discard(removed, Cause::Replaced, &mut discarded);
                number
            }
            None => {
                let held = state.policy.len();
                let number = state.policy.insert_as(priority, hash, weight);
                entry.set_number(number);
                shard.table.insert(entry, held);
                number
            }
        };
        state.wheel.enter(number, end);
        let mut candidate = None;
        while let Some(number) = state.policy.evict(&mut candidate) {
            self.evicted.increment();
            shard.drop_number(state, number, Cause::Room, &mut discarded);
        }
        state.sweep(self.capacity, &mut discarded);
        discarded
    }

    fn remove<Q>(&self, hash: u64, key: &Q) -> Discarded<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let mut discarded = self.discarded();
        let mut state = shard.lock();
        if let Some(removed) = shard.table.remove(hash, |entry| entry.key.borrow() == key) {
            state.wheel.cross_out(removed.number());
            state.policy.remove(removed.number());
            state.discard(Some(removed), Cause::Invalidated, &mut discarded);
            state.sweep(self.capacity, &mut discarded);
        }
        discarded
    }

    fn clear(&self) -> Discarded<K, V> {
        let mut discarded = self.discarded();
        for shard in &self.shards {
            let mut state = shard.lock();
            for removed in shard.table.clear() {
                state.wheel.cross_out(removed.number());
                state.policy.remove(removed.number());
                state.discard(Some(removed), Cause::Invalidated, &mut discarded);
            }
            state.sweep_now(&mut discarded);
        }
        discarded
    }

    fn visit(&self, show: Visitor<'_, K, V>) {
        for shard in &self.shards {
            let held = {
                let _state = shard.lock();
                shard.table.all()
            };
            held.iter().for_each(&mut *show);
        }
    }

    fn len(&self) -> u64 {
        self.sum(|policy| policy.len() as u64)
    }

    fn weight(&self) -> u64 {
        self.sum(Policy::weight)
    }

    fn evicted(&self) -> u64 {
        self.evicted.get()
    }

    fn expired(&self) -> u64 {
        self.expired.get()
    }

    fn max_weight(&self) -> u64 {
        self.capacity
    }
}

#[cfg(test)]
mod tests;
