//! What every perfkit crate shares, and nothing else: pausable time, one refusal type, outcomes, backoff,
//! estimators, counters, histograms, and the door through which numbers leave a component.
//!
//! ```
//! use perf_core::{Deadline, Histogram, Reason, Rejected};
//! use std::time::Duration;
//!
//! let refusal = Rejected::new(Reason::Full, "orders").retry_after(Duration::from_millis(40));
//! assert_eq!(refusal.to_string(), "`orders` refused the call: it is full, retry after 40ms");
//!
//! let latency = Histogram::new();
//! latency.record(0.012);
//! assert_eq!(latency.snapshot().count(), 1);
//! assert!(Deadline::NEVER.instant().is_none());
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`time`] | the one clock, which tests can pause, and the absolute [`Deadline`] |
//! | `Ticker`, `CoarseClock` (feature `ticker`) | clocks for hot paths: the processor's counter, the kernel's coarse clock |
//! | [`Rejected`], [`CallError`] | the one way a policy says no |
//! | [`Outcome`], [`Classify`] | what a finished call means to a policy |
//! | [`Backoff`] | delay sequences, capped, jittered, seedable |
//! | [`Ewma`], [`PeakEwma`], [`CountWindow`], [`TimeWindow`] | estimators that take `now` |
//! | [`Counter`], [`Gauge`], [`Histogram`] | numbers that many threads write without a lock |
//! | [`Rng`], [`Zipf`] | seedable randomness and popularity, for jitter, sampling and simulations |
//! | [`WaitList`] | the fair waiter list of the bulkhead, for whoever hands things to waiters in order |
//! | [`Component`], [`Sink`], [`Registry`], [`Health`] | how numbers and health are read |
//! | [`Name`], [`Secret`], [`InvalidConfig`], [`duration`] | the words of configuration |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `serde` | configuration types read and write as text | the `serde` crate |
//! | `ticker` | `Ticker` and `CoarseClock`, the clocks of hot paths | the `quanta` crate; `rustix` on Linux |
//! | `test-util` | the clock can be paused (`tokio::time::pause`) | a thread-local look-up per clock reading: tests only |
//!
//! # What it is not
//!
//! There is no I/O here, nothing is spawned, and no technology (Redis, SQL, HTTP) is known by name.

pub mod duration;
pub mod time;

mod backoff;
#[cfg(feature = "ticker")]
mod coarse;
mod component;
mod config;
mod counter;
mod ewma;
mod histogram;
mod name;
mod outcome;
mod rejected;
mod rng;
mod secret;
mod slots;
mod sync;
#[cfg(feature = "ticker")]
mod ticker;
mod waiters;
mod window;
mod zipf;

pub use backoff::{Backoff, Delays, Jitter};
#[cfg(feature = "ticker")]
pub use coarse::CoarseClock;
pub use component::{
    Component, ComponentId, Desc, DuplicateComponent, Health, Kind, Label, Registration, Registry, Sink,
    Status, Unit,
};
pub use config::InvalidConfig;
pub use counter::{Counter, Gauge};
pub use ewma::{Ewma, PeakEwma};
pub use histogram::{Estimate, Histogram, HistogramSnapshot};
pub use name::Name;
pub use outcome::{AnyError, Classify, Outcome};
pub use rejected::{CallError, Evidence, Reason, Rejected};
pub use rng::Rng;
pub use secret::Secret;
#[cfg(feature = "ticker")]
pub use ticker::Ticker;
pub use time::Deadline;
pub use waiters::{Ticket, WaitList};
pub use window::{CountWindow, Tally, TimeWindow};
pub use zipf::Zipf;
