//! Going from endpoint to endpoint until one gives a connection.

use super::choose::Wish;
use super::lease::{BalancedLease, Call};
use super::pool::Inner;
use crate::error::{Error, Exhausted, Tried};
use crate::manager::Manager;
use crate::pool::{Lease, Pool};
use crate::redact::Redacted;
use perf_core::time;
use perf_core::{Deadline, Reason, Rejected};
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

/// An endpoint at which a caller asks.
struct Stop<M: Manager> {
    call: Call<M>,
    pool: Pool<M>,
}

/// What came of asking there.
enum Asked<M: Manager> {
    Lease(Lease<M>),
    Refused(Error),
    /// Nobody is served there for now, and there is another endpoint, where a call is counted already.
    Left(Error, Stop<M>),
}

/// The endpoints tried in vain.
#[derive(Default)]
struct Vain {
    ids: Vec<u64>,
    tried: Vec<Tried>,
}

/// Who asks, and for how long it is ready to wait.
#[derive(Clone, Copy)]
struct Caller {
    wish: Wish<'static>,
    site: &'static Location<'static>,
    /// One for all endpoints; none until the first is known.
    deadline: Option<Deadline>,
}

impl<M: Manager> Inner<M> {
    pub(super) async fn acquire(
        self: Arc<Self>,
        wish: Wish<'static>,
        site: &'static Location<'static>,
    ) -> Result<BalancedLease<M>, Error> {
        let Some(mut stop) = self.next(wish, false) else {
            let reason = if wish.role.is_some() { Reason::Open } else { Reason::Closed };
            return Err(Rejected::new(reason, self.name.clone()).into());
        };
        let deadline = Deadline::after(stop.call.began, stop.pool.acquire_timeout());
        let mut caller = Caller { wish, site, deadline: None };
        let mut vain = Vain::default();
        loop {
            let asked = self.ask(&stop, caller, &vain).await;
            let (error, next) = match asked {
                Asked::Lease(lease) => {
                    stop.call.outcome = Some(true);
                    return Ok(BalancedLease { lease, call: stop.call });
                }
                Asked::Refused(error) => (error, None),
                Asked::Left(error, next) => (error, Some(next)),
            };
            let goes_on = cannot_serve(&error) && !deadline.has_passed(time::now());
            stop.call.outcome = evidence(&error);
            vain.add(&self, &stop, error);
            // What this endpoint has shown counts for the choice of the next.
            drop(stop);
            let may_try = goes_on && vain.ids.len() < self.config.tries as usize;
            let next = match next {
                None if may_try => self.next(Wish { tried: &vain.ids, ..wish }, false),
                next => next,
            };
            let Some(next) = next else { return Err(vain.into_error(&self)) };
            self.lock().state.retried += 1;
            (stop, caller.deadline) = (next, Some(deadline));
        }
    }

    /// Chooses an endpoint and counts a call to it; an `available` one, or better any than none.
    fn next(self: &Arc<Self>, wish: Wish<'_>, available: bool) -> Option<Stop<M>> {
        let began = time::now();
        let (chosen, ejected) = {
            let mut guarded = self.lock();
            let ejected = guarded.sweep(began);
            let state = &mut guarded.state;
            let chosen = if available {
                state.choose_available(wish, &*self.balance, began)
            } else {
                state.choose(wish, &*self.balance, began)
            };
            (chosen.and_then(|chosen| Some((chosen, guarded.pools.get(&chosen.id)?.clone()))), ejected)
        };
        Self::empty(&ejected);
        let (chosen, pool) = chosen?;
        Some(Stop { call: Call { inner: Arc::clone(self), chosen, began, outcome: None }, pool })
    }

    async fn ask(self: &Arc<Self>, stop: &Stop<M>, caller: Caller, vain: &Vain) -> Asked<M> {
        let mut acquire = stop.pool.acquire_from(caller.site, caller.deadline);
        // An idle connection is there at once, and then nothing else is looked at.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut acquire).poll(context))).await;
        if let Poll::Ready(answer) = first {
            return answer.map_or_else(Asked::Refused, Asked::Lease);
        }
        loop {
            let mut stirred = pin!(stop.pool.stirred());
            // From here on nothing is missed.
            stirred.as_mut().enable();
            if let Some((error, next)) = self.elsewhere(stop, caller.wish, vain) {
                return Asked::Left(error, next);
            }
            let answer = poll_fn(|context| match Pin::new(&mut acquire).poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => stirred.as_mut().poll(context).map(|()| None),
            });
            if let Some(answer) = answer.await {
                return answer.map_or_else(Asked::Refused, Asked::Lease);
            }
        }
    }

    /// Why a caller leaves, and where it goes, if there are both a reason and a place.
    fn elsewhere(self: &Arc<Self>, stop: &Stop<M>, wish: Wish<'_>, vain: &Vain) -> Option<(Error, Stop<M>)> {
        if vain.ids.len() + 1 >= self.config.tries as usize {
            return None;
        }
        let Call { chosen, began, .. } = &stop.call;
        let waited = time::now().saturating_duration_since(*began);
        let taken_out = || {
            let state = &self.lock().state;
            let is_available = state.index(chosen.id).is_some_and(|index| state.is_available(index));
            let out = chosen.available && !is_available;
            out.then(|| Rejected::new(Reason::Open, stop.pool.name().clone()).into())
        };
        let error = stop.pool.outage(chosen.probe, waited).or_else(taken_out)?;
        let mut tried = vain.ids.clone();
        tried.push(chosen.id);
        Some((error, self.next(Wish { tried: &tried, ..wish }, true)?))
    }
}

/// Whether another endpoint may do better: this one cannot be reached, or is not to be used. Never where a pool is full:
/// overload must not be passed on to the others.
fn cannot_serve(error: &Error) -> bool {
    matches!(error, Error::Connecting { .. } | Error::ManagerPanicked { .. } | Error::Paused { .. })
        || error.is_closed()
}

/// What an error says about the endpoint. A refusal is about our own pool.
const fn evidence(error: &Error) -> Option<bool> {
    match error {
        Error::Rejected(_) | Error::Paused { .. } | Error::NoRuntime { .. } => None,
        _ => Some(false),
    }
}

impl Vain {
    fn add<M: Manager>(&mut self, inner: &Inner<M>, stop: &Stop<M>, error: Error) {
        let id = stop.call.chosen.id;
        let endpoint = inner.name_of(id).unwrap_or_else(|| stop.pool.name().to_string());
        self.ids.push(id);
        self.tried.push(Tried { endpoint: Redacted(&endpoint).to_string(), error });
    }

    fn into_error<M: Manager>(mut self, inner: &Inner<M>) -> Error {
        match self.tried.pop() {
            Some(only) if self.tried.is_empty() => only.error,
            last => {
                self.tried.extend(last);
                Error::Exhausted(Box::new(Exhausted { pool: inner.name.clone(), tried: self.tried }))
            }
        }
    }
}
