//! Purges by pattern, on several nodes.

use perf_cache::{Cache, CacheBuilder, CacheSpace, Entries, MemoryStore, Postcard};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn space(store: &Arc<MemoryStore>) -> CacheSpace {
    let space = CacheSpace::builder("shop").shared(store.clone(), store.clone()).build().await.unwrap();
    assert!(space.coherent(MS(5_000)).await);
    space
}

fn builder(space: &CacheSpace, name: &str) -> CacheBuilder<String, u32> {
    space.cache(name).capacity(Entries(100)).jitter(0.0).fresh(MS(600_000))
}

async fn load(cache: &Cache<String, u32>, keys: &[&str]) {
    for key in keys {
        let value = cache.get_or_load(*key, || async { Ok::<_, Infallible>(1) }).await.unwrap();
        assert_eq!(*value, 1);
    }
    settle().await;
}

fn held(cache: &Cache<String, u32>) -> Vec<&'static str> {
    ["/users/1", "/users/2", "/users/3", "/users/9", "/pages/1"]
        .into_iter()
        .filter(|key| cache.contains(*key))
        .collect()
}

/// Long enough for everything that was sent to be applied.
async fn settle() {
    time::sleep(MS(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_by_pattern_reaches_keys_that_only_another_node_holds() {
    let store = Arc::new(MemoryStore::new());
    let (space_a, space_b, space_c) = (space(&store).await, space(&store).await, space(&store).await);
    let cache = |space: &CacheSpace, name: &str| builder(space, name).purgeable().build().unwrap();
    let (a, b, other) = (cache(&space_a, "paths"), cache(&space_b, "paths"), cache(&space_b, "others"));
    // This one says nothing of how its keys are written.
    let c = builder(&space_c, "paths").build().unwrap();
    load(&a, &["/users/3", "/pages/1"]).await;
    load(&b, &["/users/1", "/users/2", "/pages/1"]).await;
    load(&other, &["/users/1"]).await;
    load(&c, &["/users/1", "/pages/1"]).await;
    let reader = b.clone();
    let under_way = tokio::spawn(async move {
        let slow = || async {
            time::sleep(MS(100)).await;
            Ok::<_, Infallible>(9)
        };
        *reader.get_or_load("/users/9", slow).await.unwrap()
    });
    settle().await;
    let (purged, published) = a.purge_pattern("/users/*");
    assert_eq!((purged, held(&a)), (1, vec!["/pages/1"]), "here at once");
    assert!(published.await.acked);
    settle().await;
    assert_eq!(held(&b), ["/pages/1"], "and there, where nobody else had them");
    assert_eq!(
        (under_way.await.unwrap(), held(&b)),
        (9, vec!["/pages/1"]),
        "loaded before the purge, and not kept"
    );
    assert_eq!(held(&other), ["/users/1"], "nothing of another cache");
    assert!(held(&c).is_empty(), "a node that cannot match the pattern forgets the cache");
    assert_eq!([&space_a, &space_b, &space_c].map(|space| space.stats().gaps), [0; 3]);
    load(&b, &["/users/1"]).await;
    load(&c, &["/users/1"]).await;
    assert_eq!((held(&b), held(&c)), (vec!["/users/1", "/pages/1"], vec!["/users/1"]), "it is over");
}

#[tokio::test(start_paused = true)]
async fn what_another_node_purges_does_not_come_back_from_the_second_tier() {
    let store = Arc::new(MemoryStore::new());
    let (space_a, space_b) = (space(&store).await, space(&store).await);
    let cache = |space: &CacheSpace| builder(space, "paths").purgeable().codec(Postcard).build().unwrap();
    let (a, b) = (cache(&space_a), cache(&space_b));
    load(&b, &["/users/1", "/pages/1"]).await;
    assert_eq!((held(&a).len(), store.len()), (0, 2));
    assert!(a.purge_pattern("/users/?").1.await.acked);
    settle().await;
    let cold = cache(&space(&store).await);
    for reader in [&a, &b, &cold] {
        assert!(reader.fetch(&String::from("/users/1")).await.is_none());
        assert!(reader.fetch(&String::from("/pages/1")).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_to_purge_arrives_when_the_log_is_back_and_one_too_long_clears_the_cache_elsewhere() {
    let store = Arc::new(MemoryStore::new());
    let (space_a, space_b) = (space(&store).await, space(&store).await);
    let cache = |space: &CacheSpace| builder(space, "paths").purgeable().build().unwrap();
    let (a, b) = (cache(&space_a), cache(&space_b));
    load(&b, &["/users/1", "/pages/1"]).await;
    store.set_down(true);
    let (_, published) = a.purge_pattern("*/1");
    assert!(!published.await.acked);
    (0..3).for_each(|_| a.purge_pattern("*/1").1.detach());
    assert!(space_a.stats().waiting <= 2, "the same order waits once, beside the one that is under way");
    store.set_down(false);
    time::sleep(MS(3_000)).await;
    assert!(space_b.is_coherent() && held(&b).is_empty());
    assert_eq!(space_a.stats().waiting, 0);
    load(&a, &["/pages/1"]).await;
    load(&b, &["/pages/1"]).await;
    assert!(a.purge_pattern(&"no such key".repeat(400)).1.await.acked);
    settle().await;
    assert_eq!((held(&a), held(&b).len()), (vec!["/pages/1"], 0));
}
