//! A store and a log in memory: several spaces of one process share them as nodes share Redis. For tests and simulations,
//! and for applications that want the second tier's behaviour without its server.

use super::port::{
    Cursor, End, Ends, InvalidationLog, LEASE, Leases, News, Position, Record, Scanned, Store, StoreError,
    Stored, Taken, lease_mark,
};
use crate::clock::{Tick, tick};
use async_trait::async_trait;
use perf_core::time;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A [`Store`] and an [`InvalidationLog`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    appended: Notify,
}

/// What a [`MemoryStore`] held at some moment.
#[derive(Clone, Debug)]
pub struct MemorySnapshot(State);

#[derive(Clone, Debug, Default)]
struct State {
    values: HashMap<Vec<u8>, (Vec<u8>, Tick)>,
    log: VecDeque<Record>,
    last: u64,
    retain: usize,
    down: bool,
}

impl MemoryStore {
    /// Records kept unless said otherwise.
    pub const RETAIN: usize = 100_000;

    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps only this many records of the log.
    pub fn retain(&self, records: usize) {
        self.with(|state| state.retain = records.max(1));
    }

    /// From now on every call fails, or no longer does.
    pub fn set_down(&self, down: bool) {
        self.with(|state| state.down = down);
    }

    /// Forgets everything, the log too, as Redis does on `FLUSHALL`.
    pub fn flush(&self) {
        self.with(|state| {
            state.values.clear();
            state.log.clear();
        });
    }

    /// What it holds now, as a replica does that is in step at this moment.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        self.with(|state| MemorySnapshot(state.clone()))
    }

    /// Holds what it held then: a failover to a replica that was behind. What came later is lost, and positions of the log
    /// are handed out again.
    pub fn fail_over(&self, to: MemorySnapshot) {
        self.with(|state| *state = State { down: state.down, ..to.0 });
    }

    /// Changes every value it holds: what a bad disk or a foreign writer may do.
    pub fn corrupt(&self, mut change: impl FnMut(&mut Vec<u8>)) {
        self.with(|state| state.values.values_mut().for_each(|(bytes, _)| change(bytes)));
    }

    /// Values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state| state.values.len())
    }

    /// Whether it holds no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn up<T>(&self, action: &'static str, work: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.with(
            |state| if state.down { Err(StoreError::new(action, "it is down")) } else { Ok(work(state)) },
        )
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        let now = tick();
        let get = |key: &Vec<u8>| self.up("read", |state: &mut State| state.value(key, now));
        keys.iter().map(get).collect()
    }

    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        self.up("write", |state| {
            state.values.insert(key.to_vec(), (bytes.to_vec(), tick().after(life)));
        })
    }

    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.up("remove", |state| {
            state.values.remove(key);
        })
    }

    async fn scan(&self, prefix: &[u8], _: Cursor) -> Result<Scanned, StoreError> {
        self.up("look for keys", |state| Scanned {
            keys: state.values.keys().filter(|key| key.starts_with(prefix)).cloned().collect(),
            next: None,
        })
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

impl State {
    fn value(&self, key: &[u8], now: Tick) -> Option<Stored> {
        let (bytes, end) = self.values.get(key)?;
        (*end > now).then(|| Stored { bytes: bytes.clone(), remaining: end.since(now) })
    }

    fn has_lease(&self, key: &[u8], token: u64) -> bool {
        self.value(key, tick()).is_some_and(|stored| stored.bytes == lease_mark(token))
    }
}

#[async_trait]
impl Leases for MemoryStore {
    async fn take(
        &self,
        key: &[u8],
        known: Option<&[u8]>,
        token: u64,
        life: Duration,
    ) -> Result<Taken, StoreError> {
        self.up("take a lease", |state| {
            let (now, mark) = (tick(), lease_mark(token));
            match state.value(key, now) {
                Some(held) if held.bytes == mark => return Taken::Granted,
                Some(held) if held.bytes.starts_with(LEASE) => return Taken::Held,
                Some(held) if !known.is_some_and(|known| held.bytes.starts_with(known)) => {
                    return Taken::Filled(held);
                }
                _ => {}
            }
            state.values.insert(key.to_vec(), (mark, now.after(life)));
            Taken::Granted
        })
    }

    async fn fill(&self, key: &[u8], token: u64, bytes: &[u8], life: Duration) -> Result<bool, StoreError> {
        self.up("write under a lease", |state| {
            let holds = state.has_lease(key, token);
            if holds {
                state.values.insert(key.to_vec(), (bytes.to_vec(), tick().after(life)));
            }
            holds
        })
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), StoreError> {
        self.up("end a lease", |state| {
            if state.has_lease(key, token) {
                state.values.remove(key);
            }
        })
    }
}

#[async_trait]
impl InvalidationLog for MemoryStore {
    async fn append(
        &self,
        origin: u64,
        serial: u64,
        fences: &[u64],
        after: Position,
    ) -> Result<Position, StoreError> {
        let position = self.up("append", |state| {
            state.last = state.last.max(after.major) + 1;
            let position = Position { major: state.last, minor: 0 };
            state.log.push_back(Record { position, origin, serial, fences: fences.to_vec() });
            let retain = if state.retain == 0 { Self::RETAIN } else { state.retain };
            while state.log.len() > retain {
                state.log.pop_front();
            }
            position
        })?;
        self.appended.notify_waiters();
        Ok(position)
    }

    async fn read(&self, after: Position, wait: Duration) -> Result<News, StoreError> {
        let deadline = perf_core::Deadline::within(wait);
        loop {
            let appended = self.appended.notified();
            let news = self.up("follow", |state| {
                let first = state.log.partition_point(|record| record.position <= after);
                let records: Vec<Record> = state.log.iter().skip(first).cloned().collect();
                // The record last seen has gone, and others perhaps with it.
                let broken = first == 0 && !records.is_empty();
                News { records, changed: Vec::new(), broken }
            })?;
            if !news.records.is_empty() || deadline.has_passed(time::now()) {
                return Ok(news);
            }
            // Running out of time is an answer too: the loop looks once more and returns nothing.
            let _ = deadline.run(appended).await;
        }
    }

    async fn holds(&self, position: Position, origin: u64, serial: u64) -> Result<bool, StoreError> {
        self.up("look at the log", |state| {
            let same = |record: &Record| (record.position, record.origin, record.serial);
            state.log.iter().any(|record| same(record) == (position, origin, serial))
        })
    }

    async fn ends(&self) -> Result<Option<Ends>, StoreError> {
        let end =
            |record: &Record| End { position: record.position, record: Some((record.origin, record.serial)) };
        self.up("look at the log", |state| {
            Some(Ends { oldest: end(state.log.front()?), newest: end(state.log.back()?) })
        })
    }
}
