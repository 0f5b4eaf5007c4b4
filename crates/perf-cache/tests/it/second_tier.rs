//! What goes to the second tier, and what becomes of what lies there.

use perf_cache::{
    Cache, CacheKey, CacheSpace, Entries, Loaded, MemoryStore, Postcard, Store, StoreError, Stored, tag,
};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A node of the cluster `shop` over this store, with the log of that one, and its cache `a`.
async fn node_over(store: Arc<dyn Store>, log: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    let space = CacheSpace::builder("shop").shared(store, log.clone()).build().await.unwrap();
    space.coherent(Duration::from_secs(5)).await;
    let cache = space.cache("a").capacity(Entries(100)).jitter(0.0).fresh(Duration::from_secs(600));
    let cache = cache.codec(Postcard).build().unwrap();
    (space, cache)
}

async fn node(store: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    node_over(store.clone(), store).await
}

async fn load(cache: &Cache<u64, u32>, key: u64, value: u32) -> u32 {
    *cache.get_or_load(&key, move || async move { Ok::<_, Infallible>(value) }).await.unwrap()
}

/// Long enough for everything that was sent to have arrived.
async fn settle() {
    time::sleep(MS(20)).await;
}

#[tokio::test(start_paused = true)]
async fn s33_of_what_cannot_be_used_only_our_own_is_removed() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space, b)) = (node(&store).await, node(&store).await);
    load(&a, 1, 1).await;
    settle().await;
    store.corrupt(|bytes| bytes.fill(0xFF));
    assert!(b.fetch(&1).await.is_none());
    settle().await;
    assert_eq!((store.len(), space.stats().refused), (1, 1), "a stranger's bytes are left alone");
    load(&a, 2, 1).await;
    settle().await;
    store.corrupt(|bytes| bytes.truncate(15));
    assert!(b.fetch(&2).await.is_none());
    settle().await;
    assert_eq!((store.len(), space.stats().refused), (1, 2), "what was ours and is damaged goes");
    assert!(b.fetch(&2).await.is_none());
    assert_eq!(space.stats().refused, 2, "and is not read again");
}

#[tokio::test(start_paused = true)]
async fn s26_a_life_of_zero_is_not_written_and_no_life_is_too_short_or_too_long_to_be() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let load = async |key: u64, life: Duration| {
        let loader = || async { Ok::<_, Infallible>(1) };
        assert_eq!(*a.get_or_load(&key, loader).fresh(life).await.unwrap(), 1);
        settle().await;
    };
    load(1, Duration::ZERO).await;
    assert_eq!(store.len(), 0);
    load(2, Duration::from_nanos(1)).await;
    load(3, Duration::MAX).await;
    assert_eq!(store.len(), 2);
    time::sleep(Duration::from_secs(3_600)).await;
    assert!(b.fetch(&2).await.is_none() && b.fetch(&3).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn s30_a_value_too_large_for_the_second_tier_is_kept_in_memory_alone() {
    let store = Arc::new(MemoryStore::new());
    let (space, _) = node(&store).await;
    let cache: Cache<u64, Vec<u8>> =
        space.cache("large").codec(Postcard).max_stored_bytes(1_000).build().unwrap();
    for (key, size) in [(1, 2_000), (2, 500)] {
        let loader = move || async move { Ok::<_, Infallible>(vec![7_u8; size]) };
        assert_eq!(cache.get_or_load(&key, loader).await.unwrap().len(), size);
        settle().await;
        assert!(cache.get(&key).is_some());
    }
    assert_eq!((store.len(), space.stats().unencodable, space.stats().written), (1, 1, 1));
}

/// A store that answers reads and refuses writes.
struct ReadOnly(Arc<MemoryStore>);

#[async_trait::async_trait]
impl Store for ReadOnly {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        self.0.get_many(keys).await
    }
    async fn set(&self, _: &[u8], _: &[u8], _: Duration) -> Result<(), StoreError> {
        Err(StoreError::new("write", "never"))
    }
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn s35_a_write_that_fails_does_not_fail_the_call() {
    let store = Arc::new(MemoryStore::new());
    let (space, cache) = node_over(Arc::new(ReadOnly(store.clone())), &store).await;
    assert_eq!(load(&cache, 1, 1).await, 1);
    settle().await;
    assert_eq!(cache.get(&1).as_deref(), Some(&1));
    assert_eq!((space.stats().write_errors, space.stats().written), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_put_in_on_one_node_is_found_by_the_others_in_the_second_tier() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (_, b)) = (node(&store).await, node(&store).await);
    assert_eq!(load(&b, 1, 4).await, 4);
    a.insert(1, 5);
    a.insert_with(2, Loaded::new(6).tag(tag!("t")).fresh(Duration::from_secs(100)));
    a.insert_with(3, Loaded::nothing());
    a.insert(4, 7);
    a.insert(4, 8);
    settle().await;
    assert_eq!((load(&b, 1, 0).await, load(&b, 2, 0).await, load(&b, 4, 0).await), (5, 6, 8));
    assert!(b.find_or_load(&3, || async { Ok::<_, Infallible>(Some(9)) }).await.unwrap().is_none());
    assert_eq!((b.stats().loaded, a.get(&4).as_deref()), (1, Some(&8)), "all but the first from there");
    space_a.invalidate_tags([tag!("t")]).await;
    settle().await;
    assert_eq!(load(&b, 2, 10).await, 10, "with its tags");
    a.insert_with(1, Loaded::new(0).fresh(Duration::ZERO));
    settle().await;
    assert_eq!(load(&b, 1, 11).await, 11, "a life of zero is the end of what was there, on all nodes");
}

#[tokio::test(start_paused = true)]
async fn s1_what_is_put_in_and_ended_before_it_is_written_is_not_written() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (space_b, b)) = (node(&store).await, node(&store).await);
    for way in ["key here", "key there", "tag there", "clear there"] {
        a.insert_with(1, Loaded::new(1).tag(tag!("t")));
        match way {
            "key here" => a.invalidate(&1).detach(),
            "key there" => b.invalidate(&1).detach(),
            "tag there" => space_b.invalidate_tags([tag!("t")]).detach(),
            _ => b.clear().detach(),
        }
        settle().await;
        assert_eq!((a.get(&1).as_deref(), b.fetch(&1).await.as_deref()), (None, None), "{way}");
        assert_eq!(load(&b, 1, 2).await, 2, "{way}");
        b.invalidate(&1).await;
        settle().await;
    }
    let written = space_a.stats().written;
    store.set_down(true);
    a.insert(1, 5);
    assert_eq!(a.get(&1).as_deref(), Some(&5), "and with nothing to write to it is in memory");
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(space_a.stats().written, written);
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_what_is_stored_reaches_the_second_tier_and_the_memory_of_all_nodes() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space_b, b)) = (node(&store).await, node(&store).await);
    let other = space_b.cache::<u64, u32>("ab").codec(Postcard).schema(1).build().unwrap();
    let older = space_b.cache::<u64, u32>("b").codec(Postcard).schema(1).build().unwrap();
    for key in 0..10 {
        assert_eq!(
            (load(&b, key, 1).await, load(&other, key, 1).await, load(&older, key, 1).await),
            (1, 1, 1)
        );
    }
    settle().await;
    // A load of one that is picked is under way.
    let (slow, loading) = (a.clone(), async || {
        time::sleep(MS(100)).await;
        Ok::<_, Infallible>(7)
    });
    let overtaken = tokio::spawn(async move { *slow.get_or_load(&20, loading).await.unwrap() });
    load(&b, 20, 1).await;
    settle().await;
    let purged = a.purge_stored(|key| key % 2 == 0).await.unwrap();
    assert_eq!((purged.in_memory, purged.removed, purged.unreadable), (0, 6, 0));
    settle().await;
    assert_eq!(store.len(), 5 + 20, "nothing of other caches, nor what was not picked");
    assert_eq!((0..10).filter(|key| b.contains(key)).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    assert_eq!(overtaken.await.unwrap(), 7);
    assert!(a.get(&20).is_none(), "what was loaded before the purge is not kept after it");
    store.set_down(true);
    assert!(a.purge_stored(|_| true).await.is_err());
}

/// A key that writes itself and cannot be read.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Opaque(u64);

impl CacheKey for Opaque {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_counts_keys_that_cannot_be_read_and_leaves_them() {
    let store = Arc::new(MemoryStore::new());
    let (space, _) = node(&store).await;
    let cache: Cache<Opaque, u32> = space.cache("opaque").codec(Postcard).build().unwrap();
    assert!(cache.get_or_load(&Opaque(1), || async { Ok::<_, Infallible>(1) }).await.is_ok());
    settle().await;
    let purged = cache.purge_stored(|_| true).await.unwrap();
    assert_eq!((purged.in_memory, purged.removed, purged.unreadable, store.len()), (1, 0, 1, 1));
}
