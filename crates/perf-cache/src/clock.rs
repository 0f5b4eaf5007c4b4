//! The tick: monotonic time as one integer, cheap enough to read on every hit.

use perf_core::time;
use std::time::Duration;

/// Nanoseconds of a monotonic clock. Only differences mean anything; the wall clock plays no part, so a clock step
/// neither extends nor ends the life of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    /// `life` after this tick; what does not fit the clock is never.
    pub(crate) fn after(self, life: Duration) -> Self {
        Self(self.0.saturating_add(nanos(life)))
    }

    /// From `earlier` to this tick, zero when it is the other way round.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The whole of a duration in nanoseconds, 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the clock.
///
/// On Linux this is the kernel's coarse monotonic clock: 3 ns instead of 27 ns, up to one scheduler tick (4 ms on most
/// kernels) behind. A build in which tests can pause the time reads that time instead, exactly.
#[inline]
pub(crate) fn tick() -> Tick {
    if time::CAN_PAUSE { exact() } else { coarse() }
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse() -> Tick {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Tick((now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}

#[cfg(not(target_os = "linux"))]
#[inline]
fn coarse() -> Tick {
    exact()
}

/// The pausable clock, counted from a day before its first reading: a runtime paused earlier than that reading must still
/// see its own time move.
fn exact() -> Tick {
    static BASE: std::sync::OnceLock<time::Instant> = std::sync::OnceLock::new();
    let base = BASE.get_or_init(|| {
        let now = time::now();
        now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now)
    });
    Tick(nanos(time::now().saturating_duration_since(*base)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_beyond_the_clock_never_end() {
        assert_eq!(Tick(5).after(Duration::MAX), Tick(u64::MAX));
        assert_eq!(Tick(5).since(Tick(9)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tick_follows_paused_time() {
        let before = tick();
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tick().since(before), Duration::from_secs(60));
    }

    #[test]
    fn the_coarse_clock_moves_forward_only() {
        let first = coarse();
        assert!((0..1000).map(|_| coarse()).is_sorted() && coarse() >= first);
    }
}
