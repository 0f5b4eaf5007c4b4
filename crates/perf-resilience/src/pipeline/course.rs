//! One call on its way through the stages. The stages are borrowed, the state lives in the future, nothing is on the heap.
//!
//! The usual case, a call that is let in at once and succeeds at the first attempt, runs straight through
//! [`Course::run`]; everything else is out of its way, in functions of its own. The result is judged where it lies and
//! copied as seldom as possible: copying it is what most of the time of such a call would be spent on.

use super::attempt::{Attempt, Call};
use super::hedged::{Hedged, Plan};
use super::stats::Counters;
use crate::breaker::{self, Breaker, Glance};
use crate::bulkhead::Bulkhead;
use crate::gate::{Gate, Now, Pass, Passes};
use crate::hedge::Hedge;
use crate::judge::{Again, Judge, Verdict};
use crate::race::{Limit, Over, Race, Timer};
use crate::rate::RateLimit;
use crate::retry::{Account, Budget, Cause, Question, Retry, Stop};
use crate::signal::{self, Signal};
use perf_core::time::{self, Duration, Instant};
use perf_core::{Deadline, Name, Outcome, Reason, Rejected};
use std::pin::pin;
use std::sync::Arc;

/// The policy named when the deadline that passed was the caller's.
const CALLER: Name = Name::from_static("caller");

/// The stages a call goes through, outermost first, but for retry and budget.
pub(crate) struct Stages {
    pub(super) name: Name,
    pub(super) deadline: Option<Duration>,
    pub(super) gates: Box<[Arc<dyn Gate>]>,
    pub(super) rate: Option<RateLimit>,
    pub(super) bulkhead: Option<Bulkhead>,
    pub(super) idempotent: bool,
    pub(super) breaker: Option<Breaker>,
    pub(super) per_attempt: Box<[Arc<dyn Gate>]>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) hedge: Option<Hedge>,
    /// Calls, by how they ended; nobody asks that of a retry policy alone.
    pub(super) counters: Option<Counters>,
}

impl Stages {
    /// None at all, for a retry policy that runs by itself.
    pub(crate) fn none(name: Name) -> Self {
        Self {
            name,
            deadline: None,
            gates: Box::default(),
            rate: None,
            bulkhead: None,
            idempotent: true,
            breaker: None,
            per_attempt: Box::default(),
            attempt_timeout: None,
            hedge: None,
            counters: None,
        }
    }
}

/// The way of one call through the stages.
#[derive(Clone, Copy)]
pub(crate) struct Course<'p> {
    pub(crate) stages: &'p Stages,
    pub(crate) retry: Option<&'p Retry>,
    /// What pays for retries and hedges; every call pays in.
    pub(crate) budget: Option<&'p Budget>,
}

/// What one attempt leaves behind besides its result.
struct Ending {
    verdict: Verdict,
    /// The limit that ended it, if one did.
    over: Option<Over>,
    /// Whether it was made of two requests, whose failures the budget knows of already.
    hedged: bool,
}

/// The attempts of one call so far.
struct Series {
    attempt: Attempt,
    idempotent: bool,
    /// The delay before the last attempt.
    previous: Duration,
    /// When the first attempt that had to wait began to.
    started: Option<Instant>,
}

impl<'p> Course<'p> {
    #[inline]
    pub(crate) async fn run<T, E, J, Op, Fut>(self, call: Call, judge: &J, operation: Op) -> Result<T, E>
    where
        E: From<Rejected>,
        J: Judge<T, E> + ?Sized,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut counting = Counting(self.stages.counters.as_ref());
        let mut passes = Passes::outside(&self.stages.gates);
        // One moment for all stages, until one of them makes the call wait.
        let mut now = Now::lazy();
        let (deadline, own) = match self.admit(&call, &mut passes, &now) {
            Ok(admitted) => admitted,
            Err(rejected) => return Err(counting.refused(rejected)),
        };
        let mut timer = pin!(Timer::new());
        if let Some(rate) = &self.stages.rate {
            match rate.shared().reserve(1, deadline) {
                Ok(turn) => {
                    if turn.waits() {
                        timer.as_mut().until(turn.at()).await;
                        now = Now::lazy();
                    }
                    turn.take();
                }
                Err(rejected) => return Err(counting.refused(worth_waiting(rejected, deadline, &now))),
            }
        }
        let held = match self.stages.bulkhead.as_ref().map(Bulkhead::shared) {
            None => None,
            Some(bulkhead) => {
                let mut held = bulkhead.try_hold();
                if held.is_none() {
                    if let Some(rejected) = bulkhead.refused_at_once(call.priority) {
                        return Err(counting.refused(worth_waiting(rejected, deadline, &now)));
                    }
                    let waited = bulkhead.hold(call.priority, deadline, timer.as_mut()).await;
                    now = Now::lazy();
                    held = match waited {
                        Ok(held) => Some(held),
                        Err(rejected) => {
                            return Err(counting.refused(worth_waiting(rejected, deadline, &now)));
                        }
                    };
                }
                held
            }
        };
        let mut inside = Inside::outside(&self.stages.per_attempt);
        if let Some(rejected) = inside.refusal(self.stages.breaker.as_ref(), &now) {
            drop(held);
            passes.leave(Outcome::Cancelled, None, &now);
            counting.ended(Outcome::Cancelled);
            return Err(signal::refuse(worth_waiting(rejected, deadline, &now)));
        }
        // Only a call that is made pays for retries: refused ones would fill the budget while the dependency is down.
        let mut account = self.budget.and_then(Budget::follow);
        let mut series = Series::new(deadline, call.idempotent.unwrap_or(self.stages.idempotent));
        loop {
            let (mut started, mut over) = (None, None);
            let hedge = self.stages.hedge.as_ref().filter(|_| series.idempotent);
            let result = match hedge {
                None => {
                    let work = operation(series.attempt);
                    let given_up = |limit| {
                        over = Some(limit);
                        Err(self.given_up(limit, own))
                    };
                    Race::new(work, timer.as_mut(), self.limit(deadline), &mut started, given_up).await
                }
                Some(hedge) => {
                    let (operation, attempt, limit) = (&operation, series.attempt, self.limit(deadline));
                    let (budget, account) = (self.budget, account.as_mut());
                    let plan = Plan { operation, judge, hedge, budget, account, attempt, limit };
                    let hedging = Hedged::new(plan, timer.as_mut()).await;
                    started = hedging.started;
                    series.attempt.number += hedging.extra;
                    signal::put(hedging.signal);
                    hedging.result.unwrap_or_else(|limit| {
                        over = Some(limit);
                        Err(self.given_up(limit, own))
                    })
                }
            };
            let verdict = match over {
                None => judge.judge(result.as_ref()),
                Some(_) => Verdict::of(Outcome::Failure),
            };
            inside.leave(verdict.outcome, started);
            series.started = series.started.or(started);
            if verdict.outcome == Outcome::Success {
                self.recovered(&series);
                if let Some(account) = &mut account {
                    account.succeeded();
                }
                drop(held);
                passes.leave(Outcome::Success, series.started, &Now::lazy());
                counting.ended(Outcome::Success);
                return result;
            }
            let ending = Ending { verdict, over, hedged: hedge.is_some() };
            match self.next(&mut series, ending, account.as_mut()) {
                None => {
                    drop(held);
                    passes.leave(verdict.outcome, series.started, &Now::lazy());
                    counting.ended(verdict.outcome);
                    return result;
                }
                Some(wait) => {
                    let last = result.err().map(|error| (error, verdict.outcome));
                    if let Some(until) = wait {
                        timer.as_mut().until(until).await;
                    }
                    inside = Inside::outside(&self.stages.per_attempt);
                    let now = Now::lazy();
                    if let Some(rejected) = inside.refusal(self.stages.breaker.as_ref(), &now) {
                        drop(held);
                        let outcome = last.as_ref().map_or(Outcome::Cancelled, |(_, outcome)| *outcome);
                        passes.leave(outcome, series.started, &now);
                        counting.ended(outcome);
                        return Err(refused(worth_waiting(rejected, deadline, &now), last));
                    }
                    self.retried(&mut series);
                }
            }
        }
    }

    /// Enters the outer gates and gives the deadline of the call, and whether it is the pipeline's own.
    #[inline(always)]
    fn admit(&self, call: &Call, passes: &mut Passes<'p>, now: &Now) -> Result<(Deadline, bool), Rejected> {
        let own = self.stages.deadline.map_or(Deadline::NEVER, |limit| Deadline::after(now.get(), limit));
        let deadline = own.earliest(call.deadline).earliest(crate::current_deadline());
        if deadline != own && deadline.has_passed(now.get()) {
            return Err(Rejected::new(Reason::DeadlineExceeded, CALLER));
        }
        match passes.enter(now) {
            Ok(()) => Ok((deadline, deadline == own)),
            Err(rejected) => Err(worth_waiting(rejected, deadline, now)),
        }
    }

    #[inline]
    const fn limit(&self, deadline: Deadline) -> Limit {
        Limit { timeout: self.stages.attempt_timeout, deadline }
    }

    /// The error of an attempt that a limit ended.
    #[cold]
    fn given_up<E: From<Rejected>>(&self, over: Over, own: bool) -> E {
        match over {
            Over::Timeout => Rejected::new(Reason::Timeout, self.stages.name.clone()).retryable(true).into(),
            Over::Deadline => {
                let policy = if own { self.stages.name.clone() } else { CALLER };
                signal::refuse(Rejected::new(Reason::DeadlineExceeded, policy))
            }
        }
    }

    #[inline]
    fn recovered(&self, series: &Series) {
        if series.attempt.number > 1
            && let Some(retry) = self.retry
        {
            retry.recovered();
        }
    }

    fn retried(&self, series: &mut Series) {
        series.attempt.number += 1;
        if let Some(retry) = self.retry {
            retry.retried();
        }
    }

    /// Until when to wait for the next attempt (or not at all), or `None` if there is none.
    #[inline(never)]
    fn next(
        &self,
        series: &mut Series,
        ending: Ending,
        mut account: Option<&mut Account<'p>>,
    ) -> Option<Option<Instant>> {
        let signal = signal::take();
        if let Some(account) = &mut account {
            account.release();
            if !ending.hedged || ending.over.is_some() {
                account.failed(ending.verdict.outcome);
            }
        }
        if ending.over == Some(Over::Deadline) {
            self.stopped(Stop::Deadline);
            signal::stop();
            return None;
        }
        let signal = if ending.over.is_some() { None } else { signal };
        if ending.over.is_none() {
            series.attempt.previous_endpoint = ending.verdict.endpoint;
        }
        match self.wait(series, &ending, signal, account) {
            Err(why) => {
                self.stopped(why);
                if matches!(why, Stop::Attempts | Stop::Budget | Stop::Deadline | Stop::Below) {
                    signal::stop();
                }
                None
            }
            Ok((delay, until)) => {
                series.previous = delay;
                Some(until)
            }
        }
    }

    /// How long to wait for the next attempt, and until when; or why there is none.
    fn wait(
        &self,
        series: &Series,
        ending: &Ending,
        signal: Option<Signal>,
        account: Option<&mut Account<'p>>,
    ) -> Result<(Duration, Option<Instant>), Stop> {
        let Attempt { number, deadline, .. } = series.attempt;
        let verdict = &ending.verdict;
        let cause = match (ending.over, verdict.outcome) {
            (Some(_), _) => Cause::Timeout,
            (None, Outcome::Overload) => Cause::Overload,
            (None, _) => Cause::Failure,
        };
        let mut question =
            Question { attempt: number, previous: series.previous, hint: verdict.hint, deadline, cause };
        let again = match signal {
            Some(Signal::Stop) => return Err(Stop::Below),
            Some(Signal::After(wait)) => {
                question.hint = Some(question.hint.unwrap_or_default().max(wait));
                Again::Always
            }
            None => verdict.again,
        };
        let (Some(retry), Some(budget)) = (self.retry, self.budget) else { return Err(Stop::Final) };
        match again {
            Again::No => return Err(Stop::Final),
            Again::IfIdempotent if !series.idempotent => return Err(Stop::NotIdempotent),
            Again::IfIdempotent | Again::Always => {}
        }
        let now = time::now();
        let delay = match account {
            Some(account) => retry.next(&question, account, now)?,
            None => retry.next(&question, &mut budget.unfollowed(), now)?,
        };
        Ok((delay, now.checked_add(delay).filter(|_| !delay.is_zero())))
    }

    fn stopped(&self, why: Stop) {
        if let Some(retry) = self.retry {
            retry.stopped(why);
        }
    }
}

impl Series {
    #[inline]
    const fn new(deadline: Deadline, idempotent: bool) -> Self {
        let attempt = Attempt { number: 1, hedge: false, deadline, previous_endpoint: None };
        Self { attempt, idempotent, previous: Duration::ZERO, started: None }
    }
}

/// What an attempt is inside of; the gates are left before the breaker, which was entered first.
struct Inside<'p> {
    gates: Passes<'p>,
    breaker: Option<Pass<&'p breaker::Shared>>,
}

impl<'p> Inside<'p> {
    #[inline]
    const fn outside(gates: &'p [Arc<dyn Gate>]) -> Self {
        Self { gates: Passes::outside(gates), breaker: None }
    }

    /// Enters, unless somebody refuses.
    #[inline(always)]
    fn refusal(&mut self, breaker: Option<&'p Breaker>, now: &Now) -> Option<Rejected> {
        if let Some(breaker) = breaker.map(Breaker::shared) {
            let token = match breaker.glance(now) {
                Glance::Enter(token) => token,
                Glance::Refuse(wait) => return Some(breaker.refused(wait)),
                Glance::Look => match breaker.look(now) {
                    Ok(token) => token,
                    Err(rejected) => return Some(rejected),
                },
            };
            self.breaker = Some(Pass::inside(breaker, token));
        }
        self.gates.enter(now).err()
    }

    #[inline]
    fn leave(mut self, outcome: Outcome, started: Option<Instant>) {
        let now = Now::lazy();
        self.gates.leave(outcome, started, &now);
        if let Some(pass) = &mut self.breaker {
            *pass.started_mut() = started;
            pass.settle(outcome, &now);
        }
    }
}

/// The error of a series whose next attempt was refused: what the dependency said last is worth more than why it is not
/// asked again.
#[inline(always)]
fn refused<E: From<Rejected>>(rejected: Rejected, last: Option<(E, Outcome)>) -> E {
    signal::refused(&rejected);
    last.map_or_else(|| rejected.into(), |(error, _)| error)
}

/// A refusal is worth another try only if its wait ends before the deadline.
#[inline(always)]
fn worth_waiting(rejected: Rejected, deadline: Deadline, now: &Now) -> Rejected {
    let fits = match (deadline.instant(), rejected.retry_hint()) {
        (Some(_), Some(wait)) => deadline.allows(now.get(), wait),
        _ => false,
    };
    rejected.retryable(fits)
}

/// Counts the call once, however it ends.
struct Counting<'p>(Option<&'p Counters>);

impl Counting<'_> {
    #[cold]
    fn refused<E: From<Rejected>>(&mut self, rejected: Rejected) -> E {
        if let Some(counters) = self.0.take() {
            counters.refused.increment();
        }
        signal::refuse(rejected)
    }

    #[inline]
    fn ended(&mut self, outcome: Outcome) {
        if let Some(counters) = self.0.take() {
            match outcome {
                Outcome::Success | Outcome::Ignored => counters.succeeded.increment(),
                Outcome::Cancelled => counters.refused.increment(),
                _ => counters.failed.increment(),
            }
        }
    }
}

impl Drop for Counting<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.cancelled.increment();
        }
    }
}
