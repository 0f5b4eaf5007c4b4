//! The one clock of perfkit, which is tokio's, so that any test can pause it.
//!
//! Decision code never reads the clock itself: it takes `now: Instant` and is tested by passing instants.
//! Where a clock is read, it is read through [`now`]. `std::time::Instant` is refused by clippy in this workspace.
//!
//! ```
//! use perf_core::{Deadline, time};
//! use std::time::Duration;
//!
//! let now = time::now();
//! let deadline = Deadline::after(now, Duration::from_secs(2));
//! assert_eq!(deadline.remaining(now), Some(Duration::from_secs(2)));
//! assert!(deadline.has_passed(now + Duration::from_secs(2)));
//! ```

use std::future::Future;

pub use std::time::Duration;
pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

/// Whether this build can pause the clock (feature `test-util`). Code that reads a cheaper clock on a hot path asks it,
/// and reads [`now`] instead when tests may move the time.
pub const CAN_PAUSE: bool = cfg!(feature = "test-util");

/// Reads the clock. Costs about 27 ns on the reference machine, so hot paths read it at most once.
#[inline]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The instant after which an answer is of no use to anyone: absolute, so that passing it on never extends it.
///
/// Deadlines are ordered: an earlier one is smaller, and [`Deadline::NEVER`] is the largest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(Option<Instant>);

/// A [`Deadline`] passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

impl Deadline {
    /// No limit. Only for work whose every await is bounded by something else.
    pub const NEVER: Self = Self(None);

    /// A deadline at a known instant.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// `limit` after `now`; a limit too large for the clock means [`Deadline::NEVER`].
    #[must_use]
    #[inline]
    pub fn after(now: Instant, limit: Duration) -> Self {
        Self(now.checked_add(limit))
    }

    /// `limit` from the present moment. Reads the clock.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self::after(now(), limit)
    }

    /// The earlier of two deadlines.
    #[must_use]
    #[inline]
    pub fn earliest(self, other: Self) -> Self {
        self.min(other)
    }

    /// The instant itself, or `None` for [`Deadline::NEVER`].
    #[must_use]
    #[inline]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Time left at `now`: zero once it has passed, `None` for [`Deadline::NEVER`].
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }

    /// Whether nothing is left at `now`. The instant itself counts as passed.
    #[must_use]
    #[inline]
    pub fn has_passed(self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }

    /// Whether work that takes `time` can still finish when it starts at `now`.
    #[must_use]
    pub fn allows(self, now: Instant, time: Duration) -> bool {
        self.remaining(now).is_none_or(|left| left >= time)
    }

    /// Runs `work` and gives up when the deadline passes.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline passed first; `work` has then been dropped.
    ///
    /// # Cancel safety
    /// Exactly as cancel safe as `work`: dropping this future drops `work`.
    pub async fn run<F: Future>(self, work: F) -> Result<F::Output, Elapsed> {
        match self.0 {
            None => Ok(work.await),
            Some(at) => timeout_at(at, work).await.map_err(|_| Elapsed),
        }
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self.0, other.0) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => std::cmp::Ordering::Equal,
        }
    }
}

impl Default for Deadline {
    /// [`Deadline::NEVER`].
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self::at(instant)
    }
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(at) => f.debug_tuple("Deadline").field(&at).finish(),
            None => f.write_str("Deadline::NEVER"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn a_build_that_can_pause_says_so_and_does() {
        assert!(std::hint::black_box(CAN_PAUSE));
        let before = now();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(3600));
    }

    #[test]
    fn never_is_later_than_any_deadline() {
        let soon = Deadline::within(Duration::from_millis(1));
        assert!(soon < Deadline::NEVER);
        assert_eq!(Deadline::NEVER.earliest(soon), soon);
    }

    #[test]
    fn a_limit_beyond_the_clock_means_never() {
        assert_eq!(Deadline::within(Duration::MAX), Deadline::NEVER);
    }

    #[test]
    fn the_remaining_time_stops_at_zero() {
        let now = now();
        let past = Deadline::after(now, Duration::from_millis(5));
        let later = now + Duration::from_secs(1);
        assert_eq!(past.remaining(later), Some(Duration::ZERO));
        assert!(past.has_passed(later) && !past.allows(later, Duration::from_nanos(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_when_the_deadline_passes() {
        let deadline = Deadline::within(Duration::from_millis(10));
        assert_eq!(deadline.run(std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(Deadline::NEVER.run(async { 7 }).await, Ok(7));
    }
}
