use super::WebSocketConfig;
use super::connect::Connect;
use super::endpoints::Endpoints;
use super::error::{Ended, Error};
use super::hub::Hub;
use super::link;
use super::protocol::Protocol;
use super::stats::Totals;
use crate::error::Cause;
use perf_core::time::{self, Duration};
use perf_core::{Name, Rng};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// What the handles, the subscriptions and the connections of one pool share.
pub(super) struct Shared {
    pub(super) name: Name,
    pub(super) config: WebSocketConfig,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) totals: Totals,
    pub(super) endpoints: Endpoints,
    hub: Mutex<Hub>,
    rng: Mutex<Rng>,
    last_error: Mutex<Option<Cause>>,
    /// Wakes whoever waits for the pool as a whole, and the keeper when the pool is closed.
    pub(super) changed: Notify,
    /// Handles and subscriptions. The last one to go closes the pool.
    pub(super) handles: AtomicUsize,
    keeping: AtomicBool,
}

/// How often sizes and ages are looked at, and what waits is given a place.
const TICK: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) fn new(
        name: Name,
        config: WebSocketConfig,
        protocol: Box<dyn Protocol>,
        connect: Arc<dyn Connect>,
        endpoints: Endpoints,
        mut rng: Rng,
    ) -> Self {
        let hub = Mutex::new(Hub::new(config.clone(), Rng::seeded(rng.next_u64())));
        Self {
            name,
            config,
            protocol,
            connect,
            totals: Totals::default(),
            endpoints,
            hub,
            rng: Mutex::new(rng),
            last_error: Mutex::new(None),
            changed: Notify::new(),
            handles: AtomicUsize::new(1),
            keeping: AtomicBool::new(false),
        }
    }

    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the hub, and wakes whom that concerns once it is let go. Links it wants started are started by the keeper.
    pub(super) fn with_hub<T>(&self, change: impl FnOnce(&mut Hub) -> T) -> T {
        let mut hub = self.hub();
        let result = change(&mut hub);
        let wakers = std::mem::take(&mut hub.to_wake);
        let start = !hub.to_start.is_empty() || hub.closed;
        drop(hub);
        wakers.into_iter().for_each(std::task::Waker::wake);
        if start {
            self.changed.notify_waiters();
            self.changed.notify_one();
        }
        result
    }

    /// A generator of its own for a task, so that runs with a seed repeat.
    pub(super) fn fork_rng(&self) -> Rng {
        Rng::seeded(self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64())
    }

    pub(super) fn last_error(&self) -> Option<Cause> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_last_error(&self, error: Option<Cause>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Starts the task that looks after the connections, once.
    pub(super) fn ensure_kept(self: &Arc<Self>) -> Result<(), Error> {
        let handle = Handle::try_current().map_err(|_| Error::NoRuntime { pool: self.name.clone() })?;
        if !self.keeping.swap(true, Ordering::AcqRel) {
            self.with_hub(Hub::grow);
            drop(handle.spawn(keep(Arc::clone(self))));
        }
        Ok(())
    }

    /// Waits until the pool is closed.
    pub(super) async fn closed(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.hub().closed {
                return;
            }
            changed.await;
        }
    }

    /// Why nothing can be asked of the pool any more, if that is so.
    pub(super) fn refusal(&self, hub: &Hub) -> Option<Error> {
        match &hub.fatal {
            Some(Ended::Fatal { code, reason }) => {
                return Some(Error::Fatal { code: *code, reason: reason.clone() });
            }
            Some(Ended::Unreachable(_)) => {
                return Some(Error::Unreachable { pool: self.name.clone(), source: self.last_error() });
            }
            _ => {}
        }
        hub.closed.then(|| perf_core::Rejected::new(perf_core::Reason::Closed, self.name.clone()).into())
    }
}

/// Looks after the connections until the pool is closed.
async fn keep(shared: Arc<Shared>) {
    let mut tick = time::now() + TICK;
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        let (start, closed) = {
            let mut hub = shared.hub();
            (std::mem::take(&mut hub.to_start), hub.closed)
        };
        if closed {
            shared.with_hub(|hub| start.iter().for_each(|link| hub.remove(*link)));
            return;
        }
        for link in start {
            drop(tokio::spawn(link::run(Arc::clone(&shared), link)));
        }
        // The time-out is the tick.
        if time::timeout_at(tick, changed).await.is_err() {
            let now = time::now();
            tick = now + TICK;
            shared.with_hub(|hub| hub.tick(now));
        }
    }
}
