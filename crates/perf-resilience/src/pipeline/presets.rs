//! Pipelines for the usual dependencies, with the reasons for their numbers.

use super::{Pipeline, PipelineBuilder};
use crate::breaker::{Breaker, Window};
use crate::bulkhead::Bulkhead;
use crate::judge::ByOutcome;
use crate::retry::Retry;
use perf_core::time::Duration;
use perf_core::{InvalidConfig, Name};

impl Pipeline<ByOutcome> {
    /// For a database: 5 s in all and 2 s per attempt, at most 64 statements at once, two attempts paid for by a budget
    /// of 10 %, and a breaker over the last ten seconds.
    ///
    /// Two attempts because a second one cures a lost connection or a serialisation failure and a third cures nothing
    /// else. Nothing is tried twice unless the call is declared idempotent or the judge proves that nothing was done.
    ///
    /// # Errors
    /// None in practice: the numbers are valid. The signature is that of every other way to make a policy.
    pub fn database(name: impl Into<Name>) -> Result<PipelineBuilder<ByOutcome>, InvalidConfig> {
        let name = name.into();
        let breaker = Breaker::builder(name.clone())
            .window(Window::Time(Duration::from_secs(10)))
            .open_for(Duration::from_secs(1))
            .build()?;
        Ok(Self::builder(name.clone())
            .deadline(Duration::from_secs(5))
            .attempt_timeout(Duration::from_secs(2))
            .bulkhead(&Bulkhead::builder(name.clone()).build()?)
            .retry(Retry::builder(name).max_attempts(2).base(Duration::from_millis(20)))
            .breaker(&breaker))
    }

    /// For an HTTP service: 10 s in all and 3 s per attempt, at most 128 requests at once, three attempts paid for by a
    /// budget of 10 %, `Retry-After` followed as far as the deadline allows, and a breaker over the last ten seconds.
    ///
    /// Hedging is off: it pays only for requests that are cheap and many, and then it is one line.
    ///
    /// # Errors
    /// As [`Pipeline::database`].
    pub fn http_client(name: impl Into<Name>) -> Result<PipelineBuilder<ByOutcome>, InvalidConfig> {
        let name = name.into();
        let breaker = Breaker::builder(name.clone()).window(Window::Time(Duration::from_secs(10))).build()?;
        Ok(Self::builder(name.clone())
            .deadline(Duration::from_secs(10))
            .attempt_timeout(Duration::from_secs(3))
            .bulkhead(&Bulkhead::builder(name.clone()).limit(128).queue(128).build()?)
            .retry(Retry::builder(name))
            .breaker(&breaker))
    }

    /// For a remote cache: 100 ms, no retry, at most 256 at once with nobody waiting, and a breaker that opens after five
    /// failures in a row and probes again after a second.
    ///
    /// A cache that does not answer at once is not worth waiting for, and never worth asking twice: the source of truth
    /// is the better second attempt.
    ///
    /// # Errors
    /// As [`Pipeline::database`].
    pub fn cache(name: impl Into<Name>) -> Result<PipelineBuilder<ByOutcome>, InvalidConfig> {
        let name = name.into();
        let breaker = Breaker::builder(name.clone())
            .consecutive(5)
            .open_for(Duration::from_secs(1))
            .open_cap(Duration::from_secs(10))
            .probes(3)
            .build()?;
        Ok(Self::builder(name.clone())
            .attempt_timeout(Duration::from_millis(100))
            .bulkhead(&Bulkhead::builder(name).limit(256).queue(0).build()?)
            .breaker(&breaker))
    }
}
