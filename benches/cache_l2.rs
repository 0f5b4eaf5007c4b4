//! What the second tier costs on a real Redis: a hit beside a bare GET of the same bytes, a hundred keys at once beside one
//! after the other, and how many bytes travel for JSON-like values.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use perf_cache::{Cache, CacheSpace, Compression, Entries, Json, Postcard, RedisConfig};
use perf_core::{Rng, time};
use perf_testkit::RedisServer;
use perfkit_benches::Contest;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A row as services cache it: about 400 bytes of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u64,
    sku: String,
    name: String,
    category: String,
    price_cents: u64,
    currency: String,
    in_stock: bool,
    rating: f64,
    tags: Vec<String>,
    supplier: Supplier,
    updated_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Supplier {
    id: u64,
    name: String,
    country: String,
}

impl Product {
    fn new(id: u64) -> Self {
        let mut rng = Rng::seeded(id);
        let mut pick = |words: &[&str]| words[rng.below(words.len() as u64) as usize].to_owned();
        let category = pick(&["lighting", "garden", "kitchen", "office", "outdoor", "bedroom"]);
        let name =
            format!("{} {}", pick(&["brass", "oak", "steel", "linen"]), pick(&["lamp", "desk", "pot"]));
        let tags = vec![pick(&["new", "sale", "classic"]), pick(&["indoor", "outdoor", "any"])];
        let country = pick(&["DE", "FR", "PL", "SE", "IT"]);
        let currency = pick(&["EUR", "USD", "SEK"]);
        Self {
            id,
            sku: format!("SKU-{:08}", rng.below(100_000_000)),
            name,
            category,
            price_cents: 100 + rng.below(100_000),
            currency,
            in_stock: rng.chance(0.8),
            rating: rng.below(50) as f64 / 10.0,
            tags,
            supplier: Supplier { id: rng.below(500), name: format!("Supplier {}", rng.below(500)), country },
            updated_at: format!("2026-{:02}-{:02}T12:00:00Z", 1 + rng.below(12), 1 + rng.below(28)),
        }
    }
}

/// More keys than memory holds, asked for in turn: every read goes to Redis, but for one in a hundred.
const KEYS: u64 = 16_000;
/// Small, and yet no smaller than caches are: one of a few entries looks at its readers for every few that it evicts.
const MEMORY: u64 = 160;
const BATCH: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = runtime.block_on(RedisServer::start())?;
    let setup = runtime.block_on(Setup::new(&server))?;
    single(&runtime, &setup);
    batch(&runtime, &setup);
    runtime.block_on(wire(&server))
}

struct Setup {
    cache: Cache<u64, Product>,
    bare: MultiplexedConnection,
    /// The names under which the cache's values lie in Redis.
    names: Vec<Vec<u8>>,
}

async fn space(server: &RedisServer, name: &str) -> Result<CacheSpace, Box<dyn Error>> {
    let space = CacheSpace::builder(name.to_owned())
        .redis(RedisConfig::url(server.url()))
        .store_timeout(Duration::from_secs(2))
        .build()
        .await?;
    if space.coherent(Duration::from_secs(10)).await { Ok(space) } else { Err("Redis is not reached".into()) }
}

/// Loads all products through the cache and waits until they are in Redis.
async fn fill(space: &CacheSpace, cache: &Cache<u64, Product>, keys: u64) -> Result<(), Box<dyn Error>> {
    for first in (0..keys).step_by(BATCH) {
        let keys: Vec<u64> = (first..first + BATCH as u64).collect();
        let loader = |missing: Vec<u64>| async move {
            Ok::<_, Infallible>(missing.into_iter().map(|id| (id, Product::new(id))).collect::<Vec<_>>())
        };
        drop(cache.load_many(&keys, loader).await);
    }
    for _ in 0..500 {
        if space.stats().written >= keys {
            return Ok(());
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    Err("the values are not written".into())
}

impl Setup {
    async fn new(server: &RedisServer) -> Result<Self, Box<dyn Error>> {
        let space = space(server, "l2").await?;
        let cache = space
            .cache("products")
            .capacity(Entries(MEMORY))
            .fresh(Duration::from_secs(3600))
            .codec(Postcard)
            .build()?;
        fill(&space, &cache, KEYS).await?;
        let info = server.url().into_connection_info()?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let mut bare = Client::open(info)?.get_multiplexed_async_connection().await?;
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("pk:*").query_async(&mut bare).await?;
        if names.len() as u64 != KEYS {
            return Err(format!("{} of {KEYS} values are in Redis", names.len()).into());
        }
        Ok(Self { cache, bare, names })
    }

    /// The next key, in turn.
    const fn next(at: &mut u64) -> u64 {
        *at = (*at + 1) % KEYS;
        *at
    }
}

/// A loader that must not run: everything is in Redis.
async fn absent() -> Result<Product, Absent> {
    Err(Absent)
}

#[derive(Debug)]
struct Absent;

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the value should have come from Redis")
    }
}

fn single(runtime: &Runtime, setup: &Setup) {
    let before = setup.cache.stats();
    let (mut a, mut b, mut c, mut bare) = (0, 0, 0, setup.bare.clone());
    Contest::new("l2_single_hit")
        .round_time(Duration::from_millis(40))
        .entry("ours", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    let key = Setup::next(&mut a);
                    black_box(setup.cache.get_or_load(&key, absent).await.is_ok());
                }
            });
        })
        .entry("redis_get", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    let name = &setup.names[Setup::next(&mut b) as usize];
                    let bytes: Option<Vec<u8>> =
                        redis::cmd("GET").arg(name).query_async(&mut bare).await.unwrap_or_default();
                    black_box(bytes.map(|bytes| bytes.len()));
                }
            });
        })
        .entry("ours_fetch", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    let key = Setup::next(&mut c);
                    black_box(setup.cache.fetch(&key).await.is_some());
                }
            });
        })
        .run();
    let failed = setup.cache.stats().since(&before).failed;
    println!("l2_single_hit loads={failed} (0: every read was answered by Redis)");
}

fn batch(runtime: &Runtime, setup: &Setup) {
    let (mut a, mut b, mut c, mut bare) = (0, 0, 0, setup.bare.clone());
    let take = |at: &mut u64| -> Vec<u64> { (0..BATCH).map(|_| Setup::next(at)).collect() };
    Contest::new("l2_100_keys")
        .round_time(Duration::from_millis(60))
        .entry("ours", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    let loader = |_: Vec<u64>| async { Err::<Vec<(u64, Product)>, _>(Absent) };
                    let found = setup.cache.load_many(&take(&mut a), loader).await;
                    black_box(found.iter().filter(|found| found.is_ok()).count());
                }
            });
        })
        .entry("ours_one_by_one", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    for key in take(&mut b) {
                        black_box(setup.cache.get_or_load(&key, absent).await.is_ok());
                    }
                }
            });
        })
        .entry("redis_mget", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    let mut command = redis::cmd("MGET");
                    for key in take(&mut c) {
                        command.arg(&setup.names[key as usize]);
                    }
                    let bytes: Vec<Option<Vec<u8>>> =
                        command.query_async(&mut bare).await.unwrap_or_default();
                    black_box(bytes.len());
                }
            });
        })
        .run();
}

/// Bytes that travel for values whose JSON is about 400 bytes, envelopes included.
async fn wire(server: &RedisServer) -> Result<(), Box<dyn Error>> {
    for (name, compression) in [
        ("off", Compression::Off),
        ("lz4", Compression::Lz4 { above: 64 }),
        ("zstd_dictionary", Compression::zstd()),
    ] {
        let space = space(server, name).await?;
        let cache: Cache<u64, Product> =
            space.cache("products").codec(Json).compress(compression).capacity(Entries(16)).build()?;
        // What a dictionary is trained on; it is in use when it is counted.
        fill(&space, &cache, 2_000).await?;
        for _ in 0..300 {
            if compression != Compression::zstd() || space.stats().dictionaries > 0 {
                break;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        let before = space.stats();
        let loader = |missing: Vec<u64>| async move {
            Ok::<_, Infallible>(missing.into_iter().map(|id| (id, Product::new(id))).collect::<Vec<_>>())
        };
        let keys: Vec<u64> = (1_000_000..1_001_000).collect();
        drop(cache.load_many(&keys, loader).await);
        while space.stats().since(&before).written < 1_000 {
            time::sleep(Duration::from_millis(10)).await;
        }
        let after = space.stats().since(&before);
        let (wire, json) = (after.bytes_written as f64 / 1e3, after.bytes_raw as f64 / 1e3);
        println!(
            "ratio l2_wire_bytes_{name} ours={wire:.0} json={json:.0} ours/json={:.2} smaller={:.0}%",
            wire / json,
            (1.0 - wire / json) * 100.0
        );
    }
    Ok(())
}
