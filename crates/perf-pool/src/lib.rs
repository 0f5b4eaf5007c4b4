//! Connection pools that are fair, never wasted, never trusted blindly: SQL, Redis and yours.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use perf_pool::{Pool, Sqlite};
//!
//! let pool = Pool::builder(Sqlite::memory()).name("orders").max(4).build()?;
//! let mut lease = pool.acquire().await?;
//! let (answer,): (i64,) = sqlx::query_as("SELECT 6 * 7").fetch_one(&mut *lease).await?;
//! assert_eq!(answer, 42);
//! drop(lease); // goes to whoever has waited longest
//! assert_eq!(pool.stats().idle, 1);
//! pool.close().await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Pool`], [`Builder`], [`PoolConfig`] | the pool and its description |
//! | [`Acquire`], [`Lease`] | waiting for a connection, and having one |
//! | [`balance`] | several endpoints behind one `acquire`, and which of them are ill |
//! | `websocket` | subscriptions that outlive their connections, behind the feature of that name |
//! | [`sizing`] | how many connections, or replicas, there should be, and why |
//! | [`Manager`], [`Condition`] | whoever makes, checks and resets connections |
//! | [`Error`] | which wait ran out, and who holds the connections |
//! | [`PoolStats`], [`METRICS`], [`PoolEvent`] | what is going on |
//!
//! # What is different here
//!
//! * A caller waits for the pool, never for its own connect: connections are made by one task of the pool, and a
//!   connection that comes back is handed to the oldest waiter even while another is being made.
//! * A connection is made only if the queue is going to outlast the making.
//! * A caller that is cancelled, a future dropped half-way and a thread that panics leave nothing behind.
//! * A connection in steady use is never pinged; after one death every other one is checked before it is trusted.
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `sqlite`, `postgres`, `mysql` | managers over raw `sqlx` connections | `sqlx` with that driver |
//! | `redis` | a manager over `redis` connections, exclusive and shared | `redis` |
//! | `redis-sentinel`, `redis-cluster` | the same behind sentinels, and for clusters | more of `redis` |
//! | `websocket` | `websocket`: subscriptions and requests over shared connections, and exclusive ones | `tokio-tungstenite`, `futures-util` |
//! | `websocket-tls` | `wss://`, with the authorities of the web or others | `rustls`, `tokio-rustls`, `webpki-roots` |
//! | `deadpool`, `bb8` | managers written for those pools are used as they are | that pool's crate |
//! | `tower` | a service that gives each request a lease | `tower-service` |
//! | `serde` | [`PoolConfig`] reads and writes as text | `serde` |
//!
//! # What it is not
//!
//! It does not retry a query and does not cache a result; those are perf-resilience and perf-cache.

mod adapters;
pub mod balance;
mod checks;
mod clock;
mod core;
mod error;
mod event;
mod manager;
mod managers;
mod pool;
mod redact;
pub mod sizing;
mod sync;
#[cfg(feature = "websocket")]
pub mod websocket;

#[cfg(feature = "bb8")]
pub use adapters::Bb8;
#[cfg(feature = "tower")]
pub use adapters::PooledService;
#[cfg(feature = "deadpool")]
pub use adapters::{Deadpool, DeadpoolError};
pub use error::{Cause, Error, Exhausted, Holder, Saturated, Tried};
pub use event::PoolEvent;
pub use manager::{Condition, Manager};
#[cfg(feature = "mysql")]
pub use managers::MySql;
#[cfg(feature = "postgres")]
pub use managers::Postgres;
#[cfg(feature = "redis-cluster")]
pub use managers::RedisCluster;
#[cfg(feature = "sqlite")]
pub use managers::Sqlite;
#[cfg(feature = "redis")]
pub use managers::{Redis, RedisConnection, RedisShared, RedisSharedConnection};
pub use pool::{
    Acquire, Builder, CloseReport, Fairness, Lease, METRICS, Order, Pool, PoolConfig, PoolStats, Unreturned,
};

/// The page for readers, whose example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/pool.md")]
mod page {}
