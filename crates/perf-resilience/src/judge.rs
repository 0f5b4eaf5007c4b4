//! What a result means to the policies that act on it: how it ended, whether trying again can help, and when.

use perf_core::time::Duration;
use perf_core::{AnyError, Classify, Outcome};

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Again {
    /// It cannot: the same call will end the same way.
    No,
    /// It can, if the operation may be done twice.
    IfIdempotent,
    /// It can: the request was provably not sent, or its effects were rolled back.
    Always,
}

/// What a [`Judge`] says about a result.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// How the call ended.
    pub outcome: Outcome,
    /// Whether trying again can help.
    pub again: Again,
    /// When the dependency asked to be left alone until (`Retry-After`).
    pub hint: Option<Duration>,
    /// Which endpoint answered, in the caller's own numbering, so that the next attempt can avoid it.
    pub endpoint: Option<u64>,
}

impl Verdict {
    /// What the outcome alone tells: failures and overload may be tried again by operations that may be done twice.
    #[must_use]
    pub const fn of(outcome: Outcome) -> Self {
        let again = if outcome.is_failure() { Again::IfIdempotent } else { Again::No };
        Self { outcome, again, hint: None, endpoint: None }
    }

    /// Says whether trying again can help.
    #[must_use]
    pub const fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// Passes on when the dependency wants to be called again.
    #[must_use]
    pub const fn hint(mut self, hint: Duration) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Names the endpoint that answered.
    #[must_use]
    pub const fn endpoint(mut self, endpoint: u64) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

/// Decides what a result means to retry, breaker and hedge. Wrap a plain [`Classify`] in [`ByOutcome`].
pub trait Judge<T: ?Sized, E: ?Sized>: Send + Sync {
    /// What `result` means.
    fn judge(&self, result: Result<&T, &E>) -> Verdict;
}

/// A judge that knows no more than the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByOutcome<C = AnyError>(pub C);

impl Default for ByOutcome {
    /// Every error is a failure.
    fn default() -> Self {
        Self(AnyError)
    }
}

impl<T: ?Sized, E: ?Sized, C: Classify<T, E>> Judge<T, E> for ByOutcome<C> {
    fn judge(&self, result: Result<&T, &E>) -> Verdict {
        Verdict::of(self.0.classify(result))
    }
}

impl<T: ?Sized, E: ?Sized, J: Judge<T, E> + ?Sized> Judge<T, E> for &J {
    fn judge(&self, result: Result<&T, &E>) -> Verdict {
        (**self).judge(result)
    }
}

/// A judge made from a closure; see [`judge_with`].
#[derive(Clone, Copy, Debug)]
pub struct JudgeFn<F>(F);

/// A judge from a closure that sees the result and gives the whole [`Verdict`].
///
/// ```
/// use perf_resilience::{Again, Judge, Verdict, judge_with};
/// use perf_core::Outcome;
///
/// let judge = judge_with(|result: Result<&u8, &std::io::Error>| match result {
///     Ok(_) => Verdict::of(Outcome::Success),
///     Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
///         Verdict::of(Outcome::Failure).again(Again::Always)
///     }
///     Err(_) => Verdict::of(Outcome::Failure),
/// });
/// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// assert_eq!(judge.judge(Err(&refused)).again, Again::Always);
/// ```
pub const fn judge_with<T: ?Sized, E: ?Sized, F>(judge: F) -> JudgeFn<F>
where
    F: Fn(Result<&T, &E>) -> Verdict + Send + Sync,
{
    JudgeFn(judge)
}

impl<T: ?Sized, E: ?Sized, F> Judge<T, E> for JudgeFn<F>
where
    F: Fn(Result<&T, &E>) -> Verdict + Send + Sync,
{
    fn judge(&self, result: Result<&T, &E>) -> Verdict {
        (self.0)(result)
    }
}
