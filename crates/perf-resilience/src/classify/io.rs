use crate::judge::{Again, Verdict};
use perf_core::Outcome;
use std::io::{Error, ErrorKind};

/// Knows [`std::io::Error`]: what is missing or not allowed says nothing about the dependency, a refused connection sent
/// nothing and may always be tried again, and everything else is a failure.
///
/// ```
/// use perf_core::Outcome;
/// use perf_resilience::{Again, Judge, classify::IoErrors};
/// use std::io::{Error, ErrorKind};
///
/// let verdict = |kind: ErrorKind| IoErrors.judge(Err::<&(), _>(&Error::from(kind)));
/// assert_eq!(verdict(ErrorKind::NotFound).outcome, Outcome::Ignored);
/// assert_eq!(verdict(ErrorKind::ConnectionRefused).again, Again::Always);
/// assert_eq!(verdict(ErrorKind::ConnectionReset).again, Again::IfIdempotent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoErrors;

pub(super) fn verdict(error: &Error) -> Verdict {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::Unsupported => Verdict::of(Outcome::Ignored),
        ErrorKind::ConnectionRefused | ErrorKind::AddrNotAvailable | ErrorKind::NotConnected => {
            Verdict::of(Outcome::Failure).again(Again::Always)
        }
        ErrorKind::StorageFull | ErrorKind::ReadOnlyFilesystem => {
            Verdict::of(Outcome::Failure).again(Again::No)
        }
        ErrorKind::ResourceBusy | ErrorKind::QuotaExceeded => Verdict::of(Outcome::Overload),
        _ => Verdict::of(Outcome::Failure),
    }
}

super::knows!(IoErrors, Error, verdict);
