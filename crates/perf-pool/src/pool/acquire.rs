use super::lease::Lease;
use super::shared::{Shared, State as PoolState};
use crate::clock::{Clock, Tick};
use crate::core::{Caller, Grant, Refusal, SeatId, Take, Waiting};
use crate::error::Error;
use crate::manager::Manager;
use crate::sync::MutexGuard;
use perf_core::Deadline;
use perf_core::time::{self, Duration, Sleep};
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
    state: State<M>,
    /// Set only where the maintenance task runs in another runtime, which may stand still while this one goes on.
    timer: Option<Pin<Box<Sleep>>>,
}

enum State<M: Manager> {
    New,
    Waiting(Place<M>),
    Done,
}

/// A place in the queue.
struct Place<M: Manager> {
    seat: SeatId,
    /// The handle of the lease to come, counted while there is time.
    shared: Arc<Shared<M>>,
    times: Times,
}

#[derive(Clone, Copy, Debug)]
struct Times {
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
                return Ok(Lease::new(Arc::clone(self.shared), entry, measured));
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
            self.shared.release(core);
            return Poll::Ready(Ok(Lease::new(Arc::clone(self.shared), entry, measured)));
        }
        let clock = &self.shared.clock;
        let far = matches!(self.patience, Patience::Configured) && self.shared.acquire_timeout >= FAR;
        let measured = core.measures_wait(now);
        let since = if far && !measured { now } else { clock.now().max(now) };
        let deadline = match self.patience {
            Patience::Configured => since.after(self.shared.acquire_timeout),
            Patience::Until(deadline) => clock.deadline(deadline),
        };
        self.queue(core, context, caller, Times { since, deadline, measured })
    }

    /// Takes a place in the queue. Whoever has no time left is told at once why there is nothing.
    #[inline]
    fn queue(
        &mut self,
        mut core: MutexGuard<'a, PoolState<M>>,
        context: &mut Context<'_>,
        caller: Caller,
        times: Times,
    ) -> Poll<Result<Lease<M>, Error>> {
        self.state = State::Done;
        if !core.running {
            self.shared.release(core);
            self.shared.ensure_running()?;
            core = self.shared.lock();
        }
        let Times { since, deadline, .. } = times;
        if core.waiting() == 0 {
            // Looked at only by the first in line: naming the runtime costs as much as a lock.
            core.foreign = tokio::runtime::Handle::try_current().ok().map(|own| own.id()) != core.runtime;
        }
        let foreign = core.foreign;
        let joined = if deadline <= since && !core.closed {
            core.totals.timed_out += 1;
            Err(Refusal::TimedOut)
        } else {
            core.join(Waiting { since, deadline, caller }, since)
        };
        let joined = joined.map_err(|refusal| self.shared.explain(&core, refusal, since, since));
        self.shared.release(core);
        let shared = Arc::clone(self.shared);
        self.state = State::Waiting(Place { seat: joined?, shared, times });
        if foreign {
            self.set_timer(context, deadline);
        }
        self.resume(context)
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

    /// Nothing lies on the seat. Where connections rest for whoever comes first, this caller may have been told to come.
    #[cold]
    fn look(&mut self, context: &mut Context<'_>) -> Poll<Result<Lease<M>, Error>> {
        let State::Waiting(place) = &self.state else { return Poll::Pending };
        let now = self.shared.clock.now();
        if self.shared.barging && now < place.times.deadline {
            let mut core = self.shared.lock();
            let (taken, _waker) = core.take_as_oldest(place.seat, now, Caller::here(self.site));
            if let Take::Lease { entry, measured } = taken {
                if place.times.measured {
                    self.shared.waits.record_duration(now.since(place.times.since));
                }
                self.state = State::Done;
                self.shared.release(core);
                return Poll::Ready(Ok(Lease::new(Arc::clone(self.shared), entry, measured)));
            }
            self.shared.release(core);
        }
        self.mind_deadline(context)
    }

    /// Gives up when this caller's own timer says so.
    fn mind_deadline(&mut self, context: &mut Context<'_>) -> Poll<Result<Lease<M>, Error>> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let State::Waiting(place) = std::mem::replace(&mut self.state, State::Done) else {
            return Poll::Pending;
        };
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        let waker = core.leave(place.seat, now);
        let error = self.refused(core, Refusal::TimedOut, place.times);
        drop(waker);
        Poll::Ready(Err(error))
    }

    /// Looks what lies on the seat.
    #[inline]
    fn resume(&mut self, context: &mut Context<'_>) -> Poll<Result<Lease<M>, Error>> {
        let State::Waiting(place) = &self.state else { return Poll::Pending };
        let Poll::Ready(grant) = self.shared.seats.get(place.seat).poll(context) else {
            return if self.shared.barging || self.timer.is_some() {
                self.look(context)
            } else {
                Poll::Pending
            };
        };
        let State::Waiting(Place { seat, shared, times }) = std::mem::replace(&mut self.state, State::Done)
        else {
            return Poll::Pending;
        };
        let clock = &self.shared.clock;
        let mut now = clock.glance();
        // Near the end, or where the wait is measured, the exact time matters.
        if times.measured || now.after(Clock::COARSE) >= times.deadline {
            now = clock.now();
        }
        match grant {
            Grant::Lease { entry, measured } if now < times.deadline => {
                if times.measured {
                    self.shared.waits.record_duration(now.since(times.since));
                }
                Poll::Ready(Ok(Lease::new(shared, entry, measured).after_waiting(seat)))
            }
            grant => self.end(context, grant, seat, times),
        }
    }

    /// What was laid on the seat is not a connection, or it came too late.
    #[cold]
    fn end(
        &mut self,
        context: &mut Context<'_>,
        grant: Grant<M::Connection>,
        seat: SeatId,
        times: Times,
    ) -> Poll<Result<Lease<M>, Error>> {
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        core.reuse(seat);
        let refusal = match grant {
            Grant::Lease { entry, .. } => {
                core.give_on(entry, now);
                Refusal::TimedOut
            }
            Grant::Refused(refusal) if matches!(*refusal, Refusal::Orphaned) => {
                return self.queue(core, context, Caller::here(self.site), times);
            }
            Grant::Refused(refusal) => *refusal,
        };
        Poll::Ready(Err(self.refused(core, refusal, times)))
    }

    #[cold]
    fn refused(&self, mut core: MutexGuard<'a, PoolState<M>>, refusal: Refusal, times: Times) -> Error {
        let now = self.shared.clock.now();
        core.totals.timed_out += u64::from(matches!(refusal, Refusal::TimedOut));
        let error = self.shared.explain(&core, refusal, times.since, now);
        self.shared.release(core);
        if times.measured {
            self.shared.waits.record_duration(now.since(times.since));
        }
        error
    }
}

impl<M: Manager> Future for Acquire<'_, M> {
    type Output = Result<Lease<M>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.state {
            State::New => self.start(context),
            State::Waiting(_) => self.resume(context),
            State::Done => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Acquire<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let State::Waiting(place) = std::mem::replace(&mut self.state, State::Done) {
            let now = self.shared.clock.now();
            // The waker is dropped here, off the lock.
            let _waker = self.shared.with(|core| {
                core.totals.cancelled += 1;
                core.leave(place.seat, now)
            });
        }
    }
}

impl<M: Manager> fmt::Debug for Acquire<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("site", &self.site)
            .field("waiting", &matches!(self.state, State::Waiting(_)))
            .finish_non_exhaustive()
    }
}
