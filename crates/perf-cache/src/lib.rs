//! The cache of a Rust service: one load per key however many ask, invalidation by tag that no load can outrun, values
//! that are never silently stale.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use perf_cache::{Bytes, Cache, CacheSpace, tag};
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! let space = CacheSpace::in_process("shop");
//! let products: Cache<u64, String> =
//!     space.cache("products").capacity(Bytes(64 << 20)).fresh(Duration::from_secs(60)).build()?;
//!
//! // A thousand callers at once would run this loader once.
//! let product = products
//!     .get_or_load(&7, || async { Ok::<_, Infallible>(String::from("lamp")) })
//!     .tags([tag!("supplier", 3)])
//!     .await?;
//! assert_eq!(*product, "lamp");
//!
//! // Everything that depends on supplier 3 is gone, in every cache of the space, before the next line runs.
//! space.invalidate_tags([tag!("supplier", 3)]).await;
//! assert!(products.get(&7).is_none());
//! # Ok(()) }
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`CacheSpace`] | the caches of one application and the tags they share |
//! | [`Cache`] | values of one type by keys of one type |
//! | [`CacheConfig`], [`CacheBuilder`], [`Preset`] | lives, windows, limits; what files say and what code says |
//! | [`Hit`], [`Freshness`] | a value and how good it is |
//! | [`Tag`], [`tag!`], [`Collector`] | what entries depend on, and invalidation after a commit |
//! | [`Loaded`], [`LoadContext`] | loaders that choose life and tags, or confirm what is there |
//! | [`LoadError`] | why there is no value |
//! | [`Statement`], [`QueryKey`], `QueryCache` (feature `sqlx`) | cached query results, ended by the tables they name |
//! | [`Fingerprint`] | keys of answers, from the parameters of their requests |
//! | [`Prefetcher`], [`Warmed`] | loading before anyone asks |
//! | [`Explanation`], [`CurvePoint`], [`HotKey`] | why a key is answered so, what more memory would give, what is read most |
//! | `#[cached]` (feature `macros`) | a cache in front of an `async fn`, with `uncached` and `invalidate` beside it |
//!
//! # Features
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `serde` | configuration reads and writes as text | none beyond the `serde` crate, which codecs need anyway |
//! | `redis` | Redis as second tier and invalidation log: one server, Sentinel or a Cluster | the `redis` crate |
//! | `json`, `messagepack` | codecs beside postcard | `serde_json`, `rmp-serde` |
//! | `lz4` | compression of values in the second tier | `lz4_flex` |
//! | `sqlx` | cached query results, invalidation with a transaction | the `sqlx` crate, without a driver |
//! | `zstd` | the same with dictionaries trained on the values | `zstd`, which builds C |
//! | `moka` | moka as the engine, beside our own | `moka` |
//! | `macros` | the attribute `#[cached]` | `syn`, `quote` and `proc-macro2`, when compiling |
//!
//! # What it is not
//!
//! It does not retry, break or limit calls (`perf-resilience` does), and it pools no connections (`perf-pool` does).

mod ahead;
mod builder;
mod cache;
mod clock;
mod collector;
mod config;
mod engine;
mod entry;
mod error;
mod fence;
mod fingerprint;
pub mod forms;
mod hit;
mod hold;
mod key;
mod load;
mod memory;
mod observe;
mod purge;
mod put;
mod query;
mod receipt;
mod remote;
mod space;
mod stats;
mod tag;

pub use ahead::{KeyFileError, PrefetchConfig, PrefetchStats, Prefetcher, Warmed};
pub use builder::CacheBuilder;
pub use cache::Cache;
pub use collector::Collector;
pub use config::{
    Bytes, CacheConfig, CancelPolicy, Capacity, EngineKind, Entries, Preset, Refresh, WhenFull,
};
pub use engine::{Cause, Priority};
pub use error::LoadError;
pub use fingerprint::{AnswerKey, Fingerprint};
pub use hit::{Freshness, Hit, Lookup};
pub use key::{CacheKey, Key};
pub use load::{GetOrLoad, LoadCall, LoadContext, LoadMany, Loaded};
pub use observe::{CurvePoint, EntryState, Explanation, Fenced, HotKey, Loading};
pub use purge::Purged;
#[cfg(feature = "sqlx")]
pub use query::{CachedQuery, QueryCache, QueryError};
pub use query::{Dialect, QueryKey, QueryKeyBuilder, Statement, table_tag};
pub use receipt::{Invalidating, Receipt};
pub use remote::codec::{Codec, CodecError, Postcard};
pub use remote::compress::Compression;
pub use remote::guard::{StoreGuard, Trip};
pub use remote::memory::{MemorySnapshot, MemoryStore};
pub use remote::port::{
    Cursor, End, Ends, InvalidationLog, Leases, News, Position, Record, Scanned, Store, StoreError, Stored,
    Taken, Wanted,
};
pub use space::{CacheSpace, CacheSpaceBuilder};
pub use stats::{CacheStats, SpaceStats};
pub use tag::Tag;

/// ```
/// use perf_cache::{Cache, CacheSpace, cached, tag};
/// use std::io;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::{Arc, LazyLock};
///
/// /// Whatever answers; an `Arc` of it is what a load takes along.
/// #[derive(Default)]
/// struct Db {
///     queries: AtomicU32,
/// }
///
/// static SPACE: LazyLock<CacheSpace> = LazyLock::new(|| CacheSpace::in_process("shop"));
/// static USERS: LazyLock<Cache<u64, String>> = LazyLock::new(|| SPACE.cache("users").build().unwrap());
///
/// #[cached(cache = "USERS", key(id), tags("org:{org}"))]
/// async fn user_by_id(db: Arc<Db>, id: u64, org: u32) -> Result<String, io::Error> {
///     let query = db.queries.fetch_add(1, Ordering::Relaxed) + 1;
///     Ok(format!("user {id} as of query {query}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let db = Arc::new(Db::default());
/// assert_eq!(*user_by_id(Arc::clone(&db), 7, 3).await?, "user 7 as of query 1");
/// assert_eq!(*user_by_id(Arc::clone(&db), 7, 3).await?, "user 7 as of query 1");
///
/// SPACE.invalidate_tags([tag!("org", 3)]).await;
/// assert_eq!(*user_by_id(Arc::clone(&db), 7, 3).await?, "user 7 as of query 2");
///
/// user_by_id::invalidate(&7).await;
/// assert_eq!(*user_by_id(Arc::clone(&db), 7, 3).await?, "user 7 as of query 3");
/// assert_eq!(user_by_id::uncached(Arc::clone(&db), 7, 3).await?, "user 7 as of query 4");
/// assert_eq!(*user_by_id(db, 7, 3).await?, "user 7 as of query 3");
/// # Ok(()) }
/// ```
#[cfg(feature = "macros")]
pub use perf_cache_macros::cached;
#[cfg(feature = "json")]
pub use remote::codec::Json;
#[cfg(feature = "messagepack")]
pub use remote::codec::MessagePack;
#[cfg(feature = "redis")]
pub use remote::redis::{Invalidation, RedisConfig, RedisStore};
