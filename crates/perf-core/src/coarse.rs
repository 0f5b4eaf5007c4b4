use crate::time::{self, Duration, Instant};

/// Clocks count from so long before they are made: a runtime whose time was paused before that must still see it move.
const BEFORE: Duration = Duration::from_secs(86_400);
/// Reading both clocks takes less than this, unless the thread is held up in between.
const AT_ONCE: u64 = 100_000;

/// Answers "is it time yet?" for what is asked far more often than it is time: an open breaker, say.
///
/// Far from the moment in question the kernel's coarse clock is enough. It is never ahead, so what it says is not yet due
/// is not yet due, and reading it takes 3 ns where the exact clock and the processor's counter take 10 to 30. Closer than
/// [`CoarseClock::BEHIND`] the exact clock is asked, so nothing comes early, and nothing late.
///
/// Only Linux has that clock; elsewhere, and in a build in which tests can pause the time ([`time::CAN_PAUSE`]), every
/// answer is exact.
///
/// Needs the feature `ticker`.
///
/// ```
/// use perf_core::{CoarseClock, time};
/// use std::time::Duration;
///
/// let clock = CoarseClock::new();
/// let (past, future) = (time::now(), time::now() + Duration::from_secs(60));
/// assert_eq!(clock.left(clock.tick(past)), None);
/// assert!(clock.left(clock.tick(future)).unwrap() > Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CoarseClock {
    base: Instant,
    /// What the kernel's clock said at `base` or a little later.
    origin: u64,
}

impl CoarseClock {
    /// Further behind than the coarse clock ever is: it moves with the kernel's tick, every 1 to 10 ms.
    pub const BEHIND: Duration = Duration::from_millis(20);

    /// Reads both clocks.
    #[must_use]
    pub fn new() -> Self {
        let (now, read) = read_together(kernel::exact, time::now);
        let base = now.checked_sub(BEFORE).unwrap_or(now);
        Self { base, origin: read.wrapping_sub(nanos(now.saturating_duration_since(base))) }
    }

    /// A moment in this clock's own count of nanoseconds.
    #[inline]
    #[must_use]
    pub fn tick(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }

    /// How long it is until `tick`, up to [`CoarseClock::BEHIND`] more than it really is; `None` once it has come.
    #[inline]
    #[must_use]
    pub fn left(&self, tick: u64) -> Option<Duration> {
        left(tick, self.about(), || self.tick(time::now()))
    }

    /// How long it is from a known moment until `tick`, exactly; `None` once it has come.
    #[inline]
    #[must_use]
    pub fn left_at(&self, tick: u64, now: Instant) -> Option<Duration> {
        waiting(tick.saturating_sub(self.tick(now)))
    }

    #[inline]
    fn about(&self) -> u64 {
        match kernel::COARSE {
            Some(coarse) if !time::CAN_PAUSE => coarse().wrapping_sub(self.origin),
            _ => self.tick(time::now()),
        }
    }
}

impl Default for CoarseClock {
    fn default() -> Self {
        Self::new()
    }
}

/// From `about` to `tick`, unless they are so close that it takes the exact moment to tell.
#[inline]
fn left(tick: u64, about: u64, exact: impl FnOnce() -> u64) -> Option<Duration> {
    const BEHIND: u64 = CoarseClock::BEHIND.as_nanos() as u64;
    let mut nanos = tick.saturating_sub(about);
    if nanos <= BEHIND {
        nanos = tick.saturating_sub(exact());
    }
    waiting(nanos)
}

#[inline]
fn waiting(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// What both clocks say at one moment, or `raw` a little after `clock`: then the difference makes late, never early.
fn read_together<T>(raw: impl Fn() -> u64, clock: impl Fn() -> T) -> (T, u64) {
    let read = || {
        let (before, now, after) = (raw(), clock(), raw());
        (after.saturating_sub(before), now, after)
    };
    let mut best = read();
    for _ in 0..10 {
        if best.0 < AT_ONCE {
            break;
        }
        let next = read();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1, best.2)
}

#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(target_os = "linux")]
mod kernel {
    use rustix::time::{ClockId, clock_gettime};

    pub(super) const COARSE: Option<fn() -> u64> = Some(|| read(ClockId::MonotonicCoarse));

    /// The clock that the coarse one follows, which is the standard library's as well.
    pub(super) fn exact() -> u64 {
        read(ClockId::Monotonic)
    }

    #[inline]
    fn read(clock: ClockId) -> u64 {
        let now = clock_gettime(clock);
        now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    pub(super) const COARSE: Option<fn() -> u64> = None;

    pub(super) fn exact() -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const BEHIND: u64 = 20_000_000;

    #[test]
    fn far_from_the_moment_the_exact_clock_is_not_asked() {
        let never = || -> u64 { panic!("asked") };
        assert_eq!(left(BEHIND + 1, 0, never), Some(Duration::from_nanos(BEHIND + 1)));
        assert_eq!(left(u64::MAX, 7, never), Some(Duration::from_nanos(u64::MAX - 7)));
    }

    #[test]
    fn near_the_moment_nothing_is_early_and_nothing_late() {
        let due = 1_000_000_000;
        for behind in [0, 1, 4_000_000, BEHIND] {
            for exact in [due - BEHIND - 1, due - BEHIND, due - 1, due, due + 1, due + BEHIND, due * 2] {
                let left = left(due, exact - behind, || exact);
                assert_eq!(left.is_none(), exact >= due, "{behind} behind at {exact}");
                let real = due.saturating_sub(exact);
                let said = left.map_or(0, |left| left.as_nanos() as u64);
                assert!((real..=real + behind).contains(&said), "{said} for {real}");
            }
        }
    }

    #[test]
    fn a_thread_held_up_while_the_clocks_are_compared_tries_again() {
        let time = Cell::new(0);
        let raw = || {
            time.set(time.get() + 10);
            time.get()
        };
        let held_up = Cell::new(3);
        let clock = || {
            if held_up.get() > 0 {
                held_up.set(held_up.get() - 1);
                time.set(time.get() + 5_000_000);
            }
            time.get()
        };
        let (now, read) = read_together(raw, clock);
        assert_eq!(read - now, 10);
    }

    #[test]
    fn a_thread_that_is_always_held_up_takes_the_shortest_time() {
        let (time, turns) = (Cell::new(0_u64), Cell::new(0_u64));
        let clock = || {
            turns.set(turns.get() + 1);
            time.set(time.get() + if turns.get() == 4 { 200_000 } else { 900_000 });
            turns.get()
        };
        assert_eq!(read_together(|| time.get(), clock).0, 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_coarse_clock_is_never_ahead_of_the_exact_one() {
        let (clock, coarse) = (CoarseClock::new(), kernel::COARSE.unwrap());
        let mut first = None;
        // Until it has moved, whatever the machine's tick.
        while first.is_none_or(|first| first == coarse()) {
            first = first.or(Some(coarse()));
            let (about, exact) = (coarse().wrapping_sub(clock.origin), clock.tick(time::now()));
            assert!(about <= exact, "{about} for {exact}");
        }
    }

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn a_build_that_can_pause_answers_exactly() {
        let clock = CoarseClock::new();
        let due = clock.tick(time::now() + Duration::from_secs(60));
        time::sleep(Duration::from_millis(59_999)).await;
        assert_eq!(clock.left(due), Some(Duration::from_millis(1)));
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(clock.left(due), None);
    }
}
