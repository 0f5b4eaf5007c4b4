//! Loads that an invalidation overtakes, on every path on which a load runs and in every way of invalidating.

use perf_cache::{
    Cache, CacheSpace, Entries, Freshness, Loaded, MemoryStore, Postcard, Refresh, Store, StoreError, Stored,
    Tag, tag,
};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Where a load comes from that is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Miss,
    Batch,
    WarmUp,
    /// Of a value that is still good.
    Refresh,
    RefreshOfABatch,
    /// Of a value past its life that is served meanwhile.
    Revalidation,
    /// Its caller has been given the old value.
    AfterSoftTimeout,
    /// The loader confirms the old value.
    NotModified,
}

const PATHS: [Path; 8] = [
    Path::Miss,
    Path::Batch,
    Path::WarmUp,
    Path::Refresh,
    Path::RefreshOfABatch,
    Path::Revalidation,
    Path::AfterSoftTimeout,
    Path::NotModified,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Invalidate,
    Expire,
    Tag,
    Clear,
    Insert,
}

const WAYS: [Way; 5] = [Way::Invalidate, Way::Expire, Way::Tag, Way::Clear, Way::Insert];

fn t() -> Tag {
    tag!("t")
}

fn cache(space: &CacheSpace, path: Path) -> Cache<u64, u32> {
    let builder = space.cache("a").capacity(Entries(100)).jitter(0.0).fresh(MS(1000));
    match path {
        Path::Miss | Path::Batch | Path::WarmUp => builder,
        Path::Refresh | Path::RefreshOfABatch => builder.refresh(Refresh::Fraction(0.5)),
        Path::Revalidation => builder.stale_while_revalidate(MS(60_000)),
        Path::AfterSoftTimeout => {
            builder.stale_if_error(MS(60_000), |_: &Infallible| true).timeouts(MS(10), MS(10_000))
        }
        Path::NotModified => builder.stale_if_error(MS(60_000), |_: &Infallible| true),
    }
    .build()
    .unwrap()
}

/// Starts a load of key 1 that takes 100 ms. Only its result says that the value has the tag.
async fn start(cache: &Cache<u64, u32>, path: Path) {
    if !matches!(path, Path::Miss | Path::Batch | Path::WarmUp) {
        cache.insert_with(1, Loaded::new(1).tag(t()));
    }
    let wait = match path {
        Path::Miss | Path::Batch | Path::WarmUp => 0,
        Path::Refresh | Path::RefreshOfABatch => 600,
        Path::Revalidation | Path::AfterSoftTimeout | Path::NotModified => 1_500,
    };
    time::sleep(MS(wait)).await;
    let cache = cache.clone();
    let task = tokio::spawn(async move {
        let many = |missing: Vec<u64>| async move {
            time::sleep(MS(100)).await;
            Ok::<_, Infallible>(
                missing.into_iter().map(|key| (key, Loaded::new(7).tag(t()))).collect::<Vec<_>>(),
            )
        };
        let one = |_: u64| async {
            time::sleep(MS(100)).await;
            Ok::<_, Infallible>(Loaded::new(7).tag(t()))
        };
        match path {
            Path::Batch | Path::RefreshOfABatch => drop(cache.load_many(&[1], many).await),
            Path::WarmUp => _ = cache.warm([1], 1, one).await,
            Path::NotModified => _ = cache.load_with(&1, |_| confirm()).await.unwrap(),
            _ => _ = cache.load_with(&1, |_| load(7)).await.unwrap(),
        }
    });
    time::sleep(MS(50)).await;
    let answered =
        matches!(path, Path::Refresh | Path::RefreshOfABatch | Path::Revalidation | Path::AfterSoftTimeout);
    assert_eq!(task.is_finished(), answered, "{path:?}");
}

async fn load(value: u32) -> Result<Loaded<u32>, Infallible> {
    time::sleep(MS(100)).await;
    Ok(Loaded::new(value).tag(t()))
}

async fn confirm() -> Result<Loaded<u32>, Infallible> {
    time::sleep(MS(100)).await;
    Ok(Loaded::not_modified())
}

fn overtake(space: &CacheSpace, cache: &Cache<u64, u32>, way: Way) {
    match way {
        Way::Invalidate => cache.invalidate(&1).detach(),
        Way::Expire => cache.expire(&1).detach(),
        Way::Tag => space.invalidate_tags([t()]).detach(),
        Way::Clear => cache.clear().detach(),
        Way::Insert => cache.insert_with(1, Loaded::new(9).fresh(MS(10_000))),
    }
}

#[tokio::test(start_paused = true)]
async fn s1_s2_s3_on_no_path_does_an_overtaken_load_become_visible() {
    for (path, way) in PATHS.into_iter().flat_map(|path| WAYS.map(|way| (path, way))) {
        let space = CacheSpace::in_process("t");
        let cache = cache(&space, path);
        start(&cache, path).await;
        assert_eq!(cache.loading(), 1, "{path:?} {way:?}");
        overtake(&space, &cache, way);
        let expected = (way == Way::Insert).then_some(9);
        assert_eq!(cache.get(&1).as_deref().copied(), expected, "{path:?} {way:?}: at once");
        time::sleep(MS(200)).await;
        assert_eq!(cache.get(&1).as_deref().copied(), expected, "{path:?} {way:?}: when the load has ended");
        assert_eq!((cache.stats().superseded, cache.loading()), (1, 0), "{path:?} {way:?}");
        if way != Way::Insert {
            let hit = cache.load_with(&1, |_| load(8)).await.unwrap();
            // What was expired by hand is there for a caller that cannot wait.
            let stale = path == Path::AfterSoftTimeout && way == Way::Expire;
            let given = if stale { (1, &Freshness::StaleTimeout) } else { (8, &Freshness::Fresh) };
            assert_eq!((*hit, hit.freshness()), given, "{path:?} {way:?}");
            time::sleep(MS(100)).await;
            assert_eq!(
                cache.get(&1).as_deref(),
                Some(&8),
                "{path:?} {way:?}: a load that began later counts"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s4_who_comes_after_the_invalidation_starts_a_load_of_its_own_on_every_path() {
    for (path, way) in PATHS.into_iter().flat_map(|path| WAYS.map(|way| (path, way))) {
        if way == Way::Insert {
            continue;
        }
        let space = CacheSpace::in_process("t");
        let cache = cache(&space, path);
        start(&cache, path).await;
        overtake(&space, &cache, way);
        let hit = cache.load_with(&1, |_| load(8)).await.unwrap();
        let stale = path == Path::AfterSoftTimeout && way == Way::Expire;
        let given = if stale { (1, &Freshness::StaleTimeout) } else { (8, &Freshness::Fresh) };
        assert_eq!((*hit, hit.freshness()), given, "{path:?} {way:?}");
        time::sleep(MS(100)).await;
        assert_eq!(cache.get(&1).as_deref(), Some(&8), "{path:?} {way:?}");
    }
}

/// The load fails, or takes too long, and by then what could stand in for it has been invalidated.
#[tokio::test(start_paused = true)]
async fn s11_s21_a_stale_value_that_is_invalidated_during_the_load_does_not_stand_in_for_it() {
    for way in WAYS {
        for fails in [true, false] {
            let space = CacheSpace::in_process("t");
            let cache: Cache<u64, u32> = space
                .cache("a")
                .capacity(Entries(10))
                .jitter(0.0)
                .fresh(MS(1000))
                .stale_if_error(MS(60_000), |_: &String| true)
                .timeouts(MS(100), MS(1000))
                .build()
                .unwrap();
            cache.insert_with(1, Loaded::new(1).tag(t()));
            time::sleep(MS(1_500)).await;
            let caller = cache.clone();
            let waiting = tokio::spawn(async move {
                let loader = move || async move {
                    time::sleep(MS(if fails { 80 } else { 60_000 })).await;
                    Err::<u32, _>(String::from("down"))
                };
                caller.get_or_load(&1, loader).await.map(|hit| *hit).map_err(|error| error.is_timeout())
            });
            time::sleep(MS(50)).await;
            overtake(&space, &cache, way);
            let expected = match way {
                Way::Invalidate | Way::Tag | Way::Clear => Err(!fails),
                // It is kept for this.
                Way::Expire => Ok(1),
                Way::Insert => Ok(9),
            };
            assert_eq!(waiting.await.unwrap(), expected, "{way:?}, a failure: {fails}");
        }
    }
}

/// A store on a slow line: reads and writes arrive at once, and the node hears of it 50 ms later; with `writes` it is the
/// writes that take so long to arrive.
struct Slow {
    store: Arc<MemoryStore>,
    writes: bool,
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        let found = self.store.get_many(keys).await;
        if !self.writes {
            time::sleep(MS(50)).await;
        }
        found
    }
    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        if self.writes {
            time::sleep(MS(50)).await;
        }
        self.store.set(key, bytes, life).await
    }
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.store.remove(key).await
    }
}

async fn node(store: Arc<dyn Store>, log: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    let space = CacheSpace::builder("shop").shared(store, log.clone()).build().await.unwrap();
    assert!(space.coherent(MS(5_000)).await);
    let cache = space.cache("a").capacity(Entries(100)).jitter(0.0).fresh(MS(600_000));
    (space.clone(), cache.codec(Postcard).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn s1_what_is_invalidated_on_its_way_to_the_second_tier_is_believed_by_no_node() {
    for way in ["key here", "key there", "tag", "clear"] {
        let store = Arc::new(MemoryStore::new());
        let (_, a) = node(Arc::new(Slow { store: store.clone(), writes: true }), &store).await;
        let (space_b, b) = node(store.clone(), &store).await;
        assert_eq!(*a.load_with(&1, |_| load(1)).await.unwrap(), 1);
        time::sleep(MS(10)).await;
        assert_eq!((a.get(&1).as_deref(), store.len()), (Some(&1), 0), "{way}: loaded, and not yet written");
        match way {
            "key here" => a.invalidate(&1).detach(),
            "key there" => b.invalidate(&1).detach(),
            "tag" => space_b.invalidate_tags([t()]).detach(),
            _ => b.clear().detach(),
        }
        time::sleep(MS(100)).await;
        assert_eq!(store.len(), 1, "{way}: it has been written since");
        let (_, cold) = node(store.clone(), &store).await;
        for reader in [&a, &b, &cold] {
            assert!(reader.get(&1).is_none() && reader.fetch(&1).await.is_none(), "{way}");
        }
        assert_eq!(*b.load_with(&1, |_| load(2)).await.unwrap(), 2, "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn s1_what_is_invalidated_while_it_is_read_from_the_second_tier_does_not_stay_in_memory() {
    for read in ["fetch", "fetch many", "load", "load many"] {
        for way in ["key here", "key there", "tag there", "clear"] {
            let store = Arc::new(MemoryStore::new());
            let (space_a, a) = node(store.clone(), &store).await;
            let (_, b) = node(Arc::new(Slow { store: store.clone(), writes: false }), &store).await;
            assert_eq!(*a.load_with(&1, |_| load(1)).await.unwrap(), 1);
            time::sleep(MS(20)).await;
            let reader = b.clone();
            let reading = tokio::spawn(async move {
                let two = || async { Ok::<_, Infallible>(2) };
                let twos = |keys: Vec<u64>| async move {
                    Ok::<_, Infallible>(keys.into_iter().map(|key| (key, 2)).collect::<Vec<_>>())
                };
                match read {
                    "fetch" => drop(reader.fetch(&1).await),
                    "fetch many" => drop(reader.fetch_many(&[1]).await),
                    "load" => drop(reader.get_or_load(&1, two).await),
                    _ => drop(reader.load_many(&[1], twos).await),
                }
            });
            time::sleep(MS(10)).await;
            match way {
                "key here" => b.invalidate(&1).detach(),
                "key there" => a.invalidate(&1).detach(),
                "tag there" => space_a.invalidate_tags([t()]).detach(),
                _ => b.clear().detach(),
            }
            reading.await.unwrap();
            assert_ne!(b.get(&1).as_deref(), Some(&1), "{read}, {way}");
            time::sleep(MS(100)).await;
            assert_ne!(b.fetch(&1).await.as_deref(), Some(&1), "{read}, {way}: nor does it come back");
        }
    }
}
