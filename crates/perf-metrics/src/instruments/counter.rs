use super::sealed::Sealed;
use crate::page::{Family, Page, Value};
use crate::rejections::{Rejection, Rejections};
use perf_core::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Amounts from which the end of the range is looked at before they are added. Smaller ones need sixty thousand
/// additions to get there, and are noticed by the next reading.
const LARGE: u64 = 1 << 48;

/// A monotone total. Handles are cheap to clone and count into one series for as long as one of them lives.
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let orders = metrics.counter("orders", "Orders placed").get().unwrap();
/// orders.increment();
/// assert!(orders.try_add_f64(-1.0).is_err());
/// assert_eq!(orders.total(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Counter(Arc<Cells>);

#[derive(Debug)]
struct Cells {
    added: perf_core::Counter,
    /// The highest value given to [`Counter::absolute`].
    absolute: AtomicU64,
    /// The highest total that was read.
    read: AtomicU64,
    /// The total has reached its end, where it stays.
    ended: AtomicBool,
    rejections: Arc<Rejections>,
}

/// A counter cannot go down: the amount is negative, not finite, or not a whole number.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a counter cannot be raised by {0}")]
pub struct NotAnIncrease(pub f64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.0.added.increment();
    }

    /// Adds `amount`. A total that would exceed 2⁶⁴ − 1 stays there, and that is counted once in
    /// `perf_metrics_rejected_total{reason="overflow"}`.
    #[inline]
    pub fn add(&self, amount: u64) {
        if amount >= LARGE {
            return self.add_large(amount);
        }
        self.0.added.add(amount);
    }

    #[cold]
    fn add_large(&self, amount: u64) {
        if self.total().checked_add(amount).is_none() {
            self.end();
            return;
        }
        self.0.added.add(amount);
        // Another thread may have added as much at the same time; this notices.
        let _ = self.total();
    }

    fn end(&self) {
        if !self.0.ended.swap(true, Ordering::Relaxed) {
            self.0.rejections.count(Rejection::Overflow);
        }
    }

    /// Adds an amount that is known as a floating-point number, and refuses what is not a whole, non-negative number.
    ///
    /// # Errors
    /// [`NotAnIncrease`]; the refusal is also counted in `perf_metrics_rejected_total{reason="value"}`.
    pub fn try_add_f64(&self, amount: f64) -> Result<(), NotAnIncrease> {
        if amount >= 0.0 && amount.fract() == 0.0 && amount <= u64::MAX as f64 {
            self.add(amount as u64);
            return Ok(());
        }
        self.0.rejections.count(Rejection::Value);
        Err(NotAnIncrease(amount))
    }

    /// Raises the total to `total`, kept by somebody else. A total lower than the present one changes nothing and is
    /// counted in `perf_metrics_rejected_total{reason="decrease"}`. Use it instead of adding, not beside it.
    pub fn absolute(&self, total: u64) {
        if self.0.absolute.fetch_max(total, Ordering::Relaxed) > total {
            self.0.rejections.count(Rejection::Decrease);
        }
    }

    /// The total.
    #[must_use]
    pub fn total(&self) -> u64 {
        if self.0.ended.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        let total = self.0.added.get().saturating_add(self.0.absolute.load(Ordering::Relaxed));
        let before = self.0.read.load(Ordering::Relaxed);
        if total > before {
            self.0.read.fetch_max(total, Ordering::Relaxed);
        } else if before - total > u64::MAX / 2 {
            // Two readings at once may differ by what is being added between them; only a wrap falls so far.
            self.end();
            return u64::MAX;
        }
        total
    }
}

impl Sealed for Counter {
    const KIND: Kind = Kind::Counter;

    fn create(rejections: &Arc<Rejections>) -> Self {
        Self(Arc::new(Cells {
            added: perf_core::Counter::new(),
            absolute: AtomicU64::new(0),
            read: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            rejections: Arc::clone(rejections),
        }))
    }

    fn read(&self, family: Family<'_>, labels: &str, page: &mut Page) {
        page.push_rendered(family, labels, Value::Count(self.total()));
    }
}
