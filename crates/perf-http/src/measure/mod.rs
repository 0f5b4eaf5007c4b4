//! Request metrics by route template, from the first poll to the last byte of the body.

mod body;
mod layer;
mod routes;
mod state;

pub use body::MeasuredBody;
pub use layer::{Measure, MeasureFuture, MeasureLayer};
pub use state::{HttpMetrics, HttpMetricsBuilder, HttpStats, Panicked, StatusLabel, families};

/// How many route templates get series of their own: a service has tens; the rest share `<other>`.
pub const DEFAULT_MAX_ROUTES: usize = 512;

/// The label of requests that no route matched. Their paths are the client's invention and never become labels.
pub const UNMATCHED: &str = "<unmatched>";

/// The label that routes beyond the limit share.
pub const OTHER: &str = "<other>";
