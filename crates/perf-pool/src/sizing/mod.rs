//! How many connections a pool should have, and how many replicas a service, from what they see: pure controllers, and the
//! mathematics behind them.
//!
//! Little's law gives the load *L* (arrivals per second times the time a lease is held); square-root staffing gives the
//! size *L + β√L*, for which Erlang's formula tells the share of callers that have to wait ([`erlang_c`]).

mod config;
mod drive;
mod erlang;
mod guard;
#[cfg(all(test, not(perf_loom)))]
mod replica_tests;
mod replicas;
mod state;
#[cfg(all(test, not(perf_loom)))]
mod tests;

pub use config::SizingConfig;
pub(crate) use drive::Observer;
pub use drive::SizingMode;
pub use erlang::erlang_c;
pub use replicas::{
    ReplicaAdvice, ReplicaConfig, ReplicaController, ReplicaEvent, ReplicaReason, ReplicaSample, ScaleTarget,
    autoscale,
};
pub use state::{Advice, Controller, Sample, SizingReason};
