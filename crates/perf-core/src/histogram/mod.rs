//! A lock-free histogram in base-2 exponential buckets.
//!
//! One set of cells gives three exact views: quantiles with a proven bound, Prometheus native histograms and
//! OpenTelemetry exponential histograms without conversion, and classic `le` buckets whose bounds are powers of two.

mod bucket;
mod snapshot;
#[cfg(all(test, not(perf_loom)))]
mod tests;

pub use snapshot::{Estimate, HistogramSnapshot};

use crate::slots;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Duration;
use std::sync::OnceLock;

/// The counts of one octave.
type Page = [AtomicU64; bucket::PER_OCTAVE];

/// The octaves of a group, each made when it is first touched.
type Group = [OnceLock<Box<Page>>; bucket::PER_GROUP];

/// A distribution that many threads record into without a lock.
///
/// Recording costs an index computation, one relaxed addition to a bucket, and a plain load and store for the sum where
/// the thread has a stripe of its own. An empty histogram takes about 600 bytes; memory grows by 256 bytes for each
/// octave (power of two) that is touched, and by 256 for each 16 neighbouring octaves. Latencies usually span six to ten
/// octaves: about 2.5 KiB. Quantiles are off by at most 1.083 % of the value.
///
/// Values that are negative or not finite are refused and counted in [`Histogram::refused`]: they enter neither the
/// buckets nor the sum.
///
/// ```
/// use perf_core::Histogram;
/// use std::time::Duration;
///
/// let latency = Histogram::new();
/// latency.record_duration(Duration::from_millis(20));
/// latency.record(f64::NAN);
/// assert_eq!((latency.snapshot().count(), latency.refused()), (1, 1));
/// ```
#[derive(Debug)]
pub struct Histogram {
    groups: [OnceLock<Box<Group>>; bucket::GROUPS],
    zeros: AtomicU64,
    refused: AtomicU64,
    sums: Box<[Sum]>,
}

/// A part of the sum, as the bits of a number. Half a cache line pair each: the sum is written once per value, so
/// neighbours disturb each other less than two more cache lines would cost.
#[derive(Debug)]
#[repr(align(64))]
struct Sum {
    /// Written by the one thread that has this stripe.
    own: AtomicU64,
    /// Written by the threads that have no stripe.
    shared: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::striped(slots::stripes())
    }

    fn striped(stripes: usize) -> Self {
        let sum = || Sum { own: AtomicU64::new(0), shared: AtomicU64::new(0) };
        Self {
            groups: std::array::from_fn(|_| OnceLock::new()),
            zeros: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            sums: (0..stripes).map(|_| sum()).collect(),
        }
    }

    /// Records a value in the base unit of the metric (seconds, bytes).
    #[inline]
    pub fn record(&self, value: f64) {
        self.record_in(slots::current(), value);
    }

    #[inline]
    fn record_in(&self, slot: usize, value: f64) {
        if !(value > bucket::ZERO_THRESHOLD && value < f64::INFINITY) {
            self.record_special(value);
            return;
        }
        let (page, cell) = bucket::place_of(bucket::index_of(value));
        self.page(page)[cell].fetch_add(1, Ordering::Relaxed);
        self.add_to_sum(slot, value);
    }

    /// Zeros are counted apart; what is negative or not finite is refused.
    #[cold]
    fn record_special(&self, value: f64) {
        let cell = if (0.0..=bucket::ZERO_THRESHOLD).contains(&value) { &self.zeros } else { &self.refused };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a time in seconds.
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record(duration.as_secs_f64());
    }

    /// How many values were refused because they were negative or not finite.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The counts at this moment. Recording at the same time is seen in full or not at all by each bucket; the count is
    /// by construction the sum of the buckets.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        self.read_into(&mut snapshot);
        snapshot
    }

    /// The same as [`snapshot`](Self::snapshot) into a snapshot that is reused: once it has grown to the size of the
    /// distribution, reading allocates nothing.
    pub fn read_into(&self, snapshot: &mut HistogramSnapshot) {
        snapshot.schema = bucket::SCHEMA as i8;
        snapshot.buckets.clear();
        for (group, pages) in self.groups.iter().enumerate() {
            for (page, cells) in pages.get().into_iter().flat_map(|pages| pages.iter().enumerate()) {
                for (slot, cell) in cells.get().into_iter().flat_map(|cells| cells.iter().enumerate()) {
                    let count = cell.load(Ordering::Relaxed);
                    if count > 0 {
                        snapshot
                            .buckets
                            .push((bucket::index_at(group * bucket::PER_GROUP + page, slot), count));
                    }
                }
            }
        }
        snapshot.zeros = self.zeros.load(Ordering::Relaxed);
        snapshot.sum = self.sums.iter().fold(0.0, |sum, part| {
            let read = |cell: &AtomicU64| f64::from_bits(cell.load(Ordering::Relaxed));
            sum + read(&part.own) + read(&part.shared)
        });
    }

    #[inline]
    fn page(&self, octave: usize) -> &Page {
        let group = self.groups[octave / bucket::PER_GROUP]
            .get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        group[octave % bucket::PER_GROUP].get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    #[inline]
    fn add_to_sum(&self, slot: usize, value: f64) {
        match self.sums.get(slot) {
            // Nobody else writes this cell, so nothing can come between the load and the store.
            Some(Sum { own, .. }) => {
                let sum = f64::from_bits(own.load(Ordering::Relaxed)) + value;
                own.store(sum.to_bits(), Ordering::Relaxed);
            }
            None => self.add_to_shared_sum(slot, value),
        }
    }

    fn add_to_shared_sum(&self, slot: usize, value: f64) {
        let cell = &self.sums[slots::shared(slot, self.sums.len())].shared;
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(seen) + value).to_bits();
            match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => seen = actual,
            }
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, perf_loom))]
mod loom_tests {
    use super::*;
    use crate::slots::Slots;
    use loom::sync::Arc;
    use loom::thread;

    /// Two threads compete for one stripe of the sum and write one bucket: neither a count nor an amount is lost, and a
    /// reader's count is always the sum of the buckets it read.
    #[test]
    fn neither_counts_nor_amounts_are_lost() {
        loom::model(|| {
            let histogram = Histogram::striped(1);
            histogram.page(bucket::place_of(bucket::index_of(2.0)).0);
            let shared = Arc::new((Slots::new(), histogram));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let slot = shared.0.take(1);
                        shared.1.record_in(slot, 2.0);
                        shared.0.give_back(slot);
                    })
                })
                .collect();
            let during = shared.1.snapshot();
            assert!(during.count() <= 2 && during.sum() <= 4.0);
            for thread in threads {
                thread.join().unwrap();
            }
            let snapshot = shared.1.snapshot();
            assert_eq!((snapshot.count(), snapshot.sum()), (2, 4.0));
        });
    }
}
