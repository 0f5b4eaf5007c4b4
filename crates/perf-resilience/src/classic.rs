//! For hosts that still hold types of the `backoff` crate (feature `backoff`).
//!
//! That crate is unmaintained (RUSTSEC-2025-0012) and brings another that is (RUSTSEC-2024-0384), so the feature is neither
//! a default nor part of `full`. It converts in both directions while a host moves over; new code has
//! [`Retry`](crate::Retry) and [`perf_core::Backoff::classic`], whose numbers are the same.

use crate::judge::{Again, Judge, Verdict};
use backoff::exponential::ExponentialBackoff;
use perf_core::time::{self, Duration, Instant};
use perf_core::{Backoff, Classify, Delays, Jitter, Outcome, Rng};

/// Our delays as a policy of that crate: give it to `backoff::retry`.
///
/// ```
/// use backoff::backoff::Backoff as _;
/// use perf_core::Backoff;
/// use perf_resilience::classic::Series;
/// use std::time::Duration;
///
/// let mut series = Series::new(Backoff::classic(), Some(Duration::from_secs(900)));
/// let first = series.next_backoff().unwrap();
/// assert!((Duration::from_millis(250)..=Duration::from_millis(750)).contains(&first));
/// ```
#[derive(Clone, Debug)]
pub struct Series {
    delays: Delays,
    limit: Option<Duration>,
    started: Instant,
}

impl Series {
    /// The delays of `backoff`, until `limit` has passed since the start or the last reset.
    #[must_use]
    pub fn new(backoff: Backoff, limit: Option<Duration>) -> Self {
        Self { delays: backoff.delays(Rng::from_entropy().next_u64()), limit, started: time::now() }
    }
}

impl backoff::backoff::Backoff for Series {
    fn reset(&mut self) {
        self.delays.reset();
        self.started = time::now();
    }

    /// `None` once the delay would end beyond the limit: looked at before sleeping, not after.
    fn next_backoff(&mut self) -> Option<Duration> {
        let delay = self.delays.next()?;
        let end = self.started.elapsed().saturating_add(delay);
        self.limit.is_none_or(|limit| end <= limit).then_some(delay)
    }
}

/// The same delays as that crate's policy, whatever the state it is in.
#[must_use]
pub fn delays_of<C>(policy: &ExponentialBackoff<C>) -> Backoff {
    Backoff::exponential(policy.initial_interval)
        .factor(policy.multiplier)
        .cap(policy.max_interval)
        .jitter(Jitter::Proportional(policy.randomization_factor))
}

impl<C> From<ExponentialBackoff<C>> for Series {
    fn from(policy: ExponentialBackoff<C>) -> Self {
        Self::new(delays_of(&policy), policy.max_elapsed_time)
    }
}

/// Knows [`backoff::Error`]: permanent errors are final, transient ones may be tried again, after their wait if they name
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackoffErrors;

impl<T: ?Sized, E> Judge<T, backoff::Error<E>> for BackoffErrors {
    fn judge(&self, result: Result<&T, &backoff::Error<E>>) -> Verdict {
        match result {
            Ok(_) => Verdict::of(Outcome::Success),
            Err(backoff::Error::Permanent(_)) => Verdict::of(Outcome::Failure).again(Again::No),
            Err(backoff::Error::Transient { retry_after: None, .. }) => Verdict::of(Outcome::Failure),
            Err(backoff::Error::Transient { retry_after: Some(wait), .. }) => {
                Verdict::of(Outcome::Failure).hint(*wait)
            }
        }
    }
}

impl<T: ?Sized, E> Classify<T, backoff::Error<E>> for BackoffErrors {
    fn classify(&self, result: Result<&T, &backoff::Error<E>>) -> Outcome {
        self.judge(result).outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backoff::backoff::Backoff as _;

    #[test]
    fn the_classic_delays_lie_within_the_bounds_of_the_crate_they_are_named_after() {
        let mut theirs = backoff::ExponentialBackoff { max_elapsed_time: None, ..Default::default() };
        let ours = Backoff::classic();
        let mut series = Series::new(ours, None);
        for step in 1..=10_000 {
            let middle = ours.plain(step).as_secs_f64();
            let (their, our) =
                (theirs.next_backoff().unwrap().as_secs_f64(), series.next_backoff().unwrap().as_secs_f64());
            let bounds = middle * 0.4999..=middle * 1.5001;
            assert!(bounds.contains(&their), "{step}: {their}");
            assert!(bounds.contains(&our), "{step}: {our}");
        }
        let converted = delays_of(&backoff::ExponentialBackoff::default());
        assert!((1..50).all(|step| converted.plain(step) == ours.plain(step)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_looked_at_before_sleeping_and_a_reset_starts_over() {
        let constant = Backoff::constant(Duration::from_secs(4)).jitter(Jitter::None);
        let mut series = Series::new(constant, Some(Duration::from_secs(9)));
        for _ in 0..2 {
            time::sleep(series.next_backoff().unwrap()).await;
        }
        assert_eq!(series.next_backoff(), None, "8 s are gone, and 4 more are 12");
        series.reset();
        assert_eq!(series.next_backoff(), Some(Duration::from_secs(4)));
        let theirs = backoff::ExponentialBackoff::default();
        assert_eq!(Series::from(theirs).limit, Some(Duration::from_secs(900)));
    }

    #[test]
    fn permanent_errors_are_final_and_waits_are_hints() {
        let judge = |error: backoff::Error<u8>| BackoffErrors.judge(Err::<&(), _>(&error));
        assert_eq!(judge(backoff::Error::permanent(1)).again, Again::No);
        assert_eq!(judge(backoff::Error::transient(1)).again, Again::IfIdempotent);
        let wait = Duration::from_secs(3);
        assert_eq!(judge(backoff::Error::retry_after(1, wait)).hint, Some(wait));
    }
}
