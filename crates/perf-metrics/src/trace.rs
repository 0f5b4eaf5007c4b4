//! Spans become latency histograms, and trace ids exemplars.

mod context;
#[cfg(feature = "tracing")]
mod layer;

#[cfg(feature = "otlp")]
pub(crate) use context::RemoteParent;
pub use context::{InvalidTraceParent, TraceParent};
#[cfg(feature = "tracing")]
pub use layer::SpanTimes;
