//! Polling work against the clock with one timer per call, which exists only once something has to wait.

use crate::scope::Entered;
use crate::signal;
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

pin_project! {
    /// Work with its limits. The work is polled first, so a result that is ready together with the timer wins.
    ///
    /// The result comes out as the work gave it, because wrapping it would mean copying it once more; when it first had to
    /// wait is left in `started`, and `over` makes the result of work that was given up.
    pub(crate) struct Race<'t, F, O> {
        #[pin]
        work: F,
        timer: Pin<&'t mut Timer>,
        limit: Limit,
        started: &'t mut Option<Instant>,
        end: Option<(Instant, Over)>,
        over: O,
    }
}

impl<'t, F: Future, O: FnMut(Over) -> F::Output> Race<'t, F, O> {
    #[inline]
    pub(crate) const fn new(
        work: F,
        timer: Pin<&'t mut Timer>,
        limit: Limit,
        started: &'t mut Option<Instant>,
        over: O,
    ) -> Self {
        Self { work, timer, limit, started, end: None, over }
    }
}

impl<F: Future, O: FnMut(Over) -> F::Output> Future for Race<'_, F, O> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        signal::clear();
        let polled = {
            let _entered = Entered::new(this.limit.deadline);
            this.work.poll(context)
        };
        if polled.is_ready() {
            return polled;
        }
        let over = ready!(poll_limit(*this.limit, this.started, this.end, this.timer.as_mut(), context));
        Poll::Ready((this.over)(over))
    }
}

/// Waits for the end of the limit, and begins to count when it is asked for the first time.
#[inline(never)]
fn poll_limit(
    limit: Limit,
    started: &mut Option<Instant>,
    end: &mut Option<(Instant, Over)>,
    timer: Pin<&mut Timer>,
    context: &mut Context<'_>,
) -> Poll<Over> {
    if started.is_none() {
        let now = time::now();
        *started = Some(now);
        let (at, over) = limit.end(now);
        *end = at.map(|at| (at, over));
    }
    let Some((at, over)) = *end else { return Poll::Pending };
    timer.poll_until(at, context).map(|()| over)
}
