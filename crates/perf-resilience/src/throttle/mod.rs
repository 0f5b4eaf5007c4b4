//! Holds calls back on the caller's side once the dependency refuses too many.
//!
//! The rule is the client-side throttling of Google's SRE book: with `requests` made and `accepts` answered over the last
//! seconds, a call is refused with probability `max(0, (requests − K·accepts) / (requests + 1))`. Calls are counted when
//! they start, so a dependency that hangs is noticed before its first call times out. The window is short and the
//! probability capped: over a wide window with unlimited refusal, recovery takes minutes, because the accepts can at most
//! double per window.
//!
//! | default | value |
//! |---|---|
//! | [`DEFAULT_K`] | 2: the dependency is sent up to twice what it takes |
//! | [`DEFAULT_WINDOW`] | 2 s, or twice the 99th percentile of the calls if that is longer |
//! | [`DEFAULT_MAX_REJECT`] | 90 % |
//! | [`DEFAULT_MIN_REQUESTS`] | nothing is held back with fewer than 20 requests in the window |

mod state;

pub use state::{ThrottleConfig, rejection};

use crate::gate::{Gate, Leaving, Now, Token};
use crate::stats::stats;
use crate::sync::{Mutex, lock};
use perf_core::time::{self, Duration};
use perf_core::{
    Component, ComponentId, Desc, Evidence, InvalidConfig, Name, Outcome, Reason, Rejected, Rng, Sink, Unit,
};
use state::Machine;
use std::sync::Arc;

/// Twice what is accepted: enough to notice recovery at once, little enough not to prevent it.
pub const DEFAULT_K: f64 = 2.0;
/// Long enough to see the calls, short enough to recover in seconds.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(2);
/// One call in ten always goes through, or nobody would notice that the dependency is back.
pub const DEFAULT_MAX_REJECT: f64 = 0.9;
/// With fewer requests in the window, those still under way would look like refusals.
pub const DEFAULT_MIN_REQUESTS: u64 = 20;

stats! {
    /// What a throttle has seen since it was made.
    ThrottleStats from Counters {
        /// Calls let through.
        requests,
        /// Calls the dependency answered.
        accepts,
        /// Calls held back.
        refused,
    }
}

/// A client-side throttle. Cheap to clone; clones share the counts.
///
/// ```
/// use perf_core::Outcome;
/// use perf_resilience::{Pass, throttle::Throttle};
///
/// let throttle = Throttle::builder("search").seed(1).build()?;
/// for _ in 0..100 {
///     if let Ok(pass) = Pass::enter(&throttle) {
///         pass.leave(Outcome::Overload);
///     }
/// }
/// assert!(throttle.rejection() > 0.8);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    machine: Mutex<Machine>,
    counters: Counters,
}

impl Throttle {
    /// A throttle to be named and configured.
    pub fn builder(name: impl Into<Name>) -> ThrottleBuilder {
        ThrottleBuilder { name: name.into(), config: ThrottleConfig::default(), seed: None }
    }

    /// The probability with which a call would be refused now.
    #[must_use]
    pub fn rejection(&self) -> f64 {
        lock(&self.0.machine).rejection(time::now())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> ThrottleStats {
        self.0.counters.read()
    }
}

impl Gate for Throttle {
    fn enter(&self, now: &Now) -> Result<Token, Rejected> {
        let decided = lock(&self.0.machine).enter(now.get());
        match decided {
            Ok(()) => {
                self.0.counters.requests.increment();
                Ok(Token(0))
            }
            Err(probability) => {
                self.0.counters.refused.increment();
                let evidence = Evidence { what: "share held back", observed: probability, limit: 0.0 };
                Err(Rejected::new(Reason::Throttled, self.0.name.clone()).evidence(evidence))
            }
        }
    }

    fn leave(&self, _: Token, leaving: &Leaving<'_>) {
        // What says nothing about the dependency must not look like a refusal by it.
        let accepted = matches!(leaving.outcome, Outcome::Success | Outcome::Ignored);
        if accepted {
            self.0.counters.accepts.increment();
        }
        let took = leaving.took().unwrap_or_default();
        lock(&self.0.machine).leave(leaving.outcome, took, leaving.now.get());
    }
}

/// Makes a [`Throttle`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct ThrottleBuilder {
    name: Name,
    config: ThrottleConfig,
    seed: Option<u64>,
}

impl ThrottleBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: ThrottleConfig) -> Self {
        self.config = config;
        self
    }

    /// How many times what is accepted may be sent.
    pub const fn k(mut self, k: f64) -> Self {
        self.config.k = k;
        self
    }

    /// The shortest window.
    pub const fn window(mut self, window: Duration) -> Self {
        self.config.window = window;
        self
    }

    /// The largest share held back.
    pub const fn max_reject(mut self, share: f64) -> Self {
        self.config.max_reject = share;
        self
    }

    /// With how many requests in the window it begins to hold back.
    pub const fn min_requests(mut self, requests: u64) -> Self {
        self.config.min_requests = requests;
        self
    }

    /// Whether calls held back here count as requests.
    pub const fn count_local(mut self, count: bool) -> Self {
        self.config.count_local = count;
        self
    }

    /// Makes the choice repeatable.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The throttle, letting everything through.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Throttle, InvalidConfig> {
        self.config.validate()?;
        let rng = self.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let machine = Mutex::new(Machine::new(self.config, rng, time::now()));
        Ok(Throttle(Arc::new(Shared { name: self.name, machine, counters: Counters::default() })))
    }
}

const REQUESTS: Desc =
    Desc::counter("perf_resilience_throttle_requests_total", "Calls let through", Unit::Count);
const ACCEPTS: Desc = Desc::counter("perf_resilience_throttle_accepts_total", "Calls answered", Unit::Count);
const REFUSED: Desc = Desc::counter("perf_resilience_throttle_refused_total", "Calls held back", Unit::Count);
const REJECTION: Desc =
    Desc::gauge("perf_resilience_throttle_rejection_ratio", "Probability of being held back", Unit::Ratio);

impl Component for Throttle {
    fn id(&self) -> ComponentId {
        ComponentId::new("throttle", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&REQUESTS, &[], stats.requests);
        sink.counter(&ACCEPTS, &[], stats.accepts);
        sink.counter(&REFUSED, &[], stats.refused);
        sink.gauge(&REJECTION, &[], self.rejection());
    }
}
