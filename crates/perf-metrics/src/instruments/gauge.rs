use super::sealed::Sealed;
use crate::page::{Family, Page, Value};
use crate::rejections::Rejections;
use perf_core::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A level that goes up and down. It keeps its value until it is set again: a gauge never expires into a lie.
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let depth = metrics.gauge("queue_depth", "Orders waiting").get().unwrap();
/// depth.set(3.0);
/// depth.add(-1.0);
/// assert_eq!(depth.value(), Some(2.0));
/// depth.set_unknown();
/// assert_eq!(depth.value(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets the level. NaN means [unknown](Self::set_unknown).
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Nobody knows the level: the series is left out until it is set again, never shown as 0.
    pub fn set_unknown(&self) {
        self.set(f64::NAN);
    }

    /// Raises the level, or lowers it by a negative amount. An unknown level stays unknown.
    pub fn add(&self, amount: f64) {
        let raise = |bits: u64| Some((f64::from_bits(bits) + amount).to_bits());
        // The closure always gives a value, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
    }

    /// The level, or `None` when it is unknown.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

impl Sealed for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn create(_: &Arc<Rejections>) -> Self {
        Self(Arc::new(AtomicU64::new(0.0_f64.to_bits())))
    }

    fn read(&self, family: Family<'_>, labels: &str, page: &mut Page) {
        if let Some(value) = self.value() {
            page.push_rendered(family, labels, Value::Number(value));
        }
    }
}
