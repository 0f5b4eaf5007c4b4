//! Invalidations that Redis pushes: what pub/sub and client tracking do when messages are lost, beside the log.

use perf_cache::{Cache, CacheSpace, Entries, Invalidation, Postcard, RedisConfig, tag};
use perf_core::time;
use perf_testkit::{Fault, FaultProxy, RedisServer};
use std::convert::Infallible;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
const ALL: [Invalidation; 3] = [Invalidation::Log, Invalidation::PubSub, Invalidation::Tracking];

async fn node(url: &str, invalidation: Invalidation) -> (CacheSpace, Cache<u64, String>) {
    let config = RedisConfig::url(url).invalidation(invalidation);
    let space = CacheSpace::builder("shop").redis(config).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(10)).await, "{invalidation:?}");
    let cache = space.cache("a").capacity(Entries(1000)).codec(Postcard);
    (space.clone(), cache.fresh(Duration::from_secs(600)).build().unwrap())
}

async fn load(cache: &Cache<u64, String>, key: u64, value: &str) -> String {
    let value = value.to_owned();
    let loader = move || async move { Ok::<_, Infallible>(value) };
    (*cache.get_or_load(&key, loader).tags([tag!("t", key)]).await.unwrap()).clone()
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
async fn s6_every_kind_carries_keys_tags_and_clears_and_many_at_once() {
    for kind in ALL {
        let server = RedisServer::start().await.unwrap();
        let ((space_a, a), (space_b, b)) = (node(&server.url(), kind).await, node(&server.url(), kind).await);
        for way in ["key", "tag", "clear"] {
            assert_eq!(load(&a, 1, way).await, way, "{kind:?}");
            let written = space_a.stats().written;
            assert!(eventually(|| space_a.stats().written >= written).await);
            assert!(eventually(|| space_a.stats().waiting == 0).await);
            load(&b, 1, way).await;
            let receipt = match way {
                "key" => a.invalidate(&1).await,
                "tag" => space_a.invalidate_tags([tag!("t", 1)]).await,
                _ => a.clear().await,
            };
            assert!(receipt.acked, "{kind:?} {way}");
            assert!(eventually(|| b.get(&1).is_none()).await, "{kind:?} {way}");
        }
        for key in 0..300 {
            load(&b, key, "x").await;
        }
        (0..300).for_each(|key| a.invalidate(&key).detach());
        assert!(eventually(|| (0..300).all(|key| b.get(&key).is_none())).await, "{kind:?}");
        assert_eq!((space_a.stats().gaps, space_b.stats().gaps), (0, 0), "{kind:?}: nothing was lost");
    }
}

#[tokio::test]
async fn s8_what_is_missed_is_read_again_from_a_log_and_costs_everything_without_one() {
    for kind in ALL {
        let server = RedisServer::start().await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let ((_, a), (space_b, b)) =
            (node(&server.url(), kind).await, node(&proxy.url(&server.url()), kind).await);
        for key in [1, 2] {
            load(&b, key, "old").await;
        }
        proxy.set(Fault::Refuse).await;
        proxy.cut();
        assert!(eventually(|| !space_b.is_coherent()).await, "{kind:?}");
        a.invalidate(&1).await;
        assert!(b.get(&1).is_some(), "{kind:?}: for a while it cannot know");
        proxy.clear().await;
        // Listening is begun again by itself, `CLIENT TRACKING` included.
        assert!(eventually(|| space_b.is_coherent()).await, "{kind:?}");
        assert!(b.get(&1).is_none(), "{kind:?}: once it is coherent it knows");
        let (kept, gaps) = (b.get(&2).is_some(), space_b.stats().gaps);
        assert_eq!(
            (kept, gaps),
            (kind == Invalidation::Log, u64::from(kind != Invalidation::Log)),
            "{kind:?}"
        );
        load(&b, 2, "new").await;
        a.invalidate(&2).await;
        assert!(eventually(|| b.get(&2).is_none()).await, "{kind:?}: and hears what comes next");
    }
}

#[tokio::test]
async fn s39_every_kind_survives_a_flush_and_a_restart() {
    for kind in ALL {
        let server = RedisServer::start().await.unwrap();
        let ((_, a), (space_b, b)) = (node(&server.url(), kind).await, node(&server.url(), kind).await);
        for interruption in ["flush", "restart"] {
            for key in 0..5 {
                load(&b, key, "old").await;
                a.invalidate(&(key + 100)).await;
            }
            let gaps = space_b.stats().gaps;
            match interruption {
                "flush" => _ = server.command(&["FLUSHALL"]).await.unwrap(),
                _ => server.restart().await.unwrap(),
            }
            assert!(eventually(|| space_b.stats().gaps > gaps && space_b.is_coherent()).await, "{kind:?}");
            assert!(b.get(&1).is_none(), "{kind:?}: nothing is served that may have been invalidated");
            load(&b, 1, "new").await;
            let invalidated = eventually(|| {
                a.invalidate(&1).detach();
                b.get(&1).is_none()
            });
            assert!(invalidated.await, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn tracking_notices_what_others_do_to_the_values_in_redis() {
    let server = RedisServer::start().await.unwrap();
    let kind = Invalidation::Tracking;
    let ((space_a, a), (_, b)) = (node(&server.url(), kind).await, node(&server.url(), kind).await);
    assert_eq!(load(&a, 1, "old").await, "old");
    assert!(eventually(|| space_a.stats().written == 1).await);
    time::sleep(MS(300)).await;
    assert!(a.get(&1).is_some(), "a write of one's own is no news");
    assert!(eventually(|| b.get(&1).is_none()).await);
    assert_eq!(load(&b, 1, "never").await, "old");
    // Somebody deletes every value by hand.
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("pk:*").query_async(&mut connection).await.unwrap();
    assert_eq!(names.len(), 1);
    redis::cmd("DEL").arg(names).exec_async(&mut connection).await.unwrap();
    assert!(eventually(|| a.get(&1).is_none() && b.get(&1).is_none()).await);
    assert_eq!(load(&b, 1, "new").await, "new");
}

/// A node that began at the end of the log, with nothing behind it to read, compares what it began at.
#[tokio::test]
async fn s39_a_log_whose_last_record_is_another_after_an_interruption_is_noticed() {
    let server = RedisServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let kind = Invalidation::Log;
    let (_begins, _) = node(&server.url(), kind).await;
    let (space, cache) = node(&proxy.url(&server.url()), kind).await;
    load(&cache, 1, "old").await;
    assert_eq!(space.stats().applied, 0);
    proxy.set(Fault::Refuse).await;
    proxy.cut();
    assert!(eventually(|| !space.is_coherent()).await);
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let log = perf_cache::CacheKey::key_bytes(&("pk:log", "shop"));
    let mut range = redis::cmd("XRANGE");
    range.arg(&log).arg("-").arg("+");
    let held: redis::streams::StreamRangeReply = range.query_async(&mut connection).await.unwrap();
    assert_eq!(held.ids.len(), 1);
    redis::cmd("DEL").arg(&log).exec_async(&mut connection).await.unwrap();
    for (id, serial) in [(held.ids[0].id.as_str(), 1), ("*", 2)] {
        let mut add = redis::cmd("XADD");
        add.arg(&log).arg(id).arg("o").arg(&[7_u8; 8][..]).arg("s").arg(serial).arg("f").arg(&[9_u8; 8][..]);
        add.exec_async(&mut connection).await.unwrap();
    }
    proxy.clear().await;
    assert!(eventually(|| space.is_coherent() && space.stats().gaps == 1).await, "{:?}", space.stats());
    assert!(cache.get(&1).is_none());
}
