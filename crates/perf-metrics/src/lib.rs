//! Numbers that are right, alerts that can be trusted, advice that explains itself.
//!
//! ```
//! use perf_metrics::{Format, Metrics};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::builder().namespace("shop").label("env", "prod").build()?;
//! let requests = metrics.counter("requests", "Requests served").family(["route", "status"])?;
//! let queries = metrics.timer("db_query", "Time spent in queries").get()?;
//!
//! requests.with(["/orders", "2xx"]).increment();
//! queries.record(std::time::Duration::from_millis(3));
//!
//! let mut page = Vec::new();
//! metrics.render(Format::negotiate(None), &mut page);
//! let page = String::from_utf8(page)?;
//! assert!(page.contains(r#"shop_requests_total{env="prod",route="/orders",status="2xx"} 1"#));
//! assert!(page.contains(r#"shop_db_query_seconds_count{env="prod"} 1"#));
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Metrics`] | the numbers of all components, the host's own and the process', on one page |
//! | [`Counter`], [`Gauge`], [`Histogram`], [`Timer`], [`Family`] | the host's own instruments |
//! | [`Format`] | how the page is written, and which one a scraper asked for |
//! | [`View`] | the same numbers as a tree |
//! | [`Alerts`], [`Rule`], [`Slo`] | Prometheus' alerts in process, and what they export |
//! | [`Detector`], [`change_points`], [`forecast`] | what is unusual, since when, and what comes next |
//! | [`find_leak`] | whether something leaks, how fast, and how long it may |
//! | [`Endpoints`] | rate, errors and percentiles per route, and which ones are slow |
//! | [`RuntimeWatch`], [`SystemMetrics`], [`AllocatorWatch`] | what the process runs on |
//! | [`diagnose`], [`Cycle`] | findings with evidence, a score with its deductions, proposals with a record |
//! | [`Otlp`], [`TraceParent`] | exports to OpenTelemetry, and W3C trace context |
//! | [`HealthChecks`] | checks that run in the background, and the host's life cycle |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `facade` | the host's and its libraries' `metrics::` calls are on the page | the `metrics` crate |
//! | `hdrhistogram` | distributions to and from hdrhistogram's V2 encoding | the `hdrhistogram` crate |
//! | `jemalloc` | jemalloc as allocator, with its numbers and its purge | builds jemalloc: a C compiler and half a minute |
//! | `mimalloc` | the same with mimalloc | builds mimalloc: a C compiler |
//! | `otlp` | [`Otlp`] sends numbers and spans to an OpenTelemetry collector | `hyper`'s client; enables `tracing` |
//! | `tls` | [`Otlp`] and [`Webhook`] speak `https` | `rustls` with `ring`, and Mozilla's authorities |
//! | `tracing` | spans become latency histograms | `tracing`, `tracing-subscriber` |
//! | `webhook` | [`Webhook`] posts alerts in Alertmanager's format | `hyper`'s client |
//! | `serde` | [`MetricsConfig`] reads from TOML, views write as JSON | the `serde` crate |

mod alert;
mod anomaly;
#[cfg(any(feature = "webhook", feature = "otlp"))]
mod clock;
mod config;
mod endpoint;
mod error;
#[cfg(feature = "facade")]
mod facade;
mod format;
#[cfg(feature = "hdrhistogram")]
mod hdr;
mod health;
mod instruments;
mod judge;
mod leak;
mod math;
mod metrics;
mod names;
#[cfg(feature = "otlp")]
mod otlp;
mod own;
mod page;
#[cfg(any(feature = "webhook", feature = "otlp"))]
mod post;
mod process;
mod rejections;
mod runtime;
#[cfg(all(feature = "tls", any(feature = "webhook", feature = "otlp")))]
mod tls;
mod trace;
mod view;
mod window;

#[cfg(feature = "tracing")]
pub use alert::LogSink;
pub use alert::{
    AlertConfig, AlertEvent, AlertMachine, AlertSink, AlertState, AlertView, Alerts, AlertsBuilder,
    AlertsSnapshot, AlertsTask, Change, DEFAULT_DELIVERY_TIMEOUT, DEFAULT_FLAP_WINDOW, DEFAULT_FLAPS,
    DEFAULT_MIN_BAD, DEFAULT_QUEUE, DEFAULT_TICK, DEFAULT_WINDOW, InvalidRule, Measured, Missing,
    ObjectiveConfig, Rings, Rule, Severity, Signal, SinkError, Slo, Verdict, configured_rules, dashboard,
    dashboards, webhook_payload,
};
#[cfg(feature = "webhook")]
pub use alert::{Webhook, WebhookConfig};
pub use anomaly::{
    ChangePoint, Detector, DetectorConfig, Forecast, NoForecast, Observation, Onset, change_points, forecast,
};
pub use config::{DEFAULT_SERIES_LIMIT, MAX_LABELS, MetricsConfig};
pub use endpoint::{ENDPOINT_WINDOW, EndpointReport, Endpoints, MAX_ENDPOINTS, SlowThresholds};
pub use error::{RegisterError, Shape};
#[cfg(feature = "facade")]
pub use facade::{Facade, RecorderInstalled};
pub use format::Format;
#[cfg(feature = "hdrhistogram")]
pub use hdr::{HdrError, from_hdr_v2, to_hdr_v2};
pub use health::{
    Check, CheckReport, Criticality, DEFAULT_FAILURES, DEFAULT_INTERVAL, DEFAULT_SUCCESSES, DEFAULT_TIMEOUT,
    HealthCheck, HealthChecks, HealthChecksBuilder, InvalidCheck, LIVENESS, Lifecycle, READINESS, Report,
};
pub use instruments::{
    Counter, Family, Gauge, Histogram, Instrument, NotAnIncrease, OVERFLOW, Overflow, Series, Timer, Timing,
};
pub use judge::{
    AlertsExaminer, AuditRecord, ComponentsExaminer, Cycle, CycleBuilder, CycleTask, DEFAULT_CYCLE,
    Deduction, Diagnosis, EndpointsExaminer, Examination, Examiner, Finding, LeakExaminer, MAX_RECORDS,
    Proposal, Tuner, TuningOutcome, diagnose,
};
pub use leak::{Leak, LeakClass, MIN_BUCKETS, Resource, find_leak, find_memory_leak};
pub use metrics::{Metrics, MetricsBuilder};
#[cfg(feature = "otlp")]
pub use otlp::{
    DEFAULT_COLLECTOR, DEFAULT_EXPORT_INTERVAL, DEFAULT_EXPORT_TIMEOUT, Otlp, OtlpBuilder, OtlpConfig,
    OtlpTask, SpanExport,
};
#[cfg(any(feature = "webhook", feature = "otlp"))]
pub use post::PostError;
#[cfg(feature = "jemalloc")]
pub use runtime::Jemalloc;
#[cfg(feature = "mimalloc")]
pub use runtime::MiMalloc;
pub use runtime::{
    Allocator, AllocatorStats, AllocatorWatch, DEFAULT_CANARY, Purged, RuntimeWatch, SystemMetrics,
};
#[cfg(feature = "tracing")]
pub use trace::SpanTimes;
pub use trace::{InvalidTraceParent, TraceParent};
pub use view::{ComponentView, DistributionView, FamilyView, QuantileView, SeriesView, ValueView, View};
pub use window::SlidingWindow;

/// The page in docs/, whose example is a test as well.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/metrics.md")]
pub struct Guide;
