//! Counters and gauges that many threads write at once: relaxed atomics, striped so that threads do not share a line.

use crate::sync::{AtomicU64, Ordering};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

/// One counter cell with a cache line pair to itself (adjacent-line prefetching makes 64 bytes too few).
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// More stripes than this cost memory and reading time and win nothing measurable.
const MAX_STRIPES: usize = 16;

/// A monotone total. Adding never blocks and never shares a cache line with another core (up to 16 cores).
///
/// Totals wrap after 2⁶⁴, which at a billion a second takes 584 years.
///
/// ```
/// let hits = perf_core::Counter::new();
/// hits.increment();
/// hits.add(2);
/// assert_eq!(hits.get(), 3);
/// ```
#[derive(Debug)]
pub struct Counter(Box<[Stripe]>);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self((0..stripes()).map(|_| Stripe(AtomicU64::new(0))).collect())
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        // The number of stripes is a power of two, so the mask keeps every thread's index in range.
        let stripe = &self.0[thread_index() & (self.0.len() - 1)];
        stripe.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The total. Additions running at the same time may or may not be seen; none is ever lost.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe.0.load(Ordering::Relaxed)))
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// A level that goes up and down: things in flight, bytes held. Signed, so that concurrent additions and subtractions
/// may be seen in any order.
///
/// ```
/// let in_flight = perf_core::Gauge::new();
/// in_flight.add(2);
/// in_flight.subtract(1);
/// assert_eq!(in_flight.get(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Gauge(Counter);

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the level.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.add(amount);
    }

    /// Lowers the level.
    #[inline]
    pub fn subtract(&self, amount: u64) {
        self.0.add(amount.wrapping_neg());
    }

    /// The level. While others write, it may for a moment be off by what they are adding, and even be negative.
    #[must_use]
    pub fn get(&self) -> i64 {
        // Two's complement: the wrapped sum of the stripes is the level.
        self.0.get() as i64
    }
}

fn stripes() -> usize {
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cores.next_power_of_two().min(MAX_STRIPES)
    })
}

/// A small number that differs from thread to thread.
#[inline]
fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
    INDEX
        .try_with(|index| {
            if index.get() == usize::MAX {
                index.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) & (usize::MAX >> 1));
            }
            index.get()
        })
        .unwrap_or(0)
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.increment();
                        gauge.add(3);
                        gauge.subtract(2);
                    }
                });
            }
        });
        assert_eq!((counter.get(), gauge.get()), (40_000, 40_000));
    }

    #[test]
    fn a_gauge_may_be_lowered_by_another_thread_than_raised_it() {
        let gauge = Gauge::new();
        gauge.add(5);
        std::thread::scope(|scope| {
            scope.spawn(|| gauge.subtract(5));
        });
        assert_eq!(gauge.get(), 0);
    }
}
