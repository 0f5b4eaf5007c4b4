//! A sink that keeps what components report, for assertions.

use perf_core::{Component, ComponentId, Desc, Histogram, HistogramSnapshot, Label, Sink};
use std::collections::BTreeSet;
use std::time::Duration;

/// The value of one series.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A total.
    Counter(u64),
    /// A level.
    Gauge(f64),
    /// A distribution.
    Histogram(HistogramSnapshot),
    /// A total of time.
    Seconds(Duration),
}

/// One reported series.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// Whose it is.
    pub component: ComponentId,
    /// What it is.
    pub desc: Desc,
    /// Its labels beside the component's name, as reported.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: Value,
}

impl Sample {
    /// The family and the labels, as a Prometheus client prints them, without the component's name.
    #[must_use]
    pub fn series(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        if labels.is_empty() {
            self.desc.name.to_owned()
        } else {
            format!("{}{{{}}}", self.desc.name, labels.join(","))
        }
    }

    fn has(&self, family: &str, labels: &[Label<'_>]) -> bool {
        let wanted: BTreeSet<_> = labels.iter().copied().collect();
        let found: BTreeSet<_> = self.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.desc.name == family && wanted == found
    }
}

/// A [`Sink`] that keeps every series it is handed.
///
/// ```
/// # use perf_core::{Component, ComponentId, Counter, Desc, Sink, Unit};
/// # const HITS: Desc = Desc::counter("perf_example_hits_total", "Hits", Unit::Count);
/// # struct Cache(Counter);
/// # impl Component for Cache {
/// #     fn id(&self) -> ComponentId { ComponentId::new("cache", "users") }
/// #     fn collect(&self, sink: &mut dyn Sink) { sink.counter(&HITS, &[("tier", "l1")], self.0.get()) }
/// # }
/// # let cache = Cache(Counter::new());
/// use perf_testkit::Recorder;
///
/// let recorder = Recorder::of(&cache);
/// assert_eq!(recorder.counter("perf_example_hits_total", &[("tier", "l1")]), Some(0));
/// assert_eq!(recorder.counter("perf_example_misses_total", &[]), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    samples: Vec<Sample>,
    component: Option<ComponentId>,
}

impl Recorder {
    /// An empty one, to be handed to `collect`. Series that come before `begin` belong to a component `unknown`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers of one component now.
    #[must_use]
    pub fn of(component: &dyn Component) -> Self {
        let mut recorder = Self::new();
        recorder.begin(&component.id());
        component.collect(&mut recorder);
        recorder
    }

    /// Every series, in the order of their report.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Every series as text, sorted, values apart.
    #[must_use]
    pub fn series(&self) -> BTreeSet<String> {
        self.samples.iter().map(Sample::series).collect()
    }

    /// The value of a series, of the first component that reports it.
    #[must_use]
    pub fn value(&self, family: &str, labels: &[Label<'_>]) -> Option<&Value> {
        self.samples.iter().find(|sample| sample.has(family, labels)).map(|sample| &sample.value)
    }

    /// The total of a counter.
    #[must_use]
    pub fn counter(&self, family: &str, labels: &[Label<'_>]) -> Option<u64> {
        match self.value(family, labels)? {
            Value::Counter(total) => Some(*total),
            _ => None,
        }
    }

    /// The level of a gauge.
    #[must_use]
    pub fn gauge(&self, family: &str, labels: &[Label<'_>]) -> Option<f64> {
        match self.value(family, labels)? {
            Value::Gauge(value) => Some(*value),
            _ => None,
        }
    }

    /// A distribution.
    #[must_use]
    pub fn histogram(&self, family: &str, labels: &[Label<'_>]) -> Option<&HistogramSnapshot> {
        match self.value(family, labels)? {
            Value::Histogram(snapshot) => Some(snapshot),
            _ => None,
        }
    }

    /// A total of time.
    #[must_use]
    pub fn seconds(&self, family: &str, labels: &[Label<'_>]) -> Option<Duration> {
        match self.value(family, labels)? {
            Value::Seconds(total) => Some(*total),
            _ => None,
        }
    }

    fn keep(&mut self, desc: &Desc, labels: &[Label<'_>], value: Value) {
        let component = self.component.clone().unwrap_or_else(|| ComponentId::new("unknown", "unknown"));
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.samples.push(Sample { component, desc: *desc, labels, value });
    }
}

impl Sink for Recorder {
    fn begin(&mut self, id: &ComponentId) {
        self.component = Some(id.clone());
    }

    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64) {
        self.keep(desc, labels, Value::Counter(total));
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        self.keep(desc, labels, Value::Gauge(value));
    }

    fn histogram(&mut self, desc: &Desc, labels: &[Label<'_>], histogram: &Histogram) {
        self.keep(desc, labels, Value::Histogram(histogram.snapshot()));
    }

    fn seconds(&mut self, desc: &Desc, labels: &[Label<'_>], total: Duration) {
        self.keep(desc, labels, Value::Seconds(total));
    }
}
