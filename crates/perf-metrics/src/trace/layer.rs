use super::TraceParent;
use crate::{Family, Metrics, RegisterError, Timer};
use perf_core::time::{self, Instant};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A `tracing` layer that turns spans into latency histograms: `span_seconds{span="…"}`.
///
/// Spans up to a level (INFO by default) are timed from their creation to their end. Span names are literals, so there
/// are few of them; beyond the family's limit they are counted together. A span whose extensions hold a [`TraceParent`]
/// leaves its trace id as an exemplar.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let layer = perf_metrics::SpanTimes::new(&metrics).unwrap();
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     tracing::info_span!("place_order").in_scope(|| ());
/// });
/// assert!(metrics.text().contains("span_seconds_count{span=\"place_order\"} 1"));
/// ```
#[derive(Debug)]
pub struct SpanTimes {
    times: Family<Timer, 1>,
    level: Level,
}

/// When a span was created.
struct Created(Instant);

impl SpanTimes {
    /// A layer whose histograms are on the page of `metrics`.
    ///
    /// # Errors
    /// [`RegisterError`] when the page has another `span_seconds`.
    pub fn new(metrics: &Metrics) -> Result<Self, RegisterError> {
        let times = metrics.timer("span", "Time from the creation of a span to its end").family(["span"])?;
        Ok(Self { times, level: Level::INFO })
    }

    /// The most verbose level that is timed.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanTimes {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if *attributes.metadata().level() > self.level {
            return;
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Created(time::now()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        let Some(Created(at)) = extensions.get::<Created>() else { return };
        let taken = time::now().saturating_duration_since(*at);
        let timer = self.times.with([span.name()]);
        match extensions.get::<TraceParent>() {
            Some(parent) => timer.record_with(taken, &[("trace_id", &parent.trace_hex())]),
            None => timer.record(taken),
        }
    }
}
