//! Bounds how many calls run at once, and how many wait for that.
//!
//! Little's law says what the bound does: a dependency that answers in 10 ms and is given 64 places serves at most 6,400
//! calls a second; when it slows down to 1 s, at most 64 callers are stuck instead of all of them. Those who wait are
//! served in order of arrival, more important classes first, and a freed place goes straight to a waiter: a newcomer can
//! never take it.
//!
//! | default | value |
//! |---|---|
//! | [`DEFAULT_LIMIT`] | 64 at once |
//! | [`DEFAULT_QUEUE`], [`DEFAULT_MAX_WAIT`] | 64 waiting, for at most 1 s |

mod config;
#[cfg(feature = "tower")]
mod layer;
mod state;

pub use config::{BulkheadConfig, DEFAULT_LIMIT, DEFAULT_MAX_WAIT, DEFAULT_QUEUE};
#[cfg(feature = "tower")]
pub use layer::{Bounded, BoundedFuture, BulkheadLayer};
pub use state::Priority;

use crate::race::{Limit, Over, Race, Timer};
use crate::signal;
use crate::stats::stats;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use perf_core::time::{self, Duration};
use perf_core::{
    Component, ComponentId, Deadline, Desc, Evidence, InvalidConfig, Name, Reason, Rejected, Sink, Ticket,
    Unit,
};
use state::{Grant, Load, Queue};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

stats! {
    /// What a bulkhead has seen since it was made.
    BulkheadStats from Counters {
        /// Places given, at once or after waiting.
        admitted,
        /// Callers that had to wait for their place.
        waited,
        /// Callers refused because the queue was full.
        refused_full,
        /// Callers whose wait ran out.
        refused_wait,
        /// Waiters refused in favour of a more important call.
        displaced,
    }
}

/// A bound on concurrency with a fair queue. Cheap to clone; clones share the places.
///
/// ```
/// use perf_core::{Deadline, Reason};
/// use perf_resilience::Bulkhead;
///
/// let bulkhead = Bulkhead::builder("reports").limit(1).queue(0).build()?;
/// let permit = bulkhead.try_acquire()?;
/// assert_eq!(bulkhead.try_acquire().unwrap_err().reason(), Reason::Full);
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    name: Name,
    load: AtomicU64,
    /// `BulkheadConfig::queue`, so that refusing needs no lock where nobody may wait.
    queue_bound: AtomicU64,
    queue: Mutex<Queue>,
    counters: Counters,
}

impl Bulkhead {
    /// A bulkhead to be named and configured.
    pub fn builder(name: impl Into<Name>) -> BulkheadBuilder {
        BulkheadBuilder { name: name.into(), config: BulkheadConfig::default() }
    }

    /// Runs `call` in a place of its own.
    ///
    /// # Errors
    /// The call's own error, or the refusal.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place, or the place in the queue.
    pub async fn run<T, E: From<Rejected>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let shared = &*self.0;
        let _held = match shared.try_hold() {
            Some(held) => held,
            None => match shared.refused_at_once(Priority::default()) {
                Some(rejected) => return Err(signal::refuse(rejected)),
                None => {
                    let deadline = crate::current_deadline();
                    match shared.hold(Priority::default(), deadline, pin!(Timer::new())).await {
                        Ok(held) => held,
                        Err(rejected) => return Err(signal::refuse(rejected)),
                    }
                }
            },
        };
        call.await
    }

    /// Takes a place if one is free and nobody waits for it.
    ///
    /// # Errors
    /// [`Reason::Full`].
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        if self.0.try_enter() {
            return Ok(Permit(self.0.clone()));
        }
        self.0.counters.refused_full.increment();
        Err(self.0.full())
    }

    /// Waits for a place, at most `max_wait` and not beyond `deadline`.
    ///
    /// # Errors
    /// [`Reason::Full`] at once when the queue is full; [`Reason::WontMakeIt`] or [`Reason::DeadlineExceeded`] when the
    /// wait ran out.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue; a place that was granted meanwhile goes to the next.
    pub async fn acquire(&self, deadline: Deadline) -> Result<Permit, Rejected> {
        self.acquire_as(Priority::default(), deadline).await
    }

    /// As [`Bulkhead::acquire`], for a call of this class.
    ///
    /// # Errors
    /// As [`Bulkhead::acquire`].
    ///
    /// # Cancel safety
    /// As [`Bulkhead::acquire`].
    pub async fn acquire_as(&self, class: Priority, deadline: Deadline) -> Result<Permit, Rejected> {
        let timer = pin!(Timer::new());
        let held = self.0.hold(class, deadline, timer).await?;
        std::mem::forget(held);
        Ok(Permit(self.0.clone()))
    }

    /// Changes the limit: holders finish, and waiters are served in order when it grows.
    ///
    /// # Errors
    /// A limit of 0 or beyond a million.
    pub fn resize(&self, limit: u32) -> Result<(), InvalidConfig> {
        let shared = &*self.0;
        let mut queue = lock(&shared.queue);
        let config = BulkheadConfig { limit, ..queue.config };
        config.validate()?;
        queue.config = config;
        shared.update(|load| Some(load.with_limit(limit)));
        let mut wakers = Vec::new();
        while !queue.is_empty() && shared.update(|load| load.has_room().then(|| load.entered())) {
            wakers.extend(queue.hand_over(time::now()));
        }
        shared.unlock(queue);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// How many places are taken.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.load().in_flight()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.0.queue).len()
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.load().limit()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> BulkheadConfig {
        lock(&self.0.queue).config
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        self.0.counters.read()
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    #[inline]
    fn load(&self) -> Load {
        Load(self.load.load(Ordering::Acquire))
    }

    /// Changes the word until it sticks; `false` once `change` says no.
    #[inline]
    fn update(&self, change: impl Fn(Load) -> Option<Load>) -> bool {
        let mut load = self.load();
        while let Some(next) = change(load) {
            match self.load.compare_exchange_weak(load.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(seen) => load = Load(seen),
            }
        }
        false
    }

    /// Takes a place without waiting, unless somebody waits already.
    #[inline]
    fn try_enter(&self) -> bool {
        let entered = self.update(|load| (load.has_room() && !load.queued()).then(|| load.entered()));
        if entered {
            self.counters.admitted.increment();
        }
        entered
    }

    /// Takes a place at once if that is possible; dropping it gives it back.
    #[inline]
    pub(crate) fn try_hold(&self) -> Option<Held<'_>> {
        self.try_enter().then(|| Held(self))
    }

    /// The refusal of a call that finds neither a place nor room in the queue, nor anybody in it that matters less.
    #[inline]
    pub(crate) fn refused_at_once(&self, class: Priority) -> Option<Rejected> {
        let hopeless = self.queue_bound.load(Ordering::Relaxed) == 0 || lock(&self.queue).is_full_for(class);
        hopeless.then(|| {
            self.counters.refused_full.increment();
            self.full()
        })
    }

    /// Waits for a place; the timer is used only if there is something to wait for.
    pub(crate) async fn hold<'b>(
        &'b self,
        class: Priority,
        deadline: Deadline,
        timer: Pin<&mut Timer>,
    ) -> Result<Held<'b>, Rejected> {
        if let Some(held) = self.try_hold() {
            return Ok(held);
        }
        let max_wait = lock(&self.queue).config.max_wait;
        let waiting = Waiting { shared: self, class, deadline, max_wait, ticket: None };
        let limit = Limit { timeout: Some(max_wait), deadline };
        Race::new(waiting, timer, limit, &mut None, |over| Err(self.waited_in_vain(over))).await
    }

    fn waited_in_vain(&self, over: Over) -> Rejected {
        self.counters.refused_wait.increment();
        let reason = match over {
            Over::Timeout => Reason::WontMakeIt,
            Over::Deadline => Reason::DeadlineExceeded,
        };
        Rejected::new(reason, self.name.clone())
    }

    fn full(&self) -> Rejected {
        let load = self.load();
        let (observed, limit) = (f64::from(load.in_flight()), f64::from(load.limit()));
        let evidence = Evidence { what: "calls in flight", observed, limit };
        Rejected::new(Reason::Full, self.name.clone()).evidence(evidence)
    }

    /// Gives a place back: to a waiter if there is one.
    #[inline]
    fn release(&self) {
        if !self.update(|load| (!load.queued()).then(|| load.left())) {
            self.release_to_waiter();
        }
    }

    #[cold]
    fn release_to_waiter(&self) {
        let mut queue = lock(&self.queue);
        let load = self.load();
        let fits = load.in_flight() <= load.limit();
        let waker = if fits { queue.hand_over(time::now()) } else { None };
        if waker.is_none() {
            self.update(|load| Some(load.left()));
        }
        self.unlock(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Says in the word whether anybody waits, while the queue is still locked.
    fn unlock(&self, queue: MutexGuard<'_, Queue>) {
        let queued = !queue.is_empty();
        if self.load().queued() != queued {
            self.update(|load| Some(load.with_queue(queued)));
        }
        drop(queue);
    }
}

/// A place in use, borrowed.
#[derive(Debug)]
pub(crate) struct Held<'b>(&'b Shared);

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A place in use; free again when dropped.
#[derive(Debug)]
#[must_use = "the place is free again as soon as the permit is dropped"]
pub struct Permit(Arc<Shared>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Waits for a place; leaves the queue when dropped.
struct Waiting<'b> {
    shared: &'b Shared,
    class: Priority,
    deadline: Deadline,
    max_wait: Duration,
    ticket: Option<Ticket>,
}

impl<'b> Waiting<'b> {
    /// Takes a place, or a place in the queue, or is refused.
    fn join(&mut self, waker: &Waker) -> Poll<Result<Held<'b>, Rejected>> {
        let shared = self.shared;
        let mut queue = lock(&shared.queue);
        if queue.is_empty() && shared.update(|load| load.has_room().then(|| load.entered())) {
            shared.counters.admitted.increment();
            return Poll::Ready(Ok(Held(shared)));
        }
        let mut displaced = None;
        if queue.is_full() {
            displaced = queue.displace_below(self.class);
            if displaced.is_none() {
                drop(queue);
                shared.counters.refused_full.increment();
                return Poll::Ready(Err(shared.full()));
            }
        }
        let now = time::now();
        let wait = self.deadline.remaining(now).map_or(self.max_wait, |left| left.min(self.max_wait));
        self.ticket = Some(queue.join(self.class, waker.clone(), now, wait));
        // A place freed between the look at the word and the mark would otherwise be nobody's.
        let next = loop {
            if shared.update(|load| (!load.has_room()).then(|| load.with_queue(true))) {
                break None;
            }
            if shared.update(|load| load.has_room().then(|| load.entered())) {
                break queue.hand_over(now);
            }
        };
        shared.counters.waited.increment();
        shared.unlock(queue);
        displaced.into_iter().chain(next).for_each(Waker::wake);
        Poll::Pending
    }
}

impl<'b> Future for Waiting<'b> {
    type Output = Result<Held<'b>, Rejected>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (shared, class) = (self.shared, self.class);
        if self.ticket.is_none()
            && let Poll::Ready(given) = self.join(context.waker())
        {
            return Poll::Ready(given);
        }
        let Some(ticket) = self.ticket else { return Poll::Pending };
        let mut queue = lock(&shared.queue);
        let Poll::Ready(grant) = queue.list(class).poll(ticket, context) else { return Poll::Pending };
        queue.forget(class, ticket);
        drop(queue);
        self.ticket = None;
        Poll::Ready(match grant {
            Grant::Permit => {
                shared.counters.admitted.increment();
                Ok(Held(shared))
            }
            Grant::Displaced => {
                shared.counters.displaced.increment();
                Err(shared.full())
            }
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut queue = lock(&self.shared.queue);
        let granted = queue.leave(self.class, ticket);
        self.shared.unlock(queue);
        if granted == Some(Grant::Permit) {
            self.shared.release();
        }
    }
}

/// Makes a [`Bulkhead`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct BulkheadBuilder {
    name: Name,
    config: BulkheadConfig,
}

impl BulkheadBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: BulkheadConfig) -> Self {
        self.config = config;
        self
    }

    /// How many calls may run at once.
    pub const fn limit(mut self, limit: u32) -> Self {
        self.config.limit = limit;
        self
    }

    /// How many may wait.
    pub const fn queue(mut self, queue: u32) -> Self {
        self.config.queue = queue;
        self
    }

    /// How long one may wait.
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.config.max_wait = wait;
        self
    }

    /// Whether the newest are served first while the oldest have nearly waited in vain.
    pub const fn newest_first_when_late(mut self, newest_first: bool) -> Self {
        self.config.newest_first_when_late = newest_first;
        self
    }

    /// The bulkhead, empty.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Bulkhead, InvalidConfig> {
        self.config.validate()?;
        Ok(Bulkhead(Arc::new(Shared {
            name: self.name,
            load: AtomicU64::new(Load::new(self.config.limit).0),
            queue_bound: AtomicU64::new(u64::from(self.config.queue)),
            queue: Mutex::new(Queue::new(self.config)),
            counters: Counters::default(),
        })))
    }
}

const ADMITTED: Desc = Desc::counter("perf_resilience_bulkhead_admitted_total", "Places given", Unit::Count);
const WAITED: Desc =
    Desc::counter("perf_resilience_bulkhead_waited_total", "Callers that had to wait", Unit::Count);
const REFUSED: Desc =
    Desc::counter("perf_resilience_bulkhead_refused_total", "Callers refused, by reason", Unit::Count);
const IN_FLIGHT: Desc = Desc::gauge("perf_resilience_bulkhead_in_flight", "Places taken", Unit::Count);
const WAITING: Desc = Desc::gauge("perf_resilience_bulkhead_waiting", "Callers that wait", Unit::Count);
const LIMIT: Desc = Desc::gauge("perf_resilience_bulkhead_limit", "Places there are", Unit::Count);

impl Component for Bulkhead {
    fn id(&self) -> ComponentId {
        ComponentId::new("bulkhead", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&ADMITTED, &[], stats.admitted);
        sink.counter(&WAITED, &[], stats.waited);
        for (reason, total) in
            [("full", stats.refused_full), ("wait", stats.refused_wait), ("displaced", stats.displaced)]
        {
            sink.counter(&REFUSED, &[("reason", reason)], total);
        }
        sink.gauge(&IN_FLIGHT, &[], f64::from(self.in_flight()));
        sink.gauge(&WAITING, &[], self.waiting() as f64);
        sink.gauge(&LIMIT, &[], f64::from(self.limit()));
    }
}
