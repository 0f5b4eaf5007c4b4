//! Stops calling a dependency that fails, and finds out by itself when it is back.
//!
//! Every call carries the generation it was admitted in, so a call that began before the breaker opened can never decide
//! a probation that began after: its result is counted as late and changes nothing. A probe that hangs loses its place
//! after a while instead of blocking the probation for ever.
//!
//! | default | value |
//! |---|---|
//! | [`DEFAULT_FAILURE_RATE`] | half of the calls |
//! | [`DEFAULT_WINDOW`], [`DEFAULT_MIN_CALLS`] | the last 100 calls, at least 20 of them |
//! | [`DEFAULT_OPEN_FOR`], [`DEFAULT_GROWTH`], [`DEFAULT_OPEN_CAP`] | 5 s, twice as long each time, at most 60 s |
//! | [`DEFAULT_PROBES`], [`DEFAULT_PROBE_TIMEOUT`] | 10 probes, each answering within 10 s |
//!
//! A closed breaker whose window holds only quick successes reads one word on entry and one on leaving: no lock, no
//! clock, no shared write besides a striped counter. A call that is done without ever waiting is never slow.

mod config;
mod event;
mod replay;
mod run;
mod state;
mod window;
mod word;

pub use config::{
    BreakerConfig, DEFAULT_FAILURE_RATE, DEFAULT_GROWTH, DEFAULT_JITTER, DEFAULT_MIN_CALLS, DEFAULT_OPEN_CAP,
    DEFAULT_OPEN_FOR, DEFAULT_PROBE_TIMEOUT, DEFAULT_PROBES, DEFAULT_SLOW_RATE, DEFAULT_STABLE_AFTER,
    DEFAULT_WINDOW, Window,
};
pub use event::{BreakerEvent, BreakerState, Cause};
pub use replay::{OutcomeLog, PastCall, Replay, replay};

use crate::event::Listener;
use crate::gate::{Gate, Leaving, Now, Pass, Token};
use crate::stats::stats;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use perf_core::time::{self, Duration};
use perf_core::{
    AnyError, Classify, CoarseClock, Component, ComponentId, Desc, Health, InvalidConfig, Name, Outcome,
    Reason, Rejected, Rng, Sink, Unit,
};
use run::Through;
use state::{Machine, Refusal, Settled};
use std::sync::Arc;
use word::Word;

stats! {
    /// What a breaker has seen since it was made.
    BreakerStats from Counters {
        /// Calls that succeeded.
        successes,
        /// Calls that failed.
        failures,
        /// Calls the dependency refused because it is overloaded.
        overloads,
        /// Calls that said nothing about the dependency.
        ignored,
        /// Calls given up before they ended.
        cancelled,
        /// Calls refused.
        refused,
        /// Calls that were slow, whatever else they were.
        slow,
        /// Results of an earlier generation, or of a probe that had lost its place: they changed nothing.
        late_results,
        /// How often it opened.
        opened,
        /// How often it began a probation.
        half_opened,
        /// How often it closed.
        closed,
        /// How often it would have opened while it only observed.
        would_have_opened,
    }
}

/// A circuit breaker. Cheap to clone; clones are the same breaker.
///
/// ```
/// use perf_core::{CallError, Reason};
/// use perf_resilience::Breaker;
/// use std::io;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let breaker = Breaker::builder("users-db").consecutive(2).build()?;
/// for _ in 0..2 {
///     let down = async { Err::<(), _>(CallError::Failed(io::Error::from(io::ErrorKind::ConnectionReset))) };
///     assert!(breaker.run(down).await.is_err());
/// }
/// let refused = breaker.run(async { Ok::<_, CallError<io::Error>>(7) }).await.unwrap_err();
/// assert_eq!(refused.rejected().unwrap().reason(), Reason::Open);
/// assert!(breaker.explain().contains("2 calls failed in a row"));
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    name: Name,
    /// What the machine was when its lock was last released; everything a closed breaker has to know.
    word: AtomicU64,
    /// The tick until which an open breaker refuses, so that refusing needs no lock; `u64::MAX` for one that was forced
    /// open.
    open_until: AtomicU64,
    /// `BreakerConfig::slow_call` in nanoseconds, `u64::MAX` for none.
    slow_call: AtomicU64,
    clock: CoarseClock,
    machine: Mutex<Machine>,
    counters: Counters,
    listener: Listener<BreakerEvent>,
}

/// What a glance at a breaker says.
pub(crate) enum Glance {
    Enter(Token),
    Refuse(Option<Duration>),
    /// It is not that simple.
    Look,
}

impl Breaker {
    /// A breaker to be named and configured.
    pub fn builder(name: impl Into<Name>) -> BreakerBuilder {
        BreakerBuilder {
            name: name.into(),
            config: BreakerConfig::default(),
            listener: Listener::default(),
            seed: None,
        }
    }

    /// Makes the call if the breaker lets it through; every error counts as a failure.
    ///
    /// # Errors
    /// The call's own error, or the refusal.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place back; the call then counts as cancelled, which speaks neither for nor against
    /// the dependency.
    #[inline]
    pub fn run<'b, T, E, F>(&'b self, call: F) -> impl Future<Output = Result<T, E>> + use<'b, T, E, F>
    where
        E: From<Rejected>,
        F: Future<Output = Result<T, E>>,
    {
        Through::new(&self.shared, AnyError, call)
    }

    /// Makes the call if the breaker lets it through; `classify` says what the result means.
    ///
    /// # Errors
    /// The call's own error, or the refusal.
    ///
    /// # Cancel safety
    /// As [`Breaker::run`].
    #[inline]
    pub fn run_with<'b, T, E, C, F>(
        &'b self,
        classify: C,
        call: F,
    ) -> impl Future<Output = Result<T, E>> + use<'b, T, E, C, F>
    where
        E: From<Rejected>,
        C: Classify<T, E>,
        F: Future<Output = Result<T, E>>,
    {
        Through::new(&self.shared, classify, call)
    }

    /// Lets one call through by hand, for work that is not one future; its time starts now.
    ///
    /// # Errors
    /// The refusal.
    pub fn enter(&self) -> Result<Pass<Self>, Rejected> {
        Pass::enter(self.clone())
    }

    /// The breaker as a gate of a pipeline.
    #[must_use]
    pub fn gate(&self) -> Arc<dyn Gate> {
        self.shared.clone()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// The state it is in. An open breaker whose wait is over stays open until somebody calls.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        lock(&self.shared.machine).state()
    }

    /// The shares of failures and of slow calls in the window; `None` below `min_calls`.
    #[must_use]
    pub fn rates(&self) -> Option<(f64, f64)> {
        lock(&self.shared.machine).rates(time::now()).map(|(failed, slow, _)| (failed, slow))
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        self.shared.counters.read()
    }

    /// Says in one sentence why it is as it is.
    #[must_use]
    pub fn explain(&self) -> String {
        lock(&self.shared.machine).explain(time::now())
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> BreakerConfig {
        lock(&self.shared.machine).config().clone()
    }

    /// Takes over another configuration. State and calls in flight stay; the window is emptied if its kind or size
    /// changes.
    ///
    /// # Errors
    /// The first field that cannot be used; the old configuration then stays in force.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.shared.slow_call.store(slow_nanos(&config), Ordering::Relaxed);
        self.shared.change(|machine| {
            machine.reconfigure(config, time::now());
            ((), None)
        });
        Ok(())
    }

    /// Refuses everything until [`Breaker::resume`].
    pub fn force_open(&self, reason: impl Into<Name>) {
        self.set(BreakerState::ForcedOpen, reason.into());
    }

    /// Lets everything through until [`Breaker::resume`]; the window still fills, for reading.
    pub fn force_closed(&self, reason: impl Into<Name>) {
        self.set(BreakerState::ForcedClosed, reason.into());
    }

    /// Lets everything through and records nothing until [`Breaker::resume`].
    pub fn disable(&self, reason: impl Into<Name>) {
        self.set(BreakerState::Disabled, reason.into());
    }

    /// Lets everything through until [`Breaker::resume`], and tells when it would have opened.
    pub fn observe_only(&self, reason: impl Into<Name>) {
        self.set(BreakerState::Observing, reason.into());
    }

    /// Ends a state set by hand, or a wait: closed, with an empty window and a new generation.
    pub fn resume(&self) {
        self.shared.change(|machine| ((), Some(machine.resume(time::now()))));
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn set(&self, state: BreakerState, reason: Name) {
        self.shared.change(|machine| ((), Some(machine.set(state, reason, time::now()))));
    }
}

impl Shared {
    /// Changes the machine, publishes what it is now, and then tells about it.
    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> (T, Option<BreakerEvent>)) -> T {
        let (value, event) = {
            let mut machine = lock(&self.machine);
            let (value, event) = change(&mut machine);
            let word = machine.word();
            if word.0 != self.word.load(Ordering::Relaxed) {
                let until = machine
                    .refuses_until()
                    .map_or(0, |until| until.map_or(u64::MAX, |at| self.clock.tick(at)));
                self.open_until.store(until, Ordering::Relaxed);
            }
            // Released after the wait, so whoever sees this opening sees its wait too.
            self.word.store(word.0, Ordering::Release);
            (value, event)
        };
        if let Some(event) = event {
            self.count(&event);
            self.listener.tell(&event);
        }
        value
    }

    fn count(&self, event: &BreakerEvent) {
        match event {
            BreakerEvent::Opened { .. } => self.counters.opened.increment(),
            BreakerEvent::HalfOpened => self.counters.half_opened.increment(),
            BreakerEvent::Closed => self.counters.closed.increment(),
            BreakerEvent::WouldOpen { .. } => self.counters.would_have_opened.increment(),
            BreakerEvent::SetByHand { .. } => {}
        }
    }

    /// Decides by a glance at the word, which is all that a closed or an open breaker needs. The refusal itself is made
    /// by the caller, where it is wanted: it is large, and moving it through every function on the way costs more than
    /// refusing.
    #[inline]
    pub(crate) fn glance(&self, now: &Now) -> Glance {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.lets_all_through() {
            return Glance::Enter(Token(word::token(word.generation(), 0)));
        }
        if word.refuses() { self.refuses_for(now) } else { Glance::Look }
    }

    #[inline]
    fn refuses_for(&self, now: &Now) -> Glance {
        let until = self.open_until.load(Ordering::Relaxed);
        if until == u64::MAX {
            return Glance::Refuse(None);
        }
        let left = match now.known() {
            Some(now) => self.clock.left_at(until, now),
            None => self.clock.left(until),
        };
        match left {
            None => Glance::Look,
            left => Glance::Refuse(left),
        }
    }

    /// Asks the machine, under its lock.
    #[cold]
    pub(crate) fn look(&self, now: &Now) -> Result<Token, Rejected> {
        let now = now.get();
        self.change(|machine| machine.enter(now)).map(Token).map_err(|refusal| self.refuse(refusal))
    }

    #[inline]
    pub(crate) fn refused(&self, wait: Option<Duration>) -> Rejected {
        self.counters.refused.increment();
        let rejected = Rejected::new(Reason::Open, self.name.clone());
        match wait {
            Some(wait) => rejected.retry_after(wait),
            None => rejected,
        }
    }

    fn refuse(&self, refusal: Refusal) -> Rejected {
        let mut rejected = self.refused(refusal.wait);
        if let Some(cause) = refusal.cause {
            rejected = rejected.evidence(cause.evidence());
        }
        rejected
    }

    fn is_slow(&self, leaving: &Leaving<'_>) -> bool {
        let limit = self.slow_call.load(Ordering::Relaxed);
        limit != u64::MAX
            && leaving.outcome.is_counted()
            && leaving.took().is_some_and(|took| took >= Duration::from_nanos(limit))
    }

    fn leave_slowly(&self, token: Token, leaving: &Leaving<'_>, slow: bool) {
        let settled = self.change(|machine| machine.leave(token.0, leaving.outcome, slow, leaving.now));
        if settled == Settled::Late {
            self.counters.late_results.increment();
        }
    }
}

impl Gate for Shared {
    #[inline]
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        match self.glance(now) {
            Glance::Enter(token) => Ok(token),
            Glance::Refuse(wait) => Err(self.refused(wait)),
            Glance::Look => self.look(now),
        }
    }

    #[inline]
    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        let slow = leaving.started.is_some() && self.is_slow(leaving);
        let counter = match leaving.outcome {
            Outcome::Success => &self.counters.successes,
            Outcome::Overload => &self.counters.overloads,
            Outcome::Ignored => &self.counters.ignored,
            Outcome::Cancelled => &self.counters.cancelled,
            _ => &self.counters.failures,
        };
        counter.increment();
        if slow {
            self.counters.slow.increment();
        }
        let settled = Word::new(word::CLOSED, (token.0 >> 32) as u32, word::SETTLED);
        if leaving.outcome == Outcome::Success && !slow && self.word.load(Ordering::Acquire) == settled.0 {
            // The window is full of quick successes: one more leaves it exactly as it is.
            return;
        }
        self.leave_slowly(token, leaving, slow);
    }

    fn panicked(&self) -> Outcome {
        Outcome::Failure
    }
}

impl Gate for Breaker {
    #[inline]
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        Gate::enter(&*self.shared, now)
    }

    #[inline]
    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        self.shared.leave(token, leaving);
    }

    fn panicked(&self) -> Outcome {
        self.shared.panicked()
    }
}

fn slow_nanos(config: &BreakerConfig) -> u64 {
    config.slow_call.map_or(u64::MAX, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
}

/// Makes a [`Breaker`]. Setters carry the names of the fields of [`BreakerConfig`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct BreakerBuilder {
    name: Name,
    config: BreakerConfig,
    listener: Listener<BreakerEvent>,
    seed: Option<u64>,
}

impl BreakerBuilder {
    /// Takes everything a file can say.
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// The share of failures that opens it, in `(0, 1]`.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.config.failure_rate = rate;
        self
    }

    /// Which calls the rates are taken over.
    pub const fn window(mut self, window: Window) -> Self {
        self.config.window = window;
        self
    }

    /// How many calls a rate needs.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.config.min_calls = calls;
        self
    }

    /// Whether to open before `min_calls` once the outcome is certain.
    pub const fn decide_early(mut self, early: bool) -> Self {
        self.config.decide_early = early;
        self
    }

    /// Opens after so many failures in a row as well.
    pub const fn consecutive(mut self, failures: u32) -> Self {
        self.config.consecutive = Some(failures);
        self
    }

    /// From how long on a call is slow.
    pub const fn slow_call(mut self, limit: Duration) -> Self {
        self.config.slow_call = Some(limit);
        self
    }

    /// The share of slow calls that opens it, in `(0, 1]`.
    pub const fn slow_rate(mut self, rate: f64) -> Self {
        self.config.slow_rate = rate;
        self
    }

    /// How long the first opening lasts; raises the cap to at least as much.
    pub fn open_for(mut self, wait: Duration) -> Self {
        self.config.open_for = wait;
        self.config.open_cap = self.config.open_cap.max(wait);
        self
    }

    /// How much longer each following opening lasts.
    pub const fn growth(mut self, growth: f64) -> Self {
        self.config.growth = growth;
        self
    }

    /// The longest an opening lasts.
    pub const fn open_cap(mut self, cap: Duration) -> Self {
        self.config.open_cap = cap;
        self
    }

    /// By which share the wait is spread.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.config.jitter = share;
        self
    }

    /// After how long without an opening the waits start over.
    pub const fn stable_after(mut self, time: Duration) -> Self {
        self.config.stable_after = time;
        self
    }

    /// How many probes a probation lets through.
    pub const fn probes(mut self, probes: u32) -> Self {
        self.config.probes = probes;
        self
    }

    /// How many of them must succeed.
    pub const fn probe_successes(mut self, successes: u32) -> Self {
        self.config.probe_successes = Some(successes);
        self
    }

    /// After how long a silent probe loses its place.
    pub const fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.config.probe_timeout = timeout;
        self
    }

    /// Lets a growing share through for so long after closing.
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.config.ramp = Some(ramp);
        self
    }

    /// Is told about every transition, outside the lock, on the thread that caused it. It must not block.
    pub fn on_event(mut self, listener: impl Fn(&BreakerEvent) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// Makes jitter and ramp repeatable.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The breaker, closed.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Breaker, InvalidConfig> {
        self.config.validate()?;
        let now = time::now();
        let rng = self.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let slow_call = AtomicU64::new(slow_nanos(&self.config));
        let machine = Machine::new(self.config, rng, now);
        let shared = Shared {
            name: self.name,
            word: AtomicU64::new(machine.word().0),
            open_until: AtomicU64::new(0),
            slow_call,
            clock: CoarseClock::new(),
            machine: Mutex::new(machine),
            counters: Counters::default(),
            listener: self.listener,
        };
        Ok(Breaker { shared: Arc::new(shared) })
    }
}

const CALLS: Desc =
    Desc::counter("perf_resilience_breaker_calls_total", "Calls let through, by how they ended", Unit::Count);
const REFUSED: Desc = Desc::counter("perf_resilience_breaker_refused_total", "Calls refused", Unit::Count);
const SLOW: Desc =
    Desc::counter("perf_resilience_breaker_slow_calls_total", "Calls that were slow", Unit::Count);
const LATE: Desc = Desc::counter(
    "perf_resilience_breaker_late_results_total",
    "Results that came in a later generation than the call",
    Unit::Count,
);
const TRANSITIONS: Desc = Desc::counter(
    "perf_resilience_breaker_transitions_total",
    "Changes of state, by the new one",
    Unit::Count,
);
const STATE: Desc =
    Desc::gauge("perf_resilience_breaker_state", "1 for the state it is in, else 0", Unit::Count);
const FAILURE_RATIO: Desc =
    Desc::gauge("perf_resilience_breaker_failure_ratio", "Share of failures in the window", Unit::Ratio);
const SLOW_RATIO: Desc =
    Desc::gauge("perf_resilience_breaker_slow_ratio", "Share of slow calls in the window", Unit::Ratio);

impl Component for Breaker {
    fn id(&self) -> ComponentId {
        ComponentId::new("breaker", self.shared.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (outcome, total) in [
            ("success", stats.successes),
            ("failure", stats.failures),
            ("overload", stats.overloads),
            ("ignored", stats.ignored),
            ("cancelled", stats.cancelled),
        ] {
            sink.counter(&CALLS, &[("outcome", outcome)], total);
        }
        sink.counter(&REFUSED, &[], stats.refused);
        sink.counter(&SLOW, &[], stats.slow);
        sink.counter(&LATE, &[], stats.late_results);
        for (to, total) in
            [("open", stats.opened), ("half_open", stats.half_opened), ("closed", stats.closed)]
        {
            sink.counter(&TRANSITIONS, &[("to", to)], total);
        }
        let present = self.state();
        for state in BreakerState::ALL {
            sink.gauge(&STATE, &[("state", state.as_str())], f64::from(u8::from(state == present)));
        }
        if let Some((failed, slow)) = self.rates() {
            sink.gauge(&FAILURE_RATIO, &[], failed);
            sink.gauge(&SLOW_RATIO, &[], slow);
        }
    }

    fn health(&self) -> Health {
        match self.state() {
            BreakerState::Closed | BreakerState::Disabled | BreakerState::Observing => Health::up(),
            BreakerState::Open
            | BreakerState::HalfOpen
            | BreakerState::ForcedOpen
            | BreakerState::ForcedClosed => Health::degraded(self.explain()),
        }
    }
}
