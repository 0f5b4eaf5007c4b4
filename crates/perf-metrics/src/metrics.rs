use crate::instruments::Instruments;
use crate::own::{self, Own};
use crate::page::{Globals, Page};
use crate::process::Process;
use crate::rejections::Rejections;
use crate::view::View;
use crate::{Counter, Format, Gauge, Histogram, Instrument, MetricsConfig, Overflow, Timer};
use perf_core::{Component, DuplicateComponent, InvalidConfig, Registration, Registry, Unit};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The numbers of a host: its components', its own, and its process'. Cheap to clone; clones are the same numbers.
///
/// ```
/// use perf_metrics::{Format, Metrics};
///
/// let metrics = Metrics::builder().namespace("shop").label("env", "prod").process(false).build().unwrap();
/// metrics.counter("orders", "Orders placed").get().unwrap().increment();
///
/// let mut page = Vec::new();
/// metrics.render(Format::Text, &mut page);
/// assert!(String::from_utf8(page).unwrap().contains("shop_orders_total{env=\"prod\"} 1"));
/// ```
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    config: MetricsConfig,
    registry: Registry,
    instruments: Instruments,
    own: Own,
    process: Option<Process>,
    /// One reading at a time, into buffers that are kept. Writers never take this lock.
    page: Mutex<Page>,
}

impl Metrics {
    /// Starts with the defaults of [`MetricsConfig`].
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder::default()
    }

    /// The registry whose components are on the page.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Puts a component on the page until the registration is dropped.
    ///
    /// # Errors
    /// [`DuplicateComponent`] when one of this kind and name is there already.
    pub fn register(&self, component: Arc<dyn Component>) -> Result<Registration, DuplicateComponent> {
        self.0.registry.register(component)
    }

    /// Describes a monotone total; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str) -> Instrument<Counter> {
        Instrument::new(self, name, help, Unit::Count)
    }

    /// Describes a level.
    pub fn gauge(&self, name: &str, help: &str) -> Instrument<Gauge> {
        Instrument::new(self, name, help, Unit::Count)
    }

    /// Describes a distribution.
    pub fn histogram(&self, name: &str, help: &str) -> Instrument<Histogram> {
        Instrument::new(self, name, help, Unit::Count)
    }

    /// Describes a distribution of times; `_seconds` is added to its name.
    pub fn timer(&self, name: &str, help: &str) -> Instrument<Timer> {
        Instrument::new(self, name, help, Unit::Seconds)
    }

    /// Reads every number and appends the page to `out`. After the first time nothing is allocated as long as the page
    /// does not grow and `out` has room.
    pub fn render(&self, format: Format, out: &mut Vec<u8>) {
        self.read(|page| match format {
            Format::Text => page.write_text(out),
            Format::OpenMetrics => page.write_openmetrics(out),
            Format::Protobuf => page.write_protobuf(out),
        });
    }

    /// Appends every number as an OpenTelemetry export request in protobuf, to be posted to a collector's `/v1/metrics`
    /// as `application/x-protobuf`. The caller says when its totals started and what time it is, in nanoseconds since
    /// 1970: this crate never reads the wall clock.
    #[cfg(feature = "otlp")]
    pub fn otlp(&self, service: &str, start: u64, now: u64, out: &mut Vec<u8>) {
        self.write_otlp(&[("service.name", service)], crate::page::Times { start, now }, out);
    }

    #[cfg(feature = "otlp")]
    pub(crate) fn write_otlp(&self, resource: &[(&str, &str)], times: crate::page::Times, out: &mut Vec<u8>) {
        self.read(|page| page.write_otlp(resource, times, out));
    }

    /// The page as Prometheus text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        self.render(Format::Text, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The labels of the host's families that have more values than there may be series, with the values that came most
    /// often: what to look at when `perf_metrics_rejected_total{reason="cardinality"}` rises.
    #[must_use]
    pub fn overflows(&self) -> Vec<Overflow> {
        self.0.instruments.overflows()
    }

    /// Every number as a tree, and the health of every component: what an overview page shows.
    #[must_use]
    pub fn view(&self) -> View {
        let families = self.read(crate::view::families);
        let components = self.0.registry.components();
        View { families, components: components.iter().map(|c| crate::view::component(&**c)).collect() }
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.0.config.namespace.as_deref()
    }

    pub(crate) fn series_limit(&self) -> usize {
        self.0.config.series_limit
    }

    #[cfg(feature = "facade")]
    pub(crate) fn rejections(&self) -> &Arc<Rejections> {
        self.0.own.rejections()
    }

    #[cfg(feature = "facade")]
    pub(crate) fn globals(&self) -> Globals {
        self.0.instruments.globals()
    }

    pub(crate) fn instruments(&self) -> &Instruments {
        &self.0.instruments
    }

    pub(crate) fn collector_errors(&self) -> Arc<perf_core::Counter> {
        self.0.own.callback_errors()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        let shared = &*self.0;
        let mut page = shared.page.lock().unwrap_or_else(PoisonError::into_inner);
        page.clear();
        shared.own.read_components(&shared.registry, &mut page);
        page.outside_components();
        shared.instruments.read(&mut page);
        if let Some(process) = &shared.process {
            process.read(&mut page);
        }
        shared.own.read(&mut page);
        page.finish();
        look(&page)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("config", &self.0.config)
            .field("registry", &self.0.registry)
            .finish_non_exhaustive()
    }
}

/// Builds [`Metrics`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MetricsBuilder {
    config: MetricsConfig,
    registry: Registry,
}

impl MetricsBuilder {
    /// Takes every setting from `config`.
    pub fn config(mut self, config: MetricsConfig) -> Self {
        self.config = config;
        self
    }

    /// Prefix of the host's own metric names.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.config.namespace = Some(namespace.into());
        self
    }

    /// A label of every series. At most eight.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.labels.insert(key.into(), value.into());
        self
    }

    /// Series per family, 1 to 1,000,000; 2,000 by default.
    pub fn series_limit(mut self, limit: usize) -> Self {
        self.config.series_limit = limit;
        self
    }

    /// Whether the `process_*` metrics are on the page; they are by default.
    pub fn process(mut self, process: bool) -> Self {
        self.config.process = process;
        self
    }

    /// Reads the components of a registry that exists already.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range.
    pub fn build(self) -> Result<Metrics, InvalidConfig> {
        self.config.validate()?;
        let rejections = Arc::<Rejections>::default();
        let globals: Globals =
            self.config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Metrics(Arc::new(Shared {
            registry: self.registry,
            instruments: Instruments::new(Arc::clone(&globals), Arc::clone(&rejections)),
            own: own::Own::new(Arc::clone(&rejections)),
            process: self.config.process.then(Process::new),
            page: Mutex::new(Page::new(globals, rejections)),
            config: self.config,
        })))
    }
}
