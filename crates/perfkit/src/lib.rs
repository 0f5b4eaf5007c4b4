//! Cache, pool, resilience, metrics and database advice for Rust services, wired together by one configuration.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use perfkit::{Config, Stack};
//! use std::convert::Infallible;
//!
//! let stack = Stack::new(Config::from_toml("[caches.users]\npreset = 'balanced'")?).await?;
//! let users = stack.cache::<u64, String>("users")?;
//! let user = users.get_or_load(&7, || async { Ok::<_, Infallible>("Ada".to_owned()) }).await?;
//! assert_eq!(*user, "Ada");
//! assert!(stack.metrics().text().contains("perf_cache_loads_total"));
//! # stack.close().await;
//! # Ok(()) }
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Config`] | one TOML file for everything, and the environment on top of it |
//! | [`Stack`] | what a configuration describes, made and running; it ends gracefully |
//! | [`Database`] | pools, query observer and resilience of one database |
//! | [`core`], [`cache`], [`pool`], [`resilience`], [`metrics`], [`dbopt`], [`http`] | the crates themselves |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `sqlite`, `postgres`, `mysql` | databases of that kind by configuration | `sqlx` with that driver |
//! | `redis` | caches and rates shared through Redis | the `redis` crate |
//! | `snapshots` | backups of databases by configuration | `sha2`, `ring`, `zstd` |
//! | `websocket` | WebSocket pools by configuration | `tokio-tungstenite`, `rustls` |
//! | `json` | values of shared caches as JSON | `serde_json` |
//! | `macros` | `#[cached]`, as `perfkit::cache::cached` | `syn` at build time |
//! | `otlp` | numbers and spans to an OpenTelemetry collector, by the section `[otlp]` | `hyper`'s client, `tracing` |
//! | `webhook` | alerts posted in Alertmanager's format, by the section `[webhook]` | `hyper`'s client |
//! | `tls` | collectors and webhooks behind `https://` | `rustls`, Mozilla's authorities |
//! | `compression` | compressed answers | gzip, brotli and zstd encoders |
//!
//! # What it is not
//!
//! There is no algorithm in this crate: it reads configuration, connects the others, and ends them in the right order.

pub use perf_cache as cache;
pub use perf_core as core;
pub use perf_dbopt as dbopt;
pub use perf_http as http;
pub use perf_metrics as metrics;
pub use perf_pool as pool;
pub use perf_resilience as resilience;

mod config;
mod database;
mod stack;

#[cfg(feature = "redis")]
pub use config::SharedRateSection;
#[cfg(feature = "snapshots")]
pub use config::SnapshotConfig;
#[cfg(feature = "websocket")]
pub use config::WebSocketPoolConfig;
pub use config::{
    CacheSpaceConfig, Config, ConfigError, DatabaseConfig, EndpointConfig, ResilienceConfig,
    ResiliencePreset, ScalingConfig, SentinelConfig, ShutdownConfig, TuningConfig,
};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use database::DatabaseErrors;
pub use database::{Database, Guard};
pub use stack::{CloseReport, Stack, StackBuilder, StackError};

/// The examples of the pages are tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/perfkit.md")]
    struct Guide;
}
