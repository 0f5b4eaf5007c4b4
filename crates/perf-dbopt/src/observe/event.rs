use crate::Fingerprint;
use std::sync::Arc;
use std::time::Duration;

/// A query that took at least the slow limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SlowQuery {
    /// The statement's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its normal form, which holds no value.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub text: Arc<str>,
    /// How long it took.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub elapsed: Duration,
    /// Rows it returned and changed.
    pub rows: u64,
    /// How it ended.
    pub end: QueryEnd,
    /// When it ended, counted from when the observer began.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub at: Duration,
    /// The route of the request it belonged to.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared_option"))]
    pub route: Option<Arc<str>>,
    /// Its plan, with every value masked, when one was taken.
    pub plan: Option<String>,
}

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum QueryEnd {
    /// It gave its whole answer.
    Done,
    /// The database, or the way there, reported an error.
    Failed,
    /// Its future or stream was dropped before the end.
    Cancelled,
}

/// One statement, many times, in one request, where one query would do.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NPlusOne {
    /// The route of the request.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub route: Arc<str>,
    /// The statement's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its normal form.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub text: Arc<str>,
    /// How often it ran in the request.
    pub calls: u32,
    /// The time those calls took together.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub time: Duration,
    /// What to send instead.
    pub suggestion: String,
}

/// Something rare or slow the observer saw.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum QueryEvent {
    /// A query took at least the slow limit.
    Slow(SlowQuery),
    /// One request repeated a statement.
    NPlusOne(NPlusOne),
    /// Statements left the table to make room for new ones.
    Evicted {
        /// How many.
        statements: usize,
    },
}
