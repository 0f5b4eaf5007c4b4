//! Gives a second-best answer when the best one cannot be had, and says that it is one.

use crate::event::Listener;
use crate::judge::{ByOutcome, Judge};
use crate::stats::stats;
use perf_core::{Component, ComponentId, Desc, Name, Outcome, Sink, Unit};
use std::fmt;
use std::sync::Arc;

stats! {
    /// What a fallback has seen since it was made.
    FallbackStats from Counters {
        /// Answers that were second best.
        degraded,
        /// Fallbacks that failed as well.
        failed,
    }
}

/// An answer, and whether it is second best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// Whether the fallback gave it. A cache must not keep it.
    pub degraded: bool,
}

/// Neither the call nor its fallback gave an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered<E> {
    /// What the call itself said.
    pub error: E,
    /// What the fallback said, if it was tried.
    pub fallback: Option<E>,
}

impl<E: fmt::Display> fmt::Display for Unanswered<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)?;
        match &self.fallback {
            Some(fallback) => write!(f, "; the fallback failed too: {fallback}"),
            None => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Unanswered<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Something about a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallbackEvent {
    /// A second-best answer was given.
    Degraded,
    /// The fallback failed as well.
    Failed,
}

/// A fallback with a name and numbers. Cheap to clone; clones share the numbers.
///
/// ```
/// use perf_resilience::fallback::Fallback;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let fallback = Fallback::new("rates");
/// let answer = fallback.run(async { Err::<f64, _>("no connection") }, |_error| async { Ok(1.1) }).await.unwrap();
/// assert_eq!((answer.value, answer.degraded), (1.1, true));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Fallback<J = ByOutcome>(Arc<Shared<J>>);

#[derive(Debug)]
struct Shared<J> {
    name: Name,
    judge: J,
    counters: Counters,
    listener: Listener<FallbackEvent>,
}

impl Fallback<ByOutcome> {
    /// A fallback for every error.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::judged(name, ByOutcome::default(), |_| {})
    }
}

impl<J> Fallback<J> {
    /// A fallback for what `judge` takes as a failure; `listener` is told when it is used, and must not block.
    pub fn judged(
        name: impl Into<Name>,
        judge: J,
        listener: impl Fn(&FallbackEvent) + Send + Sync + 'static,
    ) -> Self {
        let (name, counters) = (name.into(), Counters::default());
        Self(Arc::new(Shared { name, judge, counters, listener: Listener::new(listener) }))
    }

    /// Runs `call`, and if it fails asks `fallback`, which sees the error. Calls that were cancelled or say nothing about
    /// the dependency keep their own result.
    ///
    /// # Errors
    /// The call's error, with what the fallback said beside it.
    ///
    /// # Cancel safety
    /// As cancel safe as the call, and then as the fallback.
    pub async fn run<T, E, F>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        fallback: impl FnOnce(&E) -> F,
    ) -> Result<Answer<T>, Unanswered<E>>
    where
        J: Judge<T, E>,
        F: Future<Output = Result<T, E>>,
    {
        let result = call.await;
        let outcome = self.0.judge.judge(result.as_ref()).outcome;
        let error = match result {
            Ok(value) => return Ok(Answer { value, degraded: false }),
            Err(error) if matches!(outcome, Outcome::Cancelled | Outcome::Ignored) => {
                return Err(Unanswered { error, fallback: None });
            }
            Err(error) => error,
        };
        match fallback(&error).await {
            Ok(value) => {
                self.0.counters.degraded.increment();
                self.0.listener.tell(&FallbackEvent::Degraded);
                Ok(Answer { value, degraded: true })
            }
            Err(second) => {
                self.0.counters.failed.increment();
                self.0.listener.tell(&FallbackEvent::Failed);
                Err(Unanswered { error, fallback: Some(second) })
            }
        }
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> FallbackStats {
        self.0.counters.read()
    }
}

const ANSWERS: Desc =
    Desc::counter("perf_resilience_fallback_used_total", "Fallbacks tried, by how they ended", Unit::Count);

impl<J: Send + Sync> Component for Fallback<J> {
    fn id(&self) -> ComponentId {
        ComponentId::new("fallback", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        sink.counter(&ANSWERS, &[("outcome", "success")], stats.degraded);
        sink.counter(&ANSWERS, &[("outcome", "failure")], stats.failed);
    }
}
