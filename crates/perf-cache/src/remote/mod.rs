//! The second tier and the invalidation log: what is shared with other nodes, and what happens while it cannot be reached.

pub(crate) mod codec;
pub(crate) mod compress;
#[cfg(feature = "zstd")]
mod dictionary;
pub(crate) mod envelope;
mod follow;
pub(crate) mod guard;
pub(crate) mod lease;
pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod port;
mod positions;
mod publish;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod shared;
pub(crate) mod turns;

use crate::space::SpaceInner;
use guard::StoreGuard;
use perf_core::{Counter, Histogram, time};
use port::{InvalidationLog, Position, Store, StoreError};
use positions::Positions;
use publish::Outbox;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What one space shares with others.
pub(crate) struct Remote {
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) log: Option<Arc<dyn InvalidationLog>>,
    pub(crate) guard: Arc<dyn StoreGuard>,
    pub(crate) timeout: Duration,
    pub(crate) numbers: RemoteNumbers,
    pub(crate) outbox: Outbox,
    /// Which records of the log are this node's own.
    pub(crate) origin: u64,
    /// The last call failed: until a probe succeeds, no caller waits for the second tier.
    doubtful: AtomicBool,
    probing: AtomicBool,
    positions: Mutex<Positions>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the second tier and the log count.
#[derive(Debug, Default)]
pub(crate) struct RemoteNumbers {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) errors: Counter,
    pub(crate) skipped: Counter,
    pub(crate) refused: Counter,
    pub(crate) outdated: Counter,
    pub(crate) written: Counter,
    pub(crate) write_errors: Counter,
    pub(crate) unencodable: Counter,
    pub(crate) bytes_read: Counter,
    /// Bytes of values before and after compression, the envelope included.
    pub(crate) bytes_raw: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) dictionaries: Counter,
    pub(crate) leases: Counter,
    pub(crate) lease_waits: Counter,
    pub(crate) lease_refusals: Counter,
    pub(crate) applied: Counter,
    pub(crate) gaps: Counter,
    pub(crate) published: Counter,
    pub(crate) publish_errors: Counter,
    /// From an invalidation until its record has come back from the log.
    pub(crate) lag: Histogram,
}

impl Remote {
    pub(crate) fn new(
        store: Option<Arc<dyn Store>>,
        log: Option<Arc<dyn InvalidationLog>>,
        guard: Arc<dyn StoreGuard>,
        timeout: Duration,
    ) -> Self {
        Self {
            store,
            log,
            guard,
            timeout,
            numbers: RemoteNumbers::default(),
            outbox: Outbox::default(),
            origin: perf_core::Rng::from_entropy().next_u64(),
            doubtful: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            positions: Mutex::new(Positions::new(crate::fence::Fences::LIMIT)),
            tasks: Mutex::default(),
        }
    }

    /// Starts the tasks that follow the log and publish to it. They end with the space.
    pub(crate) fn start(self: &Arc<Self>, space: &Arc<SpaceInner>) {
        let Some(log) = &self.log else { return };
        let weak: Weak<SpaceInner> = Arc::downgrade(space);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(tokio::spawn(follow::run(Arc::clone(self), Arc::clone(log), weak)));
        tasks.push(tokio::spawn(publish::run(Arc::clone(self), Arc::clone(log))));
    }

    /// Ends the tasks.
    pub(crate) fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }

    /// How far this node has followed the log: what a load that starts now is as new as.
    pub(crate) fn applied(&self) -> Position {
        self.positions().applied
    }

    pub(crate) fn allow(&self, as_of: Position, tags: impl IntoIterator<Item = u64>) -> bool {
        self.positions().allow(as_of, tags)
    }

    /// Reads of the second tier, within its time; `None` when it was not asked or did not answer.
    pub(crate) async fn ask<T>(
        self: &Arc<Self>,
        calls: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Option<Vec<Result<T, StoreError>>> {
        if !self.admits() {
            self.numbers.skipped.add(calls as u64);
            return None;
        }
        let answered = self.within(call).await;
        if answered.is_none() {
            self.numbers.errors.add(calls as u64);
        }
        answered
    }

    /// Reads one value of the second tier, within its time; `None` when it was not asked or did not answer.
    pub(crate) async fn ask_one<T>(
        self: &Arc<Self>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        if !self.admits() {
            self.numbers.skipped.increment();
            return None;
        }
        let answer = time::timeout(self.timeout, call).await.ok();
        self.learn(matches!(answer, Some(Ok(_))));
        if answer.is_none() {
            self.numbers.errors.increment();
        }
        answer
    }

    /// Writes to the second tier, within its time; nothing when it was not asked.
    pub(crate) async fn tell(
        self: &Arc<Self>,
        calls: usize,
        call: impl Future<Output = Vec<Result<(), StoreError>>>,
    ) -> Vec<Result<(), StoreError>> {
        if !self.admits() {
            self.numbers.skipped.add(calls as u64);
            return Vec::new();
        }
        let late = || (0..calls).map(|_| Err(StoreError::new("write", "it took too long"))).collect();
        self.within(call).await.unwrap_or_else(late)
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Option<Vec<Result<T, StoreError>>> {
        let answer = time::timeout(self.timeout, call).await.ok();
        let succeeded =
            answer.as_ref().is_some_and(|results| results.is_empty() || results.iter().any(Result::is_ok));
        self.learn(succeeded);
        answer
    }

    fn learn(&self, succeeded: bool) {
        self.guard.record(succeeded);
        // Written when it changes only: every call reads it.
        if self.doubtful.load(Ordering::Acquire) == succeeded {
            self.doubtful.store(!succeeded, Ordering::Release);
        }
    }

    /// Whether the second tier may be asked on a caller's time. When it has just failed, it is asked in the background,
    /// one question at a time and as often as the guard allows, until it answers.
    fn admits(self: &Arc<Self>) -> bool {
        if !self.doubtful.load(Ordering::Acquire) {
            let allowed = self.guard.allow();
            if !allowed {
                self.doubtful.store(true, Ordering::Release);
            }
            return allowed;
        }
        if !self.probing.swap(true, Ordering::AcqRel) {
            if self.guard.allow() {
                drop(tokio::spawn(Probe(Arc::clone(self)).run()));
            } else {
                self.probing.store(false, Ordering::Release);
            }
        }
        false
    }

    fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question to the second tier that no caller waits for.
struct Probe(Arc<Remote>);

impl Probe {
    /// A key that no cache has.
    const KEY: &[u8] = b"pk?";

    async fn run(self) {
        let Some(store) = &self.0.store else { return };
        let keys = [Self::KEY.to_vec()];
        // What it says is learned on the way; there is no value to use.
        drop(self.0.within(store.get_many(&keys)).await);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
    }
}
