//! One call on its way through the stages. The stages are borrowed, the state lives in the future, nothing is on the heap.

use super::attempt::{Attempt, Call};
use super::hedged::{Hedged, Hedging, Plan};
use super::stats::Counters;
use crate::bulkhead;
use crate::gate::{Gate, Now, Passes};
use crate::hedge::Hedge;
use crate::judge::{Again, Judge, Verdict};
use crate::race::{Limit, Over, Race, Raced, Timer};
use crate::rate;
use crate::retry::{Budget, Question, Retry, Stop};
use crate::signal::{self, Signal};
use perf_core::time::{self, Duration, Instant};
use perf_core::{Deadline, Name, Outcome, Reason, Rejected};
use std::pin::{Pin, pin};
use std::sync::Arc;

/// The policy named when the deadline that passed was the caller's.
const CALLER: Name = Name::from_static("caller");

/// The stages a call goes through, outermost first.
pub(crate) struct Course<'p> {
    pub(super) name: &'p Name,
    pub(super) deadline: Option<Duration>,
    pub(super) gates: &'p [Arc<dyn Gate>],
    pub(super) rate: Option<&'p rate::Shared>,
    pub(super) bulkhead: Option<&'p bulkhead::Shared>,
    /// What pays for retries and hedges; every call pays in.
    pub(super) budget: Option<&'p Budget>,
    pub(super) retry: Option<&'p Retry>,
    pub(super) idempotent: bool,
    pub(super) per_attempt: &'p [Arc<dyn Gate>],
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) hedge: Option<&'p Hedge>,
    pub(super) counters: Option<&'p Counters>,
}

/// How one attempt ended.
enum Tried<T, E> {
    Answered {
        result: Result<T, E>,
        verdict: Verdict,
        started: Option<Instant>,
        signal: Option<Signal>,
    },
    /// It took longer than one attempt may.
    TimedOut {
        started: Option<Instant>,
    },
    /// The deadline of the whole call passed.
    Expired {
        started: Option<Instant>,
    },
    Refused(Rejected),
}

/// How the whole call ended.
struct Ended<T, E> {
    result: Result<T, E>,
    outcome: Outcome,
    started: Option<Instant>,
}

impl<'p> Course<'p> {
    /// Retries and nothing else.
    pub(crate) fn retrying(name: &'p Name, retry: &'p Retry) -> Self {
        Self {
            name,
            deadline: None,
            gates: &[],
            rate: None,
            bulkhead: None,
            budget: Some(retry.budget()),
            retry: Some(retry),
            idempotent: false,
            per_attempt: &[],
            attempt_timeout: None,
            hedge: None,
            counters: None,
        }
    }

    pub(crate) async fn run<T, E, J, Op, Fut>(&self, call: Call, judge: &J, operation: Op) -> Result<T, E>
    where
        E: From<Rejected>,
        J: Judge<T, E> + ?Sized,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut counting = Counting(self.counters);
        let (deadline, mut passes) = match self.admit(&call) {
            Ok(admitted) => admitted,
            Err(rejected) => return Err(counting.refused(rejected)),
        };
        let mut timer = pin!(Timer::new());
        if let Some(rate) = self.rate
            && let Err(rejected) = rate.hold(1, deadline, timer.as_mut()).await
        {
            return Err(counting.refused(worth_waiting(rejected, deadline)));
        }
        let held = match self.bulkhead {
            None => None,
            Some(bulkhead) => match bulkhead.hold(call.priority, deadline, timer.as_mut()).await {
                Ok(held) => Some(held),
                Err(rejected) => return Err(counting.refused(worth_waiting(rejected, deadline))),
            },
        };
        let idempotent = call.idempotent.unwrap_or(self.idempotent);
        let ended = self.attempts(deadline, idempotent, timer, judge, &operation).await;
        drop(held);
        passes.started(ended.started);
        passes.leave(ended.outcome, &Now::lazy());
        counting.ended(ended.outcome);
        ended.result
    }

    /// The deadline of the call, and the gates it is inside of.
    fn admit(&self, call: &Call) -> Result<(Deadline, Passes<'p>), Rejected> {
        let now = Now::lazy();
        let own = self.deadline.map_or(Deadline::NEVER, |limit| Deadline::after(now.get(), limit));
        let deadline = own.earliest(call.deadline).earliest(crate::current_deadline());
        if deadline != own && deadline.has_passed(now.get()) {
            return Err(Rejected::new(Reason::DeadlineExceeded, CALLER));
        }
        let passes = Passes::enter(self.gates, &now).map_err(|rejected| worth_waiting(rejected, deadline))?;
        Ok((deadline, passes))
    }

    async fn attempts<T, E, J, Op, Fut>(
        &self,
        deadline: Deadline,
        idempotent: bool,
        mut timer: Pin<&mut Timer>,
        judge: &J,
        operation: &Op,
    ) -> Ended<T, E>
    where
        E: From<Rejected>,
        J: Judge<T, E> + ?Sized,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if let Some(budget) = self.budget {
            budget.deposit();
        }
        let mut attempt = Attempt { number: 1, hedge: false, deadline, previous_endpoint: None };
        let mut previous = Duration::ZERO;
        let mut first_started = None;
        let mut last = None;
        loop {
            let hedge = self.hedge.filter(|_| idempotent);
            let (tried, extra) = match hedge {
                None => (self.attempt(attempt, timer.as_mut(), judge, operation).await, 0),
                Some(hedge) => self.hedged(attempt, timer.as_mut(), judge, operation, hedge).await,
            };
            attempt.number += extra;
            let (result, verdict, signal) = match tried {
                Tried::Answered { result, verdict, started, signal } => {
                    first_started = first_started.or(started);
                    attempt.previous_endpoint = verdict.endpoint;
                    (result, verdict, signal)
                }
                Tried::TimedOut { started } => {
                    first_started = first_started.or(started);
                    let rejected = Rejected::new(Reason::Timeout, self.name.clone()).retryable(true);
                    (Err(rejected.into()), Verdict::of(Outcome::Failure), None)
                }
                Tried::Expired { started } => {
                    self.stopped(Stop::Deadline);
                    let policy = self.owner_of(deadline, started);
                    let error = signal::refuse(Rejected::new(Reason::DeadlineExceeded, policy));
                    return Ended {
                        result: Err(error),
                        outcome: Outcome::Failure,
                        started: first_started.or(started),
                    };
                }
                Tried::Refused(rejected) => {
                    let rejected = worth_waiting(rejected, deadline);
                    signal::refused(&rejected);
                    // What the dependency said last is worth more than why it is not asked again.
                    let (result, outcome) = match last {
                        Some((error, outcome)) => (Err(error), outcome),
                        None => (Err(rejected.into()), Outcome::Cancelled),
                    };
                    return Ended { result, outcome, started: first_started };
                }
            };
            let ended = |result| Ended { result, outcome: verdict.outcome, started: first_started };
            if verdict.outcome == Outcome::Success {
                if attempt.number > 1
                    && let Some(retry) = self.retry
                {
                    retry.recovered();
                }
                return ended(result);
            }
            let question = Question { attempt: attempt.number, previous, hint: verdict.hint, deadline };
            match self.wait(question, idempotent, &verdict, signal) {
                Err(why) => {
                    self.stopped(why);
                    if matches!(why, Stop::Attempts | Stop::Budget | Stop::Deadline | Stop::Below) {
                        signal::stop();
                    }
                    return ended(result);
                }
                Ok((delay, until)) => {
                    last = result.err().map(|error| (error, verdict.outcome));
                    previous = delay;
                    if let Some(until) = until {
                        timer.as_mut().until(until).await;
                    }
                }
            }
            attempt.number += 1;
            if let Some(retry) = self.retry {
                retry.retried();
            }
        }
    }

    /// How long to wait for the next attempt, and until when; or why there is none.
    fn wait(
        &self,
        mut question: Question,
        idempotent: bool,
        verdict: &Verdict,
        signal: Option<Signal>,
    ) -> Result<(Duration, Option<Instant>), Stop> {
        let again = match signal {
            Some(Signal::Stop) => return Err(Stop::Below),
            Some(Signal::After(wait)) => {
                question.hint = Some(question.hint.unwrap_or_default().max(wait));
                Again::Always
            }
            None => verdict.again,
        };
        let retry = self.retry.ok_or(Stop::Final)?;
        match again {
            Again::No => return Err(Stop::Final),
            Again::IfIdempotent if !idempotent => return Err(Stop::NotIdempotent),
            Again::IfIdempotent | Again::Always => {}
        }
        let now = time::now();
        let delay = retry.next(&question, now)?;
        Ok((delay, now.checked_add(delay).filter(|_| !delay.is_zero())))
    }

    async fn attempt<T, E, J, Op, Fut>(
        &self,
        attempt: Attempt,
        timer: Pin<&mut Timer>,
        judge: &J,
        operation: &Op,
    ) -> Tried<T, E>
    where
        J: Judge<T, E> + ?Sized,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let passes = match Passes::enter(self.per_attempt, &Now::lazy()) {
            Ok(passes) => passes,
            Err(rejected) => return Tried::Refused(rejected),
        };
        let limit = Limit { timeout: self.attempt_timeout, deadline: attempt.deadline };
        let Raced { result, started, signal } = Race::new(operation(attempt), timer, limit).await;
        leave(passes, result, started, signal, judge)
    }

    async fn hedged<T, E, J, Op, Fut>(
        &self,
        attempt: Attempt,
        timer: Pin<&mut Timer>,
        judge: &J,
        operation: &Op,
        hedge: &Hedge,
    ) -> (Tried<T, E>, u32)
    where
        J: Judge<T, E> + ?Sized,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let passes = match Passes::enter(self.per_attempt, &Now::lazy()) {
            Ok(passes) => passes,
            Err(rejected) => return (Tried::Refused(rejected), 0),
        };
        let limit = Limit { timeout: self.attempt_timeout, deadline: attempt.deadline };
        let plan = Plan { operation, judge, hedge, budget: self.budget, attempt, limit };
        let Hedging { result, started, signal, extra } = Hedged::new(plan, timer).await;
        (leave(passes, result, started, signal, judge), extra)
    }

    fn stopped(&self, why: Stop) {
        if let Some(retry) = self.retry {
            retry.stopped(why);
        }
    }

    /// Whose deadline it was that passed: the pipeline's own unless the caller's was earlier.
    fn owner_of(&self, deadline: Deadline, started: Option<Instant>) -> Name {
        let own = self.deadline.zip(started).and_then(|(limit, started)| started.checked_add(limit));
        match (own, deadline.instant()) {
            // An own deadline runs from just before the first attempt, so it lies close to this estimate or beyond it.
            (Some(own), Some(at)) if own.saturating_duration_since(at) < Duration::from_millis(1) => {
                self.name.clone()
            }
            (Some(_), _) | (None, _) => CALLER,
        }
    }
}

/// Gives the passes of an attempt back and says how it ended.
fn leave<T, E, J: Judge<T, E> + ?Sized>(
    mut passes: Passes<'_>,
    result: Result<Result<T, E>, Over>,
    started: Option<Instant>,
    signal: Option<Signal>,
    judge: &J,
) -> Tried<T, E> {
    passes.started(started);
    match result {
        Ok(result) => {
            let verdict = judge.judge(result.as_ref());
            passes.leave(verdict.outcome, &Now::lazy());
            Tried::Answered { result, verdict, started, signal }
        }
        Err(over) => {
            passes.leave(Outcome::Failure, &Now::lazy());
            match over {
                Over::Timeout => Tried::TimedOut { started },
                Over::Deadline => Tried::Expired { started },
            }
        }
    }
}

/// A refusal is worth another try only if its wait ends before the deadline.
fn worth_waiting(rejected: Rejected, deadline: Deadline) -> Rejected {
    let fits = match (deadline.instant(), rejected.retry_hint()) {
        (Some(_), Some(wait)) => deadline.allows(time::now(), wait),
        _ => false,
    };
    rejected.retryable(fits)
}

/// Counts the call once, however it ends.
struct Counting<'p>(Option<&'p Counters>);

impl Counting<'_> {
    fn refused<E: From<Rejected>>(&mut self, rejected: Rejected) -> E {
        if let Some(counters) = self.0.take() {
            counters.refused.increment();
        }
        signal::refuse(rejected)
    }

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
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.cancelled.increment();
        }
    }
}
