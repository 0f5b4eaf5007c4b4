//! What happened, counted: one recorder per shard, merged when the run is over.

mod latencies;
mod recorder;
mod survival;
mod timeline;

pub(crate) use latencies::{LONGEST, Latencies};
pub use recorder::MAX_STEPS;
pub(crate) use recorder::{Class, ErrorSeen, Recorder, Sample, StepStats};
pub(crate) use survival::{Quantile, Survival};
pub(crate) use timeline::Interval;
