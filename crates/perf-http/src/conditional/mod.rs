//! Conditional requests (RFC 9110 §13): an answer the client has already is not sent again.

mod layer;
mod state;

pub use layer::{Conditional, ConditionalFuture, ConditionalLayer};
pub use state::{ETag, Preconditions, Verdict};

/// Longest body that gets an entity tag of its own: 1 MiB is hashed in a tenth of a millisecond and held in memory anyway.
pub const DEFAULT_ETAG_LIMIT: u64 = 1024 * 1024;
