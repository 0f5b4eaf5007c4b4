use crate::time::{self, Duration, Instant};
use std::cell::Cell;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Nanoseconds between two comparisons.
const COMPARE_EVERY: u64 = 1_000_000_000;
/// The counter may be wrong by a hundredth; a clock that is being set right runs wrong by a twentieth of that.
const TOLERATED_SHARE: u64 = 100;
/// Less than this says nothing: a thread may have been held up for so long between two readings.
const HELD_UP: u64 = 1_000_000;
/// How often in a row a thread may see the same tick: a counter of 24 MHz shows each one for 40 ns.
const SAME_TICK: u32 = 4;
/// In place of the last agreement, once there is none any more. No tick comes near it for centuries.
const DISTRUSTED: u64 = 1 << 63;

/// A clock for what has to know the time on every call: nanoseconds, read from the processor's own counter.
///
/// A rate limit asks for the time on every request, and asking the operating system costs more than all the rest of the
/// check. The counter costs a quarter of that, but where a virtual machine is moved it may stand still, jump or run at
/// another speed. So it is compared with [`time::now`] once a second, before a tick is given out that lies more than a
/// second ahead, and when it seems to stand still. Once the two disagree by more than a hundredth the clock is read
/// instead, for good and without a step; a counter that lies is believed for a second at most.
///
/// All tickers of a process count from one moment and share what is known about the counter. In a build in which tests
/// can pause the time ([`time::CAN_PAUSE`]) each counts that time, from when it was made.
///
/// Needs the feature `ticker`.
///
/// ```
/// let ticker = perf_core::Ticker::new();
/// let start = ticker.now();
/// assert!(ticker.since(start) < 60_000_000_000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    origin: Instant,
    counter: &'static Compared,
}

impl Ticker {
    /// The first one of a process measures how fast the counter runs, which takes up to 200 ms.
    #[must_use]
    pub fn new() -> Self {
        static COUNTER: OnceLock<Compared> = OnceLock::new();
        let counter = COUNTER.get_or_init(|| {
            Compared::new(if time::CAN_PAUSE { quanta::Clock::mock().0 } else { quanta::Clock::new() })
        });
        Self { origin: time::now(), counter }
    }

    /// The tick of this moment, in nanoseconds. Rarely a little less than one read before: the counters of two
    /// processors, or the counter and the clock, do not agree to the nanosecond.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        if time::CAN_PAUSE { self.paused(time::now()) } else { self.counter.now() }
    }

    /// The tick of a moment of the clock. Reads both.
    #[must_use]
    pub fn at(&self, at: Instant) -> u64 {
        if time::CAN_PAUSE {
            return self.paused(at);
        }
        let (tick, now) = (self.counter.now(), time::now());
        tick.saturating_add(nanos(at.saturating_duration_since(now)))
            .saturating_sub(nanos(now.saturating_duration_since(at)))
    }

    /// Nanoseconds since `start`, which [`now`](Ticker::now) gave.
    #[inline]
    #[must_use]
    pub fn since(&self, start: u64) -> u64 {
        if time::CAN_PAUSE { self.now().saturating_sub(start) } else { self.counter.since(start) }
    }

    /// The tick to refuse something at because it is too early: `now`, which [`now`](Ticker::now) gave, or a later one
    /// if this thread has been given the same tick again and again and the counter turns out to stand still.
    #[inline]
    #[must_use]
    pub fn confirmed(&self, now: u64) -> u64 {
        if time::CAN_PAUSE { now } else { self.counter.confirmed(now) }
    }

    fn paused(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin))
    }
}

impl Default for Ticker {
    fn default() -> Self {
        Self::new()
    }
}

/// The counter, and when it last agreed with the clock.
#[derive(Debug)]
struct Compared {
    origin: Instant,
    counter: quanta::Clock,
    started: u64,
    /// Nanoseconds in 2³² counts, so that converting is a multiplication and a shift.
    scale: u64,
    /// The tick at which the two were last found to agree, or [`DISTRUSTED`].
    agreed: AtomicU64,
    /// What is added to the clock once it is read instead, so that ticks go on from where they were.
    offset: AtomicU64,
    /// What the clock said when they agreed. One thread at a time compares.
    exact_then: Mutex<u64>,
}

impl Compared {
    fn new(counter: quanta::Clock) -> Self {
        Self {
            origin: time::now(),
            started: counter.raw(),
            scale: counter.delta_as_nanos(0, 1 << 32),
            counter,
            agreed: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            exact_then: Mutex::new(0),
        }
    }

    #[inline]
    fn now(&self) -> u64 {
        let read = self.counted();
        // A counter that jumped back wraps round to a long time, and so does every tick once it is distrusted.
        if read.wrapping_sub(self.agreed.load(Relaxed)) < COMPARE_EVERY { read } else { self.compare() }
    }

    #[inline]
    fn since(&self, start: u64) -> u64 {
        let end = self.now();
        if end > start { end - start } else { self.compare().saturating_sub(start) }
    }

    #[inline]
    fn confirmed(&self, now: u64) -> u64 {
        thread_local! {
            /// The tick that something was last refused at, and how often it was the same.
            static LAST: Cell<(u64, u32)> = const { Cell::new((u64::MAX, 0)) };
        }
        let (tick, times) = LAST.get();
        if tick != now {
            LAST.set((now, 1));
            now
        } else if times < SAME_TICK {
            LAST.set((now, times + 1));
            now
        } else {
            self.compare()
        }
    }

    #[inline]
    fn counted(&self) -> u64 {
        let counts = self.counter.raw().saturating_sub(self.started);
        ((u128::from(counts) * u128::from(self.scale)) >> 32) as u64
    }

    fn exact(&self) -> u64 {
        nanos(time::now().saturating_duration_since(self.origin))
    }

    /// What the clock says, in ticks, once it is read instead of the counter.
    fn by_the_clock(&self) -> u64 {
        self.exact().wrapping_add(self.offset.load(Relaxed))
    }

    /// Compares the counter with the clock, and gives the tick that is true.
    #[cold]
    fn compare(&self) -> u64 {
        if self.agreed.load(Acquire) == DISTRUSTED {
            return self.by_the_clock();
        }
        // Waits for another that compares: what the counter says must not be believed before that is known.
        let mut exact_then = self.exact_then.lock().unwrap_or_else(PoisonError::into_inner);
        let agreed = self.agreed.load(Relaxed);
        if agreed == DISTRUSTED {
            return self.by_the_clock();
        }
        let (first, exact, read) = (self.counted(), self.exact(), self.counted());
        let passed = exact.saturating_sub(*exact_then);
        if (HELD_UP..u64::MAX / 2).contains(&read.wrapping_sub(first)) {
            return agreed.saturating_add(passed);
        }
        let claimed = read.wrapping_sub(agreed).cast_signed();
        if claimed.abs_diff(passed.cast_signed()) > passed / TOLERATED_SHARE + HELD_UP {
            self.offset.store(agreed.wrapping_sub(*exact_then), Relaxed);
            self.agreed.store(DISTRUSTED, Release);
            return agreed.saturating_add(passed);
        }
        // Only what was claimed for a whole second is settled: otherwise one that stands still would be let off a
        // millisecond at a time.
        if claimed.cast_unsigned() >= COMPARE_EVERY {
            *exact_then = exact;
            self.agreed.store(read, Relaxed);
        }
        read
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    /// Lets real time pass, which is what a counter is compared with.
    fn pass(counter: &Compared, nanos: u64) {
        let until = counter.exact() + nanos;
        while counter.exact() < until {
            std::hint::spin_loop();
        }
    }

    fn is_trusted(counter: &Compared) -> bool {
        counter.agreed.load(Relaxed) != DISTRUSTED
    }

    #[test]
    fn the_counter_of_this_machine_agrees_with_its_clock() {
        let counter = Compared::new(quanta::Clock::new());
        let (before, start) = (counter.exact(), counter.now());
        pass(&counter, 20_000_000);
        let taken = counter.since(start);
        let real = counter.exact() - before;
        assert!(taken >= 19_800_000 && taken <= real + real / 100, "{taken} of {real}");
        counter.compare();
        assert!(is_trusted(&counter));
    }

    #[test]
    fn a_counter_that_stands_still_is_noticed_by_refusals_however_close_to_the_last_comparison() {
        let (clock, mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        mock.increment(500);
        let refuse = || counter.confirmed(counter.now());
        assert_eq!(refuse(), 500);
        let start = counter.exact();
        // Never as long as a millisecond from one refusal to the next.
        while refuse() < 2_000_000 {
            assert!(counter.exact() - start < 1_000_000_000, "it is refused for ever");
            pass(&counter, 300_000);
        }
        assert!(!is_trusted(&counter));
        let now = counter.now();
        pass(&counter, 1_000_000);
        assert!((1_000_000..60_000_000_000).contains(&counter.since(now)), "the clock goes on");
    }

    #[test]
    fn a_counter_that_stands_still_for_short_queries_only_is_noticed_too() {
        let (clock, _mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        for _ in 0..12 {
            let start = counter.now();
            pass(&counter, 300_000);
            assert!(counter.since(start) < 60_000_000_000);
        }
        assert!(!is_trusted(&counter));
    }

    #[test]
    fn a_counter_that_jumps_ahead_is_believed_for_no_tick() {
        let (clock, mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        let start = counter.now();
        mock.increment(HOUR);
        assert!(counter.now() < 60_000_000_000, "an hour in no time");
        assert!(counter.since(start) < 60_000_000_000);
        assert!(!is_trusted(&counter));
    }

    #[test]
    fn a_jump_ahead_of_less_than_a_second_is_believed_for_a_second() {
        let (clock, mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        mock.increment(900_000_000);
        assert_eq!(counter.now(), 900_000_000);
        mock.increment(100_000_000);
        assert!(counter.now() < 500_000_000, "and then taken back");
        assert!(!is_trusted(&counter));
    }

    #[test]
    fn a_counter_that_jumps_back_gives_way_to_the_clock() {
        let (clock, mock) = quanta::Clock::mock();
        mock.increment(1 << 40);
        let counter = Compared::new(clock);
        mock.increment(500);
        let start = counter.now();
        pass(&counter, 3_000_000);
        mock.decrement(1 << 39);
        assert!((2_999_500..60_000_000_000).contains(&counter.since(start)), "it went back behind its start");
        pass(&counter, 1_000_000);
        assert!(counter.since(start) >= 3_999_500);
    }

    #[test]
    fn ticks_go_on_from_where_they_were_when_trust_is_lost() {
        let (clock, mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        // Right for long, though it runs a little differently from the clock.
        counter.agreed.store(HOUR, Relaxed);
        mock.increment(HOUR);
        let start = counter.now();
        assert_eq!(start, HOUR);
        mock.increment(HOUR);
        let after = counter.now();
        assert!((start..start + 60_000_000_000).contains(&after), "{after}");
    }

    #[test]
    fn an_agreement_is_settled_once_it_has_lasted_a_second() {
        let (clock, mock) = quanta::Clock::mock();
        let mut counter = Compared::new(clock);
        counter.origin -= Duration::from_millis(999);
        mock.increment(999_000_000);
        counter.compare();
        assert_eq!(counter.agreed.load(Relaxed), 0, "not yet");
        counter.origin -= Duration::from_millis(1);
        mock.increment(1_000_000);
        assert_eq!(counter.now(), 1_000_000_000);
        assert_eq!(counter.agreed.load(Relaxed), 1_000_000_000);
        assert!(is_trusted(&counter));
    }

    #[test]
    fn threads_that_compare_at_once_agree() {
        let (clock, mock) = quanta::Clock::mock();
        let counter = Compared::new(clock);
        mock.increment(HOUR);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(counter.now() < 60_000_000_000, "the jump was believed"));
            }
        });
    }

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn a_build_that_can_pause_follows_paused_time() {
        let ticker = Ticker::new();
        let start = ticker.now();
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ticker.since(start), 60_000_000_000);
        assert_eq!(ticker.now(), 60_000_000_000);
        assert_eq!(ticker.at(ticker.origin + Duration::from_secs(7)), 7_000_000_000);
        assert_eq!(ticker.confirmed(5), 5);
    }
}
