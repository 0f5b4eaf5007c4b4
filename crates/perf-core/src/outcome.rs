//! What a finished call means to the policies round it.

/// How a call ended, as far as a policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It failed in a way that speaks against the dependency.
    Failure,
    /// It says nothing about the dependency (a missing row, a bad argument): the permit returns, nothing else moves.
    Ignored,
    /// The dependency said it is overloaded (HTTP 429 and 503, SQLSTATE 53300, Redis `BUSY`).
    Overload,
    /// The caller went away before the call ended.
    Cancelled,
}

impl Outcome {
    /// Whether it counts against the dependency.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Overload)
    }

    /// Whether it says anything at all about the dependency.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        !matches!(self, Self::Ignored | Self::Cancelled)
    }
}

/// Decides what a result means. Closures implement it; [`AnyError`] is the default.
///
/// ```
/// use perf_core::{Classify, Outcome};
///
/// let missing_is_fine = |result: Result<&u32, &std::io::Error>| match result {
///     Ok(_) => Outcome::Success,
///     Err(e) if e.kind() == std::io::ErrorKind::NotFound => Outcome::Ignored,
///     Err(_) => Outcome::Failure,
/// };
/// let error = std::io::Error::from(std::io::ErrorKind::NotFound);
/// assert_eq!(missing_is_fine.classify(Err(&error)), Outcome::Ignored);
/// ```
pub trait Classify<T: ?Sized, E: ?Sized>: Send + Sync {
    /// What `result` means.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;
}

impl<T: ?Sized, E: ?Sized, F> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Outcome + Send + Sync,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// `Ok` is a success and every `Err` a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyError;

impl<T: ?Sized, E: ?Sized> Classify<T, E> for AnyError {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_is_a_failure_by_default() {
        assert_eq!(AnyError.classify(Ok::<_, &u8>(&1)), Outcome::Success);
        assert_eq!(AnyError.classify(Err::<&u8, _>(&1)), Outcome::Failure);
    }

    #[test]
    fn ignored_and_cancelled_calls_count_for_nothing() {
        assert!(!Outcome::Ignored.is_counted() && !Outcome::Cancelled.is_counted());
        assert!(Outcome::Overload.is_failure() && Outcome::Overload.is_counted());
    }
}
