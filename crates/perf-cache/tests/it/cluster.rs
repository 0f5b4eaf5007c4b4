//! Several nodes in one process, sharing a store and a log in memory.

use perf_cache::{Cache, CacheSpace, CacheSpaceBuilder, Entries, Json, MemoryStore, Postcard, tag};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn shared(space: CacheSpaceBuilder, store: &Arc<MemoryStore>) -> CacheSpaceBuilder {
    space.shared(store.clone(), store.clone())
}

/// A node of the cluster `shop` with a cache `a`.
async fn node(store: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    let space = shared(CacheSpace::builder("shop"), store).build().await.unwrap();
    space.coherent(Duration::from_secs(5)).await;
    let cache = cache(&space);
    (space, cache)
}

fn cache(space: &CacheSpace) -> Cache<u64, u32> {
    space
        .cache("a")
        .capacity(Entries(100))
        .jitter(0.0)
        .fresh(Duration::from_secs(600))
        .codec(Postcard)
        .build()
        .unwrap()
}

async fn load(cache: &Cache<u64, u32>, key: u64, value: u32) -> u32 {
    *cache
        .get_or_load(&key, move || async move { Ok::<_, Infallible>(value) })
        .tags([tag!("t")])
        .await
        .unwrap()
}

/// Long enough for everything that was sent to be applied.
async fn settle() {
    time::sleep(MS(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_loaded_by_one_node_is_found_by_another_in_the_second_tier() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space, b)) = (node(&store).await, node(&store).await);
    assert_eq!(load(&a, 1, 10).await, 10);
    settle().await;
    time::sleep(Duration::from_secs(100)).await;
    assert_eq!(load(&b, 1, 11).await, 10);
    assert_eq!((b.stats().loaded, space.stats().hits), (0, 1));
    // S28: the value ends on this node when it ends in the second tier.
    time::sleep(Duration::from_secs(501)).await;
    assert!(b.get(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn s6_an_invalidation_reaches_every_node_by_key_by_tag_and_by_clear() {
    let store = Arc::new(MemoryStore::new());
    let ((space, a), (_, b)) = (node(&store).await, node(&store).await);
    for (round, way) in ["key", "tag", "clear"].into_iter().enumerate() {
        let old = round as u32;
        assert_eq!(load(&a, 1, old).await, old, "{way}");
        settle().await;
        assert_eq!(load(&b, 1, 99).await, old, "{way}: from the second tier");
        let receipt = match way {
            "key" => a.invalidate(&1).await,
            "tag" => space.invalidate_tags([tag!("t")]).await,
            _ => a.clear().await,
        };
        assert!(receipt.acked);
        settle().await;
        assert!(a.get(&1).is_none() && b.get(&1).is_none(), "{way}");
        assert_eq!(load(&b, 1, old + 1).await, old + 1, "{way}: the second tier's copy is refused");
        settle().await;
        assert_eq!(load(&a, 1, 99).await, old + 1, "{way}: the new copy is shared");
        a.invalidate(&1).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s1_a_load_overtaken_on_one_node_is_not_believed_by_any_other() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let slow = a.clone();
    let overtaken = tokio::spawn(async move {
        let loader = || async {
            time::sleep(MS(100)).await;
            Ok::<_, Infallible>(1)
        };
        *slow.get_or_load(&1, loader).await.unwrap()
    });
    settle().await;
    b.invalidate(&1).await;
    settle().await;
    assert_eq!(overtaken.await.unwrap(), 1);
    settle().await;
    assert!(a.get(&1).is_none());
    assert_eq!((load(&b, 1, 2).await, load(&a, 1, 2).await), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn s5_with_the_log_down_an_invalidation_holds_locally_and_arrives_later() {
    let store = Arc::new(MemoryStore::new());
    let ((space, a), (_, b)) = (node(&store).await, node(&store).await);
    load(&a, 1, 1).await;
    settle().await;
    load(&b, 1, 9).await;
    store.set_down(true);
    let receipt = a.invalidate(&1).await;
    assert!(!receipt.acked);
    assert!(a.get(&1).is_none());
    (0..5).for_each(|_| a.invalidate(&1).detach());
    assert!(space.stats().waiting <= 2, "one key waits once, beside the batch that is under way");
    assert_eq!(load(&a, 1, 2).await, 2, "loads go on");
    store.set_down(false);
    time::sleep(Duration::from_secs(10)).await;
    assert!(b.get(&1).is_none());
    assert_eq!(space.stats().waiting, 0);
    assert_eq!(load(&b, 1, 3).await, 3, "what the second tier held before is refused");
}

#[tokio::test(start_paused = true)]
async fn s8_a_node_cut_off_serves_nothing_older_than_allowed_and_catches_up() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space, b)) = (node(&store).await, node(&store).await);
    load(&a, 1, 1).await;
    settle().await;
    load(&b, 1, 9).await;
    store.set_down(true);
    time::sleep(Duration::from_secs(2)).await;
    assert!(!space.is_coherent());
    assert_eq!(b.get(&1).as_deref(), Some(&1), "within `degraded_ttl`");
    time::sleep(Duration::from_secs(6)).await;
    assert!(b.get(&1).is_none(), "beyond `degraded_ttl`");
    assert_eq!(load(&b, 1, 2).await, 2);
    assert_eq!(b.get(&1).as_deref(), Some(&2));
    store.set_down(false);
    assert!(space.coherent(Duration::from_secs(10)).await);
    assert_eq!(b.get(&1).as_deref(), Some(&2), "nothing was missed, so nothing is dropped");
}

#[tokio::test(start_paused = true)]
async fn s39_an_emptied_store_makes_every_node_load_again_and_nothing_comes_back() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space, b)) = (node(&store).await, node(&store).await);
    for key in 0..5 {
        load(&a, key, 1).await;
        a.invalidate(&(key + 100)).await;
    }
    settle().await;
    for key in 0..5 {
        assert_eq!(load(&b, key, 9).await, 1);
    }
    store.flush();
    time::sleep(Duration::from_secs(3)).await;
    // The first record of the new log tells that the old one is gone, and what was in it.
    a.invalidate(&77).await;
    time::sleep(Duration::from_secs(3)).await;
    assert!(space.stats().gaps > 0);
    assert!(
        (0..5).all(|key| b.get(&key).is_none()),
        "each of them may have been invalidated in what is lost"
    );
    assert_eq!((load(&b, 1, 2).await, space.is_coherent()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn s3_a_cold_node_refuses_what_was_cleared_before_it_started() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    load(&a, 1, 1).await;
    settle().await;
    a.clear().await;
    let (_, cold) = node(&store).await;
    assert_eq!(load(&cold, 1, 2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn s13_s40_neither_names_nor_types_are_ever_confused() {
    let store = Arc::new(MemoryStore::new());
    let (one, two) = (
        shared(CacheSpace::builder("shop"), &store).build().await.unwrap(),
        shared(CacheSpace::builder("shop"), &store).build().await.unwrap(),
    );
    one.coherent(MS(500)).await;
    two.coherent(MS(500)).await;
    let users = cache(&one);
    // In this codec the bytes of one are a value of the other.
    let other: Cache<u64, u64> = two.cache("a").codec(Postcard).build().unwrap();
    assert_eq!(load(&users, 1, 65).await, 65);
    settle().await;
    let mine = other.get_or_load(&1, || async { Ok::<_, Infallible>(7_u64) }).await.unwrap();
    assert_eq!((*mine, two.stats().hits, two.stats().misses), (7, 0, 1));
    settle().await;
    let (_, third) = node(&store).await;
    assert_eq!(load(&third, 1, 9).await, 65, "and neither has written over the other's");
    users.clear().await;
    settle().await;
    let prefixed: Cache<u64, u32> = two.cache("ab").codec(Postcard).build().unwrap();
    prefixed.insert(1, 1);
    users.clear().await;
    settle().await;
    assert!(prefixed.get(&1).is_some(), "a namespace that another one prefixes");
}

/// Space, cache and key stand one behind the other in a name: where one ends and the next begins must not be lost.
#[tokio::test(start_paused = true)]
async fn s13_no_name_runs_into_another_or_into_a_key() {
    let store = Arc::new(MemoryStore::new());
    let mut caches: Vec<(CacheSpace, Cache<String, u32>, String)> = Vec::new();
    for names in [["ab", "c", "de"], ["a", "bc", "de"], ["abc", "d", "e"], ["ab", "cd", "e"]] {
        for _ in 0..2 {
            let space = shared(CacheSpace::builder(names[0]), &store).build().await.unwrap();
            assert!(space.coherent(MS(500)).await);
            let cache = space.cache(names[1]).jitter(0.0).codec(Postcard).build().unwrap();
            caches.push((space, cache, names[2].to_owned()));
        }
    }
    let load = async |at: usize, value: u32| {
        let (_, cache, key) = &caches[at];
        let value = *cache.get_or_load(key, move || async move { Ok::<_, Infallible>(value) }).await.unwrap();
        settle().await;
        value
    };
    for at in 0..8 {
        assert_eq!(
            load(at, at as u32).await,
            at as u32 & !1,
            "of two nodes one loads, and nobody else's value is taken"
        );
    }
    assert_eq!(store.len(), 4);
    caches[0].1.invalidate(&caches[0].2).await;
    settle().await;
    let holds: Vec<bool> = caches.iter().map(|(_, cache, key)| cache.contains(key)).collect();
    assert_eq!(holds, [false, false, true, true, true, true, true, true], "by key");
    caches[2].1.clear().await;
    settle().await;
    let holds: Vec<bool> = caches.iter().map(|(_, cache, key)| cache.contains(key)).collect();
    assert_eq!(holds, [false, false, false, false, true, true, true, true], "by clear");
}

#[tokio::test(start_paused = true)]
async fn s34_two_schemas_live_side_by_side() {
    let store = Arc::new(MemoryStore::new());
    let old = shared(CacheSpace::builder("shop"), &store).build().await.unwrap();
    let new = shared(CacheSpace::builder("shop"), &store).build().await.unwrap();
    let third = shared(CacheSpace::builder("shop"), &store).build().await.unwrap();
    for space in [&old, &new, &third] {
        space.coherent(MS(500)).await;
    }
    let old_users: Cache<u64, u32> = old.cache("a").codec(Postcard).schema(1).build().unwrap();
    let new_users: Cache<u64, u32> = new.cache("a").codec(Postcard).schema(2).build().unwrap();
    let json_users: Cache<u64, u32> = third.cache("a").codec(Json).schema(2).build().unwrap();
    assert_eq!(
        (load(&old_users, 1, 1).await, load(&new_users, 1, 2).await, load(&json_users, 1, 3).await),
        (1, 2, 3)
    );
    settle().await;
    assert_eq!(store.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn s32_s35_with_the_second_tier_down_every_call_succeeds() {
    let store = Arc::new(MemoryStore::new());
    let (space, a) = node(&store).await;
    store.set_down(true);
    for key in 0..50 {
        assert_eq!(load(&a, key, 1).await, 1);
    }
    let stats = space.stats();
    assert!(stats.errors > 0 && stats.skipped > 0, "the guard has opened: {stats:?}");
    store.set_down(false);
    time::sleep(Duration::from_secs(20)).await;
    load(&a, 100, 1).await;
    settle().await;
    load(&a, 101, 1).await;
    settle().await;
    assert!(space.stats().since(&stats).written > 0, "recovery is automatic");
}

#[tokio::test(start_paused = true)]
async fn s33_damaged_and_foreign_bytes_are_a_miss() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space, b)) = (node(&store).await, node(&store).await);
    let mut n = 0;
    for (key, change) in [(1_u64, 0_u8), (2, 1), (3, 2)] {
        load(&a, key, 1).await;
        settle().await;
        store.corrupt(|bytes| match change {
            0 => bytes.truncate(20),
            1 => bytes.fill(0xFF),
            _ => {
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
            }
        });
        n += 1;
        assert_eq!(load(&b, key, 2).await, 2);
        assert_eq!(space.stats().refused, n);
    }
}

#[tokio::test(start_paused = true)]
async fn s36_a_value_that_cannot_be_encoded_is_kept_in_memory() {
    struct Refuses;
    impl perf_cache::Codec<u32> for Refuses {
        fn id(&self) -> u8 {
            77
        }
        fn encode(&self, _: &u32, _: &mut Vec<u8>) -> Result<(), perf_cache::CodecError> {
            Err(perf_cache::CodecError::new("never"))
        }
        fn decode(&self, _: &[u8]) -> Result<u32, perf_cache::CodecError> {
            Err(perf_cache::CodecError::new("never"))
        }
    }
    let store = Arc::new(MemoryStore::new());
    let space = shared(CacheSpace::builder("shop"), &store).build().await.unwrap();
    space.coherent(MS(500)).await;
    let cache: Cache<u64, u32> = space.cache("a").codec(Refuses).build().unwrap();
    assert_eq!(load(&cache, 1, 1).await, 1);
    settle().await;
    assert_eq!(cache.get(&1).as_deref(), Some(&1));
    assert_eq!((space.stats().unencodable, store.len()), (1, 0));
}

/// Skewed and stepping clocks of applications can change nothing, because nothing reads them. What is measured here is
/// time that has passed, and what orders events are positions that the store hands out.
#[test]
fn s9_s10_no_wall_clock_is_read_anywhere() {
    fn look(folder: &std::path::Path, files: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, files);
                continue;
            }
            *files += 1;
            let source = std::fs::read_to_string(&path).unwrap();
            for clock in ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime", "chrono"] {
                assert!(!source.contains(clock), "{} reads {clock}", path.display());
            }
        }
    }
    let mut files = 0;
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files > 30);
}

#[tokio::test(start_paused = true)]
async fn a_collector_of_keys_alone_is_acked_and_reaches_the_other_nodes() {
    let store = Arc::new(MemoryStore::new());
    let ((space, a), (_other, b)) = (node(&store).await, node(&store).await);
    load(&a, 1, 10).await;
    load(&b, 1, 10).await;
    let begun = time::now();
    assert!(space.collector().key(&a, 1).publish().await.acked);
    assert!(begun.elapsed() < MS(500), "it waits for the log, not for its patience to end");
    settle().await;
    assert!(!a.contains(&1) && !b.contains(&1));
    assert!(space.collector().publish().await.acked, "nothing to tell is told at once");
}

#[tokio::test(start_paused = true)]
async fn what_another_node_loaded_during_a_hold_off_ends_with_it() {
    let store = Arc::new(MemoryStore::new());
    let ((space, a), (_other, b)) = (node(&store).await, node(&store).await);
    space.collector().tag(tag!("t")).hold_off(Duration::from_secs(2)).publish().await;
    settle().await;
    // The other node does not know of the hold-off, and asks a replica that lags.
    assert_eq!((load(&b, 1, 10).await, b.contains(&1)), (10, true));
    settle().await;
    assert!(a.fetch(&1).await.is_none(), "what the second tier got meanwhile is not believed here");
    assert_eq!(load(&a, 1, 11).await, 11, "nor on the way of a load");
    time::sleep(Duration::from_secs(2)).await;
    assert!(!a.contains(&1) && !b.contains(&1));
    assert_eq!(load(&b, 1, 12).await, 12);
}

#[tokio::test(start_paused = true)]
async fn a_purge_reaches_the_other_nodes_and_each_cache_counts_what_its_second_tier_gave() {
    let store = Arc::new(MemoryStore::new());
    let ((_space, a), (_other, b)) = (node(&store).await, node(&store).await);
    for key in 1..=4 {
        load(&a, key, 10).await;
        settle().await;
        load(&b, key, 11).await;
    }
    assert_eq!((a.stats().filled, b.stats().filled), (0, 4));
    assert!(b.explain(&1).await.remote.is_some_and(|left| left > Duration::from_secs(500)));
    let (purged, published) = a.purge(|key, _| key % 2 == 0);
    assert!(purged == 2 && published.await.acked);
    settle().await;
    assert_eq!((1..=4).map(|key| b.contains(&key)).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(b.explain(&2).await.remote, None, "the second tier's value is no longer believed");
}
