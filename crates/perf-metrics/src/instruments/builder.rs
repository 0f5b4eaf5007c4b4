use super::{Callback, Family, Gauge, Meta, Series};
use crate::{Metrics, RegisterError, names};
use perf_core::Unit;
use std::marker::PhantomData;
use std::sync::Arc;

/// Describes a series or a family before it exists. Made by [`Metrics::counter`] and its siblings.
#[must_use = "an instrument exists once `get` or `family` has been called"]
#[derive(Debug)]
pub struct Instrument<T> {
    metrics: Metrics,
    name: String,
    help: String,
    unit: Unit,
    labels: Vec<(String, String)>,
    series: PhantomData<fn() -> T>,
}

impl<T: Series> Instrument<T> {
    pub(crate) fn new(metrics: &Metrics, name: &str, help: &str, unit: Unit) -> Self {
        let (name, help) = (name.to_owned(), help.to_owned());
        Self { metrics: metrics.clone(), name, help, unit, labels: Vec::new(), series: PhantomData }
    }

    /// The unit of the values; it ends the metric's name.
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// A label with a fixed value.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// The series, which is on the page from now on, at zero. Asking for the same series again gives the same one.
    ///
    /// # Errors
    /// [`RegisterError`] when the name or a label is not legal, or the family exists in another shape.
    pub fn get(self) -> Result<T, RegisterError> {
        let labels = self.labels.clone();
        let keys = labels.iter().map(|(key, _)| key.clone()).collect();
        let state = self.state(keys)?;
        let values: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
        Ok(state.with(&values))
    }

    /// A family whose series differ in the labels `keys`.
    ///
    /// # Errors
    /// [`RegisterError`] when the name or a label is not legal, when fixed labels were given too, or the family exists in
    /// another shape.
    pub fn family<const N: usize>(self, keys: [&str; N]) -> Result<Family<T, N>, RegisterError> {
        if let Some((fixed, _)) = self.labels.first() {
            return Err(RegisterError::DuplicateLabel(fixed.clone()));
        }
        self.state(keys.iter().map(|key| (*key).to_owned()).collect()).map(Family::new)
    }

    fn meta(&self, keys: Vec<String>) -> Meta {
        let name = names::full(self.metrics.namespace(), &self.name, self.unit, T::KIND);
        Meta { name, help: self.help.clone(), unit: self.unit, kind: T::KIND, keys }
    }

    fn state(self, keys: Vec<String>) -> Result<Arc<super::family::FamilyState<T>>, RegisterError> {
        let meta = self.meta(keys);
        self.metrics.instruments().family(meta, self.metrics.series_limit())
    }
}

impl Instrument<Gauge> {
    /// A level that is asked for when the page is read; `None` leaves the series out. The closure must not block. When it
    /// panics, the series is left out and counted in `perf_metrics_collector_errors_total`.
    ///
    /// # Errors
    /// [`RegisterError`] when the name is not legal, a label was given, or the family exists already.
    pub fn read_with(
        self,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        if let Some((fixed, _)) = self.labels.first() {
            return Err(RegisterError::DuplicateLabel(fixed.clone()));
        }
        let meta = self.meta(Vec::new());
        let errors = self.metrics.collector_errors();
        let name = meta.name.clone();
        let created = Arc::new(Callback { meta: meta.clone(), read: Box::new(read), errors });
        let create = |_| (Arc::clone(&created), Arc::clone(&created));
        let present = self.metrics.instruments().entry(meta, create)?;
        // Two closures for one level would be two truths.
        if Arc::ptr_eq(&present, &created) { Ok(()) } else { Err(RegisterError::Exists(name)) }
    }
}
