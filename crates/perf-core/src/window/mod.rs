//! Sliding windows: the last *n* records, or the last stretch of time. Both keep a running total, so reading is O(1).

mod count;
mod time;

pub use count::CountWindow;
pub use time::TimeWindow;

/// What a window adds up: numbers that can be added and taken away again.
///
/// ```
/// use perf_core::Tally;
///
/// #[derive(Clone, Copy, Debug, Default, PartialEq)]
/// struct Calls { total: u32, failed: u32 }
///
/// impl Tally for Calls {
///     fn add(&mut self, other: Self) {
///         self.total += other.total;
///         self.failed += other.failed;
///     }
///     fn subtract(&mut self, other: Self) {
///         self.total -= other.total;
///         self.failed -= other.failed;
///     }
/// }
/// let mut window = perf_core::CountWindow::new(2);
/// for failed in [1, 0, 0] {
///     window.record(Calls { total: 1, failed });
/// }
/// assert_eq!(window.total(), Calls { total: 2, failed: 0 });
/// ```
pub trait Tally: Copy + Default {
    /// Adds what `other` counts.
    fn add(&mut self, other: Self);

    /// Takes away what was added before. A window never takes away more than it added.
    fn subtract(&mut self, other: Self);
}

impl Tally for u64 {
    fn add(&mut self, other: Self) {
        *self += other;
    }

    fn subtract(&mut self, other: Self) {
        *self -= other;
    }
}
