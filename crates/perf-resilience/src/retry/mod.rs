//! Tries again, when that can help, when it is safe, and when somebody paid for it.
//!
//! A call is tried again only if the result says that it can help *and* the operation was declared idempotent (or the
//! error proves that nothing was done). Every extra attempt is paid for from a [`Budget`] that the calls themselves fill,
//! so retries never add more than a tenth to the load by default. Delays have full jitter: under contention it needs
//! fewer calls than any other form.
//!
//! | default | value |
//! |---|---|
//! | [`DEFAULT_MAX_ATTEMPTS`] | 3, the first included |
//! | [`DEFAULT_BASE`], [`DEFAULT_CAP`] | 50 ms, doubling, at most 5 s, full jitter |
//! | [`DEFAULT_HINT_CEILING`] | a server's hint is followed up to 30 s |
//! | [`DEFAULT_BUDGET_RATIO`] | 10 % extra, at most 100 saved up, 1 per second free |

mod budget;
mod config;
mod state;

pub use budget::{
    Account, Budget, BudgetBuilder, BudgetConfig, BudgetKind, BudgetStats, Cause, DEFAULT_BUDGET_CAP,
    DEFAULT_BUDGET_FLOOR, DEFAULT_BUDGET_RATIO, DEFAULT_BUDGET_RESERVE, DEFAULT_BUDGET_SHARE, InFlight,
    Tokens,
};
pub use config::{
    DEFAULT_BASE, DEFAULT_CAP, DEFAULT_HINT_CEILING, DEFAULT_MAX_ATTEMPTS, DEFAULT_MIN_ATTEMPT_TIME, Growth,
    RetryConfig,
};
pub use state::{Question, Stop};

use crate::judge::Judge;
use crate::pipeline::{Attempt, Call, Course, Stages};
use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use perf_core::time::{Duration, Instant};
use perf_core::{
    Backoff, Component, ComponentId, Desc, InvalidConfig, Jitter, Name, Rejected, Rng, Sink, Unit,
};
use std::sync::Arc;

stats! {
    /// What a retry policy has seen since it was made.
    RetryStats from Counters {
        /// Attempts beyond the first.
        retries,
        /// Series that ended well after at least one retry.
        recovered,
        /// Series ended by a result that is final.
        stopped_final,
        /// Series ended because the operation was not declared idempotent.
        stopped_not_idempotent,
        /// Series that used up their attempts.
        stopped_attempts,
        /// Series ended because the deadline left no time.
        stopped_deadline,
        /// Series ended because the budget could not pay.
        stopped_budget,
        /// Series ended because a policy below said so.
        stopped_below,
    }
}

/// A retry policy. Cheap to clone; clones share budget and numbers.
///
/// ```
/// use perf_core::{CallError, Rejected};
/// use perf_resilience::{ByOutcome, Retry};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let retry = Retry::builder("rates").max_attempts(3).build()?;
/// let calls = AtomicU32::new(0);
/// let answer = retry
///     .run(&ByOutcome::default(), |attempt| {
///         calls.fetch_add(1, Ordering::Relaxed);
///         async move { if attempt.number < 2 { Err(CallError::Failed("busy")) } else { Ok("1.09") } }
///     })
///     .await;
/// assert_eq!(answer, Ok("1.09"));
/// assert_eq!(calls.into_inner(), 2);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Retry(Arc<Shared>);

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { name, config, budget, .. } = &*self.0;
        f.debug_struct("Retry").field("name", name).field("config", config).field("budget", budget).finish()
    }
}

struct Shared {
    name: Name,
    /// What a call goes through when the policy runs by itself.
    alone: Stages,
    config: RetryConfig,
    backoff: Backoff,
    budget: Budget,
    seed: u64,
    draws: AtomicU64,
    counters: Counters,
}

impl Retry {
    /// A policy to be named and configured.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        let config = RetryConfig::default();
        RetryBuilder { name: name.into(), config, backoff: None, budget: None, seed: None }
    }

    /// Runs an operation that may be done twice until it succeeds or trying again is pointless.
    ///
    /// # Errors
    /// The last real error.
    ///
    /// # Cancel safety
    /// As cancel safe as the operation: dropping the future drops the attempt under way and makes no further one.
    #[inline]
    pub fn run<'r, T, E, J, Op, Fut>(
        &'r self,
        judge: &'r J,
        operation: Op,
    ) -> impl Future<Output = Result<T, E>> + use<'r, T, E, J, Op, Fut>
    where
        E: From<Rejected>,
        J: Judge<T, E>,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let course = Course { stages: &self.0.alone, retry: Some(self), budget: Some(&self.0.budget) };
        course.run(Call::new(), judge, operation)
    }

    /// How long to wait before the attempt after `question.attempt`, for which the account of the call pays; it should be
    /// one with [`Retry::budget`]. Pure but for the account and the random sequence, which the seed determines.
    ///
    /// # Errors
    /// Why there is no further attempt.
    pub fn next(
        &self,
        question: &Question,
        account: &mut Account<'_>,
        now: Instant,
    ) -> Result<Duration, Stop> {
        let draw = self.0.draws.fetch_add(1, Ordering::Relaxed);
        let mut rng = Rng::seeded(self.0.seed.wrapping_add(draw));
        let delay = state::next(&self.0.config, &self.0.backoff, question, now, &mut rng)?;
        if account.withdraw(question.cause, now) { Ok(delay) } else { Err(Stop::Budget) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The budget that pays for its retries.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// The configuration it was made from.
    #[must_use]
    pub fn config(&self) -> &RetryConfig {
        &self.0.config
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> RetryStats {
        self.0.counters.read()
    }

    pub(crate) fn retried(&self) {
        self.0.counters.retries.increment();
    }

    pub(crate) fn recovered(&self) {
        self.0.counters.recovered.increment();
    }

    pub(crate) fn stopped(&self, why: Stop) {
        let counters = &self.0.counters;
        match why {
            Stop::Final => counters.stopped_final.increment(),
            Stop::NotIdempotent => counters.stopped_not_idempotent.increment(),
            Stop::Attempts => counters.stopped_attempts.increment(),
            Stop::Deadline => counters.stopped_deadline.increment(),
            Stop::Budget => counters.stopped_budget.increment(),
            Stop::Below => counters.stopped_below.increment(),
        }
    }
}

/// Makes a [`Retry`]. Setters carry the names of the fields of [`RetryConfig`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct RetryBuilder {
    name: Name,
    config: RetryConfig,
    backoff: Option<Backoff>,
    budget: Option<Budget>,
    seed: Option<u64>,
}

impl RetryBuilder {
    /// Takes everything a file can say.
    pub const fn config(mut self, config: RetryConfig) -> Self {
        self.config = config;
        self
    }

    /// Attempts in all, the first included.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.max_attempts = attempts;
        self
    }

    /// How the delay grows.
    pub const fn growth(mut self, growth: Growth) -> Self {
        self.config.growth = growth;
        self
    }

    /// The first delay, before jitter; raises cap and ceiling to at least as much.
    pub fn base(mut self, base: Duration) -> Self {
        self.config.base = base;
        self.config.cap = self.config.cap.max(base);
        self.config.hint_ceiling = self.config.hint_ceiling.max(base);
        self
    }

    /// The longest computed delay.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.config.cap = cap;
        self
    }

    /// How the delay is spread.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.config.jitter = jitter;
        self
    }

    /// The longest wait a server's hint can bring about.
    pub const fn hint_ceiling(mut self, ceiling: Duration) -> Self {
        self.config.hint_ceiling = ceiling;
        self
    }

    /// No attempt is begun with less time left.
    pub const fn min_attempt_time(mut self, time: Duration) -> Self {
        self.config.min_attempt_time = time;
        self
    }

    /// A delay sequence of your own, instead of `growth`, `base`, `cap` and `jitter`.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// A budget shared with others; without it the policy gets one of its own.
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// A budget for a policy that was not given one.
    pub(crate) fn budget_unless_given(mut self, budget: &Budget) -> Self {
        self.budget.get_or_insert_with(|| budget.clone());
        self
    }

    /// Makes the delays repeatable.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn build(self) -> Result<Retry, InvalidConfig> {
        self.config.validate()?;
        let backoff = self.backoff.unwrap_or_else(|| self.config.backoff());
        backoff.validate()?;
        let budget = match self.budget {
            Some(budget) => budget,
            None => Budget::builder(self.name.clone()).build()?,
        };
        Ok(Retry(Arc::new(Shared {
            alone: Stages::none(self.name.clone()),
            name: self.name,
            config: self.config,
            backoff,
            budget,
            seed: self.seed.unwrap_or_else(|| Rng::from_entropy().next_u64()),
            draws: AtomicU64::new(0),
            counters: Counters::default(),
        })))
    }
}

const RETRIES: Desc =
    Desc::counter("perf_resilience_retry_retries_total", "Attempts beyond the first", Unit::Count);
const RECOVERED: Desc =
    Desc::counter("perf_resilience_retry_recovered_total", "Calls that a retry saved", Unit::Count);
const STOPPED: Desc = Desc::counter(
    "perf_resilience_retry_stopped_total",
    "Calls that failed for good, by reason",
    Unit::Count,
);

impl Component for Retry {
    fn id(&self) -> ComponentId {
        ComponentId::new("retry", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&RETRIES, &[], stats.retries);
        sink.counter(&RECOVERED, &[], stats.recovered);
        let totals = [
            stats.stopped_final,
            stats.stopped_not_idempotent,
            stats.stopped_attempts,
            stats.stopped_deadline,
            stats.stopped_budget,
            stats.stopped_below,
        ];
        for (why, total) in Stop::ALL.into_iter().zip(totals) {
            sink.counter(&STOPPED, &[("reason", why.as_str())], total);
        }
    }
}
