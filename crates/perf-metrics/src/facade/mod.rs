//! The `metrics` facade, in both directions.
//!
//! *In*: [`Facade`] is a recorder for the host's and its libraries' `metrics::` calls. It is our own and not
//! metrics-exporter-prometheus', because no guard in front of that one can mend what goes wrong inside it: it queues raw
//! samples until somebody runs its upkeep, forgets series that cached handles still write to, and overwrites series whose
//! names collide. Here every sample goes straight into the cells the page reads.
//!
//! *Out*: [`Metrics::bridge`] hands our numbers to whatever recorder the host has already.

mod family;
mod out;

use crate::names;
use crate::rejections::Rejection;
use crate::{Counter as OwnCounter, Gauge as OwnGauge, Histogram as OwnHistogram, Metrics, Series};
use family::{FacadeFamily, described_unit};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Help and unit of facade metrics, by legal name.
type Descriptions = Arc<Mutex<HashMap<String, (String, perf_core::Unit)>>>;

/// A recorder whose series are on the page of its [`Metrics`].
///
/// Names and labels are brought into Prometheus' spelling (`http.requests` becomes `http_requests`). A call that cannot
/// be honoured — its name collides with another's spelling, has another kind, a reserved label, or more label sets than
/// a family may have — gets a handle that does nothing, or the overflow series, and is counted in
/// `perf_metrics_rejected_total`.
///
/// ```
/// use metrics::{Key, Level, Metadata, Recorder};
///
/// let numbers = perf_metrics::Metrics::builder().build().unwrap();
/// let recorder = numbers.facade();
/// let metadata = Metadata::new("doc", Level::INFO, None);
/// recorder.register_counter(&Key::from_name("library.calls"), &metadata).increment(2);
/// assert!(numbers.text().contains("library_calls_total 2"));
/// ```
#[derive(Clone, Debug)]
pub struct Facade(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    counters: RwLock<HashMap<Key, Counter>>,
    gauges: RwLock<HashMap<Key, Gauge>>,
    histograms: RwLock<HashMap<Key, Histogram>>,
    descriptions: Descriptions,
    /// Which original name owns a legal spelling.
    owners: Mutex<HashMap<String, String>>,
}

/// Another recorder is installed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another recorder of the `metrics` facade is installed already")]
pub struct RecorderInstalled;

impl Metrics {
    /// A recorder of the `metrics` facade whose series are on this page.
    #[must_use]
    pub fn facade(&self) -> Facade {
        Facade(Arc::new(Shared {
            metrics: self.clone(),
            counters: RwLock::default(),
            gauges: RwLock::default(),
            histograms: RwLock::default(),
            descriptions: Arc::default(),
            owners: Mutex::default(),
        }))
    }

    /// Makes this page the destination of all `metrics::` calls of the process.
    ///
    /// # Errors
    /// [`RecorderInstalled`] when the process has a recorder already; [`Metrics::bridge`] is the way to share it.
    pub fn install_facade(&self) -> Result<(), RecorderInstalled> {
        metrics::set_global_recorder(self.facade()).map_err(|_| RecorderInstalled)
    }
}

impl Facade {
    /// The handle for `key`: the one made before, or a new one.
    fn handle<T: Series, H: Clone>(
        &self,
        handles: &RwLock<HashMap<Key, H>>,
        key: &Key,
        wrap: impl FnOnce(T) -> H,
    ) -> Option<H> {
        if let Some(handle) = handles.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Some(handle.clone());
        }
        let (series, kept) = self.series::<T>(key)?;
        let handle = wrap(series);
        // A label set without a series of its own is not remembered: there may be any number of those.
        if kept {
            let mut handles = handles.write().unwrap_or_else(PoisonError::into_inner);
            handles.insert(key.clone(), handle.clone());
        }
        Some(handle)
    }

    fn series<T: Series>(&self, key: &Key) -> Option<(T, bool)> {
        let shared = &*self.0;
        let rejections = shared.metrics.rejections();
        let name = self.owned_name::<T>(key.name()).or_else(|| {
            rejections.count(Rejection::Name);
            None
        })?;
        let labels: Vec<(String, &str)> =
            key.labels().map(|label| (names::legal_spelling(label.key()), label.value())).collect();
        let legal =
            labels.iter().all(|(key, _)| names::is_label(key)) && labels.len() <= crate::MAX_LABELS / 2;
        let family = FacadeFamily::<T>::of(&shared.metrics, &name, &shared.descriptions)?;
        let found = legal.then(|| family.with(&labels)).flatten();
        if found.is_none() {
            rejections.count(Rejection::Labels);
        }
        found
    }

    /// The full legal name, unless another original name owns that spelling.
    fn owned_name<T: Series>(&self, original: &str) -> Option<String> {
        let legal = names::full(None, &names::legal_spelling(original), perf_core::Unit::Count, T::KIND);
        let mut owners = self.0.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = owners.get(&legal) {
            return (owner == original).then_some(legal);
        }
        owners.insert(legal.clone(), original.to_owned());
        Some(legal)
    }

    fn describe(&self, kind: perf_core::Kind, name: &KeyName, unit: Option<Unit>, help: &SharedString) {
        let legal = names::full(None, &names::legal_spelling(name.as_str()), perf_core::Unit::Count, kind);
        let unit = described_unit(unit, &legal);
        let mut descriptions = self.0.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        // Names are bounded like series are; beyond that the metric keeps its general help text.
        if descriptions.len() < self.0.metrics.series_limit() {
            descriptions.insert(legal, (help.to_string(), unit));
        }
    }
}

impl Recorder for Facade {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(perf_core::Kind::Counter, &key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(perf_core::Kind::Gauge, &key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(perf_core::Kind::Histogram, &key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let wrap = |series: OwnCounter| Counter::from_arc(Arc::new(series));
        self.handle(&self.0.counters, key, wrap).unwrap_or_else(Counter::noop)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let wrap = |series: OwnGauge| Gauge::from_arc(Arc::new(series));
        self.handle(&self.0.gauges, key, wrap).unwrap_or_else(Gauge::noop)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let wrap = |series: OwnHistogram| Histogram::from_arc(Arc::new(series));
        self.handle(&self.0.histograms, key, wrap).unwrap_or_else(Histogram::noop)
    }
}

impl CounterFn for OwnCounter {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, value: u64) {
        Self::absolute(self, value);
    }
}

impl GaugeFn for OwnGauge {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl HistogramFn for OwnHistogram {
    fn record(&self, value: f64) {
        Self::record(self, value);
    }
}
