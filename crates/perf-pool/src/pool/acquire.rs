use super::lease::Lease;
use super::shared::Shared;
use crate::clock::{Clock, Tick};
use crate::core::{Caller, Core, Grant, Refusal, Take, Waiting};
use crate::error::Error;
use crate::manager::Manager;
use crate::sync::MutexGuard;
use perf_core::time::{self, Duration, Sleep};
use perf_core::{Deadline, Ticket};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How long a caller is ready to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// As long as the pool's configuration says.
    Configured,
    Until(Deadline),
}

/// The future of [`Pool::acquire`](crate::Pool::acquire).
///
/// An idle connection is returned by the first poll: one lock, one reading of the clock, no allocation, no timer, no
/// task. Otherwise the first poll takes a place in the queue.
///
/// # Cancel safety
/// It can be dropped at any moment: the place in the queue is given up, and a connection that was handed over but not
/// taken goes to the next waiter. Awaiting again means queueing again at the end.
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    site: &'static Location<'static>,
    patience: Patience,
    state: State,
    /// Set only where the maintenance task runs in another runtime, which may stand still while this one goes on.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    New,
    Waiting(Place),
    Done,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug)]
struct Place {
    ticket: Ticket,
    since: Tick,
    deadline: Tick,
    /// Whether the wait is measured.
    measured: bool,
}

/// Deadlines at least this far away are counted from a glance at the clock, which may be a little behind.
const FAR: Duration = Duration::from_secs(1);

impl<'a, M: Manager> Acquire<'a, M> {
    #[inline]
    pub(super) const fn new(
        shared: &'a Arc<Shared<M>>,
        site: &'static Location<'static>,
        patience: Patience,
    ) -> Self {
        Self { shared, site, patience, state: State::New, timer: None }
    }

    /// Takes an idle connection at once, or says why there is none.
    pub(super) fn now_or_never(self) -> Result<Lease<M>, Error> {
        let glance = self.shared.clock.glance();
        let mut core = self.shared.lock();
        let now = core.see(glance);
        let refusal = match core.take(now, Caller::here(self.site)) {
            Take::Lease { entry, measured } => {
                self.shared.release(core);
                return Ok(Lease::new(self.shared, entry, measured));
            }
            Take::Closed => Refusal::Closed,
            Take::Wait => Refusal::TimedOut,
        };
        let error = self.shared.explain(&core, refusal, now, now);
        self.shared.release(core);
        Err(error)
    }

    #[inline]
    fn start(&mut self, context: &mut Context<'_>) -> Poll<Result<Lease<M>, Error>> {
        let caller = Caller::here(self.site);
        let glance = self.shared.clock.glance();
        let mut core = self.shared.lock();
        let now = core.see(glance);
        if let Take::Lease { entry, measured } = core.take(now, caller) {
            self.state = State::Done;
            // Counted under the lock: the count is on the lock's cache line, which is here at this moment.
            let lease = Lease::new(self.shared, entry, measured);
            self.shared.release(core);
            return Poll::Ready(Ok(lease));
        }
        let clock = self.shared.clock;
        let far = matches!(self.patience, Patience::Configured) && self.shared.acquire_timeout >= FAR;
        let measured = core.measures_wait(now);
        let now = if far && !measured { now } else { clock.now().max(now) };
        let deadline = match self.patience {
            Patience::Configured => now.after(self.shared.acquire_timeout),
            Patience::Until(deadline) => clock.deadline(deadline),
        };
        self.queue(core, context, Waiting { since: now, deadline, caller }, measured)
    }

    /// Takes a place in the queue. Whoever has no time left is told at once why there is nothing.
    fn queue(
        &mut self,
        mut core: MutexGuard<'a, Core<M::Connection>>,
        context: &mut Context<'_>,
        waiting: Waiting,
        measured: bool,
    ) -> Poll<Result<Lease<M>, Error>> {
        self.state = State::Done;
        if !core.running {
            self.shared.release(core);
            self.shared.ensure_running()?;
            core = self.shared.lock();
        }
        let Waiting { since, deadline, .. } = waiting;
        if core.waiting() == 0 {
            // Looked at only by the first in line: naming the runtime costs as much as a lock.
            core.foreign = tokio::runtime::Handle::try_current().ok().map(|own| own.id()) != core.runtime;
        }
        let foreign = core.foreign;
        let joined = if deadline <= since && !core.closed {
            core.totals.timed_out += 1;
            Err(Refusal::TimedOut)
        } else {
            core.join(context.waker().clone(), waiting, since)
        };
        let joined = joined.map_err(|refusal| self.shared.explain(&core, refusal, since, since));
        self.shared.release(core);
        self.state = State::Waiting(Place { ticket: joined?, since, deadline, measured });
        if foreign {
            self.set_timer(context, deadline);
        }
        Poll::Pending
    }

    fn set_timer(&mut self, context: &mut Context<'_>, deadline: Tick) {
        let Some(at) = self.shared.clock.instant(deadline) else { return };
        let mut timer = Box::pin(time::sleep_until(at));
        // Polled once so that it wakes this task; a deadline that passes meanwhile is seen at the next poll.
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.timer = Some(timer);
    }

    /// Gives up when this caller's own timer says so.
    fn mind_deadline(&mut self, context: &mut Context<'_>, place: Place) -> Poll<Result<Lease<M>, Error>> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.state = State::Done;
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        core.leave(place.ticket, now);
        core.totals.timed_out += 1;
        let error = self.shared.explain(&core, Refusal::TimedOut, place.since, now);
        self.shared.release(core);
        Poll::Ready(Err(error))
    }

    #[inline]
    fn resume(&mut self, context: &mut Context<'_>, place: Place) -> Poll<Result<Lease<M>, Error>> {
        let clock = self.shared.clock;
        let glance = clock.glance();
        let mut core = self.shared.lock();
        let Poll::Ready(grant) = core.poll(place.ticket, context) else {
            drop(core);
            return self.mind_deadline(context, place);
        };
        self.state = State::Done;
        let mut now = core.see(glance);
        // Near the end, or where the wait is measured, the exact time matters.
        if place.measured || now.after(Clock::COARSE) >= place.deadline {
            now = clock.now();
        }
        match grant {
            Grant::Lease(entry) if now < place.deadline => {
                let measured = core.measures_hold(now);
                let lease = Lease::new(self.shared, entry, measured);
                self.shared.release(core);
                if place.measured {
                    self.shared.waits.record_duration(now.since(place.since));
                }
                Poll::Ready(Ok(lease))
            }
            Grant::Lease(late) => {
                core.give_on(late, now);
                self.refused(core, Refusal::TimedOut, place)
            }
            Grant::Refused(Refusal::Orphaned) => {
                let caller = Caller::here(self.site);
                let waiting = Waiting { since: place.since, deadline: place.deadline, caller };
                self.queue(core, context, waiting, place.measured)
            }
            Grant::Refused(refusal) => self.refused(core, refusal, place),
        }
    }

    #[cold]
    fn refused(
        &self,
        mut core: MutexGuard<'a, Core<M::Connection>>,
        refusal: Refusal,
        place: Place,
    ) -> Poll<Result<Lease<M>, Error>> {
        let now = self.shared.clock.now();
        core.totals.timed_out += u64::from(matches!(refusal, Refusal::TimedOut));
        let error = self.shared.explain(&core, refusal, place.since, now);
        self.shared.release(core);
        if place.measured {
            self.shared.waits.record_duration(now.since(place.since));
        }
        Poll::Ready(Err(error))
    }
}

impl<M: Manager> Future for Acquire<'_, M> {
    type Output = Result<Lease<M>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.state {
            State::New => self.start(context),
            State::Waiting(place) => self.resume(context, place),
            State::Done => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Acquire<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let State::Waiting(place) = self.state {
            let now = self.shared.clock.now();
            self.shared.with(|core| {
                core.totals.cancelled += 1;
                core.leave(place.ticket, now);
            });
        }
    }
}

impl<M: Manager> fmt::Debug for Acquire<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("site", &self.site)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
