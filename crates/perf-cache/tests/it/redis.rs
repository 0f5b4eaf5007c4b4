//! Journeys against a real Redis, started for each test. Time runs here: a real socket and a paused clock do not mix.

use perf_cache::{
    Cache, CacheSpace, Compression, Entries, Leases, Postcard, RedisConfig, RedisStore, Store, Taken, Wanted,
    tag,
};
use perf_core::time;
use perf_testkit::RedisServer;
use std::convert::Infallible;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn node(server: &RedisServer) -> (CacheSpace, Cache<u64, String>) {
    let space = CacheSpace::builder("shop").redis(RedisConfig::url(server.url())).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(10)).await, "Redis is up");
    let cache = space
        .cache("a")
        .capacity(Entries(1000))
        .jitter(0.0)
        .fresh(Duration::from_secs(600))
        .codec(Postcard)
        .compress(Compression::Lz4 { above: 100 })
        .build()
        .unwrap();
    (space, cache)
}

async fn load(cache: &Cache<u64, String>, key: u64, value: &str) -> String {
    let value = value.repeat(50);
    let loader = move || async move { Ok::<_, Infallible>(value) };
    let hit = cache.get_or_load(&key, loader).tags([tag!("t", key)]).await.unwrap();
    hit[..hit.len() / 50].to_owned()
}

/// Waits until `holds` is true, ten seconds at most.
async fn eventually(holds: impl Fn() -> bool) -> bool {
    for _ in 0..500 {
        if holds() {
            return true;
        }
        time::sleep(MS(20)).await;
    }
    holds()
}

#[tokio::test]
async fn s6_values_and_invalidations_travel_through_redis() {
    let server = RedisServer::start().await.unwrap();
    let ((space_a, a), (space_b, b)) = (node(&server).await, node(&server).await);
    assert_eq!(load(&a, 1, "old").await, "old");
    assert!(eventually(|| space_a.stats().written == 1).await);
    assert_eq!(load(&b, 1, "never").await, "old", "from Redis");
    assert_eq!((b.stats().loaded, space_b.stats().hits), (0, 1));
    assert!(a.invalidate(&1).await.acked);
    assert!(eventually(|| b.get(&1).is_none()).await);
    assert_eq!(load(&b, 1, "new").await, "new");
    assert!(space_a.invalidate_tags([tag!("t", 1)]).await.acked);
    assert!(eventually(|| b.get(&1).is_none()).await);
    assert!(a.clear().await.acked);
    let (_, cold) = node(&server).await;
    assert_eq!(load(&cold, 1, "newest").await, "newest", "a cold node refuses what was cleared before");
}

#[tokio::test]
async fn s32_redis_killed_and_restarted_fails_no_request_and_nothing_stale_comes_back() {
    let server = RedisServer::start().await.unwrap();
    let ((space_a, a), (space_b, b)) = (node(&server).await, node(&server).await);
    assert_eq!(load(&a, 1, "old").await, "old");
    assert!(eventually(|| space_a.stats().written == 1).await);
    assert_eq!(load(&b, 1, "never").await, "old");
    server.kill().await.unwrap();
    let begun = time::now();
    for key in 100..200 {
        assert_eq!(load(&a, key, "x").await, "x", "no request fails");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "the guard opened: {:?}", begun.elapsed());
    let receipt = a.invalidate(&1).await;
    assert!(!receipt.acked && a.get(&1).is_none());
    server.restart().await.unwrap();
    assert!(
        space_a.coherent(Duration::from_secs(15)).await && space_b.coherent(Duration::from_secs(15)).await
    );
    assert!(eventually(|| b.get(&1).is_none()).await, "the invalidation arrived after the restart");
    assert_eq!(load(&b, 1, "new").await, "new");
    assert!(eventually(|| space_a.stats().waiting == 0).await);
}

#[tokio::test]
async fn s39_flushall_makes_every_node_load_again() {
    let server = RedisServer::start().await.unwrap();
    let ((_, a), (space_b, b)) = (node(&server).await, node(&server).await);
    assert_eq!(load(&a, 1, "old").await, "old");
    assert_eq!(load(&b, 1, "old").await, "old");
    a.invalidate(&2).await;
    server.command(&["FLUSHALL"]).await.unwrap();
    assert!(eventually(|| space_b.stats().gaps > 0 && b.get(&1).is_none()).await);
    assert_eq!(load(&b, 1, "new").await, "new");
}

#[tokio::test]
async fn s35_a_space_whose_redis_never_answers_works_from_memory() {
    let space =
        CacheSpace::builder("shop").redis(RedisConfig::url("redis://127.0.0.1:1")).build().await.unwrap();
    let cache: Cache<u64, String> = space.cache("a").codec(Postcard).build().unwrap();
    assert_eq!(load(&cache, 1, "x").await, "x");
    assert!(cache.get(&1).is_some() && !space.is_coherent());
    let error =
        CacheSpace::builder("shop").redis(RedisConfig::url("not an address")).build().await.unwrap_err();
    assert_eq!(error.field(), "redis.url");
}

#[tokio::test]
async fn s26_no_life_is_too_short_or_too_long_for_redis() {
    let server = RedisServer::start().await.unwrap();
    let store = RedisStore::new("shop", &RedisConfig::url(server.url())).unwrap();
    for life in [Duration::from_nanos(1), Duration::MAX] {
        store.set(b"key", b"value", life).await.unwrap();
    }
    let found = store.get(b"key").await.unwrap().unwrap();
    assert_eq!(found.bytes, b"value");
    assert!(found.remaining > Duration::from_secs(31_536_000), "{:?}", found.remaining);
    assert_eq!(store.get(b"another").await, Ok(None));
    store.remove(b"key").await.unwrap();
    assert_eq!(store.get(b"key").await, Ok(None));
    // A key of another kind is an error of that read, and not of the next.
    server.command(&["RPUSH", "key", "a"]).await.unwrap();
    assert!(store.get(b"key").await.is_err());
    assert_eq!(store.get(b"another").await, Ok(None));
}

#[tokio::test]
async fn s25_redis_keeps_the_rules_of_leases() {
    let server = RedisServer::start().await.unwrap();
    let store = RedisStore::new("shop", &RedisConfig::url(server.url())).unwrap();
    crate::leases::keeps_the_rules_of_leases(&store, MS(500)).await;
    // A key of another kind is an error of its own, and not of the others.
    server.command(&["RPUSH", "list", "a"]).await.unwrap();
    let wanted = [b"list".to_vec(), b"free".to_vec()].map(|key| Wanted { key, known: None });
    let taken = store.take_many(&wanted, 1, MS(500)).await;
    assert!(taken[0].is_err() && taken[1] == Ok(Taken::Granted), "{taken:?}");
}

#[tokio::test]
async fn a_purge_looks_through_everything_that_redis_has() {
    let server = RedisServer::start().await.unwrap();
    // A name full of what patterns are made of.
    let space = CacheSpace::builder("a*b?c[d]e\\f^g-h").redis(RedisConfig::url(server.url()));
    let space = space.store_timeout(Duration::from_secs(1)).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(10)).await);
    let cache: Cache<(u32, String), u64> =
        space.cache("pages").capacity(Entries(10)).codec(Postcard).build().unwrap();
    let rows = |missing: Vec<(u32, String)>| async move {
        Ok::<_, Infallible>(missing.into_iter().map(|key| (key, 1)).collect::<Vec<_>>())
    };
    let keys: Vec<(u32, String)> = (0..2_500).map(|n| (n, format!("/{n}"))).collect();
    cache.load_many(&keys, rows).await;
    assert!(eventually(|| space.stats().written == 2_500).await);
    let purged = cache.purge_stored(|(number, path)| *number < 2_000 && path.starts_with('/')).await.unwrap();
    assert_eq!((purged.removed, purged.unreadable), (2_000, 0));
    let left = server.command(&["DBSIZE"]).await.unwrap().int();
    assert_eq!(left, Some(501), "the others, and the log");
}
