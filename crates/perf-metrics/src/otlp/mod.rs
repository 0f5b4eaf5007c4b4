//! Numbers and spans to an OpenTelemetry collector, as protobuf over HTTP.
//!
//! The messages are written by hand, as the page's other formats are: what is sent is a dozen message types that have
//! been stable since 2021, and the OpenTelemetry crates would bring a second set of instruments, a second registry and a
//! protobuf runtime to do it.

mod config;
mod queue;
mod span;

pub use config::{DEFAULT_COLLECTOR, DEFAULT_EXPORT_INTERVAL, DEFAULT_EXPORT_TIMEOUT, OtlpConfig};
pub use span::SpanExport;

use crate::page::Times;
use crate::post::{PostError, Poster};
use crate::{Metrics, clock};
use bytes::Bytes;
use perf_core::time::{self, Duration};
use perf_core::{Backoff, Component, ComponentId, Counter, Desc, InvalidConfig, Rng, Secret, Sink, Unit};
use queue::SpanQueue;
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Longest time a finished span waits for others: OpenTelemetry's default.
const SPAN_INTERVAL: Duration = Duration::from_secs(5);

/// Delays while the collector cannot be reached.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_secs(1)).cap(Duration::from_secs(30));

const EXPORTS: Desc =
    Desc::counter("perf_metrics_otlp_exports_total", "Exports to the collector", Unit::Count);
const FAILURES: Desc =
    Desc::counter("perf_metrics_otlp_failures_total", "Exports the collector did not take", Unit::Count);
const REJECTED: Desc = Desc::counter(
    "perf_metrics_otlp_rejected_total",
    "Data points and spans the collector left out of an export it took",
    Unit::Count,
);
const DROPPED: Desc = Desc::counter(
    "perf_metrics_otlp_spans_dropped_total",
    "Spans dropped because too many waited or the collector refused them",
    Unit::Count,
);

/// Sends every number on the page, and the spans of [`Otlp::layer`], to an OpenTelemetry collector.
///
/// Totals are cumulative, so an export that fails loses nothing: the next one has it all. Spans wait in a bounded queue;
/// a batch the collector cannot take now is offered again.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let otlp = perf_metrics::Otlp::builder(&metrics, "shop").attribute("deployment.environment", "prod").build().unwrap();
/// metrics.register(otlp.component()).unwrap().keep();
/// let task = otlp.spawn();
/// // Nobody listens here, which is said and harms nothing.
/// assert!(task.shutdown().await.is_err());
/// # });
/// ```
#[derive(Clone)]
pub struct Otlp(Arc<Shared>);

struct Shared {
    metrics: Metrics,
    resource: Vec<(String, String)>,
    /// When the totals started.
    start: u64,
    interval: Duration,
    timeout: Duration,
    numbers: Signal,
    spans: Signal,
    queue: Arc<SpanQueue>,
}

/// One kind of what is sent: where it goes, and what became of it.
struct Signal {
    poster: Poster,
    exports: Counter,
    failures: Counter,
    rejected: Counter,
}

impl Signal {
    fn new(poster: Poster) -> Self {
        Self { poster, exports: Counter::new(), failures: Counter::new(), rejected: Counter::new() }
    }

    async fn send(&self, body: Vec<u8>, timeout: Duration) -> Result<(), PostError> {
        self.exports.increment();
        let posted = self.poster.post("application/x-protobuf", Bytes::from(body));
        match time::timeout(timeout, posted).await.unwrap_or(Err(PostError::TimedOut)) {
            Ok(answer) => {
                self.rejected.add(rejected(&answer));
                Ok(())
            }
            Err(error) => {
                self.failures.increment();
                Err(error)
            }
        }
    }
}

impl Otlp {
    /// Sends as `service` to [`DEFAULT_COLLECTOR`].
    pub fn builder(metrics: &Metrics, service: impl Into<String>) -> OtlpBuilder {
        OtlpBuilder { metrics: metrics.clone(), service: service.into(), config: OtlpConfig::default() }
    }

    /// A `tracing` layer whose spans are sent.
    #[must_use]
    pub fn layer(&self) -> SpanExport {
        SpanExport::new(Arc::clone(&self.0.queue))
    }

    /// Sends the numbers as they are now.
    ///
    /// # Errors
    /// [`PostError`] says why the collector did not take them.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: totals are cumulative.
    pub async fn export(&self) -> Result<(), PostError> {
        let shared = &*self.0;
        let mut body = Vec::new();
        let times = Times { start: shared.start, now: nanoseconds(clock::since_1970()) };
        shared.metrics.write_otlp(&shared.resource(), times, &mut body);
        shared.numbers.send(body, shared.timeout).await
    }

    /// Sends the spans that have finished.
    ///
    /// # Errors
    /// [`PostError`] says why the collector did not take a batch. One it may take later is kept.
    ///
    /// # Cancel safety
    /// Spans whose export is interrupted are sent again: a collector may see them twice, but never not at all.
    pub async fn export_spans(&self) -> Result<(), PostError> {
        let shared = &*self.0;
        while let Some(batch) = shared.queue.batch() {
            let mut body = Vec::new();
            batch.write(&shared.resource(), &mut body);
            match shared.spans.send(body, shared.timeout).await {
                Ok(()) => batch.sent(),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    batch.refused();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Sends on the present tokio runtime until the returned guard is dropped or [shut down](OtlpTask::shutdown).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self) -> OtlpTask {
        let (numbers, spans) = (self.clone(), self.clone());
        let numbers = tokio::spawn(async move {
            loop {
                time::sleep(numbers.0.interval).await;
                // Counted, and the next one has it all.
                let _ = numbers.export().await;
            }
        });
        let spans = tokio::spawn(async move { spans.send_spans().await });
        OtlpTask { otlp: self.clone(), tasks: [numbers, spans] }
    }

    async fn send_spans(&self) {
        let mut rng = Rng::from_entropy();
        let (mut failed, mut delay) = (0, Duration::ZERO);
        loop {
            if failed == 0 {
                let _ = time::timeout(SPAN_INTERVAL, self.0.queue.full()).await;
            } else {
                delay = BACKOFF.delay(failed - 1, delay, &mut rng);
                time::sleep(delay).await;
            }
            failed = match self.export_spans().await {
                Err(error) if error.is_retryable() => failed + 1,
                _ => 0,
            };
        }
    }

    /// The numbers of the exports themselves, to be registered with [`Metrics`].
    #[must_use]
    pub fn component(&self) -> Arc<dyn Component> {
        Arc::new(self.clone())
    }
}

impl Shared {
    fn resource(&self) -> Vec<(&str, &str)> {
        self.resource.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }
}

impl Component for Otlp {
    fn id(&self) -> ComponentId {
        ComponentId::new("otlp", "collector")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        for (label, signal) in [("metrics", &self.0.numbers), ("spans", &self.0.spans)] {
            let labels = [("signal", label)];
            sink.counter(&EXPORTS, &labels, signal.exports.get());
            sink.counter(&FAILURES, &labels, signal.failures.get());
            sink.counter(&REJECTED, &labels, signal.rejected.get());
        }
        sink.counter(&DROPPED, &[], self.0.queue.dropped());
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp").field("resource", &self.0.resource).finish_non_exhaustive()
    }
}

/// Sends until it is dropped.
#[must_use = "dropping the guard stops the exports"]
#[derive(Debug)]
pub struct OtlpTask {
    otlp: Otlp,
    tasks: [JoinHandle<()>; 2],
}

impl OtlpTask {
    /// Stops, after a last export of the numbers and of the spans that wait. Each takes at most the timeout.
    ///
    /// # Errors
    /// [`PostError`] when one of them was not taken.
    pub async fn shutdown(self) -> Result<(), PostError> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let numbers = self.otlp.export().await;
        let spans = time::timeout(self.otlp.0.timeout, self.otlp.export_spans()).await;
        numbers.and(spans.unwrap_or(Err(PostError::TimedOut)))
    }
}

impl Drop for OtlpTask {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Builds [`Otlp`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct OtlpBuilder {
    metrics: Metrics,
    service: String,
    config: OtlpConfig,
}

impl OtlpBuilder {
    /// Takes every setting from `config`.
    pub fn config(mut self, config: OtlpConfig) -> Self {
        self.config = config;
        self
    }

    /// The collector's address, without `/v1/…`: `http://host[:port][/path]`, or `https://…` with the feature `tls`.
    pub fn collector(mut self, url: impl Into<String>) -> Self {
        self.config.collector = url.into();
        self
    }

    /// A resource attribute: `deployment.environment`.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.attributes.insert(key.into(), value.into());
        self
    }

    /// A header of every post. Its value is never shown.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.headers.insert(name.into(), Secret::new(value.into()));
        self
    }

    /// A file of certificates, as PEM: these authorities are trusted, and nobody else. For `https` only.
    #[cfg(feature = "tls")]
    pub fn authorities(mut self, file: impl Into<std::path::PathBuf>) -> Self {
        self.config.authorities = Some(file.into());
        self
    }

    /// Time between two exports of the numbers; a minute by default, at least a second.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.config.interval = interval;
        self
    }

    /// Time one export may take; ten seconds by default, at least a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the address, a header or a time cannot be used.
    pub fn build(self) -> Result<Otlp, InvalidConfig> {
        let [numbers, spans] = self.config.posters()?;
        let mut resource = vec![("service.name".to_owned(), self.service)];
        resource.extend(self.config.attributes);
        Ok(Otlp(Arc::new(Shared {
            metrics: self.metrics,
            resource,
            start: nanoseconds(clock::since_1970()),
            interval: self.config.interval,
            timeout: self.config.timeout,
            numbers: Signal::new(numbers),
            spans: Signal::new(spans),
            queue: Arc::default(),
        })))
    }
}

/// OpenTelemetry counts in nanoseconds since 1970, until 2554.
fn nanoseconds(since_1970: Duration) -> u64 {
    since_1970.as_nanos() as u64
}

/// How many points or spans an answer says were left out: `partial_success.rejected`, field 1 of field 1.
fn rejected(answer: &[u8]) -> u64 {
    let partial = match answer {
        [0x0A, length, rest @ ..] if usize::from(*length) <= rest.len() => &rest[..usize::from(*length)],
        _ => return 0,
    };
    let [0x08, digits @ ..] = partial else { return 0 };
    // A number that does not end, or does not fit, is none.
    let end = digits.iter().position(|byte| byte & 0x80 == 0).filter(|end| *end < 9);
    let digits = end.map_or(&[][..], |end| &digits[..=end]);
    digits.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_says_how_many_were_left_out() {
        assert_eq!(rejected(&[]), 0);
        assert_eq!(rejected(&[0x0A, 0]), 0);
        assert_eq!(rejected(&[0x0A, 3, 0x08, 0xAC, 0x02]), 300);
        assert_eq!(rejected(&[0x0A, 5, 0x08, 7, 0x12, 1, b'x']), 7);
        // What is cut off or no such answer at all counts as nothing, and panics never.
        for answer in [&[0x0A_u8, 9, 8, 1][..], &[0x0A, 1, 8], &[1, 2, 3], &[0x0A, 2, 8, 0xFF]] {
            let _ = rejected(answer);
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let metrics = Metrics::builder().build().unwrap();
        let refused = |builder: OtlpBuilder| builder.build().unwrap_err().to_string();
        let builder = || Otlp::builder(&metrics, "shop");
        assert!(refused(builder().interval(Duration::ZERO)).contains("interval"));
        assert!(refused(builder().timeout(Duration::ZERO)).contains("timeout"));
        assert!(refused(builder().collector("collector:4318")).contains("collector"));
        assert!(refused(builder().header("a b", "c")).contains("header"));
        assert!(!format!("{:?}", builder().header("api-key", "hunter2")).contains("hunter2"));
    }
}
