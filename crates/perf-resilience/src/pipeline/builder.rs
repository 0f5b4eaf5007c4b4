use super::config::{PipelineConfig, check_times};
use super::stats::Counters;
use super::{Inner, Pipeline, Stages};
use crate::breaker::Breaker;
use crate::bulkhead::Bulkhead;
use crate::gate::{Gate, MAX_GATES};
use crate::hedge::Hedge;
use crate::judge::ByOutcome;
use crate::rate::RateLimit;
use crate::retry::{Budget, BudgetConfig, Retry, RetryBuilder};
use perf_core::time::Duration;
use perf_core::{InvalidConfig, Name};
use std::sync::Arc;

/// Where the bound on concurrency comes from.
#[derive(Clone, Debug)]
enum Bound {
    Default,
    Given(Bulkhead),
    None,
}

/// Makes a [`Pipeline`]. The order of the setters does not matter: the order of the stages is fixed.
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone)]
pub struct PipelineBuilder<J> {
    name: Name,
    deadline: Option<Duration>,
    gates: Vec<Arc<dyn Gate>>,
    rate: Option<RateLimit>,
    bound: Bound,
    retry: Option<RetryBuilder>,
    ready_retry: Option<Retry>,
    budget: Option<Budget>,
    budget_config: BudgetConfig,
    idempotent: bool,
    breaker: Option<Breaker>,
    per_attempt: Vec<Arc<dyn Gate>>,
    attempt_timeout: Option<Duration>,
    hedge: Option<Hedge>,
    judge: J,
}

impl PipelineBuilder<ByOutcome> {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            deadline: None,
            gates: Vec::new(),
            rate: None,
            bound: Bound::Default,
            retry: None,
            ready_retry: None,
            budget: None,
            budget_config: BudgetConfig::default(),
            idempotent: false,
            breaker: None,
            per_attempt: Vec::new(),
            attempt_timeout: None,
            hedge: None,
            judge: ByOutcome::default(),
        }
    }
}

impl<J> PipelineBuilder<J> {
    /// Takes everything a file can say.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn config(mut self, config: PipelineConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        self.deadline = config.deadline;
        self.attempt_timeout = config.attempt_timeout;
        self.idempotent = config.idempotent;
        self.budget_config = config.budget;
        self.retry = config.retry.map(|retry| Retry::builder(self.name.clone()).config(retry));
        self.bound = match config.bulkhead {
            Some(bulkhead) => Bound::Given(Bulkhead::builder(self.name.clone()).config(bulkhead).build()?),
            None => Bound::None,
        };
        self.breaker = match config.breaker {
            Some(breaker) => Some(Breaker::builder(self.name.clone()).config(breaker).build()?),
            None => None,
        };
        Ok(self)
    }

    /// How long a call may take with all its attempts.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// A gate of your own, outside retries: entered once per call.
    pub fn gate(mut self, gate: impl Gate + 'static) -> Self {
        self.gates.push(Arc::new(gate));
        self
    }

    /// How often calls may be made; a call waits for its turn as long as the limit and the deadline allow.
    pub fn rate(mut self, rate: &RateLimit) -> Self {
        self.rate = Some(rate.clone());
        self
    }

    /// The bound on concurrency; without a word there is one of [`crate::bulkhead::DEFAULT_LIMIT`].
    pub fn bulkhead(mut self, bulkhead: &Bulkhead) -> Self {
        self.bound = Bound::Given(bulkhead.clone());
        self
    }

    /// No bound on concurrency. Only where something further out bounds it: unbounded calls are what turns a slow
    /// dependency into an outage.
    pub fn unbounded(mut self) -> Self {
        self.bound = Bound::None;
        self
    }

    /// When to try again, made with the pipeline: its budget is the pipeline's.
    pub fn retry(mut self, retry: RetryBuilder) -> Self {
        self.retry = Some(retry);
        self
    }

    /// When to try again, as a policy that others use too, with the budget it has.
    pub fn shared_retry(mut self, retry: &Retry) -> Self {
        self.ready_retry = Some(retry.clone());
        self
    }

    /// What pays for retries and hedges; without a word the pipeline has a budget of 10 % of its own.
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Every operation through this pipeline may be done twice. See [`crate::Call::idempotent`] for single calls.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// When to stop calling. It judges every attempt, and its refusal ends the series.
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// A gate of your own, inside retries: entered once per attempt, after the breaker.
    pub fn per_attempt(mut self, gate: impl Gate + 'static) -> Self {
        self.per_attempt.push(Arc::new(gate));
        self
    }

    /// How long one attempt may take.
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// Sends a second request when the first is slow. Only calls that may be done twice are hedged.
    pub fn hedge(mut self, hedge: &Hedge) -> Self {
        self.hedge = Some(hedge.clone());
        self
    }

    /// What results mean, as far as success and failure go.
    pub fn classify<C>(self, classify: C) -> PipelineBuilder<ByOutcome<C>> {
        self.judge(ByOutcome(classify))
    }

    /// What results mean, with everything retries want to know.
    pub fn judge<K>(self, judge: K) -> PipelineBuilder<K> {
        PipelineBuilder {
            name: self.name,
            deadline: self.deadline,
            gates: self.gates,
            rate: self.rate,
            bound: self.bound,
            retry: self.retry,
            ready_retry: self.ready_retry,
            budget: self.budget,
            budget_config: self.budget_config,
            idempotent: self.idempotent,
            breaker: self.breaker,
            per_attempt: self.per_attempt,
            attempt_timeout: self.attempt_timeout,
            hedge: self.hedge,
            judge,
        }
    }

    /// The pipeline.
    ///
    /// # Errors
    /// A setting that cannot be used, times that do not fit into each other, or more than six gates in one stage.
    pub fn build(self) -> Result<Pipeline<J>, InvalidConfig> {
        check_times(self.deadline, self.attempt_timeout)?;
        let bulkhead = match self.bound {
            Bound::Given(bulkhead) => Some(bulkhead),
            Bound::Default => Some(Bulkhead::builder(self.name.clone()).build()?),
            Bound::None => None,
        };
        let budget = match self.budget {
            Some(budget) => budget,
            None => Budget::builder(self.name.clone()).config(self.budget_config).build()?,
        };
        let retry = match (self.ready_retry, self.retry) {
            (Some(ready), _) => Some(ready),
            (None, Some(builder)) => Some(builder.budget_unless_given(&budget).build()?),
            (None, None) => None,
        };
        let budget = match &retry {
            Some(retry) => Some(retry.budget().clone()),
            None => self.hedge.is_some().then_some(budget),
        };
        for (field, gates) in [("gates", self.gates.len()), ("per_attempt", self.per_attempt.len())] {
            if gates > MAX_GATES {
                return Err(InvalidConfig::new(field, gates, format!("at most {MAX_GATES}")));
            }
        }
        let stages = Stages {
            name: self.name,
            deadline: self.deadline,
            gates: self.gates.into(),
            rate: self.rate,
            bulkhead,
            idempotent: self.idempotent,
            breaker: self.breaker,
            per_attempt: self.per_attempt.into(),
            attempt_timeout: self.attempt_timeout,
            hedge: self.hedge,
            counters: Some(Counters::default()),
        };
        Ok(Pipeline(Arc::new(Inner { stages, retry, budget, judge: self.judge })))
    }
}
