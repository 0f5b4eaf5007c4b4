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
use std::ops::Range;
use std::sync::OnceLock;

/// The counts of one octave.
type Page = [AtomicU64; bucket::PER_OCTAVE];

/// The octaves of a group, each made when it is first touched.
type Group = [OnceLock<Box<Page>>; bucket::PER_GROUP];

/// A distribution that many threads record into without a lock.
///
/// Recording costs an index computation and an addition to a bucket and to the sum. A histogram that is written often
/// gets stripes: a thread with one of its own (as many as twice the cores, at most 16) then adds without an atomic
/// read-modify-write. An empty histogram takes 300 bytes; memory grows by 256 bytes for each octave (power of two) that
/// is touched, and by 256 for each 16 neighbouring octaves. Latencies usually span six to ten octaves: about 2.5 KiB, and
/// as much again for each thread that writes a hot histogram. Where recording must not allocate, [`Histogram::reserve`]
/// makes room beforehand. Quantiles are off by at most 1.083 % of the value.
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
    /// Written by every thread while the histogram is cold, and later by the threads that have no stripe.
    shared: Cells,
    stripes: OnceLock<Box<[OnceLock<Box<Cells>>]>>,
    /// How often, roughly, until it is hot.
    writes: AtomicU64,
    zeros: AtomicU64,
    refused: AtomicU64,
    /// The octaves for which every set of cells has room from the start.
    reserved: Range<u16>,
}

/// Writes after which a histogram gets stripes. Most of a host's histograms never see as many, and stay small.
const COLD_WRITES: u64 = 1024;

/// Buckets by group and octave, and the sum of the values as the bits of a number.
#[derive(Debug)]
struct Cells {
    groups: [OnceLock<Box<Group>>; bucket::GROUPS],
    sum: AtomicU64,
}

impl Cells {
    fn new() -> Self {
        Self { groups: std::array::from_fn(|_| OnceLock::new()), sum: AtomicU64::new(0) }
    }

    fn with_room_for(octaves: &Range<u16>) -> Self {
        let cells = Self::new();
        for octave in octaves.clone() {
            cells.page(usize::from(octave));
        }
        cells
    }

    #[inline]
    fn page(&self, octave: usize) -> &Page {
        let group = self.groups[octave / bucket::PER_GROUP]
            .get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        group[octave % bucket::PER_GROUP].get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// The counts of an octave that was touched.
    fn touched(&self, octave: usize) -> Option<&Page> {
        self.groups[octave / bucket::PER_GROUP].get()?[octave % bucket::PER_GROUP].get().map(|page| &**page)
    }

    /// Adds as the only thread that writes these cells: nothing can come between a load and its store.
    #[inline]
    fn add_alone(&self, octave: usize, slot: usize, value: f64) {
        let cell = &self.page(octave)[slot];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed)) + value;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// Adds beside other threads.
    fn add_shared(&self, octave: usize, slot: usize, value: f64) {
        self.page(octave)[slot].fetch_add(1, Ordering::Relaxed);
        let mut seen = self.sum.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(seen) + value).to_bits();
            match self.sum.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => seen = actual,
            }
        }
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Cells::new(),
            stripes: OnceLock::new(),
            writes: AtomicU64::new(0),
            zeros: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            reserved: 0..0,
        }
    }

    /// Makes room for the values of a range, so that recording one of them never allocates: neither now nor, beyond what
    /// a thread takes at its first write, once the histogram is hot. Other values are recorded as ever.
    ///
    /// Takes 256 bytes for each power of two in the range, and for each 16 of them; once more for each thread that writes
    /// a hot histogram. A range that is empty, negative or not a number reserves nothing.
    ///
    /// ```
    /// // From a microsecond to a minute: 26 powers of two.
    /// let latency = perf_core::Histogram::new().reserve(1e-6..60.0);
    /// latency.record(0.02);
    /// assert_eq!(latency.snapshot().count(), 1);
    /// ```
    #[must_use]
    pub fn reserve(mut self, values: Range<f64>) -> Self {
        if values.end > values.start && values.end > bucket::ZERO_THRESHOLD {
            let octave = |value: f64| {
                let value = value.clamp(bucket::ZERO_THRESHOLD, f64::MAX);
                bucket::place_of(bucket::index_of(value)).0 as u16
            };
            self.reserved = octave(values.start)..octave(values.end) + 1;
            self.shared = Cells::with_room_for(&self.reserved);
        }
        self
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
        let (octave, cell) = bucket::place_of(bucket::index_of(value));
        match self.stripes.get() {
            Some(stripes) => match stripes.get(slot) {
                Some(stripe) => self.own(stripe).add_alone(octave, cell, value),
                None => self.shared.add_shared(octave, cell, value),
            },
            None => self.record_cold(octave, cell, value),
        }
    }

    /// The cells of a stripe, made at its thread's first write.
    #[inline]
    fn own<'a>(&self, stripe: &'a OnceLock<Box<Cells>>) -> &'a Cells {
        stripe.get_or_init(|| Box::new(Cells::with_room_for(&self.reserved)))
    }

    #[inline(never)]
    fn record_cold(&self, octave: usize, cell: usize, value: f64) {
        self.shared.add_shared(octave, cell, value);
        let writes = self.writes.load(Ordering::Relaxed) + 1;
        self.writes.store(writes, Ordering::Relaxed);
        if writes >= COLD_WRITES {
            self.stripe(slots::stripes());
        }
    }

    fn stripe(&self, stripes: usize) {
        self.stripes.get_or_init(|| (0..stripes).map(|_| OnceLock::new()).collect());
    }

    /// The shared cells and those of every thread that has written.
    fn cells(&self) -> impl Iterator<Item = &Cells> {
        let stripes = self.stripes.get().into_iter().flatten();
        std::iter::once(&self.shared).chain(stripes.filter_map(|stripe| stripe.get().map(|cells| &**cells)))
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
        for group in 0..bucket::GROUPS {
            // Most groups were never touched by anyone.
            if self.cells().all(|cells| cells.groups[group].get().is_none()) {
                continue;
            }
            for octave in group * bucket::PER_GROUP..(group + 1) * bucket::PER_GROUP {
                self.read_octave(octave, snapshot);
            }
        }
        snapshot.zeros = self.zeros.load(Ordering::Relaxed);
        snapshot.sum =
            self.cells().fold(0.0, |sum, cells| sum + f64::from_bits(cells.sum.load(Ordering::Relaxed)));
    }

    fn read_octave(&self, octave: usize, snapshot: &mut HistogramSnapshot) {
        let mut counts = [0_u64; bucket::PER_OCTAVE];
        for page in self.cells().filter_map(|cells| cells.touched(octave)) {
            for (count, cell) in counts.iter_mut().zip(page) {
                *count = count.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        let found = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        snapshot.buckets.extend(found.map(|(slot, count)| (bucket::index_at(octave, slot), *count)));
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
            let histogram = Histogram::new();
            histogram.stripe(1);
            // What is made on first use is made here: loom does not see the standard library's locks.
            let octave = bucket::place_of(bucket::index_of(2.0)).0;
            histogram.shared.page(octave);
            let stripe = histogram.stripes.get().and_then(|stripes| stripes.first()).unwrap();
            stripe.get_or_init(|| Box::new(Cells::new())).page(octave);
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
