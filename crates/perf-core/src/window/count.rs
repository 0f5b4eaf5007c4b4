use super::Tally;

/// The last *n* records: a true ring, in which the oldest record leaves as the newest enters.
///
/// ```
/// let mut last_three = perf_core::CountWindow::new(3);
/// for sample in [10_u64, 1, 2, 3] {
///     last_three.record(sample);
/// }
/// assert_eq!((last_three.total(), last_three.len()), (6, 3));
/// ```
#[derive(Clone, Debug)]
pub struct CountWindow<T> {
    ring: Box<[T]>,
    next: usize,
    len: usize,
    total: T,
}

impl<T: Tally> CountWindow<T> {
    /// A window of `size` records; a size of 0 is read as 1.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { ring: vec![T::default(); size.max(1)].into(), next: 0, len: 0, total: T::default() }
    }

    /// Takes in a record; when the window is full the oldest one leaves.
    pub fn record(&mut self, record: T) {
        if self.len == self.ring.len() {
            self.total.subtract(self.ring[self.next]);
        } else {
            self.len += 1;
        }
        self.ring[self.next] = record;
        self.total.add(record);
        self.next += 1;
        if self.next == self.ring.len() {
            self.next = 0;
        }
    }

    /// The sum of the records in the window.
    #[must_use]
    pub fn total(&self) -> T {
        self.total
    }

    /// How many records the window holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many records it holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.next = 0;
        self.len = 0;
        self.total = T::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_exactly_the_newest_records(size in 1..20_usize, records in prop::collection::vec(0..1000_u64, 0..100)) {
            let mut window = CountWindow::new(size);
            for (seen, record) in records.iter().enumerate() {
                window.record(*record);
                let oldest = (seen + 1).saturating_sub(size);
                prop_assert_eq!(window.total(), records[oldest..=seen].iter().sum::<u64>());
                prop_assert_eq!(window.len(), (seen + 1).min(size));
            }
        }
    }

    #[test]
    fn a_cleared_window_starts_from_nothing() {
        let mut window = CountWindow::new(2);
        window.record(5_u64);
        window.clear();
        window.record(1);
        assert_eq!((window.total(), window.len()), (1, 1));
    }
}
