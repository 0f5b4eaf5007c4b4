use super::Tally;
use crate::time::{Duration, Instant};

/// The last stretch of time, in buckets: what is older than the span leaves bucket by bucket.
///
/// With *b* buckets the window covers between `span × (b − 1)/b` and `span`. A gap longer than the span clears it in one
/// step, however long the gap. A clock that steps back counts as standing still.
///
/// ```
/// use perf_core::{TimeWindow, time};
/// use std::time::Duration;
///
/// let start = time::now();
/// let mut window = TimeWindow::new(Duration::from_secs(10), 10, start);
/// window.record(3_u64, start);
/// assert_eq!(window.total(start + Duration::from_secs(9)), 3);
/// assert_eq!(window.total(start + Duration::from_secs(10)), 0);
/// ```
#[derive(Clone, Debug)]
pub struct TimeWindow<T> {
    buckets: Box<[T]>,
    width: Duration,
    origin: Instant,
    /// Number of the newest bucket, counted from `origin`.
    newest: u128,
    total: T,
}

impl<T: Tally> TimeWindow<T> {
    /// A window of `span` in `buckets` parts. No buckets is read as one, and parts are at least a nanosecond long.
    #[must_use]
    pub fn new(span: Duration, buckets: usize, now: Instant) -> Self {
        let buckets = buckets.max(1);
        let width = (span / u32::try_from(buckets).unwrap_or(u32::MAX)).max(Duration::from_nanos(1));
        Self {
            buckets: vec![T::default(); buckets].into(),
            width,
            origin: now,
            newest: 0,
            total: T::default(),
        }
    }

    /// Takes in a record seen at `now`.
    pub fn record(&mut self, record: T, now: Instant) {
        self.advance(now);
        self.total.add(record);
        let newest = self.slot(self.newest);
        self.buckets[newest].add(record);
    }

    /// The sum of the records in the window at `now`.
    pub fn total(&mut self, now: Instant) -> T {
        self.advance(now);
        self.total
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(T::default());
        self.total = T::default();
    }

    /// The time the window covers.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.width.saturating_mul(u32::try_from(self.buckets.len()).unwrap_or(u32::MAX))
    }

    fn advance(&mut self, now: Instant) {
        let current = now.saturating_duration_since(self.origin).as_nanos() / self.width.as_nanos();
        if current <= self.newest {
            return;
        }
        if current - self.newest >= self.buckets.len() as u128 {
            self.clear();
        } else {
            for number in self.newest + 1..=current {
                let slot = self.slot(number);
                self.total.subtract(std::mem::take(&mut self.buckets[slot]));
            }
        }
        self.newest = current;
    }

    fn slot(&self, number: u128) -> usize {
        (number % self.buckets.len() as u128) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_gap_of_any_length_clears_the_window() {
        let start = now();
        let mut window = TimeWindow::new(SECOND * 10, 10, start);
        window.record(1_u64, start);
        // 2³² one-second buckets are 136 years.
        let later = start + SECOND * u32::MAX;
        assert_eq!(window.total(later), 0);
        window.record(2, later);
        assert_eq!(window.total(later + SECOND * 9), 2);
    }

    #[test]
    fn a_clock_that_steps_back_stands_still() {
        let start = now();
        let mut window = TimeWindow::new(SECOND * 5, 5, start);
        window.record(1_u64, start + SECOND * 3);
        window.record(1, start);
        assert_eq!(window.total(start), 2);
    }

    proptest! {
        #[test]
        fn holds_what_the_span_covers(buckets in 1..12_usize, records in prop::collection::vec((0..5000_u64, 1..9_u64), 0..60)) {
            let start = now();
            let width = Duration::from_millis(100);
            let mut window = TimeWindow::new(width * buckets as u32, buckets, start);
            let mut seen: Vec<(u128, u64)> = Vec::new();
            let mut elapsed = Duration::ZERO;
            for (step, record) in records {
                elapsed += Duration::from_millis(step % 400);
                let bucket = elapsed.as_nanos() / width.as_nanos();
                window.record(record, start + elapsed);
                seen.push((bucket, record));
                let expected: u64 = seen.iter().filter(|(b, _)| b + buckets as u128 > bucket).map(|(_, r)| r).sum();
                prop_assert_eq!(window.total(start + elapsed), expected);
            }
        }
    }
}
