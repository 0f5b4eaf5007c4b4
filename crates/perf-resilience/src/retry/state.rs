//! The pure decision: whether another attempt is made, and when.

use super::budget::Cause;
use super::config::RetryConfig;
use perf_core::time::{Duration, Instant};
use perf_core::{Backoff, Deadline, Rng};

/// A hint is lengthened by up to this share, so that clients told the same moment do not come back together.
const HINT_JITTER: f64 = 0.1;

/// Why a series of attempts ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// The result is final: trying again cannot help.
    Final,
    /// Trying again could help, but the operation was not declared safe to do twice.
    NotIdempotent,
    /// All attempts are used up.
    Attempts,
    /// The next attempt could not be made before the deadline.
    Deadline,
    /// The budget could not pay.
    Budget,
    /// A policy below said that trying again is pointless.
    Below,
}

impl Stop {
    /// Every reason: the closed set of the label `reason`.
    pub const ALL: [Self; 6] =
        [Self::Final, Self::NotIdempotent, Self::Attempts, Self::Deadline, Self::Budget, Self::Below];

    /// The label value, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::NotIdempotent => "not_idempotent",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Below => "below",
        }
    }
}

/// What is asked before the next attempt.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The attempt that has just failed; the first is 1.
    pub attempt: u32,
    /// The delay before it; zero for the first.
    pub previous: Duration,
    /// When the server asked to be left alone until.
    pub hint: Option<Duration>,
    /// When the whole call must be over.
    pub deadline: Deadline,
    /// How the attempt failed, as far as the budget cares.
    pub cause: Cause,
}

/// How long to wait before the next attempt, leaving the budget aside.
pub(super) fn next(
    config: &RetryConfig,
    backoff: &Backoff,
    question: &Question,
    now: Instant,
    rng: &mut Rng,
) -> Result<Duration, Stop> {
    if question.attempt >= config.max_attempts {
        return Err(Stop::Attempts);
    }
    let computed = backoff.delay(question.attempt, question.previous, rng);
    let delay = match question.hint {
        None => computed,
        Some(hint) => {
            let clamped = hint.max(computed).min(config.hint_ceiling.max(computed));
            let longer = clamped.as_secs_f64() * HINT_JITTER * rng.unit();
            clamped.saturating_add(Duration::try_from_secs_f64(longer).unwrap_or_default())
        }
    };
    // A hint beyond the deadline ends the series even when its ceiling would fit: the server will still refuse.
    let wanted = delay.max(question.hint.unwrap_or_default()).saturating_add(config.min_attempt_time);
    if question.deadline.allows(now, wanted) { Ok(delay) } else { Err(Stop::Deadline) }
}
