//! Time as the core sees it: nanoseconds in one integer, and a look at the clock that costs next to nothing.

use perf_core::Deadline;
use perf_core::time::{self, Duration, Instant};
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment, in nanoseconds of the pool's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// Later than every moment.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    #[cfg(test)]
    pub(crate) const fn at(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This moment and `time` more; what does not fit is never.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// This moment and so many nanoseconds more.
    pub(crate) const fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// So long before this moment; never stays never.
    pub(crate) fn before(self, time: Duration) -> Self {
        if self == Self::NEVER { self } else { Self(self.0.saturating_sub(nanos(time))) }
    }

    /// From `earlier` to this moment, zero when it is the other way round.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same in nanoseconds.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The whole of a duration in nanoseconds, 584 years at most.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads tokio's clock, which tests can pause, and the kernel's coarse one beside it.
///
/// On Linux a glance is the coarse monotonic clock: 3 ns instead of 25 ns, up to one scheduler tick (4 ms on most
/// kernels) behind. A build in which tests can pause the time looks at that time instead, exactly; where a host pauses
/// tokio's clock without saying so, the offset is put right at each turn of the maintenance task.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    /// What is added to the kernel's clock to get the pool's count.
    offset: AtomicU64,
}

impl Clock {
    /// How far a glance may be behind.
    pub(crate) const COARSE: Duration = Duration::from_millis(5);

    /// Counts from a day ago: a runtime whose time was paused before now must still see it move.
    pub(crate) fn new() -> Self {
        let now = time::now();
        let base = now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now);
        let clock = Self { base, offset: AtomicU64::new(0) };
        clock.adjust();
        clock
    }

    /// The present moment, exactly.
    pub(crate) fn now(&self) -> Tick {
        self.tick(time::now())
    }

    pub(crate) fn tick(&self, instant: Instant) -> Tick {
        Tick(nanos(instant.saturating_duration_since(self.base)))
    }

    pub(crate) fn deadline(&self, deadline: Deadline) -> Tick {
        deadline.instant().map_or(Tick::NEVER, |at| self.tick(at))
    }

    /// When the clock will show this moment; none for never.
    pub(crate) fn instant(&self, tick: Tick) -> Option<Instant> {
        if tick == Tick::NEVER {
            return None;
        }
        self.base.checked_add(Duration::from_nanos(tick.0))
    }

    /// About the present moment.
    #[inline]
    pub(crate) fn glance(&self) -> Tick {
        if time::CAN_PAUSE {
            return self.now();
        }
        Tick(coarse(self).wrapping_add(self.offset.load(Ordering::Relaxed)))
    }

    /// Puts glances right, should tokio's clock have been paused.
    pub(crate) fn adjust(&self) {
        let exact = self.now().0;
        self.offset.store(exact.wrapping_sub(fine(self)), Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse(_: &Clock) -> u64 {
    raw(rustix::time::ClockId::MonotonicCoarse)
}

/// The clock that the coarse one follows.
#[cfg(target_os = "linux")]
fn fine(_: &Clock) -> u64 {
    raw(rustix::time::ClockId::Monotonic)
}

#[cfg(target_os = "linux")]
#[inline]
fn raw(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

#[cfg(not(target_os = "linux"))]
fn coarse(clock: &Clock) -> u64 {
    clock.now().0
}

#[cfg(not(target_os = "linux"))]
fn fine(clock: &Clock) -> u64 {
    clock.now().0
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_ends_at_never() {
        assert_eq!(Tick(5).after(Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::NEVER.before(Duration::from_secs(1)), Tick::NEVER);
        assert_eq!(
            (Tick(5).before(Duration::from_secs(1)), Tick(5).since(Tick(9))),
            (Tick(0), Duration::ZERO)
        );
        assert_eq!(Clock::new().instant(Tick::NEVER), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_glance_follows_paused_time() {
        let clock = Clock::new();
        let before = clock.glance();
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(clock.glance().since(before), Duration::from_secs(60));
        assert_eq!(clock.instant(clock.now()), Some(time::now()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_coarse_clock_is_never_ahead_and_little_behind() {
        let clock = Clock::new();
        for _ in 0..1000 {
            let (seen, exact) = (coarse(&clock), fine(&clock));
            assert!(seen <= exact && exact - seen < 1_000_000_000, "{seen} for {exact}");
        }
    }
}
