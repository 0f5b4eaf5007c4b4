//! One attempt made of two requests.

use super::attempt::Attempt;
use crate::hedge::Hedge;
use crate::judge::{Again, Judge};
use crate::race::{Limit, Over, Timer};
use crate::retry::{Account, Budget, Cause};
use crate::scope::Entered;
use crate::signal::{self, Signal};
use perf_core::Outcome;
use perf_core::time::{self, Duration, Instant};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a hedged attempt ended.
pub(super) struct Hedging<T, E> {
    pub(super) result: Result<Result<T, E>, Over>,
    pub(super) started: Option<Instant>,
    pub(super) signal: Option<Signal>,
    /// How many requests were sent beyond the first.
    pub(super) extra: u32,
}

/// What does not change while the requests are under way.
pub(super) struct Plan<'h, 'b, Op, J: ?Sized> {
    pub(super) operation: &'h Op,
    pub(super) judge: &'h J,
    pub(super) hedge: &'h Hedge,
    /// What pays for the second request; nothing has to where there is none.
    pub(super) budget: Option<&'b Budget>,
    /// The call's account with the budget, if it is one that follows calls.
    pub(super) account: Option<&'h mut Account<'b>>,
    pub(super) attempt: Attempt,
    pub(super) limit: Limit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    Waiting,
    Sent,
    /// The budget could not pay, or too little is known.
    Never,
}

pin_project! {
    pub(super) struct Hedged<'h, 'b, T, E, Op, J: ?Sized, Fut> {
        plan: Plan<'h, 'b, Op, J>,
        #[pin]
        first: Option<Fut>,
        #[pin]
        extra: Option<Fut>,
        timer: Pin<&'h mut Timer>,
        started: Option<Instant>,
        extra_started: Option<Instant>,
        end: Option<Instant>,
        over: Over,
        hedge_at: Option<Instant>,
        second: Second,
        failed: Option<(Result<T, E>, Option<Signal>)>,
    }
}

impl<'h, 'b, T, E, Op, J: ?Sized, Fut> Hedged<'h, 'b, T, E, Op, J, Fut>
where
    Op: Fn(Attempt) -> Fut,
{
    pub(super) fn new(plan: Plan<'h, 'b, Op, J>, timer: Pin<&'h mut Timer>) -> Self {
        let first = Some((plan.operation)(plan.attempt));
        let second = if plan.hedge.delay().is_some() { Second::Waiting } else { Second::Never };
        Self {
            plan,
            first,
            extra: None,
            timer,
            started: None,
            extra_started: None,
            end: None,
            over: Over::Deadline,
            hedge_at: None,
            second,
            failed: None,
        }
    }
}

fn since(start: Option<Instant>) -> Duration {
    start.map_or(Duration::ZERO, |start| time::now().saturating_duration_since(start))
}

impl<T, E, Op, J, Fut> Future for Hedged<'_, '_, T, E, Op, J, Fut>
where
    J: Judge<T, E> + ?Sized,
    Op: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Output = Hedging<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            for turn in [Turn::First, Turn::Extra] {
                let mut slot = if turn == Turn::First { this.first.as_mut() } else { this.extra.as_mut() };
                let Some(request) = slot.as_mut().as_pin_mut() else { continue };
                signal::clear();
                let polled = {
                    let _entered = Entered::new(this.plan.limit.deadline);
                    request.poll(context)
                };
                let Poll::Ready(result) = polled else { continue };
                let signal = signal::take();
                slot.set(None);
                let start = if turn == Turn::First { *this.started } else { *this.extra_started };
                this.plan.hedge.record(since(start), true);
                let verdict = this.plan.judge.judge(result.as_ref());
                if let Some(account) = &mut this.plan.account {
                    account.failed(verdict.outcome);
                }
                let settled = verdict.outcome == Outcome::Success || verdict.again == Again::No;
                if verdict.outcome != Outcome::Cancelled || this.failed.is_none() {
                    *this.failed = Some((result, signal));
                }
                if settled {
                    // The loser is gone before the winner's result is.
                    let other = if turn == Turn::First { &mut this.extra } else { &mut this.first };
                    let other_start = if turn == Turn::First { *this.extra_started } else { *this.started };
                    if other.is_some() {
                        this.plan.hedge.record(since(other_start), false);
                        other.set(None);
                    }
                    if turn == Turn::Extra && verdict.outcome == Outcome::Success {
                        this.plan.hedge.won();
                    }
                    break;
                }
            }
            let idle = this.first.is_none() && this.extra.is_none();
            let settled = this.failed.as_ref().is_some_and(|(result, _)| {
                let verdict = this.plan.judge.judge(result.as_ref());
                verdict.outcome == Outcome::Success || verdict.again == Again::No
            });
            // A first request that failed and may be tried again is hedged at once.
            let at_once = this.failed.is_some() && !settled && *this.second == Second::Waiting;
            if idle
                && !at_once
                && let Some((result, signal)) = this.failed.take()
            {
                let extra = u32::from(*this.second == Second::Sent);
                return Poll::Ready(Hedging { result: Ok(result), started: *this.started, signal, extra });
            }
            let now = time::now();
            if this.started.is_none() && !at_once {
                *this.started = Some(now);
                (*this.end, *this.over) = this.plan.limit.end(now);
                *this.hedge_at = this.plan.hedge.delay().and_then(|delay| now.checked_add(delay));
            }
            let due = at_once || this.hedge_at.is_some_and(|at| at <= now);
            if *this.second == Second::Waiting && due {
                let paid = match (&mut this.plan.account, this.plan.budget) {
                    (Some(account), _) => account.withdraw(Cause::Hedge, now),
                    (None, Some(budget)) => budget.unfollowed().withdraw(Cause::Hedge, now),
                    (None, None) => true,
                };
                if paid {
                    *this.second = Second::Sent;
                    *this.extra_started = Some(now);
                    let number = this.plan.attempt.number + 1;
                    let attempt = Attempt { number, hedge: this.first.is_some(), ..this.plan.attempt };
                    this.plan.hedge.sent();
                    this.extra.set(Some((this.plan.operation)(attempt)));
                } else {
                    *this.second = Second::Never;
                    this.plan.hedge.unpaid();
                }
                continue;
            }
            let wake = match (*this.second, *this.hedge_at, *this.end) {
                (Second::Waiting, Some(hedge), Some(end)) => Some(hedge.min(end)),
                (Second::Waiting, Some(hedge), None) => Some(hedge),
                (_, _, end) => end,
            };
            let Some(wake) = wake else { return Poll::Pending };
            if this.timer.as_mut().poll_until(wake, context).is_pending() {
                return Poll::Pending;
            }
            if this.end.is_some_and(|end| end <= wake) {
                let extra = u32::from(*this.second == Second::Sent);
                for (mut slot, start) in [(this.first, *this.started), (this.extra, *this.extra_started)] {
                    if slot.is_some() {
                        this.plan.hedge.record(since(start), false);
                        slot.set(None);
                    }
                }
                return Poll::Ready(Hedging {
                    result: Err(*this.over),
                    started: *this.started,
                    signal: None,
                    extra,
                });
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Extra,
}
