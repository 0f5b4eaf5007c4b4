use super::lease::Lease;
use super::shared::Shared;
use crate::core::{Core, Grant, Hold, Refusal, Take, Waiting};
use crate::error::Error;
use crate::manager::Manager;
use crate::sync::MutexGuard;
use perf_core::time::{self, Instant, Sleep};
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
    None,
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
    Waiting { ticket: Ticket, since: Instant, deadline: Deadline },
    Done,
}

impl<'a, M: Manager> Acquire<'a, M> {
    pub(super) const fn new(
        shared: &'a Arc<Shared<M>>,
        site: &'static Location<'static>,
        patience: Patience,
    ) -> Self {
        Self { shared, site, patience, state: State::New, timer: None }
    }

    /// Takes an idle connection at once, or says why there is none.
    pub(super) fn now_or_never(self) -> Result<Lease<M>, Error> {
        let now = time::now();
        let mut core = self.shared.lock();
        let refusal = match core.take(Hold::new(now, self.site)) {
            Take::Lease(entry) => {
                self.shared.release(core);
                return Ok(Lease::new(Arc::clone(self.shared), entry));
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
        let now = time::now();
        let hold = Hold::new(now, self.site);
        let mut core = self.shared.lock();
        if let Take::Lease(entry) = core.take(hold) {
            self.shared.release(core);
            self.state = State::Done;
            return Poll::Ready(Ok(Lease::new(Arc::clone(self.shared), entry)));
        }
        let deadline = match self.patience {
            Patience::Configured => Deadline::after(now, self.shared.acquire_timeout),
            Patience::Until(deadline) => deadline,
            Patience::None => Deadline::at(now),
        };
        let waiting = Waiting { since: now, deadline, site: self.site, task: hold.task };
        self.queue(core, context, waiting)
    }

    /// Takes a place in the queue. Whoever has no time left is told at once why there is nothing.
    fn queue(
        &mut self,
        mut core: MutexGuard<'a, Core<M::Connection>>,
        context: &mut Context<'_>,
        waiting: Waiting,
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
        let joined = if deadline.has_passed(since) && !core.closed {
            core.totals.timed_out += 1;
            Err(Refusal::TimedOut)
        } else {
            core.join(context.waker().clone(), waiting)
        };
        let joined = joined.map_err(|refusal| self.shared.explain(&core, refusal, since, since));
        self.shared.release(core);
        self.state = State::Waiting { ticket: joined?, since, deadline };
        let Some(at) = deadline.instant().filter(|_| foreign) else { return Poll::Pending };
        let mut timer = Box::pin(time::sleep_until(at));
        // Polled once so that it wakes this task; a deadline that passes meanwhile is seen at the next poll.
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.timer = Some(timer);
        Poll::Pending
    }

    /// Gives up when this caller's own timer says so.
    fn mind_deadline(
        &mut self,
        context: &mut Context<'_>,
        (ticket, since): (Ticket, Instant),
    ) -> Poll<Result<Lease<M>, Error>> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.state = State::Done;
        let now = time::now();
        let mut core = self.shared.lock();
        core.leave(ticket, now);
        core.totals.timed_out += 1;
        let error = self.shared.explain(&core, Refusal::TimedOut, since, now);
        self.shared.release(core);
        Poll::Ready(Err(error))
    }

    fn resume(
        &mut self,
        context: &mut Context<'_>,
        (ticket, since, deadline): (Ticket, Instant, Deadline),
    ) -> Poll<Result<Lease<M>, Error>> {
        let mut core = self.shared.lock();
        let Poll::Ready(grant) = core.poll(ticket, context) else {
            drop(core);
            return self.mind_deadline(context, (ticket, since));
        };
        self.state = State::Done;
        let now = time::now();
        let refusal = match grant {
            Grant::Lease(entry) if !deadline.has_passed(now) => {
                let measured = core.begin_hold(&entry, now);
                self.shared.release(core);
                if measured {
                    self.shared.waits.record_duration(now.saturating_duration_since(since));
                }
                return Poll::Ready(Ok(Lease::new(Arc::clone(self.shared), entry)));
            }
            Grant::Lease(late) => {
                core.give_on(late, now);
                Refusal::TimedOut
            }
            Grant::Refused(Refusal::Orphaned) => {
                let waiting = Waiting { since, deadline, site: self.site, task: tokio::task::try_id() };
                return self.queue(core, context, waiting);
            }
            Grant::Refused(refusal) => refusal,
        };
        core.totals.timed_out += u64::from(matches!(refusal, Refusal::TimedOut));
        let measured = core.sample_wait(now);
        let error = self.shared.explain(&core, refusal, since, now);
        self.shared.release(core);
        if measured {
            self.shared.waits.record_duration(now.saturating_duration_since(since));
        }
        Poll::Ready(Err(error))
    }
}

impl<M: Manager> Future for Acquire<'_, M> {
    type Output = Result<Lease<M>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.state {
            State::New => self.start(context),
            State::Waiting { ticket, since, deadline } => self.resume(context, (ticket, since, deadline)),
            State::Done => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Acquire<'_, M> {
    fn drop(&mut self) {
        if let State::Waiting { ticket, .. } = self.state {
            let now = time::now();
            self.shared.with(|core| {
                core.totals.cancelled += 1;
                core.leave(ticket, now);
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
