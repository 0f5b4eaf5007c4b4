//! Polling work against the clock with one timer per call, which exists only once something has to wait.

use crate::scope::Entered;
use crate::signal::{self, Signal};
use perf_core::Deadline;
use perf_core::time::{self, Duration, Instant, Sleep};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The one timer of a call, moved to whatever the call waits for next.
    pub(crate) struct Timer {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self { sleep: None }
    }

    pub(crate) fn poll_until(self: Pin<&mut Self>, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.project().sleep;
        match sleep.as_mut().as_pin_mut() {
            None => sleep.set(Some(time::sleep_until(at))),
            Some(armed) if armed.deadline() != at => armed.reset(at),
            Some(_) => {}
        }
        sleep.as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(context))
    }

    pub(crate) async fn until(mut self: Pin<&mut Self>, at: Instant) {
        std::future::poll_fn(|context| self.as_mut().poll_until(at, context)).await;
    }
}

/// What limits one attempt: a time of its own, counted from when it begins to wait, and the call's deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Deadline,
}

impl Limit {
    /// The earlier end, and whether it is the deadline's.
    pub(crate) fn end(&self, started: Instant) -> (Option<Instant>, Over) {
        let own = self.timeout.and_then(|timeout| started.checked_add(timeout));
        match (own, self.deadline.instant()) {
            (Some(own), Some(deadline)) if own < deadline => (Some(own), Over::Timeout),
            (_, Some(deadline)) => (Some(deadline), Over::Deadline),
            (own, None) => (own, Over::Timeout),
        }
    }
}

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Timeout,
    Deadline,
}

/// How raced work ended.
pub(crate) struct Raced<T> {
    pub(crate) result: Result<T, Over>,
    /// When it first had to wait; `None` if it never did.
    pub(crate) started: Option<Instant>,
    /// What a policy inside the work said as it ended.
    pub(crate) signal: Option<Signal>,
}

pin_project! {
    /// Work with its limits. The work is polled first, so a result that is ready together with the timer wins.
    pub(crate) struct Race<'t, F> {
        #[pin]
        work: F,
        timer: Pin<&'t mut Timer>,
        limit: Limit,
        started: Option<Instant>,
        end: Option<Instant>,
        over: Over,
    }
}

impl<'t, F: Future> Race<'t, F> {
    pub(crate) const fn new(work: F, timer: Pin<&'t mut Timer>, limit: Limit) -> Self {
        Self { work, timer, limit, started: None, end: None, over: Over::Deadline }
    }
}

impl<F: Future> Future for Race<'_, F> {
    type Output = Raced<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        signal::clear();
        let polled = {
            let _entered = Entered::new(this.limit.deadline);
            this.work.poll(context)
        };
        if let Poll::Ready(value) = polled {
            let signal = signal::take();
            return Poll::Ready(Raced { result: Ok(value), started: *this.started, signal });
        }
        if this.started.is_none() {
            let started = time::now();
            *this.started = Some(started);
            (*this.end, *this.over) = this.limit.end(started);
        }
        let Some(end) = *this.end else { return Poll::Pending };
        ready!(this.timer.as_mut().poll_until(end, context));
        Poll::Ready(Raced { result: Err(*this.over), started: *this.started, signal: None })
    }
}

pin_project! {
    /// Work of which only the start of its waiting is wanted.
    pub(crate) struct Observed<F> {
        #[pin]
        work: F,
        started: Option<Instant>,
    }
}

impl<F: Future> Observed<F> {
    pub(crate) const fn new(work: F) -> Self {
        Self { work, started: None }
    }
}

impl<F: Future> Future for Observed<F> {
    type Output = (F::Output, Option<Instant>);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.work.poll(context) {
            Poll::Ready(value) => Poll::Ready((value, *this.started)),
            Poll::Pending => {
                if this.started.is_none() {
                    *this.started = Some(time::now());
                }
                Poll::Pending
            }
        }
    }
}
