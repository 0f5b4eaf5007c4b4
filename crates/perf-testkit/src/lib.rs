//! What perfkit's tests are made with: private servers, a fault proxy, scripted operations and services, contract suites,
//! and a driver that drops a future at every await.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use perf_testkit::Script;
//! use std::time::Duration;
//!
//! let load = Script::new();
//! load.answer_after(Duration::from_millis(20), "first").never();
//! assert_eq!(load.call(1).await, "first");
//! let second = tokio::time::timeout(Duration::from_secs(1), load.call(2)).await;
//! assert!(second.is_err());
//! assert_eq!((load.calls(), load.cancelled()), (2, 1));
//! # });
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`PostgresServer`], [`MariaDbServer`], [`RedisServer`], [`RedisCluster`], [`RedisSentinel`] | real servers that belong to one test: start, stop, kill, pause, resume, restart |
//! | [`FaultProxy`] | a TCP proxy that delays, stalls, drops, corrupts, throttles, cuts, half-opens and refuses |
//! | [`Script`], `ScriptedService` | an operation, or a tower service, that answers by script in paused time |
//! | `WebSocketServer`, `ServerWord` | topics over WebSocket, cut, stalled, reordered, restarted and forgotten by script |
//! | [`cancel_at_every_await`] | drops a future at each of its awaits in turn |
//! | [`step_by_step`] | makes a future stop at awaits whose result is there at once |
//! | [`Recorder`], [`assert_metrics_documented`] | what components report, and whether their documentation says the same |
//! | [`contract`] | the rules for numbers and for tower middleware |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `tower` | `ScriptedService` and `contract::layer` | the `tower-service` crate |
//! | `websocket` | `WebSocketServer` | the `tokio-tungstenite` crate |
//! | `websocket-tls` | the same under TLS | the `tokio-rustls` crate |
//!
//! # What it is not
//!
//! It is for tests on Linux: it reads `/proc`, and its assertions panic. It knows no sibling crate; a suite for a type of
//! theirs takes what it needs as parameters.

pub mod contract;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../../../docs/testing.md")]
pub mod _guide {}

mod cancel;
mod documented;
mod proxy;
mod recorder;
mod script;
mod server;
#[cfg(feature = "tower")]
mod service;
#[cfg(feature = "websocket-tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(feature = "websocket")]
mod words;

pub use cancel::{cancel_at_every_await, step_by_step};
pub use documented::{assert_all_metrics_documented, assert_metrics_documented};
pub use proxy::{Direction, Fault, FaultProxy};
pub use recorder::{Recorder, Sample, Value};
pub use script::{Held, Script};
pub use server::{
    MariaDbBuilder, MariaDbServer, PostgresBuilder, PostgresServer, RedisBuilder, RedisCluster, RedisReply,
    RedisSentinel, RedisServer, Sentinel, ServerError,
};
#[cfg(feature = "tower")]
pub use service::ScriptedService;
#[cfg(feature = "websocket")]
pub use websocket::WebSocketServer;
#[cfg(feature = "websocket")]
pub use words::ServerWord;
