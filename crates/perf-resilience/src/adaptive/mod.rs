//! Finds out by itself how many calls a dependency can take at once.
//!
//! A fixed bound is right on the day it was measured. An adaptive limit watches how long calls take: as long as more of
//! them get more done it grows, and when they only queue it shrinks. Healthy traffic is never held back for measuring;
//! instead, the limit takes one step down now and then.
//!
//! One limit can be divided among kinds of callers ([`Partitioned`]): each is sure of its share, and borrows what others
//! leave unused.
//!
//! | default | value |
//! |---|---|
//! | algorithm | Gradient2, with its published numbers |
//! | [`DEFAULT_INITIAL`], [`DEFAULT_MIN`], [`DEFAULT_MAX`] | 20, 4, 200 |

mod algorithm;
mod guard;
mod learner;
mod partition;

pub use algorithm::{Aimd, Algorithm, Bounds, Decrease, Gradient2, Sample, Steps, Vegas};
pub use partition::{Partition, PartitionStats, Partitioned, UNKNOWN};

use crate::gate::{Gate, Leaving, Now, Token};
use crate::stats::stats;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use learner::Learner;
use perf_core::time::Duration;
use perf_core::{
    Component, ComponentId, Desc, Evidence, InvalidConfig, Name, Outcome, Reason, Rejected, Sink, Unit,
};
use std::sync::Arc;

/// Where the limit starts: enough for most dependencies, and soon corrected.
pub const DEFAULT_INITIAL: u32 = 20;
/// Below four calls at once a limit can no longer tell slow calls from few.
pub const DEFAULT_MIN: u32 = 4;
/// No single client needs more against one dependency.
pub const DEFAULT_MAX: u32 = 200;

stats! {
    /// What an adaptive limit has seen since it was made.
    AdaptiveStats from Counters {
        /// Calls let through.
        admitted,
        /// Calls refused.
        refused,
        /// How often the limit was reconsidered.
        updates,
        /// How often the drift guard kept what is slow from becoming normal.
        held,
    }
}

/// Which algorithm finds the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Method {
    /// Additive increase, multiplicative decrease: reacts to refusals and timeouts only.
    Aimd,
    /// Keeps the queue at the dependency short.
    Vegas,
    /// Follows the ratio of long to short averages.
    #[default]
    Gradient2,
    /// The limit stays where it starts: for dividing a known limit among partitions.
    Fixed,
}

/// What a configuration file can say about an adaptive limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct AdaptiveConfig {
    /// Which algorithm; default Gradient2.
    pub method: Method,
    /// Where the limit starts; default [`DEFAULT_INITIAL`].
    pub initial: u32,
    /// It never goes below, at least 1; default [`DEFAULT_MIN`].
    pub min: u32,
    /// It never goes above; default [`DEFAULT_MAX`].
    pub max: u32,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { method: Method::default(), initial: DEFAULT_INITIAL, min: DEFAULT_MIN, max: DEFAULT_MAX }
    }
}

impl AdaptiveConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.min == 0 {
            return Err(InvalidConfig::new("min", self.min, "1 and above"));
        }
        if self.max < self.min || self.max > 1_000_000 {
            return Err(InvalidConfig::new("max", self.max, format!("{} to 1000000", self.min)));
        }
        if !(self.min..=self.max).contains(&self.initial) {
            return Err(InvalidConfig::new("initial", self.initial, format!("{} to {}", self.min, self.max)));
        }
        Ok(())
    }

    fn algorithm(&self) -> Algorithm {
        let bounds =
            Bounds { initial: f64::from(self.initial), min: f64::from(self.min), max: f64::from(self.max) };
        match self.method {
            Method::Aimd => Algorithm::Aimd(Aimd::new(bounds, 0.9, Duration::from_secs(5))),
            Method::Vegas => Algorithm::Vegas(Vegas::new(bounds)),
            Method::Gradient2 => Algorithm::Gradient2(Gradient2::new(bounds)),
            Method::Fixed => Algorithm::Fixed(bounds.initial),
        }
    }
}

/// A concurrency limit that adapts. Cheap to clone; clones are the same limit.
///
/// ```
/// use perf_core::{Outcome, Reason};
/// use perf_resilience::{Pass, adaptive::Adaptive};
///
/// let limit = Adaptive::builder("search").initial(4).build()?;
/// let inside: Vec<_> = (0..4).map(|_| Pass::enter(&limit).unwrap()).collect();
/// assert_eq!(Pass::enter(&limit).unwrap_err().reason(), Reason::Full);
/// inside.into_iter().for_each(|pass| pass.leave(Outcome::Success));
/// assert_eq!(limit.in_flight(), 0);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adaptive(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    /// Calls in flight in the low half, the limit in the high one.
    load: AtomicU64,
    learner: Mutex<Learner>,
    counters: Counters,
}

impl Adaptive {
    /// A limit to be named and configured.
    pub fn builder(name: impl Into<Name>) -> AdaptiveBuilder {
        AdaptiveBuilder { name: name.into(), config: AdaptiveConfig::default(), algorithm: None }
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> u32 {
        (self.0.load.load(Ordering::Relaxed) >> 32) as u32
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.load.load(Ordering::Relaxed) as u32
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> AdaptiveStats {
        self.0.counters.read()
    }
}

impl Shared {
    fn set_limit(&self, limit: u32) {
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            let next = u64::from(limit) << 32 | load & u64::from(u32::MAX);
            match self.load.compare_exchange_weak(load, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => load = seen,
            }
        }
    }
}

impl Shared {
    /// Takes a place; gives how many are in flight now, or what it met.
    #[inline]
    fn try_enter(&self) -> Result<u32, (u32, u32)> {
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            let (in_flight, limit) = (load as u32, (load >> 32) as u32);
            if in_flight >= limit {
                return Err((in_flight, limit));
            }
            match self.load.compare_exchange_weak(load, load + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(in_flight + 1),
                Err(seen) => load = seen,
            }
        }
    }

    /// Takes a place whatever the limit says.
    fn enter_beyond(&self) -> u32 {
        self.load.fetch_add(1, Ordering::Relaxed) as u32 + 1
    }
}

impl Gate for Adaptive {
    fn enter(&self, _: &Now) -> Result<Token, Rejected> {
        match self.0.try_enter() {
            Ok(in_flight) => {
                self.0.counters.admitted.increment();
                Ok(Token(u64::from(in_flight)))
            }
            Err((in_flight, limit)) => {
                self.0.counters.refused.increment();
                let (observed, limit) = (f64::from(in_flight), f64::from(limit));
                let evidence = Evidence { what: "calls in flight", observed, limit };
                Err(Rejected::new(Reason::Full, self.0.name.clone()).evidence(evidence))
            }
        }
    }

    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
        if !leaving.outcome.is_counted() {
            return;
        }
        // A call that never waited took no time at the dependency, and says nothing about it.
        let Some(rtt) = leaving.took() else { return };
        let dropped = leaving.outcome == Outcome::Overload;
        let sample = Sample { rtt, in_flight: token.0 as u32, dropped };
        if let Some((limit, held)) = lock(&self.0.learner).learn(sample, leaving.now.get()) {
            self.0.counters.updates.increment();
            self.0.counters.held.add(u64::from(held));
            self.0.set_limit(limit);
        }
    }
}

/// Makes an [`Adaptive`] limit.
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct AdaptiveBuilder {
    name: Name,
    config: AdaptiveConfig,
    algorithm: Option<Algorithm>,
}

impl AdaptiveBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: AdaptiveConfig) -> Self {
        self.config = config;
        self
    }

    /// Which algorithm, with its usual numbers.
    pub const fn method(mut self, method: Method) -> Self {
        self.config.method = method;
        self
    }

    /// An algorithm with numbers of your own; its bounds are the ones it was made with.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Where the limit starts.
    pub const fn initial(mut self, limit: u32) -> Self {
        self.config.initial = limit;
        self
    }

    /// The smallest limit.
    pub const fn min(mut self, limit: u32) -> Self {
        self.config.min = limit;
        self
    }

    /// The largest limit.
    pub const fn max(mut self, limit: u32) -> Self {
        self.config.max = limit;
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Adaptive, InvalidConfig> {
        self.config.validate()?;
        let algorithm = self.algorithm.unwrap_or_else(|| self.config.algorithm());
        let limit = algorithm.limit().floor().max(1.0) as u32;
        Ok(Adaptive(Arc::new(Shared {
            name: self.name,
            load: AtomicU64::new(u64::from(limit) << 32),
            learner: Mutex::new(Learner::new(algorithm)),
            counters: Counters::default(),
        })))
    }
}

const ADMITTED: Desc =
    Desc::counter("perf_resilience_adaptive_admitted_total", "Calls let through", Unit::Count);
const REFUSED: Desc = Desc::counter("perf_resilience_adaptive_refused_total", "Calls refused", Unit::Count);
const UPDATES: Desc = Desc::counter(
    "perf_resilience_adaptive_updates_total",
    "How often the limit was reconsidered",
    Unit::Count,
);
const HELD: Desc = Desc::counter(
    "perf_resilience_adaptive_held_total",
    "How often the drift guard kept the baseline",
    Unit::Count,
);
const LIMIT: Desc = Desc::gauge("perf_resilience_adaptive_limit", "Calls allowed at once", Unit::Count);
const IN_FLIGHT: Desc = Desc::gauge("perf_resilience_adaptive_in_flight", "Calls in flight", Unit::Count);

impl Component for Adaptive {
    fn id(&self) -> ComponentId {
        ComponentId::new("adaptive", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&ADMITTED, &[], stats.admitted);
        sink.counter(&REFUSED, &[], stats.refused);
        sink.counter(&UPDATES, &[], stats.updates);
        sink.counter(&HELD, &[], stats.held);
        sink.gauge(&LIMIT, &[], f64::from(self.limit()));
        sink.gauge(&IN_FLIGHT, &[], f64::from(self.in_flight()));
    }
}
