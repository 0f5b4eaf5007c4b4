//! How many connections a pool should have, from what it sees: a pure controller, and the mathematics behind it.
//!
//! Little's law gives the load *L* (arrivals per second times the time a lease is held); square-root staffing gives the
//! size *L + β√L*, for which Erlang's formula tells the share of callers that have to wait ([`erlang_c`]).

mod config;
mod drive;
mod erlang;
mod state;
#[cfg(all(test, not(perf_loom)))]
mod tests;

pub use config::SizingConfig;
pub(crate) use drive::Observer;
pub use drive::SizingMode;
pub use erlang::erlang_c;
pub use state::{Advice, Controller, Sample, SizingReason};
