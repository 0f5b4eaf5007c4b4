//! Batches and reads that never load.

use perf_cache::{
    Cache, CacheSpace, Entries, Loaded, MemoryStore, Postcard, Refresh, Store, StoreError, Stored, tag,
};
use perf_core::time;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn space(store: Arc<dyn Store>, log: &Arc<MemoryStore>) -> CacheSpace {
    let space = CacheSpace::builder("shop").shared(store, log.clone()).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(5)).await);
    space
}

fn cache(space: &CacheSpace) -> Cache<u64, u32> {
    let builder = space.cache("a").capacity(Entries(1000)).jitter(0.0).codec(Postcard);
    builder.fresh(Duration::from_secs(600)).build().unwrap()
}

async fn node(store: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    let space = space(store.clone(), store).await;
    let cache = cache(&space);
    (space, cache)
}

/// Keys that were asked for, batch by batch.
type Asked = Arc<Mutex<Vec<Vec<u64>>>>;

/// A loader that takes 10 ms and gives ten times the key, and nothing for keys from 900 on.
fn tens(asked: &Asked) -> impl Fn(Vec<u64>) -> std::pin::Pin<Box<dyn Future<Output = Rows> + Send>> + use<> {
    let asked = Arc::clone(asked);
    move |missing| {
        asked.lock().unwrap().push(missing.clone());
        Box::pin(async move {
            time::sleep(MS(10)).await;
            Ok(missing.into_iter().filter(|key| *key < 900).map(|key| (key, key as u32 * 10)).collect())
        })
    }
}

type Rows = Result<Vec<(u64, u32)>, Infallible>;

type Found<E> = Result<Option<perf_cache::Hit<u64, u32>>, perf_cache::LoadError<E>>;

fn values<E: std::fmt::Debug>(found: &[Found<E>]) -> Vec<Option<u32>> {
    found.iter().map(|hit| hit.as_ref().unwrap().as_deref().copied()).collect()
}

async fn settle() {
    time::sleep(MS(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_asks_memory_then_the_second_tier_then_the_loader_for_what_is_left() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (space_b, b)) = (node(&store).await, node(&store).await);
    let asked = Asked::default();
    assert_eq!(values(&a.load_many(&[1, 2], tens(&asked)).await), [Some(10), Some(20)]);
    settle().await;
    b.insert(3, 33);
    let found = b.load_many(&[4, 3, 2, 1, 950, 4], tens(&asked)).await;
    assert_eq!(values(&found), [Some(40), Some(33), Some(20), Some(10), None, Some(40)]);
    assert_eq!(*asked.lock().unwrap(), [vec![1, 2], vec![4, 950]], "a key asked for twice is loaded once");
    assert_eq!((space_b.stats().hits, b.stats().loaded, b.stats().missing), (2, 1, 1));
    settle().await;
    assert_eq!(
        values(&b.load_many(&[950, 4], tens(&asked)).await),
        [None, Some(40)],
        "nothing is remembered"
    );
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert_eq!(b.get_many(&[1, 77]).iter().flatten().count(), 1);
    assert!(a.load_many(&[], tens(&asked)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s15_batches_and_single_loads_share_their_flights() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    let (asked, singles) = (Asked::default(), Arc::new(AtomicU32::new(0)));
    let callers: Vec<_> = (0..50_u64)
        .map(|n| {
            let (a, asked, singles) = (a.clone(), Arc::clone(&asked), Arc::clone(&singles));
            tokio::spawn(async move {
                let keys = [n % 5, (n + 1) % 5, 7];
                if n % 2 == 0 {
                    return values(&a.load_many(&keys, tens(&asked)).await);
                }
                let loader = move || async move {
                    singles.fetch_add(1, Ordering::SeqCst);
                    time::sleep(MS(10)).await;
                    Ok::<_, Infallible>(keys[0] as u32 * 10)
                };
                vec![a.get_or_load(&keys[0], loader).await.ok().map(|hit| *hit)]
            })
        })
        .collect();
    for (n, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.await.unwrap()[0], Some((n as u32 % 5) * 10));
    }
    let batched: usize = asked.lock().unwrap().iter().map(Vec::len).sum();
    assert_eq!(batched as u32 + singles.load(Ordering::SeqCst), 6, "each of six keys was loaded once");
}

/// Hits that start a refresh, alone and in batches, and misses of all kinds after the end of the life, while it runs.
#[tokio::test(start_paused = true)]
async fn s15_s24_one_refresh_serves_single_calls_and_batches_before_and_after_the_end_of_the_life() {
    for batch_first in [true, false] {
        let space = CacheSpace::in_process("t");
        let cache: Cache<u64, u32> =
            space.cache("a").jitter(0.0).fresh(MS(1000)).refresh(Refresh::Fraction(0.5)).build().unwrap();
        let loads = Arc::new(AtomicU32::new(0));
        let slow = |loads: &Arc<AtomicU32>| {
            let loads = Arc::clone(loads);
            move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                time::sleep(MS(800)).await;
                Ok::<u32, Infallible>(2)
            }
        };
        let many = |loads: &Arc<AtomicU32>| {
            let one = slow(loads);
            move |keys: Vec<u64>| {
                let loading = (one.clone())();
                async move {
                    let value = loading.await?;
                    Ok::<_, Infallible>(keys.into_iter().map(|key| (key, value)).collect::<Vec<_>>())
                }
            }
        };
        cache.insert(1, 1);
        time::sleep(MS(600)).await;
        for turn in 0..6 {
            let value = match (turn % 2 == 0) == batch_first {
                true => values(&cache.load_many(&[1], many(&loads)).await)[0],
                false => cache.get_or_load(&1, slow(&loads)).await.ok().map(|hit| *hit),
            };
            assert_eq!((value, cache.loading()), (Some(1), 1));
        }
        time::sleep(MS(500)).await;
        assert!(cache.get(&1).is_none(), "its life has ended");
        let (single, find, batch, warm) = tokio::join!(
            cache.get_or_load(&1, slow(&loads)),
            cache.find_with(&1, |_| async { Ok::<_, Infallible>(Loaded::nothing()) }),
            cache.load_many(&[1], many(&loads)),
            cache.warm([1], 1, |_| async { Ok::<_, Infallible>(9) }),
        );
        assert_eq!((*single.unwrap(), find.unwrap().as_deref(), values(&batch)[0]), (2, Some(&2), Some(2)));
        assert_eq!((loads.load(Ordering::SeqCst), cache.stats().refreshes, warm.loaded), (1, 1, 1));
        assert_eq!((cache.stats().loaded, cache.stats().joined), (1, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn s16_s17_the_failure_or_panic_of_a_batch_is_that_of_each_of_its_keys_alone() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    a.insert(1, 1);
    let failed = a.load_many(&[1, 2, 3], |_| async { Err::<Vec<(u64, u32)>, _>("down") }).await;
    assert_eq!(failed[0].as_ref().unwrap().as_deref(), Some(&1));
    assert!(failed[1..].iter().all(|one| one.as_ref().unwrap_err().load() == Some(&"down")));
    let panics = |_: Vec<u64>| async {
        assert!(Duration::ZERO > MS(1), "boom");
        Ok::<Vec<(u64, u32)>, Infallible>(Vec::new())
    };
    let panicked = a.load_many(&[2, 3], panics).await;
    assert!(panicked.iter().all(|one| one.as_ref().unwrap_err().to_string().contains("boom")));
    let asked = Asked::default();
    assert_eq!(values(&a.load_many(&[2, 3], tens(&asked)).await), [Some(20), Some(30)], "loadable at once");
}

#[tokio::test(start_paused = true)]
async fn s1_s4_a_batch_overtaken_by_an_invalidation_keeps_only_what_it_does_not_concern() {
    let store = Arc::new(MemoryStore::new());
    let (space, a) = node(&store).await;
    let asked = Asked::default();
    let (other, loader) = (a.clone(), tens(&asked));
    let tagged = move |missing: Vec<u64>| {
        let loading = loader(missing);
        async move {
            let rows: Vec<_> = loading.await?.into_iter().collect();
            Ok::<_, Infallible>(
                rows.into_iter().map(|(k, v)| (k, Loaded::new(v).tag(tag!("row", k)))).collect::<Vec<_>>(),
            )
        }
    };
    let batch = tokio::spawn(async move { values(&other.load_many(&[1, 2, 3], tagged).await) });
    time::sleep(MS(5)).await;
    a.invalidate(&1).detach();
    space.invalidate_tags([tag!("row", 2)]).detach();
    // Who comes after the invalidation must not be given the overtaken value.
    let late = values(&a.load_many(&[1, 2], tens(&asked)).await);
    assert_eq!(batch.await.unwrap(), [Some(10), Some(20), Some(30)]);
    assert_eq!(late, [Some(10), Some(20)]);
    assert_eq!(
        asked.lock().unwrap()[1..],
        [vec![1], vec![2]],
        "key 2 was joined, found overtaken, and loaded again"
    );
    settle().await;
    assert_eq!(a.get_many(&[1, 2, 3]).iter().flatten().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn s18_a_batch_goes_on_when_its_caller_gives_up() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    let asked = Asked::default();
    let late = a.load_many(&[1, 2], tens(&asked)).timeout(MS(2)).await;
    assert!(late.iter().all(|one| one.as_ref().unwrap_err().is_timeout()));
    let awaits = perf_testkit::cancel_at_every_await(
        || ((), perf_testkit::step_by_step(async { a.load_many(&[3, 4], tens(&asked)).await.len() })),
        async |(), _| time::sleep(MS(50)).await,
    )
    .await;
    assert!(awaits > 0);
    time::sleep(MS(50)).await;
    assert_eq!(a.get_many(&[1, 2, 3, 4]).iter().flatten().count(), 4);
    assert_eq!(a.loading(), 0);
}

#[tokio::test(start_paused = true)]
async fn s22_a_batch_inside_the_load_of_one_of_its_keys_is_told() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    let inner = a.clone();
    let outer = a
        .load_many(&[1], move |_| {
            let inner = inner.clone();
            async move {
                let loader = |_: Vec<u64>| async { Ok::<_, Infallible>(vec![(2_u64, 2_u32)]) };
                let found = inner.load_many(&[1, 2], loader).await;
                let recursive = matches!(found[0], Err(perf_cache::LoadError::Recursive));
                Ok::<_, Infallible>(vec![(1, u32::from(recursive && found[1].is_ok()))])
            }
        })
        .await;
    assert_eq!(values(&outer), [Some(1)]);
}

/// A store in which reads of some keys fail.
struct Partial(Arc<MemoryStore>, Mutex<Vec<Vec<u8>>>);

#[async_trait::async_trait]
impl Store for Partial {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        let found = self.0.get_many(keys).await;
        let broken = self.1.lock().unwrap();
        let fails = |key: &Vec<u8>| broken.contains(key).then(|| StoreError::new("read", "this key alone"));
        keys.iter().zip(found).map(|(key, found)| fails(key).map_or(found, Err)).collect()
    }
    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        if key.last() == Some(&2) {
            self.1.lock().unwrap().push(key.to_vec());
        }
        self.0.set(key, bytes, life).await
    }
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn s38_a_key_that_fails_in_the_second_tier_does_not_fail_the_others() {
    let store = Arc::new(MemoryStore::new());
    let partial = Arc::new(Partial(store.clone(), Mutex::default()));
    let (_, a) = node(&store).await;
    let space_b = space(partial.clone(), &store).await;
    let b = cache(&space_b);
    let asked = Asked::default();
    b.load_many(&[1, 2, 3], tens(&asked)).await;
    settle().await;
    let space_c = space(partial, &store).await;
    let c = cache(&space_c);
    let found = values(&c.load_many(&[1, 2, 3], tens(&asked)).await);
    assert_eq!(found, [Some(10), Some(20), Some(30)]);
    assert_eq!(asked.lock().unwrap()[1..], [vec![2]], "only the key that failed is loaded");
    let stats = space_c.stats();
    assert_eq!((stats.hits, stats.errors, stats.skipped), (2, 1, 0));
    assert_eq!(c.fetch_many(&[1, 2, 3]).await.iter().flatten().count(), 3);
    drop(a);
}

#[tokio::test(start_paused = true)]
async fn s14_fetch_reads_both_tiers_never_loads_and_never_returns_what_was_invalidated() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (_, b)) = (node(&store).await, node(&store).await);
    let asked = Asked::default();
    let keys: Vec<u64> = (1..=4).collect();
    let tags = |loader: &Asked| a.load_many(&keys, tens(loader)).tags([tag!("t")]);
    tags(&asked).await;
    settle().await;
    assert_eq!(b.fetch(&1).await.as_deref(), Some(&10));
    assert!(b.contains(&1) && b.fetch(&99).await.is_none());
    a.invalidate(&2).await;
    settle().await;
    assert!(b.fetch(&2).await.is_none(), "by key");
    assert_eq!(
        b.fetch_many(&[1, 2, 3, 99]).await.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    space_a.invalidate_tags([tag!("t")]).await;
    settle().await;
    assert!(b.fetch_many(&keys).await.iter().all(Option::is_none), "by tag");
    tags(&asked).await;
    settle().await;
    assert!(b.fetch(&4).await.is_some());
    a.clear().await;
    settle().await;
    assert!(b.fetch(&4).await.is_none(), "by clear");
    store.set_down(true);
    assert!(b.fetch(&3).await.is_none(), "an error is a miss");
}

/// A store that this node can read and not write.
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
async fn s37_memory_wins_over_an_older_copy_in_the_second_tier() {
    let store = Arc::new(MemoryStore::new());
    let (_, a) = node(&store).await;
    let space_b = space(Arc::new(ReadOnly(store.clone())), &store).await;
    let b: Cache<u64, u32> = space_b
        .cache("a")
        .capacity(Entries(10))
        .jitter(0.0)
        .fresh(Duration::from_secs(10))
        .stale_if_error(Duration::from_secs(600), |_: &Infallible| true)
        .codec(Postcard)
        .build()
        .unwrap();
    let value = |value: u32, slow: Duration| {
        move || async move {
            time::sleep(slow).await;
            Ok::<_, Infallible>(value)
        }
    };
    // A slow load begins, the log moves on, and another node loads a newer value that does not reach the second tier.
    let slow = a.clone();
    let older = tokio::spawn(async move { *slow.get_or_load(&1, value(1, MS(500))).await.unwrap() });
    settle().await;
    a.invalidate(&2).await;
    settle().await;
    assert_eq!(*b.get_or_load(&1, value(2, MS(1))).await.unwrap(), 2);
    assert_eq!(older.await.unwrap(), 1);
    settle().await;
    assert_eq!((store.len(), space_b.stats().written), (1, 0), "the second tier has the older one, for long");
    // After a write that failed the tier is in doubt until it has answered in the background.
    time::sleep(Duration::from_secs(20)).await;
    assert!(b.fetch(&77).await.is_none());
    settle().await;
    assert_eq!(*b.get_or_load(&1, value(3, MS(1))).await.unwrap(), 3, "past its life, but never back to 1");
    assert_eq!(space_b.stats().outdated, 1);
}
