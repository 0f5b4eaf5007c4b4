//! A `tracing` layer that makes OpenTelemetry spans.

use super::nanoseconds;
use super::queue::SpanQueue;
use crate::clock;
use crate::trace::{RemoteParent, TraceParent};
use perf_core::Rng;
use perf_core::time::{self, Instant};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Attributes of a span or event, and events of a span, that are kept: OpenTelemetry's default is 128; half of it bounds
/// a span to a few kilobytes.
const MOST: usize = 64;

/// Bytes of a text that are kept.
const TEXT_LIMIT: usize = 1_024;

/// A span of `tracing` becomes a span of OpenTelemetry: made by [`Otlp::layer`](crate::Otlp::layer).
///
/// | field of the span | what it does |
/// |---|---|
/// | `traceparent` | the caller's W3C header: the span continues its trace |
/// | `otel.kind` | `server`, `client`, `producer`, `consumer`; `internal` otherwise |
/// | `otel.name` | a name that is not a literal |
/// | `otel.status_code` | `error` marks the span as failed, as does an event at ERROR level |
/// | any other | an attribute |
///
/// Events within a span are its events. What goes out in the header of a call is [`TraceParent::current`]. A trace that
/// its caller does not record is not sent; of those that begin here a share is, all of them by default.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let otlp = perf_metrics::Otlp::builder(&metrics, "shop").build().unwrap();
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(otlp.layer()), || {
///     let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
///     tracing::info_span!("request", otel.kind = "server", traceparent = header).in_scope(|| {
///         let outgoing = perf_metrics::TraceParent::current().unwrap();
///         assert_eq!(outgoing.trace_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
///         assert_ne!(outgoing.span_id(), 0x00f067aa0ba902b7);
///     });
/// });
/// ```
pub struct SpanExport {
    queue: Arc<SpanQueue>,
    level: Level,
    share: f64,
    rng: Mutex<Rng>,
}

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) context: TraceParent,
    pub(super) parent: Option<u64>,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: u64,
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) left_out: u32,
    pub(super) events: Vec<Timed>,
    pub(super) error: Option<String>,
}

/// Something that happened within a span.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) at: u64,
    pub(super) name: Cow<'static, str>,
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// The value of an attribute.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Whole(i64),
    Number(f64),
}

/// A span that has not ended; its ids are beside it.
struct Open {
    begun: Instant,
    started: u64,
    parent: Option<u64>,
    fields: Fields,
    events: Vec<Timed>,
    error: Option<String>,
}

impl SpanExport {
    pub(super) fn new(queue: Arc<SpanQueue>) -> Self {
        Self { queue, level: Level::INFO, share: 1.0, rng: Mutex::new(Rng::from_entropy()) }
    }

    /// The most verbose level of the spans and events that are sent; INFO by default.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The share of the traces that begin here which is sent, from 0 to 1; all by default.
    #[must_use]
    pub fn sample(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// The context of a new span.
    fn context(&self, parent: Option<TraceParent>) -> TraceParent {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        // Zero is no id.
        let span = rng.next_u64().max(1);
        if let Some(parent) = parent {
            return parent.child(span);
        }
        let trace = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64().max(1));
        let sampled = rng.chance(self.share);
        TraceParent::started(trace, span, sampled)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanExport {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if *attributes.metadata().level() > self.level {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let ancestors = span.scope().skip(1);
        let local = ancestors.into_iter().find_map(|span| span.extensions().get::<TraceParent>().copied());
        let parent = fields.remote.or(local);
        let own = self.context(parent);
        let mut extensions = span.extensions_mut();
        extensions.replace(own);
        extensions.replace(Open {
            begun: time::now(),
            started: nanoseconds(clock::since_1970()),
            parent: parent.map(|parent| parent.span_id()),
            fields,
            events: Vec::new(),
            error: None,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > self.level {
            return;
        }
        let Some(span) = context.event_span(event) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.message.map_or(Cow::Borrowed(metadata.name()), Cow::Owned);
        if *metadata.level() == Level::ERROR {
            open.error = Some(name.clone().into_owned());
        }
        if open.events.len() < MOST {
            let at = open.started + nanoseconds(time::now().saturating_duration_since(open.begun));
            open.events.push(Timed { at, name, attributes: fields.attributes });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let mut extensions = span.extensions_mut();
        let remote = extensions.get_mut::<RemoteParent>().map(|parent| parent.0);
        let own = extensions.get_mut::<TraceParent>().copied();
        let (Some(open), Some(own)) = (extensions.remove::<Open>(), own) else { return };
        if !own.is_sampled() {
            return;
        }
        let fields = open.fields;
        let failed = fields.failed.then(String::new);
        self.queue.put(Finished {
            context: own,
            parent: remote.or(open.parent),
            name: fields.name.map_or(Cow::Borrowed(span.name()), Cow::Owned),
            kind: fields.kind.unwrap_or(Fields::INTERNAL),
            started: open.started,
            // The wall clock may jump; how long it took comes from the clock that does not.
            ended: open.started + nanoseconds(time::now().saturating_duration_since(open.begun)),
            attributes: fields.attributes,
            left_out: fields.left_out,
            events: open.events,
            error: open.error.or(failed),
        });
    }
}

impl fmt::Debug for SpanExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanExport")
            .field("level", &self.level)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// The fields of a span or an event: those that mean something, and the rest as attributes.
#[derive(Debug, Default)]
struct Fields {
    remote: Option<TraceParent>,
    kind: Option<u64>,
    name: Option<String>,
    failed: bool,
    message: Option<String>,
    attributes: Vec<(&'static str, Value)>,
    left_out: u32,
}

impl Fields {
    const INTERNAL: u64 = 1;

    fn kind(text: &str) -> u64 {
        match text.to_ascii_lowercase().as_str() {
            "server" => 2,
            "client" => 3,
            "producer" => 4,
            "consumer" => 5,
            _ => Self::INTERNAL,
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        // A field recorded a second time has its last value.
        if let Some(known) = self.attributes.iter_mut().find(|(key, _)| *key == field.name()) {
            known.1 = value;
        } else if self.attributes.len() < MOST {
            self.attributes.push((field.name(), value));
        } else {
            self.left_out += 1;
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Whole(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let whole = i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Whole);
        self.put(field, whole);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "traceparent" => self.remote = value.parse().ok(),
            "otel.kind" => self.kind = Some(Self::kind(value)),
            "otel.name" => self.name = Some(cut(value).to_owned()),
            "otel.status_code" => self.failed = value.eq_ignore_ascii_case("error"),
            "message" => self.message = Some(cut(value).to_owned()),
            _ => self.put(field, Value::Text(cut(value).to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The first kilobyte of a text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LIMIT)]
}
