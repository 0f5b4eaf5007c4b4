//! Bounds how often something happens, evenly: no bursts at the turn of a window, no timer, one word of state.
//!
//! Waiting is a reservation: who waits knows the moment of his turn, those who come later have later turns, and nobody
//! is woken in vain. A reservation that is dropped is given back if it was the last; otherwise its turn is lost, which
//! keeps the bound exact.
//!
//! The time comes from the processor's counter where it has one that is good enough, which is calibrated when the first
//! limit of a process is built (up to 200 ms). Tests that pause the time need perf-core's feature `test-util`.
//!
//! | default | value |
//! |---|---|
//! | [`RateConfig::default`] | 100 a second, 10 at once |
//! | [`DEFAULT_MAX_WAIT`] | 1 s |
//! | [`DEFAULT_MAX_KEYS`] | 100,000 keys of a keyed limit |

mod config;
mod keyed;
#[cfg(feature = "redis")]
mod shared;
mod state;

pub use config::{DEFAULT_MAX_KEYS, DEFAULT_MAX_WAIT, Quota, RateConfig, per_minute, per_second};
pub use keyed::KeyedRate;
#[cfg(feature = "redis")]
pub use shared::{DEFAULT_SHARED_TIMEOUT, SharedRate, SharedRateConfig, SharedRateStats, WhenDown};

use crate::gate::{Gate, Leaving, Now, Token};
use crate::race::Timer;
use crate::signal;
use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use perf_core::time::{self, Duration, Instant};
use perf_core::{
    Component, ComponentId, Deadline, Desc, Evidence, InvalidConfig, Name, Reason, Rejected, Sink, Ticker,
    Unit,
};
use state::{Pace, Turn, turn};
use std::pin::pin;
use std::sync::Arc;

stats! {
    /// What a rate limit has seen since it was made.
    RateStats from Counters {
        /// Requests let through, at once or after waiting.
        admitted,
        /// Requests that had to wait for their turn.
        waited,
        /// Requests refused; they took nothing.
        refused,
        /// Turns lost because their holder gave up while later ones were taken.
        lost,
    }
}

/// A rate limit. Cheap to clone; clones share the rate.
///
/// ```
/// use perf_core::Reason;
/// use perf_resilience::rate::{RateLimit, per_second};
///
/// let limit = RateLimit::builder("api").quota(per_second(10).burst(2)).build()?;
/// assert!(limit.try_acquire().is_ok() && limit.try_acquire().is_ok());
/// let refused = limit.try_acquire().unwrap_err();
/// assert_eq!(refused.reason(), Reason::RateLimited);
/// assert!(refused.retry_hint().unwrap() <= std::time::Duration::from_millis(100));
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimit(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    name: Name,
    ticker: Ticker,
    tail: AtomicU64,
    interval: AtomicU64,
    window: AtomicU64,
    burst: AtomicU64,
    max_wait: Duration,
    counters: Counters,
}

impl RateLimit {
    /// A limit to be named and configured.
    pub fn builder(name: impl Into<Name>) -> RateBuilder {
        RateBuilder { name: name.into(), config: RateConfig::default() }
    }

    /// Takes one permit if it is there now.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], with the time until the permit would be there. Nothing is taken then.
    #[inline]
    pub fn try_acquire(&self) -> Result<(), Rejected> {
        self.0.take_now(1, self.0.ticker.now())
    }

    /// Takes `permits` if they are there now.
    ///
    /// # Errors
    /// As [`RateLimit::try_acquire`]; without a time when they are more than the burst, for then they never will be.
    pub fn try_acquire_many(&self, permits: u32) -> Result<(), Rejected> {
        self.0.take_now(permits, self.0.ticker.now())
    }

    /// Waits for one permit, at most `max_wait` and not beyond `deadline`.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] at once when the wait would be longer than that.
    ///
    /// # Cancel safety
    /// Dropping the future gives the reservation back if nobody reserved after it; otherwise the turn is lost.
    pub async fn acquire(&self, deadline: Deadline) -> Result<(), Rejected> {
        self.acquire_many(1, deadline).await
    }

    /// Waits for `permits` at once.
    ///
    /// # Errors
    /// As [`RateLimit::acquire`]; at once when they are more than the burst.
    ///
    /// # Cancel safety
    /// As [`RateLimit::acquire`].
    pub async fn acquire_many(&self, permits: u32, deadline: Deadline) -> Result<(), Rejected> {
        let turn = self.0.reserve(permits, deadline)?;
        if turn.waits() {
            turn.wait().await;
        } else {
            turn.take();
        }
        Ok(())
    }

    /// Runs `call` when its turn has come.
    ///
    /// # Errors
    /// The call's own error, or the refusal.
    ///
    /// # Cancel safety
    /// As [`RateLimit::acquire`] until the turn has come, then as the call.
    pub async fn run<T, E: From<Rejected>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match self.0.reserve(1, crate::current_deadline()) {
            Ok(turn) if turn.waits() => turn.wait().await,
            Ok(turn) => turn.take(),
            Err(rejected) => return Err(signal::refuse(rejected)),
        }
        call.await
    }

    /// Takes a reservation of `permits` and says when its turn comes. Dropping it early gives it back if it can be.
    ///
    /// # Errors
    /// As [`RateLimit::acquire_many`].
    pub fn reserve(&self, permits: u32, deadline: Deadline) -> Result<Reservation<'_>, Rejected> {
        self.0.reserve(permits, deadline)
    }

    /// Changes the rate; turns that were given keep their time.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn change(&self, quota: Quota) -> Result<(), InvalidConfig> {
        quota.validate()?;
        let Pace { interval, window } = Pace::new(quota.interval(), quota.burst);
        self.0.interval.store(interval, Ordering::Relaxed);
        self.0.window.store(window, Ordering::Relaxed);
        self.0.burst.store(u64::from(quota.burst), Ordering::Relaxed);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> RateStats {
        self.0.counters.read()
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    #[inline]
    fn pace(&self) -> Pace {
        let (interval, window) = (&self.interval, &self.window);
        Pace { interval: interval.load(Ordering::Relaxed), window: window.load(Ordering::Relaxed) }
    }

    /// Moves the tail if the wait is at most `longest`; the refusal takes nothing.
    #[inline]
    fn book(&self, permits: u32, mut now: u64, longest: u64) -> Result<Turn, Option<Turn>> {
        let pace = self.pace();
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            let turn = turn(pace, tail, now, permits).ok_or(None)?;
            if turn.wait > longest {
                let confirmed = self.ticker.confirmed(now);
                if confirmed == now {
                    return Err(Some(turn));
                }
                now = confirmed;
                continue;
            }
            match self.tail.compare_exchange_weak(tail, turn.tail, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(turn),
                Err(seen) => tail = seen,
            }
        }
    }

    #[inline]
    fn take_now(&self, permits: u32, now: u64) -> Result<(), Rejected> {
        match self.book(permits, now, 0) {
            Ok(_) => {
                self.counters.admitted.increment();
                Ok(())
            }
            Err(turn) => Err(self.refuse(permits, turn)),
        }
    }

    #[inline]
    pub(crate) fn reserve(&self, permits: u32, deadline: Deadline) -> Result<Reservation<'_>, Rejected> {
        let now = self.ticker.now();
        // Usually the turn is at once, and then nobody has to know how long there would be to wait.
        let turn = match self.book(permits, now, 0) {
            Ok(turn) => turn,
            Err(None) => return Err(self.refuse(permits, None)),
            Err(Some(turn)) => {
                let longest = u64::try_from(self.max_wait.as_nanos()).unwrap_or(u64::MAX);
                // Nobody waits longer than that, whatever the deadline: a refusal asks for the time no second time.
                if turn.wait > longest {
                    return Err(self.refuse(permits, Some(turn)));
                }
                let longest = match deadline.instant() {
                    None => longest,
                    Some(end) => {
                        let left = end.saturating_duration_since(time::now());
                        u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).min(longest)
                    }
                };
                self.book(permits, now, longest).map_err(|turn| self.refuse(permits, turn))?
            }
        };
        if turn.wait > 0 {
            self.counters.waited.increment();
        }
        let cost = self.interval.load(Ordering::Relaxed).saturating_mul(u64::from(permits));
        Ok(Reservation {
            shared: self,
            tail: turn.tail,
            cost,
            due: now.saturating_add(turn.wait),
            wait: turn.wait,
        })
    }

    #[cold]
    fn refuse(&self, permits: u32, turn: Option<Turn>) -> Rejected {
        self.counters.refused.increment();
        let rejected = Rejected::new(Reason::RateLimited, self.name.clone());
        match turn {
            Some(turn) => rejected.retry_after(Duration::from_nanos(turn.wait)),
            None => {
                let limit = self.burst.load(Ordering::Relaxed) as f64;
                rejected.evidence(Evidence { what: "permits at once", observed: f64::from(permits), limit })
            }
        }
    }
}

impl Gate for RateLimit {
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        // The counter is cheaper than the clock; only a paused clock is asked through `now`.
        let tick = if time::CAN_PAUSE { self.0.ticker.at(now.get()) } else { self.0.ticker.now() };
        self.0.take_now(1, tick).map(|()| Token(0))
    }

    fn leave(&self, _: Token, _: &Leaving<'_>) {}
}

/// A turn that was given but has not come yet.
#[derive(Debug)]
#[must_use = "a reservation that is dropped gives its turn back"]
pub struct Reservation<'r> {
    shared: &'r Shared,
    tail: u64,
    cost: u64,
    due: u64,
    wait: u64,
}

impl Reservation<'_> {
    /// When the turn comes. Reads the clock.
    #[must_use]
    pub fn at(&self) -> Instant {
        let now = time::now();
        let left = self.due.saturating_sub(self.shared.ticker.at(now));
        now.checked_add(Duration::from_nanos(left)).unwrap_or(now)
    }

    /// Whether the turn was not at once.
    #[inline]
    pub(crate) const fn waits(&self) -> bool {
        self.wait > 0
    }

    /// Waits for the turn and uses it.
    async fn wait(self) {
        pin!(Timer::new()).until(self.at()).await;
        self.take();
    }

    /// Uses the turn.
    #[inline]
    pub fn take(self) {
        self.shared.counters.admitted.increment();
        std::mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let before = self.tail.saturating_sub(self.cost);
        let (order, tail) = (Ordering::Relaxed, &self.shared.tail);
        if tail.compare_exchange(self.tail, before, order, order).is_err() {
            self.shared.counters.lost.increment();
        }
    }
}

/// Makes a [`RateLimit`] or a [`KeyedRate`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct RateBuilder {
    name: Name,
    config: RateConfig,
}

impl RateBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: RateConfig) -> Self {
        self.config = config;
        self
    }

    /// The rate and the burst.
    pub const fn quota(mut self, quota: Quota) -> Self {
        self.config.quota = quota;
        self
    }

    /// How long one may wait for a turn.
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.config.max_wait = wait;
        self
    }

    /// How many keys a keyed limit remembers.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.config.max_keys = keys;
        self
    }

    /// One limit for all.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<RateLimit, InvalidConfig> {
        self.config.validate()?;
        let Pace { interval, window } = Pace::new(self.config.quota.interval(), self.config.quota.burst);
        Ok(RateLimit(Arc::new(Shared {
            name: self.name,
            ticker: Ticker::new(),
            tail: AtomicU64::new(0),
            interval: AtomicU64::new(interval),
            window: AtomicU64::new(window),
            burst: AtomicU64::new(u64::from(self.config.quota.burst)),
            max_wait: self.config.max_wait,
            counters: Counters::default(),
        })))
    }

    /// One limit for each key.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build_keyed<K: std::hash::Hash + Eq>(self) -> Result<KeyedRate<K>, InvalidConfig> {
        self.config.validate()?;
        Ok(KeyedRate::new(self.name, &self.config))
    }
}

const ADMITTED: Desc =
    Desc::counter("perf_resilience_rate_admitted_total", "Requests let through", Unit::Count);
const WAITED: Desc = Desc::counter(
    "perf_resilience_rate_waited_total",
    "Requests that had to wait for their turn",
    Unit::Count,
);
const REFUSED: Desc = Desc::counter("perf_resilience_rate_refused_total", "Requests refused", Unit::Count);
const LOST: Desc =
    Desc::counter("perf_resilience_rate_lost_total", "Turns given up too late to be reused", Unit::Count);

fn collect(stats: &RateStats, sink: &mut dyn Sink) {
    sink.counter(&ADMITTED, &[], stats.admitted);
    sink.counter(&WAITED, &[], stats.waited);
    sink.counter(&REFUSED, &[], stats.refused);
    sink.counter(&LOST, &[], stats.lost);
}

impl Component for RateLimit {
    fn id(&self) -> ComponentId {
        ComponentId::new("rate", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        collect(&self.stats(), sink);
    }
}
