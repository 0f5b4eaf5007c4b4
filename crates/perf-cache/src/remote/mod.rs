//! The second tier and the invalidation log: what is shared with other nodes, and what happens while it cannot be reached.

pub(crate) mod codec;
pub(crate) mod envelope;
mod follow;
pub(crate) mod guard;
pub(crate) mod memory;
pub(crate) mod port;
mod positions;
mod publish;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod shared;

use crate::space::SpaceInner;
use guard::StoreGuard;
use perf_core::Counter;
use port::{InvalidationLog, Position, Store};
use positions::Positions;
use publish::Outbox;
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
    pub(crate) applied: Counter,
    pub(crate) gaps: Counter,
    pub(crate) published: Counter,
    pub(crate) publish_errors: Counter,
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

    fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
