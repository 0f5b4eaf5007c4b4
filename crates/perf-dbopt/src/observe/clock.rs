//! The clock that durations of queries are read from: nanoseconds since it was made, by the processor's own counter.
//!
//! A query is timed twice, and asking the operating system for the time costs as much as all the rest of recording it. The
//! counter costs a quarter of that, but where a virtual machine is moved it may stand still, jump or run at another speed.
//! So it is compared with the real clock about once a second, and when the two disagree the counter is not read any more.

use super::stats::nanos;
use perf_core::time::{self, Instant};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Nanoseconds between two comparisons.
const COMPARE_EVERY: u64 = 1_000_000_000;
/// The counter may be wrong by a hundredth; a clock that is being set right runs wrong by a twentieth of that.
const TOLERATED_SHARE: u64 = 100;
/// A comparison during which the thread was held up for longer than this says nothing.
const HELD_UP: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    counter: quanta::Clock,
    started: u64,
    /// Nanoseconds in 2³² counts, so that converting is a multiplication and a shift.
    scale: u64,
    /// Whether the counter agreed with the clock so far.
    trusted: AtomicBool,
    /// What the counter said when it was last compared.
    compared: AtomicU64,
    /// What the clock said then. One thread at a time compares.
    exact_then: Mutex<u64>,
}

impl Clock {
    /// Starts at zero. The first one of a process measures how fast the counter runs, which takes up to 200 ms.
    pub(super) fn new() -> Self {
        // A build in which tests can pause the time reads that time.
        if time::CAN_PAUSE {
            Self::with(quanta::Clock::mock().0, false)
        } else {
            Self::with(quanta::Clock::new(), true)
        }
    }

    fn with(counter: quanta::Clock, trusted: bool) -> Self {
        Self {
            origin: time::now(),
            started: counter.raw(),
            scale: counter.delta_as_nanos(0, 1 << 32),
            counter,
            trusted: AtomicBool::new(trusted),
            compared: AtomicU64::new(0),
            exact_then: Mutex::new(0),
        }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        if self.trusted.load(Relaxed) { self.counted() } else { self.exact() }
    }

    /// Nanoseconds since `start`, which [`now`](Clock::now) gave.
    #[inline]
    pub(super) fn since(&self, start: u64) -> u64 {
        if !self.trusted.load(Relaxed) {
            return self.exact().saturating_sub(start);
        }
        let end = self.counted();
        // A counter that stands still or jumped back is as suspicious as one that was not compared for long.
        if end <= start || end.wrapping_sub(self.compared.load(Relaxed)) >= COMPARE_EVERY {
            return self.compare(end).saturating_sub(start);
        }
        end - start
    }

    #[inline]
    fn counted(&self) -> u64 {
        let counts = self.counter.raw().saturating_sub(self.started);
        ((u128::from(counts) * u128::from(self.scale)) >> 32) as u64
    }

    fn exact(&self) -> u64 {
        nanos(time::now().saturating_duration_since(self.origin))
    }

    /// Compares the counter with the clock: `read` when they agree, else the clock's time.
    #[cold]
    fn compare(&self, read: u64) -> u64 {
        let Ok(mut exact_then) = self.exact_then.try_lock() else { return read };
        let (first, exact, counted) = (self.counted(), self.exact(), self.counted());
        if (HELD_UP..u64::MAX / 2).contains(&counted.wrapping_sub(first)) {
            return read;
        }
        let real = exact.saturating_sub(*exact_then);
        let claimed = counted.wrapping_sub(self.compared.load(Relaxed)).cast_signed();
        if claimed.abs_diff(real.cast_signed()) > real / TOLERATED_SHARE + HELD_UP {
            self.trusted.store(false, Relaxed);
            return exact;
        }
        *exact_then = exact;
        self.compared.store(counted, Relaxed);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Lets real time pass, which is what a counter is compared with.
    fn pass(clock: &Clock, nanos: u64) -> u64 {
        let until = clock.exact() + nanos;
        while clock.exact() < until {
            std::hint::spin_loop();
        }
        until
    }

    #[test]
    fn the_counter_of_this_machine_agrees_with_its_clock() {
        let clock = Clock::with(quanta::Clock::new(), true);
        let before = clock.exact();
        let start = clock.now();
        pass(&clock, 20_000_000);
        let taken = clock.since(start);
        let real = clock.exact() - before;
        assert!(taken >= 19_800_000 && taken <= real + real / 100, "{taken} of {real}");
        // Compared when it is due, it is still trusted.
        clock.compare(clock.counted());
        assert!(clock.trusted.load(Relaxed));
    }

    #[test]
    fn a_counter_that_stands_still_gives_way_to_the_clock() {
        let (counter, _mock) = quanta::Clock::mock();
        let clock = Clock::with(counter, true);
        let start = clock.now();
        let passed = pass(&clock, 3_000_000);
        assert!(clock.since(start) >= passed, "the query that noticed has its true time");
        let next = clock.now();
        pass(&clock, 1_000_000);
        assert!((1_000_000..60_000_000_000).contains(&clock.since(next)));
    }

    #[test]
    fn a_counter_that_jumps_gives_way_before_it_makes_a_query_long() {
        let (counter, mock) = quanta::Clock::mock();
        let clock = Clock::with(counter, true);
        let start = clock.now();
        mock.increment(3_600_000_000_000);
        assert!(clock.since(start) < 60_000_000_000, "an hour in no time");
        assert!(!clock.trusted.load(Relaxed));
    }

    #[test]
    fn a_counter_that_jumps_back_gives_way_to_the_clock() {
        let (counter, mock) = quanta::Clock::mock();
        mock.increment(1 << 40);
        let clock = Clock::with(counter, true);
        mock.increment(500);
        let start = clock.now();
        mock.decrement(1 << 39);
        let passed = pass(&clock, 3_000_000);
        assert!((passed - 500..60_000_000_000).contains(&clock.since(start)));
        assert!(!clock.trusted.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_that_can_pause_follows_paused_time() {
        let clock = Clock::new();
        let start = clock.now();
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(clock.since(start), 60_000_000_000);
    }
}
