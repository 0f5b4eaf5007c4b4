//! How many extra calls the calls themselves pay for.
//!
//! Retries, not the fault, are what keeps a service down: three attempts for every call triple the load exactly when a
//! dependency can bear it least. A budget lets each call pay for a tenth of an extra one, so however many callers retry,
//! the load never exceeds 1.1 times the calls. One budget can be shared by retries, hedges and several pipelines.
//!
//! | kind | an extra call is paid for by | bounds |
//! |---|---|---|
//! | [`BudgetKind::Ratio`], the default | a share of every call | the load over time, whatever the dependency does |
//! | [`BudgetKind::InFlight`] | a place beside the calls in flight | the load at each moment |
//! | [`BudgetKind::Tokens`] | tokens, which results cost and bring | how long retries go on while nothing succeeds |
//!
//! The rule that goes with it: *the ratio is below the spare capacity*. A dependency that is 80 % busy cannot work off a
//! backlog under a budget of 20 %.

mod account;
mod config;
mod purse;

pub use account::{Account, Cause};
pub use config::{
    BudgetConfig, BudgetKind, DEFAULT_BUDGET_CAP, DEFAULT_BUDGET_FLOOR, DEFAULT_BUDGET_RATIO,
    DEFAULT_BUDGET_RESERVE, DEFAULT_BUDGET_SHARE, InFlight, Tokens,
};

use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use perf_core::time::{self, Instant};
use perf_core::{Component, ComponentId, Desc, InvalidConfig, Name, Sink, Unit};
use purse::{Purse, Rules};
use std::sync::Arc;

stats! {
    /// What a budget has seen since it was made.
    BudgetStats from Counters {
        /// Extra calls paid for.
        withdrawn,
        /// Extra calls that could not be paid for.
        refused,
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
pub(crate) struct Shared {
    name: Name,
    config: BudgetConfig,
    purse: Purse,
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

    /// Begins a call, which pays in, or is in flight from now on. With the purse full, which is the usual state of things,
    /// this is one load.
    #[inline]
    pub fn open(&self) -> Account<'_> {
        Account::new(&self.0, self.0.purse.open())
    }

    /// As [`Budget::open`], but the account of a call that need not be followed, which is the usual one, is left out.
    #[inline]
    pub(crate) fn follow(&self) -> Option<Account<'_>> {
        if self.0.purse.open() { Some(Account::new(&self.0, true)) } else { None }
    }

    /// The account of a call that has paid in and need not be followed.
    pub(crate) fn unfollowed(&self) -> Account<'_> {
        Account::new(&self.0, false)
    }

    /// Pays in for one call nothing more will be heard of: as opening an account and closing it at once.
    #[inline]
    pub fn deposit(&self) {
        if self.0.purse.open() {
            self.0.purse.close(0);
        }
    }

    /// Takes out one extra call, from the reserve if the balance is too low; `false` if neither can pay.
    ///
    /// A budget by calls in flight must know when the extra call ends, and so pays only through an [`Account`]: here it
    /// always says no.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        if let Rules::InFlight { .. } = self.0.purse.rules {
            self.0.counters.refused.increment();
            return false;
        }
        self.0.withdraw(Cause::Failure, now).is_some()
    }

    /// What is left: extra calls that are saved up, tokens, or how many more extra calls may be under way, by kind.
    #[must_use]
    pub fn balance(&self) -> f64 {
        self.0.purse.left()
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        self.0.counters.read()
    }
}

impl Shared {
    /// Pays for an extra call; gives what it cost.
    fn withdraw(&self, cause: Cause, now: Instant) -> Option<u64> {
        let paid = self.purse.take(cause).or_else(|| self.take_from_reserve(now).then_some(0));
        let counter = if paid.is_some() { &self.counters.withdrawn } else { &self.counters.refused };
        counter.increment();
        paid
    }

    fn take_from_reserve(&self, now: Instant) -> bool {
        if self.config.kind != BudgetKind::Ratio || self.config.min_per_sec == 0 {
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
        self.config.kind = BudgetKind::Ratio;
        self.config.ratio = ratio;
        self
    }

    /// Counts extra calls by how many are under way: at most `share` of the calls in flight, but `floor` in any case.
    pub const fn in_flight(mut self, share: f64, floor: u32) -> Self {
        self.config.kind = BudgetKind::InFlight(InFlight { share, floor });
        self
    }

    /// Counts tokens, which results cost and bring.
    pub const fn tokens(mut self, tokens: Tokens) -> Self {
        self.config.kind = BudgetKind::Tokens(tokens);
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

    /// The budget: nothing saved up, but a bucket of tokens is full.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Budget, InvalidConfig> {
        self.config.validate()?;
        Ok(Budget(Arc::new(Shared {
            name: self.name,
            purse: Purse::new(&self.config),
            config: self.config,
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
        if let Some(spent) = self.0.purse.spent() {
            sink.gauge(&SPENT, &[], spent);
        }
    }
}
