//! HTTP for perfkit: tower layers for a service, a management surface beside it, and a live page on top. The only crate that
//! knows axum, and the place where a refusal becomes a status.
//!
//! ```
//! use axum::{Router, routing::get};
//! use perf_http::{Auth, Management, Quota, Server, Standard};
//! use perf_metrics::Metrics;
//! use std::{sync::Arc, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = Standard::builder("shop").quota(Quota::per_second(50).burst(100).named("api")).build()?;
//! let metrics = Metrics::builder().build()?;
//! metrics.register(Arc::new(stack.metrics().clone()))?.keep();
//!
//! let app = Router::new().route("/orders/{id}", get(|| async { "one order" })).layer(stack);
//! let serving = Server::bind(([127, 0, 0, 1], 0).into()).await?.serve(app);
//!
//! let management = Management::builder(metrics)
//!     .auth(Auth::generated()?)
//!     .service("shop", env!("CARGO_PKG_VERSION"))
//!     .address(([127, 0, 0, 1], 0).into())
//!     .build()?
//!     .start()
//!     .await?;
//! println!("live page: {}", management.login_url()?);
//! # assert!(management.login_url()?.contains("/login?t="));
//!
//! management.shutdown().await;
//! assert!(serving.shutdown(Duration::from_secs(1)).await);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Standard`] | all layers in the one order in which they are right |
//! | [`HttpMetrics`] | request metrics by route template: bounded labels, to the headers and to the last byte |
//! | [`RateLimit`] | GCRA by client, in bounded memory, with the `RateLimit` fields |
//! | [`DeadlineLayer`], [`BodyLimitLayer`], [`CatchPanicLayer`] | what bounds a request |
//! | [`RequestIdLayer`], [`ServerTimingLayer`] | what identifies and times it for others |
//! | [`ConditionalLayer`], [`Preconditions`] | entity tags, 304 and 412 |
//! | `CompressLayer` | gzip, brotli and zstd, where they help (feature `compression`) |
//! | [`Refusal`], [`Problem`] | a refusal and an error as RFC 9457 problem details |
//! | [`TrustedProxies`] | whose word about the client's address is believed |
//! | [`Server`] | a listener that knows its peers and closes gracefully |
//! | [`Management`] | probes, health, metrics, overview, events and the live page, behind [`Auth`] |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `compression` | `CompressLayer`, also in [`Standard`] | tower-http, brotli, flate2 and zstd; about ten seconds of build |
//! | `serde` | configuration reads from TOML or the environment | none beside what is there |
//!
//! # What it is not
//!
//! There is no policy here: breakers, retries and caches decide elsewhere, and this crate carries their numbers and refusals.
//! TLS and HTTP/2 are the business of the proxy in front, or of a server of your choice: the layers are plain tower.

// Its snippets are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/http.md")]
mod guide {}

mod body_limit;
mod catch_panic;
#[cfg(feature = "compression")]
mod compress;
mod conditional;
mod deadline;
pub mod manage;
pub mod measure;
mod peer;
mod problem;
mod random;
pub mod rate;
mod refusal;
mod request_id;
mod server;
mod server_timing;
mod standard;
mod wallclock;

pub use body_limit::{BodyLimitFuture, BodyLimitLayer, BodyLimited, DEFAULT_BODY_LIMIT};
pub use catch_panic::{CatchPanic, CatchPanicFuture, CatchPanicLayer};
#[cfg(feature = "compression")]
pub use compress::{
    Compress, CompressFuture, CompressLayer, CompressionRules, DEFAULT_COMPRESSION_MIN_BYTES, NeverCompress,
};
pub use conditional::{
    Conditional, ConditionalFuture, ConditionalLayer, DEFAULT_ETAG_LIMIT, ETag, Preconditions, Verdict,
};
pub use deadline::{DEFAULT_REQUEST_TIMEOUT, DeadlineLayer, REQUEST_TIMEOUT, Timed, TimedFuture};
pub use manage::{
    Auth, Heartbeat, Management, ManagementBuilder, ManagementConfig, ManagementServer, StartError,
};
pub use measure::{HttpMetrics, HttpStats};
pub use peer::{Cidr, Head, TrustedProxies};
pub use problem::Problem;
pub use rate::{Quota, RateLimit, RateLimitConfig};
pub use refusal::{DEFAULT_RETRY_AFTER, Refusal};
pub use request_id::{Identify, IdentifyFuture, RequestId, RequestIdLayer, X_REQUEST_ID};
pub use server::{BindError, DEFAULT_DRAIN_DELAY, DEFAULT_GRACE, Server, Serving};
pub use server_timing::{SERVER_TIMING, ServerTimed, ServerTimedFuture, ServerTimingLayer};
pub use standard::{Standard, StandardBuilder, StandardConfig, StandardService};
