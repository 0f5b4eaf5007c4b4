//! Spans become latency histograms, and trace ids exemplars.

mod context;
#[cfg(feature = "tracing")]
mod layer;

pub use context::{InvalidTraceParent, TraceParent};
#[cfg(feature = "tracing")]
pub use layer::SpanTimes;
