//! Counters and gauges that many threads write at once: small while they are seldom written, and striped once they are
//! hot, without an atomic addition where a thread has its stripe to itself.

use crate::slots;
use crate::sync::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// A part of a counter, with a cache line pair to itself (adjacent-line prefetching makes 64 bytes too few).
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    /// Written by the one thread that has this stripe.
    own: AtomicU64,
    /// Written by the threads that have no stripe.
    shared: AtomicU64,
}

/// Writes after which a counter gets stripes. Most of a host's thousands of series never see as many, and stay small
/// and quick to read; the hot ones see them within a blink.
const COLD_WRITES: u64 = 256;

/// A monotone total. Adding never blocks. A counter that is written often gets stripes: a thread with one of its own (as
/// many as twice the cores, at most 16) then adds without an atomic read-modify-write and without sharing a cache line.
///
/// Totals wrap after 2⁶⁴, which at a billion a second takes 584 years. A counter takes 32 bytes, and 128 more for each
/// stripe once it is hot: 512 bytes on two cores, 2 KiB on eight and more.
///
/// ```
/// let hits = perf_core::Counter::new();
/// hits.increment();
/// hits.add(2);
/// assert_eq!(hits.get(), 3);
/// ```
#[derive(Debug)]
pub struct Counter {
    /// What was added before there were stripes.
    cold: AtomicU64,
    /// How often, roughly: threads that write at the same moment may count as one.
    writes: AtomicU64,
    stripes: OnceLock<Box<[Stripe]>>,
}

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self { cold: AtomicU64::new(0), writes: AtomicU64::new(0), stripes: OnceLock::new() }
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.add_in(slots::current(), amount);
    }

    #[inline]
    fn add_in(&self, slot: usize, amount: u64) {
        match self.stripes.get() {
            Some(stripes) => match stripes.get(slot) {
                // Nobody else writes this cell, so nothing can come between the load and the store.
                Some(Stripe { own, .. }) => {
                    own.store(own.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
                }
                None => add_shared(stripes, slot, amount),
            },
            None => self.add_cold(amount),
        }
    }

    #[inline(never)]
    fn add_cold(&self, amount: u64) {
        self.cold.fetch_add(amount, Ordering::Relaxed);
        let writes = self.writes.load(Ordering::Relaxed) + 1;
        self.writes.store(writes, Ordering::Relaxed);
        if writes >= COLD_WRITES {
            self.stripe(slots::stripes());
        }
    }

    fn stripe(&self, stripes: usize) {
        let stripe = |_| Stripe { own: AtomicU64::new(0), shared: AtomicU64::new(0) };
        self.stripes.get_or_init(|| (0..stripes).map(stripe).collect());
    }

    /// The total. Additions running at the same time may or may not be seen; none is ever lost.
    #[must_use]
    pub fn get(&self) -> u64 {
        let cold = self.cold.load(Ordering::Relaxed);
        self.stripes.get().into_iter().flatten().fold(cold, |sum, stripe| {
            let own = stripe.own.load(Ordering::Relaxed);
            sum.wrapping_add(own).wrapping_add(stripe.shared.load(Ordering::Relaxed))
        })
    }
}

fn add_shared(stripes: &[Stripe], slot: usize, amount: u64) {
    stripes[slots::shared(slot, stripes.len())].shared.fetch_add(amount, Ordering::Relaxed);
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

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        // More threads than stripes: some have one to themselves, others share.
        std::thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.increment();
                        gauge.add(3);
                        gauge.subtract(2);
                    }
                });
            }
        });
        assert_eq!((counter.get(), gauge.get()), (240_000, 240_000));
    }

    #[test]
    fn a_stripe_passes_from_thread_to_thread_without_loss() {
        let counter = Counter::new();
        for _ in 0..200 {
            std::thread::scope(|scope| {
                scope.spawn(|| (0..100).for_each(|_| counter.increment()));
            });
        }
        assert!(counter.stripes.get().is_some());
        assert_eq!(counter.get(), 20_000);
    }

    #[test]
    fn a_counter_that_is_seldom_written_stays_small() {
        let counter = Counter::new();
        (1..COLD_WRITES).for_each(|_| counter.add(1_000_000));
        assert!(counter.stripes.get().is_none());
        counter.increment();
        assert!(counter.stripes.get().is_some());
        counter.add(5);
        assert_eq!(counter.get(), (COLD_WRITES - 1) * 1_000_000 + 6);
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

#[cfg(all(test, perf_loom))]
mod loom_tests {
    use super::*;
    use crate::slots::Slots;
    use loom::sync::Arc;
    use loom::thread;

    /// Two threads compete for one stripe: one owns it or both do after one another; nothing is lost.
    #[test]
    fn owners_and_sharers_lose_nothing_and_readers_never_see_too_much() {
        loom::model(|| {
            let counter = Counter::new();
            counter.stripe(1);
            let shared = Arc::new((Slots::new(), counter));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let slot = shared.0.take(1);
                        shared.1.add_in(slot, 1);
                        shared.1.add_in(slot, 1);
                        shared.0.give_back(slot);
                    })
                })
                .collect();
            assert!(shared.1.get() <= 4);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(shared.1.get(), 4);
        });
    }
}
