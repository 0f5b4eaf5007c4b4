//! Loading before anyone asks: warm-up from a list or from the last run's keys, and prefetch of what usually comes next.

mod budget;
mod prefetch;
mod succession;
mod warm;

pub use prefetch::{PrefetchConfig, PrefetchStats, Prefetcher};
pub use warm::{KeyFileError, Warmed};
