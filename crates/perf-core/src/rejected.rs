//! The one way a policy says no.

use crate::{Name, duration};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A breaker is open.
    Open,
    /// All permits are taken and the queue is full.
    Full,
    /// The rate limit is spent.
    RateLimited,
    /// One attempt took longer than it may.
    Timeout,
    /// The caller's deadline has passed.
    DeadlineExceeded,
    /// The time left is shorter than the predicted wait, so waiting would be for nothing.
    WontMakeIt,
    /// The client throttle holds calls back because the dependency refuses too many.
    Throttled,
    /// Load is shed because the service is overloaded.
    Shed,
    /// Administratively paused.
    Paused,
    /// Closed, or shutting down.
    Closed,
}

impl Reason {
    /// Every reason, in declaration order: the closed set of the label `reason`.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Full,
        Self::RateLimited,
        Self::Timeout,
        Self::DeadlineExceeded,
        Self::WontMakeIt,
        Self::Throttled,
        Self::Shed,
        Self::Paused,
        Self::Closed,
    ];

    /// The label value, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Full => "full",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::WontMakeIt => "wont_make_it",
            Self::Throttled => "throttled",
            Self::Shed => "shed",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }

    /// Whether the same call may succeed a little later. Without a hint that fits the deadline, a refusal by an inner
    /// policy is still not worth a retry: see [`Rejected::is_retryable`].
    const fn in_words(self) -> &'static str {
        match self {
            Self::Open => "its breaker is open",
            Self::Full => "it is full",
            Self::RateLimited => "its rate limit is spent",
            Self::Timeout => "the attempt timed out",
            Self::DeadlineExceeded => "the deadline has passed",
            Self::WontMakeIt => "the wait would outlast the deadline",
            Self::Throttled => "it is throttled",
            Self::Shed => "load is being shed",
            Self::Paused => "it is paused",
            Self::Closed => "it is closed",
        }
    }
}

/// The number that decided a refusal, beside the limit it met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What was measured, in words: `"failure rate"`, `"calls in flight"`.
    pub what: &'static str,
    /// The value found.
    pub observed: f64,
    /// The limit it met.
    pub limit: f64,
}

/// A call was refused before, or instead of, being made.
///
/// There is one refusal type in all of perfkit. A policy is generic over any `E: From<Rejected>`, so five stacked
/// policies do not nest five error enums. Making and cloning one allocates nothing: the policy's name is shared.
///
/// ```
/// use perf_core::{Evidence, Reason, Rejected};
/// use std::time::Duration;
///
/// let refusal = Rejected::new(Reason::Open, "users-db")
///     .evidence(Evidence { what: "failure rate", observed: 0.62, limit: 0.5 })
///     .retry_after(Duration::from_millis(1200));
/// assert_eq!(
///     refusal.to_string(),
///     "`users-db` refused the call: its breaker is open (failure rate 0.62, limit 0.5), retry after 1.2s",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    policy: Name,
    reason: Reason,
    retryable: bool,
    retry_after: Option<Duration>,
    evidence: Option<Evidence>,
}

impl Rejected {
    /// A refusal by `policy`. It is not retryable until said otherwise.
    #[inline]
    pub fn new(reason: Reason, policy: impl Into<Name>) -> Self {
        Self { policy: policy.into(), reason, retryable: false, retry_after: None, evidence: None }
    }

    /// Says when the call may be accepted again.
    #[must_use]
    #[inline]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says whether an outer retry may try again. Inner refusals are final by default, so that layered retries do not
    /// multiply the load on a dependency that is already refusing.
    #[must_use]
    #[inline]
    pub const fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Adds the number that decided.
    #[must_use]
    #[inline]
    pub const fn evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Which policy.
    #[must_use]
    pub const fn policy(&self) -> &Name {
        &self.policy
    }

    /// When to come back, if the policy knows.
    #[must_use]
    pub const fn retry_hint(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The number that decided, if one did.
    #[must_use]
    pub const fn decided_by(&self) -> Option<Evidence> {
        self.evidence
    }

    /// Whether an outer retry may try again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Finds the refusal behind an error, however deep in its chain of sources.
    #[must_use]
    pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` refused the call: {}", self.policy, self.reason.in_words())?;
        if let Some(Evidence { what, observed, limit }) = self.evidence {
            write!(f, " ({what} {observed}, limit {limit})")?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {}", duration::format(wait))?;
        }
        Ok(())
    }
}

impl Error for Rejected {}

/// The error of a guarded call for those who have no error type of their own: the call's error, or a refusal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError<E> {
    /// The call was made and failed.
    #[error(transparent)]
    Failed(E),
    /// The call was refused.
    #[error(transparent)]
    Rejected(Rejected),
}

impl<E> CallError<E> {
    /// The refusal, if it was one.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Failed(_) => None,
        }
    }

    /// The call's own error, if it was made.
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl<E> From<Rejected> for CallError<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not load the order")]
    struct Outer(#[source] CallError<std::io::Error>);

    #[test]
    fn a_refusal_is_found_behind_other_errors() {
        let outer = Outer(Rejected::new(Reason::Full, "orders").into());
        // `transparent` forwards `source`, so the enum itself is looked through, not only its parts.
        let found = Rejected::find(&outer).or_else(|| outer.0.rejected());
        assert_eq!(found.map(Rejected::reason), Some(Reason::Full));
        assert!(Rejected::find(&std::io::Error::other("no")).is_none());
    }

    #[test]
    fn refusals_are_final_unless_said_otherwise() {
        let refusal = Rejected::new(Reason::RateLimited, "api");
        assert!(!refusal.is_retryable() && refusal.retryable(true).is_retryable());
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
