//! The clock of what has to know the time on every call: nanoseconds since it was made, read from the processor's own
//! counter.
//!
//! A rate limit asks for the time on every request and an open breaker on every refusal, and asking the operating system
//! costs more than all the rest of the check. The counter costs a quarter of that, but it is calibrated once and may stand still or jump where a virtual
//! machine is moved. So it is compared with the real clock about once a second, when a request is about to be refused:
//! no request is refused for long because of a counter that lies.

use perf_core::time::{self, Duration, Instant};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How old the last comparison may be when a request is refused.
const COMPARE_EVERY: u64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Ticker {
    origin: Instant,
    counter: quanta::Clock,
    started: u64,
    /// Nanoseconds in 2³² counts, so that converting is a multiplication and a shift.
    scale: u64,
    /// What the counter was off by when it was last compared with the clock.
    correction: AtomicI64,
    compared: AtomicU64,
}

impl Ticker {
    /// Starts at zero. The first one of a process measures how fast the counter runs, which takes up to 200 ms.
    pub(crate) fn new() -> Self {
        let counter = if time::CAN_PAUSE { quanta::Clock::mock().0 } else { quanta::Clock::new() };
        Self::with(counter)
    }

    fn with(counter: quanta::Clock) -> Self {
        Self {
            origin: time::now(),
            started: counter.raw(),
            scale: counter.delta_as_nanos(0, 1 << 32),
            counter,
            correction: AtomicI64::new(0),
            compared: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the start. A build in which tests can pause the time reads that time instead.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        if time::CAN_PAUSE { self.exact(time::now()) } else { self.counted() }
    }

    /// The tick of a moment of the clock.
    pub(crate) fn at(&self, at: Instant) -> u64 {
        if time::CAN_PAUSE {
            return self.exact(at);
        }
        let (tick, now) = (self.counted(), time::now());
        tick.saturating_add(nanos(at.saturating_duration_since(now)))
            .saturating_sub(nanos(now.saturating_duration_since(at)))
    }

    /// The tick to refuse a request at: `now`, or a corrected one if the counter was not compared with the clock lately.
    #[inline]
    pub(crate) fn confirmed(&self, now: u64) -> u64 {
        // A counter that jumped back wraps round to a long time, and is compared at once.
        if time::CAN_PAUSE || now.wrapping_sub(self.compared.load(Ordering::Relaxed)) < COMPARE_EVERY {
            return now;
        }
        self.compare()
    }

    #[inline]
    fn counted(&self) -> u64 {
        self.elapsed().saturating_add_signed(self.correction.load(Ordering::Relaxed))
    }

    /// By the counter alone; a counter that jumped back behind the start stands at zero until it is corrected.
    #[inline]
    fn elapsed(&self) -> u64 {
        let counts = self.counter.raw().saturating_sub(self.started);
        ((u128::from(counts) * u128::from(self.scale)) >> 32) as u64
    }

    fn exact(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin))
    }

    #[cold]
    fn compare(&self) -> u64 {
        let exact = self.exact(time::now());
        let difference = exact.cast_signed().wrapping_sub(self.elapsed().cast_signed());
        self.correction.store(difference, Ordering::Relaxed);
        self.compared.store(exact, Ordering::Relaxed);
        exact
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_stands_still_is_corrected_before_a_refusal() {
        let (counter, mock) = quanta::Clock::mock();
        mock.increment(5_000_000_000);
        let ticker = Ticker::with(counter);
        assert_eq!(ticker.counted(), 0);
        ticker.compared.store(1, Ordering::Relaxed);
        // One tick before the last comparison: the difference wraps round, so the clock is asked.
        while ticker.origin.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let exact = ticker.compare();
        assert!(exact >= 2_000_000, "{exact}");
        assert!(ticker.counted() >= 2_000_000, "the counter stands still, and yet the tick has moved on");
    }

    #[test]
    fn a_counter_that_runs_too_fast_is_pulled_back() {
        let (counter, mock) = quanta::Clock::mock();
        let ticker = Ticker::with(counter);
        mock.increment(3_600_000_000_000);
        assert_eq!(ticker.counted(), 3_600_000_000_000);
        assert!(ticker.compare() < 60_000_000_000);
        assert!(ticker.counted() < 60_000_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_that_can_pause_follows_paused_time() {
        let ticker = Ticker::new();
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ticker.now(), 60_000_000_000);
        assert_eq!(ticker.at(ticker.origin + Duration::from_secs(7)), 7_000_000_000);
        assert_eq!(ticker.confirmed(5), 5);
    }
}
