//! The one task of a pool: it connects, checks, resets and closes, so that no caller ever has to.

use super::PoolStats;
use super::shared::{Shared, drop_quietly};
use crate::core::{Attempt, Begun, Entry, Job, Lost, Verdict};
use crate::error::Cause;
use crate::event::PoolEvent;
use crate::manager::Manager;
use crate::sizing::{Controller, Observer, SizingMode};
use perf_core::duration;
use perf_core::time::{self, Duration, Instant};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::JoinSet;

/// Says that the pool has a maintenance task, for as long as that task exists, polled or not.
pub(super) struct Running<M: Manager>(Arc<Shared<M>>);

impl<M: Manager> Running<M> {
    pub(super) const fn new(shared: Arc<Shared<M>>) -> Self {
        Self(shared)
    }
}

impl<M: Manager> Drop for Running<M> {
    fn drop(&mut self) {
        let undone = self.0.with(|core| {
            core.running = false;
            core.orphan_waiters();
            core.abandon_jobs()
        });
        drop_quietly(undone);
    }
}

/// Runs until the pool is closed and everything is put away.
pub(super) async fn run<M: Manager>(running: Running<M>) {
    let shared = &running.0;
    // Dropped before `running`: whatever is under way gives its place back first.
    let mut connects = JoinSet::new();
    let mut others = JoinSet::new();
    let mut jobs = VecDeque::new();
    let mut sizing = Sizing::of(shared);
    loop {
        if let Some(sizing) = &mut sizing {
            sizing.observe(shared);
        }
        shared.clock.adjust();
        let now = shared.clock.now();
        let (next, finished, idle_out) = shared.with(|core| {
            let next = core.tick(now);
            std::mem::swap(&mut core.jobs, &mut jobs);
            (next, core.finished(), core.closed || core.paused)
        });
        for job in jobs.drain(..) {
            match job {
                Job::Connect { successor } => {
                    connects.spawn(connect(Arc::clone(shared), successor));
                }
                job => {
                    others.spawn(attend(Arc::clone(shared), job));
                }
            }
        }
        if idle_out {
            connects.abort_all();
        }
        if finished && connects.is_empty() && others.is_empty() {
            return;
        }
        tokio::select! {
            () = shared.signal.notified() => {}
            () = sleep_until(shared.clock.instant(next)) => {}
            () = sleep_until(sizing.as_ref().map(|sizing| sizing.observer.due)) => {}
            Some(_) = connects.join_next(), if !connects.is_empty() => {}
            Some(_) = others.join_next(), if !others.is_empty() => {}
        }
    }
}

/// The sizing controller of a pool that has one.
struct Sizing {
    observer: Observer,
    mode: SizingMode,
    told: usize,
}

impl Sizing {
    fn of<M: Manager>(shared: &Shared<M>) -> Option<Self> {
        let (mut config, min_idle, stats) = {
            let core = shared.lock();
            (core.config.sizing.clone()?, core.config.min_idle, PoolStats::read(&core))
        };
        // Shrinking below it would take back what was asked for.
        config.min = config.min.max(min_idle).min(config.max);
        let mode = config.mode;
        // The configuration was validated when the pool was built.
        let controller = Controller::new(config).ok()?;
        let observer = Observer::new(controller, stats, shared.waits.snapshot(), shared.holds.snapshot());
        Some(Self { observer, mode, told: 0 })
    }

    /// Looks once a second, and does or tells what the controller advises.
    fn observe<M: Manager>(&mut self, shared: &Shared<M>) {
        if time::now() < self.observer.due {
            return;
        }
        let stats = PoolStats::read(&shared.lock());
        let advice = self.observer.observe(&stats, shared.waits.snapshot(), shared.holds.snapshot());
        shared.advised.store(advice.target, Ordering::Relaxed);
        let news = advice.target != stats.max && advice.target != self.told;
        self.told = advice.target;
        let taken = self.mode == SizingMode::Act;
        let now = shared.clock.now();
        shared.with(|core| {
            if taken && advice.target != stats.max {
                core.resize(advice.target, now);
            }
            if news && self.mode != SizingMode::Shadow {
                core.effects.events.push(PoolEvent::Advised { advice, taken });
            }
        });
    }
}

/// Until a moment that the clock may never show.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Something of the manager took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("{what} took longer than {}", duration::format(*.limit))]
struct TookTooLong {
    what: &'static str,
    limit: Duration,
}

/// A connection being made, counted until this is dropped, however that comes about.
struct Connecting<M: Manager> {
    shared: Arc<Shared<M>>,
    begun: Begun,
    outcome: Option<Attempt<M::Connection>>,
}

impl<M: Manager> Drop for Connecting<M> {
    fn drop(&mut self) {
        let unfinished = if std::thread::panicking() { Attempt::Panicked } else { Attempt::Abandoned };
        let outcome = self.outcome.take().unwrap_or(unfinished);
        let now = self.shared.clock.now();
        if matches!(outcome, Attempt::Connected(_)) {
            self.shared.connects.record_duration(now.since(self.begun.at));
        }
        self.shared.with(|core| core.connect_done(outcome, self.begun, now));
    }
}

async fn connect<M: Manager>(shared: Arc<Shared<M>>, successor: bool) {
    let (begun, limit) = {
        let core = shared.lock();
        (core.begin(shared.clock.now(), successor), core.config.connect_timeout)
    };
    let mut attempt = Connecting { shared: Arc::clone(&shared), begun, outcome: None };
    let made = time::timeout(limit, async {
        let mut connection = shared.manager.connect().await?;
        if let Some(setup) = &shared.setup {
            setup(&mut connection).await?;
        }
        Ok::<_, M::Error>(connection)
    });
    attempt.outcome = Some(match made.await {
        Ok(Ok(connection)) => Attempt::Connected(connection),
        Ok(Err(error)) => {
            let permanent = shared.manager.is_permanent(&error);
            Attempt::Failed { cause: Cause::new(error), permanent }
        }
        Err(_) => {
            let cause = Cause::new(TookTooLong { what: "connecting", limit });
            Attempt::Failed { cause, permanent: false }
        }
    });
}

/// A connection being checked, reset or closed, counted until this is dropped.
enum Attended<C> {
    Check { lost: Lost, done: Option<(Box<Entry<C>>, Verdict)> },
    Reset { lost: Lost, done: Option<(Box<Entry<C>>, Verdict)> },
    Close,
}

struct Attending<M: Manager> {
    shared: Arc<Shared<M>>,
    what: Attended<M::Connection>,
}

impl<M: Manager> Drop for Attending<M> {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let panicked = std::thread::panicking();
        self.shared.with(|core| match &mut self.what {
            Attended::Check { lost, done } => match done.take() {
                Some((entry, verdict)) => core.check_done(entry, verdict, now),
                None => core.job_lost(true, *lost, panicked, now),
            },
            Attended::Reset { lost, done } => match done.take() {
                Some((entry, verdict)) => core.reset_done(entry, verdict, now),
                None => core.job_lost(false, *lost, panicked, now),
            },
            Attended::Close => core.close_done(panicked, now),
        });
    }
}

async fn attend<M: Manager>(shared: Arc<Shared<M>>, job: Job<M::Connection>) {
    let attending = |what| Attending { shared: Arc::clone(&shared), what };
    match job {
        Job::Connect { .. } => {}
        Job::Check(entry) => {
            let mut check = attending(Attended::Check { lost: Lost::of(&entry), done: None });
            check_one(&shared, entry, &mut check).await;
        }
        Job::Reset(entry) => {
            let mut reset = attending(Attended::Reset { lost: Lost::of(&entry), done: None });
            reset_one(&shared, entry, &mut reset).await;
        }
        Job::Close { entry, graceful } => {
            let _closing = attending(Attended::Close);
            let limit = shared.lock().config.close_timeout;
            let connection = entry.connection;
            if !graceful {
                return drop(connection);
            }
            // A good-bye that takes too long is not an error: the connection is dropped either way.
            let _ = time::timeout(limit, shared.manager.close(connection)).await;
        }
    }
}

async fn check_one<M: Manager>(
    shared: &Shared<M>,
    mut entry: Box<Entry<M::Connection>>,
    attending: &mut Attending<M>,
) {
    let limit = shared.lock().config.check_timeout;
    let answer = time::timeout(limit, shared.manager.check(&mut entry.connection)).await;
    let verdict = if matches!(answer, Ok(Ok(()))) { Verdict::Good } else { Verdict::Bad };
    attending.what = Attended::Check { lost: Lost::of(&entry), done: Some((entry, verdict)) };
}

async fn reset_one<M: Manager>(
    shared: &Shared<M>,
    mut entry: Box<Entry<M::Connection>>,
    attending: &mut Attending<M>,
) {
    let limit = shared.lock().config.check_timeout;
    let answer = time::timeout(limit, shared.manager.reset(&mut entry.connection)).await;
    let verdict = if matches!(answer, Ok(Ok(()))) { Verdict::Good } else { Verdict::Bad };
    attending.what = Attended::Reset { lost: Lost::of(&entry), done: Some((entry, verdict)) };
}
