//! Sends a second request when the first takes longer than usual, and takes whichever answers first.
//!
//! One slow call in a hundred makes two thirds of all pages that need a hundred calls slow. A second call after the 95th
//! percentile costs 5 % more requests and removes most of that tail. It works only for operations that may be done twice,
//! and only while the dependency has room: hedges are paid for from the same [`Budget`](crate::Budget) as retries.
//!
//! | default | value |
//! |---|---|
//! | [`DEFAULT_QUANTILE`] | the 95th percentile of the times seen |
//! | [`DEFAULT_MIN_SAMPLES`] | no hedging before 100 calls were seen |

mod state;

use crate::stats::stats;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use perf_core::time::Duration;
use perf_core::{Component, ComponentId, Desc, InvalidConfig, Name, Sink, Unit};
use state::Durations;
use std::sync::Arc;

/// One call in twenty is hedged: most of the tail for 5 % more requests.
pub const DEFAULT_QUANTILE: f64 = 0.95;
/// Fewer say nothing about a 95th percentile.
pub const DEFAULT_MIN_SAMPLES: u32 = 100;
/// The quantile is computed anew after so many calls.
const REFRESH: u32 = 64;

stats! {
    /// What a hedge has seen since it was made.
    HedgeStats from Counters {
        /// Second requests sent.
        sent,
        /// Second requests that answered first.
        won,
        /// Second requests not sent because the budget could not pay.
        unpaid,
    }
}

/// What a configuration file can say about hedging.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// A fixed delay; without one it is learnt.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub delay: Option<Duration>,
    /// Which share of calls is not hedged, in `(0, 1)`; default [`DEFAULT_QUANTILE`].
    pub quantile: f64,
    /// How many calls must have been seen first; default [`DEFAULT_MIN_SAMPLES`].
    pub min_samples: u32,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { delay: None, quantile: DEFAULT_QUANTILE, min_samples: DEFAULT_MIN_SAMPLES }
    }
}

impl HedgeConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return Err(InvalidConfig::new("quantile", self.quantile, "between 0 and 1"));
        }
        Ok(())
    }
}

/// A hedging policy, to be put into a pipeline. Cheap to clone; clones learn together.
///
/// ```
/// use perf_core::CallError;
/// use perf_resilience::{Pipeline, hedge::Hedge};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let hedge = Hedge::builder("search").delay(Duration::from_millis(20)).build()?;
/// let guard = Pipeline::builder("search").hedge(&hedge).idempotent().build()?;
/// let answer = guard
///     .run(|attempt| async move {
///         if !attempt.hedge {
///             std::future::pending::<()>().await;
///         }
///         Ok::<_, CallError<std::io::Error>>(attempt.number)
///     })
///     .await;
/// assert_eq!(answer.unwrap(), 2);
/// assert_eq!(hedge.stats().won, 1);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Hedge(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    config: HedgeConfig,
    durations: Mutex<Durations>,
    /// The learnt delay in nanoseconds; 0 while there is none.
    learnt: AtomicU64,
    counters: Counters,
}

impl Hedge {
    /// A policy to be named and configured.
    pub fn builder(name: impl Into<Name>) -> HedgeBuilder {
        HedgeBuilder { name: name.into(), config: HedgeConfig::default() }
    }

    /// How long to wait before the second request; `None` while too little is known.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.0.config.delay.or_else(|| match self.0.learnt.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> HedgeStats {
        self.0.counters.read()
    }

    /// Takes in how long a request took, or for how long it had been under way when it was cut short.
    pub(crate) fn record(&self, took: Duration, ended: bool) {
        if self.0.config.delay.is_some() {
            return;
        }
        let mut durations = lock(&self.0.durations);
        durations.record(took, ended);
        let total = durations.total();
        if total >= self.0.config.min_samples && (total.is_multiple_of(REFRESH) || self.delay().is_none()) {
            let delay = durations.quantile(self.0.config.quantile).unwrap_or_default();
            let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.0.learnt.store(nanos, Ordering::Relaxed);
        }
    }

    pub(crate) fn sent(&self) {
        self.0.counters.sent.increment();
    }

    pub(crate) fn won(&self) {
        self.0.counters.won.increment();
    }

    pub(crate) fn unpaid(&self) {
        self.0.counters.unpaid.increment();
    }
}

/// Makes a [`Hedge`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct HedgeBuilder {
    name: Name,
    config: HedgeConfig,
}

impl HedgeBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: HedgeConfig) -> Self {
        self.config = config;
        self
    }

    /// A fixed delay.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.config.delay = Some(delay);
        self
    }

    /// The share of calls that is not hedged, learnt from their times.
    pub const fn quantile(mut self, share: f64) -> Self {
        self.config.delay = None;
        self.config.quantile = share;
        self
    }

    /// How many calls must have been seen first.
    pub const fn min_samples(mut self, samples: u32) -> Self {
        self.config.min_samples = samples;
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Hedge, InvalidConfig> {
        self.config.validate()?;
        Ok(Hedge(Arc::new(Shared {
            name: self.name,
            config: self.config,
            durations: Mutex::new(Durations::new()),
            learnt: AtomicU64::new(0),
            counters: Counters::default(),
        })))
    }
}

const SENT: Desc = Desc::counter("perf_resilience_hedge_sent_total", "Second requests sent", Unit::Count);
const WON: Desc =
    Desc::counter("perf_resilience_hedge_won_total", "Second requests that answered first", Unit::Count);
const UNPAID: Desc = Desc::counter(
    "perf_resilience_hedge_unpaid_total",
    "Second requests the budget could not pay",
    Unit::Count,
);
const DELAY: Desc =
    Desc::gauge("perf_resilience_hedge_delay_seconds", "Wait before a second request", Unit::Seconds);

impl Component for Hedge {
    fn id(&self) -> ComponentId {
        ComponentId::new("hedge", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&SENT, &[], stats.sent);
        sink.counter(&WON, &[], stats.won);
        sink.counter(&UNPAID, &[], stats.unpaid);
        if let Some(delay) = self.delay() {
            sink.gauge(&DELAY, &[], delay.as_secs_f64());
        }
    }
}
