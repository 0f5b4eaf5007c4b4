use super::config::Fairness;
use super::maintain;
use crate::clock::{Clock, Tick};
use crate::core::{Core, Delivery, Entry, Job, Refusal, SeatId, Seats, Undelivered};
use crate::error::{Error, Saturated};
use crate::event::PoolEvent;
use crate::manager::{Condition, Manager};
use crate::sync::{Mutex, MutexGuard};
use perf_core::time::Duration;
use perf_core::{Evidence, Histogram, Name, Reason, Rejected};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError};
use tokio::sync::Notify;

/// Told about rare things.
pub(super) type Listener = Box<dyn Fn(&PoolEvent) + Send + Sync>;

/// Prepares a fresh connection.
pub(super) type Setup<M> = Box<
    dyn for<'c> Fn(
            &'c mut <M as Manager>::Connection,
        ) -> Pin<Box<dyn Future<Output = Result<(), <M as Manager>::Error>> + Send + 'c>>
        + Send
        + Sync,
>;

/// The state of a pool.
pub(super) type State<M> = Core<<M as Manager>::Connection>;

/// What the handles, the leases and the maintenance task of one pool share. The lock begins a cache line, and all that is
/// written under contention lies on it; the count of handles, which leases touch off the lock, is on the line before.
#[repr(C, align(64))]
pub(crate) struct Shared<M: Manager> {
    core: Mutex<State<M>>,
    pub(super) clock: Clock,
    pub(super) seats: Arc<Seats<M::Connection>>,
    pub(crate) manager: M,
    pub(super) name: Name,
    pub(super) setup: Option<Setup<M>>,
    pub(super) listener: Option<Listener>,
    /// How long a caller waits unless it says otherwise.
    pub(super) acquire_timeout: Duration,
    /// Whether waiters look for themselves.
    pub(super) barging: bool,
    /// Wakes the maintenance task.
    pub(super) signal: Notify,
    /// Wakes whoever waits for the pool as a whole: to warm up, to drain.
    pub(super) changed: Notify,
    /// Wakes those who wait for one of several endpoints and may go to another.
    pub(super) stirred: Notify,
    /// Clones of the pool. The last one to go closes it; leases and tasks do not count.
    pub(super) handles: AtomicUsize,
    /// The size that the sizing controller advises; zero until it has.
    pub(super) advised: AtomicUsize,
    pub(super) waits: Histogram,
    pub(super) holds: Histogram,
    pub(super) connects: Histogram,
}

impl<M: Manager> Shared<M> {
    pub(super) fn new(
        core: State<M>,
        clock: Clock,
        manager: M,
        name: Name,
        setup: Option<Setup<M>>,
        listener: Option<Listener>,
    ) -> Self {
        Self {
            acquire_timeout: core.config.acquire_timeout,
            barging: core.config.fairness != Fairness::Strict,
            seats: Arc::clone(core.seats()),
            core: Mutex::new(core),
            clock,
            manager,
            name,
            setup,
            listener,
            signal: Notify::new(),
            changed: Notify::new(),
            stirred: Notify::new(),
            handles: AtomicUsize::new(1),
            advised: AtomicUsize::new(0),
            waits: Histogram::new(),
            holds: Histogram::new(),
            connects: Histogram::new(),
        }
    }

    /// The state. No code of a user runs under this lock, so a poisoned one is as good as any.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then does off the lock what follows from it.
    #[inline]
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State<M>) -> R) -> R {
        let mut core = self.lock();
        let result = change(&mut core);
        self.release(core);
        result
    }

    /// Releases the lock and does what is to be done after it.
    #[inline]
    pub(super) fn release(&self, core: MutexGuard<'_, State<M>>) {
        if !core.effects.is_empty() {
            self.follow_up(core);
        }
    }

    #[cold]
    fn follow_up(&self, mut core: MutexGuard<'_, State<M>>) {
        let effects = core.effects.take();
        let undone = if core.running { VecDeque::new() } else { core.abandon_jobs() };
        drop(core);
        if effects.signal {
            self.signal.notify_one();
        }
        if effects.changed {
            self.changed.notify_waiters();
        }
        let failed =
            |event: &PoolEvent| matches!(event, PoolEvent::ConnectFailed { .. } | PoolEvent::ManagerPanicked);
        if effects.events.iter().any(failed) {
            self.stirred.notify_waiters();
        }
        for delivery in effects.deliveries {
            self.deliver(delivery);
        }
        effects.nudges.iter().for_each(|&seat| self.seats.get(seat).nudge());
        drop_quietly(undone);
        if let Some(listener) = &self.listener {
            for event in &effects.events {
                // A listener that panics must not take the caller's lease or the maintenance task with it.
                let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
            }
        }
    }

    /// Gives a waiter what it was chosen for; if it has gone away meanwhile, the next one gets the connection.
    #[cold]
    fn deliver(&self, delivery: Delivery<M::Connection>) {
        if let Err(undelivered) = delivery.deliver(&self.seats) {
            self.take_back(undelivered);
        }
    }

    #[cold]
    fn take_back(&self, undelivered: Undelivered<M::Connection>) {
        let now = self.clock.now();
        self.with(|core| core.take_back(undelivered, now));
    }

    /// Starts the maintenance task if there is none, in the runtime that this is called in.
    pub(super) fn ensure_running(self: &Arc<Self>) -> Result<(), Error> {
        let mut core = self.lock();
        if core.running {
            return Ok(());
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(Error::NoRuntime { pool: self.name.clone() });
        };
        core.running = true;
        core.runtime = Some(runtime.id());
        drop(core);
        runtime.spawn(maintain::run(maintain::Running::new(Arc::clone(self))));
        Ok(())
    }

    /// A lease comes back: looks at the connection and gives it to the next. `measured` is when the lease began, if the
    /// time it is held is measured; `seat` is the one on which its user waited.
    #[inline]
    pub(super) fn give_back(
        self: Arc<Self>,
        mut entry: Box<Entry<M::Connection>>,
        seat: Option<SeatId>,
        (tainted, measured): (bool, Option<Tick>),
    ) {
        let manager = &self.manager;
        let seen = catch_unwind(AssertUnwindSafe(|| manager.condition(&mut entry.connection)));
        let condition = match seen {
            Err(_) => {
                self.lock().totals.panicked += 1;
                Condition::Broken
            }
            Ok(Condition::Clean) if tainted || std::thread::panicking() => Condition::Dirty,
            Ok(condition) => condition,
        };
        let held = measured.map(|since| self.clock.now().since(since));
        let glance = self.clock.glance();
        let mut core = self.lock();
        let now = core.see(glance);
        if let Some(seat) = seat {
            core.reuse(seat);
        }
        let delivery = core.give_back(entry, condition, now);
        if let Some(held) = held {
            core.learn_hold(held);
            self.holds.record_duration(held);
        }
        self.release(core);
        let Some(delivery) = delivery else { return };
        if let Err(undelivered) = delivery.deliver(&self.seats) {
            self.take_back(undelivered);
        }
    }

    /// Puts a refusal into the words of the caller.
    pub(super) fn explain(&self, core: &State<M>, refusal: Refusal, since: Tick, now: Tick) -> Error {
        let pool = self.name.clone();
        let waited = now.since(since);
        match refusal {
            Refusal::Closed => Rejected::new(Reason::Closed, pool).into(),
            Refusal::Full => {
                let waiters = core.waiting() as f64;
                let limit = core.config.max_waiters.unwrap_or_default() as f64;
                let evidence = Evidence { what: "callers waiting", observed: waiters, limit };
                Rejected::new(Reason::Full, pool).evidence(evidence).into()
            }
            Refusal::Hopeless(predicted) => {
                Rejected::new(Reason::WontMakeIt, pool).retry_after(predicted).into()
            }
            Refusal::Failed(cause) => {
                Error::Connecting { pool, waited, attempts: core.attempts.failed.max(1), source: Some(cause) }
            }
            Refusal::Panicked => Error::ManagerPanicked { pool },
            Refusal::TimedOut | Refusal::Orphaned => self.explain_timeout(core, waited, now),
        }
    }

    /// Says which wait ran out.
    fn explain_timeout(&self, core: &State<M>, waited: Duration, now: Tick) -> Error {
        let pool = self.name.clone();
        let counts = core.counts;
        if core.paused {
            return Error::Paused { waited, refusal: Rejected::new(Reason::Paused, pool) };
        }
        let full = counts.leased as usize >= core.config.max;
        if !full && (counts.connecting > 0 || core.attempts.failed > 0) {
            let source = core.attempts.last_error.clone();
            return Error::Connecting { pool, waited, attempts: core.attempts.failed, source };
        }
        if !full && counts.checking + counts.resetting > 0 {
            return Error::Validating { pool, waited };
        }
        let (in_use, max) = (f64::from(counts.leased), core.config.max as f64);
        let evidence = Evidence { what: "connections in use", observed: in_use, limit: max };
        Error::Saturated(Box::new(Saturated {
            refusal: Rejected::new(Reason::Full, pool.clone()).evidence(evidence),
            pool,
            waited,
            in_use: counts.leased as usize,
            waiters: core.waiting(),
            holder: core.longest_holder(now),
        }))
    }
}

/// Drops what nobody is there to close, one panic at most at a time.
pub(super) fn drop_quietly<C>(jobs: VecDeque<Job<C>>) {
    for job in jobs {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
    }
}
