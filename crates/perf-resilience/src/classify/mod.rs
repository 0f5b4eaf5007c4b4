//! What the errors of well-known libraries mean.

mod io;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sqlx;

pub use io::IoErrors;
#[cfg(feature = "redis")]
pub use redis::RedisErrors;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sqlx::SqlxErrors;

use crate::judge::{Again, Verdict};
use perf_core::{Outcome, Reason, Rejected};

/// What a refusal by a policy inside the call means.
fn refusal(rejected: &Rejected) -> Verdict {
    match rejected.reason() {
        Reason::Timeout | Reason::DeadlineExceeded => Verdict::of(Outcome::Failure),
        _ => {
            let again = if rejected.is_retryable() { Again::Always } else { Again::No };
            let verdict = Verdict::of(Outcome::Ignored).again(again);
            rejected.retry_hint().map_or(verdict, |wait| verdict.hint(wait))
        }
    }
}

/// Makes a type that knows one error type a [`Judge`](crate::Judge) and a [`Classify`](perf_core::Classify) of it, alone
/// and inside a [`CallError`](perf_core::CallError).
macro_rules! knows {
    ($name:ident, $error:ty, $verdict:expr) => {
        impl<T: ?Sized> $crate::Judge<T, $error> for $name {
            fn judge(&self, result: Result<&T, &$error>) -> $crate::Verdict {
                match result {
                    Ok(_) => $crate::Verdict::of(perf_core::Outcome::Success),
                    Err(error) => $verdict(error),
                }
            }
        }

        impl<T: ?Sized> $crate::Judge<T, perf_core::CallError<$error>> for $name {
            fn judge(&self, result: Result<&T, &perf_core::CallError<$error>>) -> $crate::Verdict {
                match result {
                    Ok(_) => $crate::Verdict::of(perf_core::Outcome::Success),
                    Err(perf_core::CallError::Failed(error)) => $verdict(error),
                    Err(perf_core::CallError::Rejected(rejected)) => $crate::classify::refusal(rejected),
                }
            }
        }

        impl<T: ?Sized> perf_core::Classify<T, $error> for $name {
            fn classify(&self, result: Result<&T, &$error>) -> perf_core::Outcome {
                $crate::Judge::judge(self, result).outcome
            }
        }

        impl<T: ?Sized> perf_core::Classify<T, perf_core::CallError<$error>> for $name {
            fn classify(&self, result: Result<&T, &perf_core::CallError<$error>>) -> perf_core::Outcome {
                $crate::Judge::judge(self, result).outcome
            }
        }
    };
}

use knows;
