//! Our own engine: reads without a lock, and a policy that adapts itself to the traffic.

mod calendar;
mod ghost;
mod list;
mod policy;
mod record;
mod simulate;
mod sketch;
mod table;

use super::{Discarded, Engine, Held, Visitor};
use crate::clock::{Tick, tick};
use crate::entry::Entry;
use calendar::Calendar;
use perf_core::Counter;
use policy::Policy;
use record::Record;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::{Found, Table};

pub(crate) use simulate::Simulated;

/// Entries spread over shards, each with its own share of the capacity, its own policy and its own lock for writers.
///
/// A hit probes the table of its shard, borrows the entry through a hazard slot of its own thread, and notes the hit in a
/// ring of its own thread: no lock, no allocation, and no write to a line that another thread writes to.
pub(crate) struct Adaptive<K, V> {
    shards: Box<[Shard<K, V>]>,
    capacity: u64,
    evicted: Counter,
    expired: Counter,
}

struct Shard<K, V> {
    table: Table<K, V>,
    record: Record,
    state: Mutex<State>,
}

struct State {
    policy: Policy,
    calendar: Calendar,
}

/// Dead entries dropped by one insertion at most, so that no writer pays for many.
const PURGED: usize = 8;

impl<K: Eq, V> Adaptive<K, V> {
    /// An engine of this capacity over this many shards.
    pub(crate) fn new(capacity: u64, shards: usize) -> Self {
        let shards = shards.max(1).next_power_of_two();
        let share = (capacity / shards as u64).max(1);
        let shard = |_| Shard {
            table: Table::new(),
            record: Record::new(),
            state: Mutex::new(State { policy: Policy::new(share), calendar: Calendar::default() }),
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            capacity: share,
            evicted: Counter::new(),
            expired: Counter::new(),
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // Bits that neither the tables nor the flights use.
        &self.shards[(hash >> 40) as usize & (self.shards.len() - 1)]
    }

    fn sum(&self, of: impl Fn(&Policy) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(&shard.lock().policy)).sum()
    }
}

impl<K: Eq, V> Shard<K, V> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the policy what was hit since it last looked.
    fn drain(&self, state: &mut State) {
        self.record.drain(|token| {
            let number = token as u32;
            // The number may belong to another entry by now.
            if state.policy.hash(number).is_some_and(|hash| hash >> 32 == token >> 32) {
                state.policy.hit(number);
            }
        });
    }

    /// Drops an entry that the policy or the calendar has named.
    fn drop_number(&self, state: &mut State, number: u32, discarded: &mut Discarded<K, V>) {
        let hash = state.policy.hash(number).unwrap_or_default();
        discarded.extend(self.table.remove(hash, |entry| entry.number() == number));
        state.calendar.cross_out(number);
        state.policy.remove(number);
    }

    /// Drops a few entries that are of no use to anyone any more.
    fn purge(&self, state: &mut State, now: Tick, expired: &Counter, discarded: &mut Discarded<K, V>) {
        for _ in 0..PURGED {
            let Some(number) = state.calendar.due(now) else { return };
            let hash = state.policy.hash(number).unwrap_or_default();
            let entry = self.table.find(hash, |entry| entry.number() == number);
            match entry.map(|entry| entry.dead_at()) {
                Some(end) if end > now => state.calendar.enter(number, end),
                _ => {
                    expired.increment();
                    self.drop_number(state, number, discarded);
                }
            }
        }
    }
}

impl<K: Eq + Send + Sync, V: Send + Sync> Engine<K, V> for Adaptive<K, V> {
    #[inline]
    fn get<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let held = match shard.table.get(hash, key) {
            Found::Entry(guard) => Held::Borrowed(guard),
            Found::Nothing => return None,
            Found::Unsure => {
                let _state = shard.lock();
                Held::Owned(shard.table.find(hash, |entry| entry.key.borrow() == key)?)
            }
        };
        shard.record.hit(u64::from(held.number()) | (hash >> 32 << 32));
        Some(held)
    }

    fn insert(&self, entry: Arc<Entry<K, V>>) -> Discarded<K, V> {
        let shard = self.shard(entry.hash);
        let mut discarded = Discarded::default();
        let mut state = shard.lock();
        let state = &mut *state;
        shard.drain(state);
        shard.purge(state, tick(), &self.expired, &mut discarded);
        let (hash, weight, end) = (entry.hash, entry.weight, entry.dead_at());
        let older = shard.table.find(hash, |held| held.key == entry.key);
        let number = match older {
            Some(older) => {
                let number = older.number();
                entry.set_number(number);
                state.policy.update(number, weight);
                discarded.extend(shard.table.replace(entry, |held| held.number() == number));
                number
            }
            None => {
                let held = state.policy.len();
                let number = state.policy.insert(hash, weight);
                entry.set_number(number);
                shard.table.insert(entry, held);
                number
            }
        };
        state.calendar.enter(number, end);
        let mut candidate = None;
        while let Some(number) = state.policy.evict(&mut candidate) {
            self.evicted.increment();
            shard.drop_number(state, number, &mut discarded);
        }
        discarded
    }

    fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let mut state = shard.lock();
        let removed = shard.table.remove(hash, |entry| entry.key.borrow() == key)?;
        state.calendar.cross_out(removed.number());
        state.policy.remove(removed.number());
        Some(removed)
    }

    fn clear(&self) -> Discarded<K, V> {
        let mut discarded = Discarded::default();
        for shard in &self.shards {
            let mut state = shard.lock();
            for entry in shard.table.clear() {
                state.calendar.cross_out(entry.number());
                state.policy.remove(entry.number());
                discarded.extend(Some(entry));
            }
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
