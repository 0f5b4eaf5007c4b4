//! What the benchmarks share: an interleaved comparison, a counting allocator, and a Zipf sampler.
//!
//! A comparison runs every contestant on the same input in one process, round after round in rotating order, and reports
//! the median of the rounds: on a busy machine the contestants are disturbed alike. Figures are nanoseconds per
//! operation unless the name says otherwise, and only ratios mean anything beyond the machine they were taken on.

mod allocations;
mod contest;
mod elsewhere;

pub use allocations::{CountingAllocator, allocations_during, bytes_kept_by};
pub use contest::Contest;
pub use elsewhere::run_elsewhere;
pub use perf_core::Zipf;
