//! Several policies round one call, in the one order that works.
//!
//! Outer to inner: *fallback ([`Pipeline::run_or`]) → deadline → gates (shed, throttle, adaptive limit) → rate → bulkhead → retry → [per attempt: breaker →
//! gates → timeout → hedged requests]*.
//!
//! | why there |
//! |---|
//! | the deadline spans everything, waiting and all attempts included |
//! | gates, rate and bulkhead are outside retry, so that a retry does not queue again |
//! | the breaker is inside retry, so that it sees every attempt, and its refusal ends the series |
//! | the attempt's timeout is innermost, so that a timed-out attempt is a failure to the breaker and can be retried |
//!
//! A budget of 10 % and a bound of 64 calls in flight are there by default: without both, a short slowdown of a
//! dependency under retries becomes a permanent outage.

mod attempt;
mod builder;
mod config;
mod course;
mod hedged;
#[cfg(feature = "tower")]
mod layer;
mod presets;
mod stats;

pub use attempt::{Attempt, Call};
pub use builder::PipelineBuilder;
pub use config::PipelineConfig;
pub(crate) use course::{Course, Stages};
#[cfg(feature = "tower")]
pub use layer::{Guarded, PipelineLayer};
pub use stats::PipelineStats;

use crate::breaker::Breaker;
use crate::bulkhead::Bulkhead;
use crate::fallback::{Answer, Fallback, Unanswered};
use crate::judge::{ByOutcome, Judge};
use crate::retry::{Budget, Retry};
use perf_core::{Component, ComponentId, Desc, Health, Name, Rejected, Sink, Unit};
use stats::Counters;
use std::sync::Arc;

/// A call's policies, ready to run it. Cheap to clone; clones are the same pipeline.
///
/// ```
/// use perf_core::CallError;
/// use perf_resilience::{Breaker, Call, Pipeline, Retry};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let breaker = Breaker::builder("rates").build()?;
/// let guard = Pipeline::builder("rates")
///     .deadline(Duration::from_secs(2))
///     .retry(Retry::builder("rates").max_attempts(3))
///     .breaker(&breaker)
///     .attempt_timeout(Duration::from_millis(300))
///     .build()?;
///
/// let answer = guard
///     .run_with(Call::new().idempotent(true), |attempt| async move {
///         if attempt.number == 1 { Err(CallError::Failed("reset")) } else { Ok(1.09) }
///     })
///     .await;
/// assert_eq!(answer, Ok(1.09));
/// assert_eq!(breaker.stats().failures, 1);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
pub struct Pipeline<J = ByOutcome>(Arc<Inner<J>>);

struct Inner<J> {
    stages: Stages,
    retry: Option<Retry>,
    budget: Option<Budget>,
    judge: J,
}

impl Pipeline<ByOutcome> {
    /// A pipeline to be named and configured.
    pub fn builder(name: impl Into<Name>) -> PipelineBuilder<ByOutcome> {
        PipelineBuilder::new(name.into())
    }
}

impl<J> Pipeline<J> {
    /// Runs the operation through all stages. It is given the [`Attempt`], and is called once for each.
    ///
    /// # Errors
    /// The last real error of the operation, or the refusal if it was never made.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt under way and gives every permit back.
    #[inline]
    pub fn run<'p, T, E, Op, Fut>(
        &'p self,
        operation: Op,
    ) -> impl Future<Output = Result<T, E>> + use<'p, J, T, E, Op, Fut>
    where
        E: From<Rejected>,
        J: Judge<T, E>,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_with(Call::new(), operation)
    }

    /// As [`Pipeline::run`], for a call with something special about it.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    #[inline]
    pub fn run_with<'p, T, E, Op, Fut>(
        &'p self,
        call: Call,
        operation: Op,
    ) -> impl Future<Output = Result<T, E>> + use<'p, J, T, E, Op, Fut>
    where
        E: From<Rejected>,
        J: Judge<T, E>,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Inner { stages, retry, budget, judge } = &*self.0;
        Course { stages, retry: retry.as_ref(), budget: budget.as_ref() }.run(call, judge, operation)
    }

    /// Runs the operation through all stages, and asks `second_best` if it fails: the outermost stage, so a refusal, a
    /// passed deadline and spent attempts have a second-best answer too. The answer says whether it is one.
    ///
    /// ```
    /// use perf_core::CallError;
    /// use perf_resilience::{Call, Pipeline, fallback::Fallback};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let rates = Pipeline::http_client("rates")?.build()?;
    /// let fallback = Fallback::new("rates");
    /// let answer = rates
    ///     .run_or(&fallback, Call::new(), |_| async { Err::<f64, _>(CallError::Failed("down")) }, |_error| async { Ok(1.1) })
    ///     .await
    ///     .unwrap();
    /// assert_eq!((answer.value, answer.degraded), (1.1, true));
    /// # Ok::<(), perf_core::InvalidConfig>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The error of the operation, with what `second_best` said beside it.
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`], and then as `second_best`.
    pub async fn run_or<T, E, Op, Fut, K, F>(
        &self,
        fallback: &Fallback<K>,
        call: Call,
        operation: Op,
        second_best: impl FnOnce(&E) -> F,
    ) -> Result<Answer<T>, Unanswered<E>>
    where
        E: From<Rejected>,
        J: Judge<T, E>,
        K: Judge<T, E>,
        Op: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        F: Future<Output = Result<T, E>>,
    {
        fallback.run(self.run_with(call, operation), second_best).await
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.stages.name
    }

    /// Its breaker, if it has one.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.0.stages.breaker.as_ref()
    }

    /// Its bound on concurrency, if it has one.
    #[must_use]
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.0.stages.bulkhead.as_ref()
    }

    /// What pays for its retries and hedges, if it makes any.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.0.budget.as_ref()
    }

    /// Its retry policy, if it has one.
    #[must_use]
    pub fn retry(&self) -> Option<&Retry> {
        self.0.retry.as_ref()
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        self.0.stages.counters.as_ref().map(Counters::read).unwrap_or_default()
    }

    /// The pipeline and the policies it is made of, to be registered one by one.
    #[must_use]
    pub fn components(&self) -> Vec<Arc<dyn Component>>
    where
        J: Send + Sync + 'static,
    {
        let mut components: Vec<Arc<dyn Component>> = vec![Arc::new(self.clone())];
        if let Some(rate) = &self.0.stages.rate {
            components.push(Arc::new(rate.clone()));
        }
        if let Some(bulkhead) = &self.0.stages.bulkhead {
            components.push(Arc::new(bulkhead.clone()));
        }
        if let Some(budget) = &self.0.budget {
            components.push(Arc::new(budget.clone()));
        }
        if let Some(retry) = &self.0.retry {
            components.push(Arc::new(retry.clone()));
        }
        if let Some(hedge) = &self.0.stages.hedge {
            components.push(Arc::new(hedge.clone()));
        }
        if let Some(breaker) = &self.0.stages.breaker {
            components.push(Arc::new(breaker.clone()));
        }
        components
    }
}

impl<J> Clone for Pipeline<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<J> std::fmt::Debug for Pipeline<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.0.stages.name).finish_non_exhaustive()
    }
}

const CALLS: Desc =
    Desc::counter("perf_resilience_pipeline_calls_total", "Calls, by how they ended", Unit::Count);

impl<J: Send + Sync> Component for Pipeline<J> {
    fn id(&self) -> ComponentId {
        ComponentId::new("pipeline", self.0.stages.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (outcome, total) in [
            ("success", stats.succeeded),
            ("failure", stats.failed),
            ("refused", stats.refused),
            ("cancelled", stats.cancelled),
        ] {
            sink.counter(&CALLS, &[("outcome", outcome)], total);
        }
    }

    fn health(&self) -> Health {
        self.0.stages.breaker.as_ref().map_or_else(Health::up, Component::health)
    }
}
