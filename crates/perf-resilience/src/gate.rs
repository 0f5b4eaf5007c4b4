//! What every policy that may refuse work has in common.

use perf_core::time::{self, Duration, Instant};
use perf_core::{Outcome, Rejected};
use std::cell::Cell;
use std::sync::Arc;

/// The present moment, read from the clock at most once, and only if somebody asks.
///
/// Reading the clock costs more than a closed breaker does, so one `Now` is shared by all gates of a call.
///
/// ```
/// use perf_resilience::Now;
/// use perf_core::time;
///
/// let now = Now::lazy();
/// assert_eq!(now.get(), now.get());
/// let fixed = time::now();
/// assert_eq!(Now::at(fixed).get(), fixed);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Now(Cell<Option<Instant>>);

impl Now {
    /// Read when first needed.
    #[must_use]
    pub const fn lazy() -> Self {
        Self(Cell::new(None))
    }

    /// Known already.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(Cell::new(Some(instant)))
    }

    /// The moment.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Instant {
        match self.0.get() {
            Some(instant) => instant,
            None => {
                let instant = time::now();
                self.0.set(Some(instant));
                instant
            }
        }
    }
}

impl Now {
    /// The moment if it is known already.
    #[inline]
    pub(crate) const fn known(&self) -> Option<Instant> {
        self.0.get()
    }
}

impl From<Instant> for Now {
    fn from(instant: Instant) -> Self {
        Self::at(instant)
    }
}

/// What a gate remembers of a call between [`Gate::enter`] and [`Gate::leave`]: a generation, a start tick, or nothing.
/// Only the gate that made it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(crate) u64);

impl Token {
    /// A token of a gate of your own, holding whatever it wants to find again.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// What the gate put in.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// How a call left a gate.
#[derive(Debug)]
pub struct Leaving<'n> {
    /// How it ended.
    pub outcome: Outcome,
    /// When it began to wait; `None` for a call that was done without ever waiting.
    pub started: Option<Instant>,
    /// The moment it left.
    pub now: &'n Now,
}

impl<'n> Leaving<'n> {
    /// A call that ended at `now` without a known start.
    #[must_use]
    pub const fn new(outcome: Outcome, now: &'n Now) -> Self {
        Self { outcome, started: None, now }
    }

    /// How long it took; `None` for a call that was done without ever waiting. Reads the clock if nobody has yet.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        self.started.map(|started| self.now.get().saturating_duration_since(started))
    }
}

/// Everything that may refuse work: synchronous, dyn-compatible, two methods.
///
/// Every successful `enter` is followed by exactly one `leave` with the token it gave; [`Pass`] sees to that.
pub trait Gate: Send + Sync {
    /// Lets a call in, or says why not. A refusal leaves no trace except a counter.
    ///
    /// # Errors
    /// The refusal.
    fn enter(&self, now: &Now) -> Result<Token, Rejected>;

    /// Takes back the token of a call that has ended.
    fn leave(&self, token: Token, leaving: &Leaving<'_>);

    /// What a call that panicked means to this gate: nothing, unless the gate judges a dependency.
    fn panicked(&self) -> Outcome {
        Outcome::Cancelled
    }
}

impl<G: Gate + ?Sized> Gate for &G {
    #[inline]
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        (**self).enter(now)
    }

    #[inline]
    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        (**self).leave(token, leaving);
    }

    fn panicked(&self) -> Outcome {
        (**self).panicked()
    }
}

impl<G: Gate + ?Sized> Gate for Arc<G> {
    #[inline]
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        (**self).enter(now)
    }

    #[inline]
    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        (**self).leave(token, leaving);
    }

    fn panicked(&self) -> Outcome {
        (**self).panicked()
    }
}

/// The right to make one call: given back when it is dropped, as [`Outcome::Cancelled`] unless told otherwise.
///
/// It is the third door beside `run` and `layer`, for work that is not one future.
///
/// ```
/// use perf_resilience::{Breaker, Pass};
/// use perf_core::Outcome;
///
/// let breaker = Breaker::builder("users-db").build()?;
/// let pass = Pass::enter(&breaker)?;
/// // … the work …
/// pass.leave(Outcome::Success);
/// assert_eq!(breaker.stats().successes, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a pass that is dropped at once gives the right to call back as cancelled"]
#[derive(Debug)]
pub struct Pass<G: Gate> {
    gate: G,
    token: Token,
    started: Option<Instant>,
    left: bool,
}

impl<G: Gate> Pass<G> {
    /// Enters the gate and starts the clock.
    ///
    /// # Errors
    /// The gate's refusal.
    pub fn enter(gate: G) -> Result<Self, Rejected> {
        let now = Now::lazy();
        let mut pass = Self::enter_at(gate, &now)?;
        pass.started = Some(now.get());
        Ok(pass)
    }

    /// Enters the gate at `now`; the call counts as one that never waited until [`Pass::started`] is called.
    ///
    /// # Errors
    /// The gate's refusal.
    #[inline]
    pub fn enter_at(gate: G, now: &Now) -> Result<Self, Rejected> {
        let token = gate.enter(now)?;
        Ok(Self { gate, token, started: None, left: false })
    }

    /// For a call that is inside already.
    #[inline]
    pub(crate) const fn inside(gate: G, token: Token) -> Self {
        Self { gate, token, started: None, left: false }
    }

    /// Says when the call began to wait.
    pub fn started(&mut self, at: Instant) {
        self.started = Some(at);
    }

    #[inline]
    pub(crate) const fn started_mut(&mut self) -> &mut Option<Instant> {
        &mut self.started
    }

    /// Gives the pass back with the call's outcome.
    #[inline]
    pub fn leave(self, outcome: Outcome) {
        self.leave_at(outcome, &Now::lazy());
    }

    /// Gives the pass back at `now`.
    #[inline]
    pub fn leave_at(mut self, outcome: Outcome, now: &Now) {
        self.settle(outcome, now);
    }

    /// Gives the right back without giving up the pass, which costs a copy.
    #[inline]
    pub(crate) fn settle(&mut self, outcome: Outcome, now: &Now) {
        if !self.left {
            self.left = true;
            self.gate.leave(self.token, &Leaving { outcome, started: self.started, now });
        }
    }
}

impl<G: Gate> Drop for Pass<G> {
    #[inline]
    fn drop(&mut self) {
        if !self.left {
            self.abandon();
        }
    }
}

impl<G: Gate> Pass<G> {
    #[cold]
    fn abandon(&mut self) {
        let outcome = if std::thread::panicking() { self.gate.panicked() } else { Outcome::Cancelled };
        let now = Now::lazy();
        self.gate.leave(self.token, &Leaving { outcome, started: self.started, now: &now });
    }
}

/// How many gates one stage of a pipeline may have.
pub(crate) const MAX_GATES: usize = 6;

/// The gates of one stage that a call is inside of; left in reverse order of entry.
pub(crate) struct Passes<'g> {
    gates: &'g [Arc<dyn Gate>],
    tokens: [Token; MAX_GATES],
    entered: usize,
    started: Option<Instant>,
}

impl<'g> Passes<'g> {
    /// Inside of none of `gates` yet.
    #[inline]
    pub(crate) const fn outside(gates: &'g [Arc<dyn Gate>]) -> Self {
        Self { gates, tokens: [Token(0); MAX_GATES], entered: 0, started: None }
    }

    /// Enters all gates; when one refuses, those before it are left as cancelled when the passes are dropped.
    #[inline]
    pub(crate) fn enter(&mut self, now: &Now) -> Result<(), Rejected> {
        for (gate, token) in self.gates.iter().zip(&mut self.tokens) {
            *token = gate.enter(now)?;
            self.entered += 1;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn leave(&mut self, outcome: Outcome, started: Option<Instant>, now: &Now) {
        if self.entered > 0 {
            self.started = started;
            self.leave_all(|_| outcome, now);
        }
    }

    fn leave_all(&mut self, outcome: impl Fn(&dyn Gate) -> Outcome, now: &Now) {
        while self.entered > 0 {
            self.entered -= 1;
            let (gate, token) = (&*self.gates[self.entered], self.tokens[self.entered]);
            gate.leave(token, &Leaving { outcome: outcome(gate), started: self.started, now });
        }
    }
}

impl Drop for Passes<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.entered > 0 {
            self.abandon();
        }
    }
}

impl Passes<'_> {
    #[cold]
    fn abandon(&mut self) {
        let panicking = std::thread::panicking();
        let outcome = |gate: &dyn Gate| if panicking { gate.panicked() } else { Outcome::Cancelled };
        self.leave_all(outcome, &Now::lazy());
    }
}
