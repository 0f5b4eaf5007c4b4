//! How many extra calls the calls themselves pay for.
//!
//! Retries, not the fault, are what keeps a service down: three attempts for every call triple the load exactly when a
//! dependency can bear it least. A budget lets each call pay for a tenth of an extra one, so however many callers retry,
//! the load never exceeds 1.1 times the calls. One budget can be shared by retries, hedges and several pipelines.
//!
//! The rule that goes with it: *the ratio is below the spare capacity*. A dependency that is 80 % busy cannot work off a
//! backlog under a budget of 20 %.

use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use perf_core::time::{self, Instant};
use perf_core::{Component, ComponentId, Desc, InvalidConfig, Name, Sink, Unit};
use std::sync::Arc;

/// A tenth: below the spare capacity of any service that is not about to fall over anyway.
pub const DEFAULT_BUDGET_RATIO: f64 = 0.1;
/// What may be saved up: a hundred extra calls cover a short outage of a busy service.
pub const DEFAULT_BUDGET_CAP: u32 = 100;
/// One retry a second is harmless to anything, and all that a service with little traffic ever needs.
pub const DEFAULT_BUDGET_RESERVE: u32 = 1;

/// A token in the smallest unit the budget counts.
const TOKEN: u64 = 1_000_000;

stats! {
    /// What a budget has seen since it was made.
    BudgetStats from Counters {
        /// Extra calls paid for.
        withdrawn,
        /// Extra calls that could not be paid for.
        refused,
    }
}

/// What a configuration file can say about a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Extra calls each call pays for, 0 to 10; default [`DEFAULT_BUDGET_RATIO`].
    pub ratio: f64,
    /// How many extra calls can be saved up, at most a million; default [`DEFAULT_BUDGET_CAP`].
    pub cap: u32,
    /// Extra calls a second that cost nothing, at most a million; default [`DEFAULT_BUDGET_RESERVE`].
    pub min_per_sec: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { ratio: DEFAULT_BUDGET_RATIO, cap: DEFAULT_BUDGET_CAP, min_per_sec: DEFAULT_BUDGET_RESERVE }
    }
}

impl BudgetConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(0.0..=10.0).contains(&self.ratio) {
            return Err(InvalidConfig::new("ratio", self.ratio, "0 to 10"));
        }
        for (field, value) in [("cap", self.cap), ("min_per_sec", self.min_per_sec)] {
            if value > 1_000_000 {
                return Err(InvalidConfig::new(field, value, "0 to 1000000"));
            }
        }
        Ok(())
    }
}

/// A budget for extra calls. Cheap to clone; clones are the same budget.
///
/// ```
/// use perf_resilience::{Budget, BudgetConfig};
/// use perf_core::time;
///
/// let budget = Budget::builder("api").ratio(0.5).min_per_sec(0).build()?;
/// let now = time::now();
/// budget.deposit();
/// assert!(!budget.withdraw(now), "half a token pays for nothing");
/// budget.deposit();
/// assert!(budget.withdraw(now));
/// assert_eq!(budget.stats().withdrawn, 1);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    config: BudgetConfig,
    deposit: u64,
    cap: u64,
    balance: AtomicU64,
    origin: Instant,
    /// When the reserve has its next token, in nanoseconds after `origin`.
    reserve: AtomicU64,
    counters: Counters,
}

impl Budget {
    /// A budget to be named and configured.
    pub fn builder(name: impl Into<Name>) -> BudgetBuilder {
        BudgetBuilder { name: name.into(), config: BudgetConfig::default() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The configuration it was made from.
    #[must_use]
    pub fn config(&self) -> BudgetConfig {
        self.0.config
    }

    /// Pays in for one call. With the purse full, which is the usual state of things, this is one load.
    #[inline]
    pub fn deposit(&self) {
        let shared = &*self.0;
        let mut balance = shared.balance.load(Ordering::Relaxed);
        while balance < shared.cap {
            let next = (balance + shared.deposit).min(shared.cap);
            match shared.balance.compare_exchange_weak(balance, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => balance = seen,
            }
        }
    }

    /// Takes out one extra call, from the reserve if the balance is too low; `false` if neither can pay.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        let shared = &*self.0;
        let paid = shared.take_token() || shared.take_from_reserve(now);
        let counter = if paid { &shared.counters.withdrawn } else { &shared.counters.refused };
        counter.increment();
        paid
    }

    /// How many extra calls are saved up.
    #[must_use]
    pub fn balance(&self) -> f64 {
        self.0.balance.load(Ordering::Relaxed) as f64 / TOKEN as f64
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        self.0.counters.read()
    }
}

impl Shared {
    fn take_token(&self) -> bool {
        let mut balance = self.balance.load(Ordering::Relaxed);
        while balance >= TOKEN {
            let next = balance - TOKEN;
            match self.balance.compare_exchange_weak(balance, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => balance = seen,
            }
        }
        false
    }

    fn take_from_reserve(&self, now: Instant) -> bool {
        if self.config.min_per_sec == 0 {
            return false;
        }
        let step = 1_000_000_000 / u64::from(self.config.min_per_sec);
        let now = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let mut due = self.reserve.load(Ordering::Relaxed);
        while due <= now {
            let next = now.saturating_add(step);
            match self.reserve.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => due = seen,
            }
        }
        false
    }
}

/// Makes a [`Budget`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct BudgetBuilder {
    name: Name,
    config: BudgetConfig,
}

impl BudgetBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: BudgetConfig) -> Self {
        self.config = config;
        self
    }

    /// Extra calls each call pays for.
    pub const fn ratio(mut self, ratio: f64) -> Self {
        self.config.ratio = ratio;
        self
    }

    /// How many extra calls can be saved up.
    pub const fn cap(mut self, cap: u32) -> Self {
        self.config.cap = cap;
        self
    }

    /// Extra calls a second that cost nothing.
    pub const fn min_per_sec(mut self, reserve: u32) -> Self {
        self.config.min_per_sec = reserve;
        self
    }

    /// The budget, empty.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Budget, InvalidConfig> {
        self.config.validate()?;
        Ok(Budget(Arc::new(Shared {
            name: self.name,
            config: self.config,
            deposit: (self.config.ratio * TOKEN as f64).round() as u64,
            cap: u64::from(self.config.cap) * TOKEN,
            balance: AtomicU64::new(0),
            origin: time::now(),
            reserve: AtomicU64::new(0),
            counters: Counters::default(),
        })))
    }
}

const WITHDRAWN: Desc =
    Desc::counter("perf_resilience_budget_withdrawn_total", "Extra calls paid for", Unit::Count);
const REFUSED: Desc = Desc::counter(
    "perf_resilience_budget_refused_total",
    "Extra calls that could not be paid for",
    Unit::Count,
);
const SPENT: Desc =
    Desc::gauge("perf_resilience_budget_spent_ratio", "Share of the purse that is empty", Unit::Ratio);

impl Component for Budget {
    fn id(&self) -> ComponentId {
        ComponentId::new("budget", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&WITHDRAWN, &[], stats.withdrawn);
        sink.counter(&REFUSED, &[], stats.refused);
        if self.0.config.cap > 0 {
            sink.gauge(&SPENT, &[], 1.0 - self.balance() / f64::from(self.0.config.cap));
        }
    }
}
