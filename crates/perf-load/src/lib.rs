//! A load tester that cannot lie: latency counted from the planned instant, open and closed models, a verdict on itself.
//!
//! ```no_run
//! use perf_load::{Arrivals, Load, Request, User};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), perf_load::Error> {
//! let target = "http://127.0.0.1:8080".parse()?;
//! let shop = |_| {
//!     |user: &mut User, request: &mut Request| {
//!         let product = user.rng().below(20_000);
//!         request.get(format_args!("/products/{product}")).step("product");
//!     }
//! };
//! let report = Load::open(Arrivals::Poisson)
//!     .rate(800.0)
//!     .warmup(Duration::from_secs(5))
//!     .duration(Duration::from_secs(30))
//!     .run(&target, shop)
//!     .await?;
//! println!("{report}");
//! assert!(report.total.response.p99_ms < 300.0);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Load`] | the plan: model, [`Stage`]s, warm-up, limits; starts a [`Run`] |
//! | [`Scenario`], [`User`], [`Request`], [`Answer`] | what users send, and what they expect to get |
//! | [`Schedule`] | the planned instants alone, for whoever drives something else |
//! | [`Run`], [`StopHandle`], [`Progress`] | a test under way |
//! | [`RunReport`] | what it found, as plain data; [`Format`]s to write it in |
//! | [`GeneratorHealth`], [`Verdict`] | how far the generator itself can be trusted |
//! | [`Expectations`] | `p99<300ms, errors<0.1%, valid` |
//! | [`Comparison`] | whether one run is faster than another, or it is noise |
//! | [`SelfTest`] | servers whose answers are known, measured on this machine |
//! | [`guide`] | when to use what, what is measured, defaults, mistakes to avoid |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `cli` (default) | the `perf-load` binary | `clap`; libraries turn it off |
//!
//! # What it is not
//!
//! There is no HTTPS, HTTP/2, WebSocket or SQL, and no script language: scenarios are Rust. Put a terminating proxy in front of
//! the load tester for HTTPS, and measure the proxy first.

#[doc = include_str!("../../../docs/load.md")]
pub mod guide {}

mod compare;
mod engine;
mod error;
mod failure;
mod http;
mod output;
mod plan;
mod report;
mod scenario;
mod selftest;
mod stats;

pub use compare::{Change, Comparison, Judgement, MIN_BLOCKS};
pub use engine::{Progress, Run, StopHandle};
pub use error::Error;
pub use failure::ErrorKind;
pub use http::{Method, Request, Target};
pub use output::{Format, check_writable};
pub use plan::{
    Arrivals, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DURATION, DEFAULT_MAX_KEPT_BODY, DEFAULT_SEED,
    DEFAULT_TIMEOUT, Load, MAX_CONCURRENCY, MAX_DEFAULT_IN_FLIGHT, MAX_RATE, MIN_DEFAULT_IN_FLIGHT, Overflow,
    Pacing, Planned, Schedule, Stage, Threads,
};
pub use report::{
    Bucket, Checked, ErrorReport, Expectations, GeneratorHealth, LatencyReport, LoadModel, LoadReport,
    Outage, REPORT_FORMAT, RunReport, StepReport, Timeline, Verdict,
};
pub use scenario::{Answer, CheckFailed, Scenario, User};
pub use selftest::{DEFAULT_SELF_TEST_LENGTH, SelfCheck, SelfTest};
pub use stats::MAX_STEPS;
