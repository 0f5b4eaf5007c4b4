//! Leases between nodes that share a store in memory.

use perf_cache::{
    Cache, CacheSpace, Entries, Leases, MemoryStore, Postcard, Refresh, Store, StoreError, Stored, Taken,
    Wanted,
};
use perf_core::time;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn node(store: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    node_over(store.clone(), store).await
}

async fn node_over(store: Arc<dyn Store>, log: &Arc<MemoryStore>) -> (CacheSpace, Cache<u64, u32>) {
    let space = CacheSpace::builder("shop").shared(store, log.clone()).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(5)).await);
    let cache = space
        .cache("a")
        .capacity(Entries(100))
        .jitter(0.0)
        .fresh(Duration::from_secs(100))
        .refresh(Refresh::Fraction(0.5))
        .codec(Postcard)
        .lease(Duration::from_secs(2))
        .build()
        .unwrap();
    (space, cache)
}

/// Loads a key, counting, in `slow`.
async fn load(cache: &Cache<u64, u32>, loads: &Arc<AtomicU32>, slow: Duration) -> u32 {
    let loads = Arc::clone(loads);
    let loader = move || async move {
        let n = loads.fetch_add(1, Ordering::SeqCst) + 1;
        time::sleep(slow).await;
        Ok::<_, Infallible>(n)
    };
    *cache.get_or_load(&1, loader).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn s25_of_all_nodes_that_miss_one_loads_and_the_others_take_its_value() {
    let store = Arc::new(MemoryStore::new());
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(node(&store).await);
    }
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..100)
        .map(|n| {
            let (cache, loads) = (nodes[n % 5].1.clone(), Arc::clone(&loads));
            tokio::spawn(async move { load(&cache, &loads, MS(200)).await })
        })
        .collect();
    let begun = time::now();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(begun.elapsed() < MS(320), "waiters look often enough: {:?}", begun.elapsed());
    let waits: u64 = nodes.iter().map(|(space, _)| space.stats().lease_waits).sum();
    let leases: u64 = nodes.iter().map(|(space, _)| space.stats().leases).sum();
    assert_eq!((leases, waits), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn s25_when_the_holder_dies_another_node_loads_and_the_late_write_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (_, b)) = (node(&store).await, node(&store).await);
    let (slow, quick) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(10)));
    // Its load takes longer than the lease: for others it is as good as dead.
    let (first, counter) = (a.clone(), Arc::clone(&slow));
    let stuck = tokio::spawn(async move { load(&first, &counter, Duration::from_secs(5)).await });
    time::sleep(MS(10)).await;
    let begun = time::now();
    assert_eq!(load(&b, &quick, MS(10)).await, 11);
    let waited = begun.elapsed();
    assert!(waited > MS(1_900) && waited < MS(2_300), "after the life of the lease: {waited:?}");
    assert_eq!(stuck.await.unwrap(), 1, "whoever waited for the slow load gets its value");
    time::sleep(MS(20)).await;
    assert_eq!(space_a.stats().lease_refusals, 1);
    let (_, c) = node(&store).await;
    assert_eq!(c.fetch(&1).await.as_deref(), Some(&11), "the late value did not replace the newer one");
}

#[tokio::test(start_paused = true)]
async fn s25_a_holder_that_fails_or_is_cancelled_gives_the_lease_back() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let failed = a
        .get_or_load(&1, || async {
            time::sleep(MS(50)).await;
            Err::<u32, _>("down")
        })
        .await;
    assert!(failed.is_err());
    let begun = time::now();
    let loads = Arc::new(AtomicU32::new(0));
    assert_eq!(load(&b, &loads, MS(1)).await, 1);
    assert!(begun.elapsed() < MS(50), "nobody waits for a lease that was given back: {:?}", begun.elapsed());
    b.invalidate(&1).await;
    time::sleep(MS(20)).await;
    let awaits = perf_testkit::cancel_at_every_await(
        || ((), perf_testkit::step_by_step(load(&a, &loads, MS(30)))),
        async |(), _| time::sleep(MS(100)).await,
    )
    .await;
    assert!(awaits > 0);
    assert!(a.get(&1).is_some(), "the load goes on without its caller");
}

#[tokio::test(start_paused = true)]
async fn s25_without_the_store_every_node_loads_for_itself_once_and_at_once() {
    let store = Arc::new(MemoryStore::new());
    let nodes = [node(&store).await, node(&store).await];
    store.set_down(true);
    let loads = Arc::new(AtomicU32::new(0));
    let begun = time::now();
    let callers: Vec<_> = (0..20)
        .map(|n| {
            let (cache, loads) = (nodes[n % 2].1.clone(), Arc::clone(&loads));
            tokio::spawn(async move { load(&cache, &loads, MS(10)).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(loads.load(Ordering::SeqCst), 2, "one load a node");
    assert!(begun.elapsed() < MS(50), "{:?}", begun.elapsed());
}

/// A store that notes when leases are asked for, and by whom.
struct Noting(Arc<MemoryStore>, Mutex<Vec<(u64, time::Instant)>>);

#[async_trait::async_trait]
impl Store for Noting {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        self.0.get_many(keys).await
    }
    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        self.0.set(key, bytes, life).await
    }
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl Leases for Noting {
    async fn take(
        &self,
        key: &[u8],
        known: Option<&[u8]>,
        token: u64,
        life: Duration,
    ) -> Result<Taken, StoreError> {
        self.1.lock().unwrap().push((token, time::now()));
        self.0.take(key, known, token, life).await
    }
    async fn fill(&self, key: &[u8], token: u64, bytes: &[u8], life: Duration) -> Result<bool, StoreError> {
        self.0.fill(key, token, bytes, life).await
    }
    async fn release(&self, key: &[u8], token: u64) -> Result<(), StoreError> {
        self.0.release(key, token).await
    }
}

#[tokio::test(start_paused = true)]
async fn s25_nodes_that_wait_for_one_lease_do_not_look_at_the_same_moments() {
    let store = Arc::new(Noting(Arc::default(), Mutex::default()));
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(node_over(store.clone(), &store.0).await);
    }
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = nodes
        .iter()
        .map(|(_, cache)| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move { load(&cache, &loads, MS(1_000)).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    let looks = store.1.lock().unwrap().clone();
    let moments: std::collections::BTreeSet<_> = looks.iter().map(|(_, at)| *at).collect();
    let tokens: std::collections::BTreeSet<_> = looks.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens.len(), 6);
    assert!((60..200).contains(&looks.len()), "often enough, and not too often: {}", looks.len());
    assert!(moments.len() > looks.len() / 3, "{} moments for {} looks", moments.len(), looks.len());
}

#[tokio::test(start_paused = true)]
async fn s25_an_invalidation_during_the_load_is_not_undone_by_the_lease() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let loads = Arc::new(AtomicU32::new(0));
    let (first, counter) = (a.clone(), Arc::clone(&loads));
    let overtaken = tokio::spawn(async move { load(&first, &counter, MS(100)).await });
    time::sleep(MS(10)).await;
    b.invalidate(&1).await;
    time::sleep(MS(20)).await;
    assert_eq!(overtaken.await.unwrap(), 1);
    time::sleep(MS(20)).await;
    assert_eq!(load(&b, &loads, MS(1)).await, 2, "the value loaded before the invalidation is not used");
    time::sleep(MS(20)).await;
    assert_eq!(load(&a, &loads, MS(1)).await, 2, "the one loaded after it is");
}

#[tokio::test(start_paused = true)]
async fn s24_of_all_nodes_one_refreshes_and_the_others_take_its_value() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let loads = Arc::new(AtomicU32::new(0));
    assert_eq!(load(&a, &loads, MS(1)).await, 1);
    time::sleep(MS(20)).await;
    assert_eq!(load(&b, &loads, MS(1)).await, 1);
    // Past half of the life a hit starts a refresh, here on both nodes at once.
    time::sleep(Duration::from_secs(60)).await;
    let (one, other) = tokio::join!(load(&a, &loads, MS(50)), load(&b, &loads, MS(50)));
    assert_eq!((one, other), (1, 1), "never on the caller's time");
    time::sleep(MS(500)).await;
    assert_eq!(loads.load(Ordering::SeqCst), 2, "one refresh for both");
    assert_eq!((a.get(&1).as_deref(), b.get(&1).as_deref()), (Some(&2), Some(&2)));
}

/// Keys that loaders of batches were asked for.
type Asked = Arc<Mutex<Vec<u64>>>;

/// Loads these keys together in `slow`; each value is ten times its key and the number of the node.
async fn batch(
    cache: &Cache<u64, u32>,
    keys: std::ops::Range<u64>,
    asked: &Asked,
    (node, slow): (u32, Duration),
) -> Vec<u32> {
    let asked = Arc::clone(asked);
    let loader = move |missing: Vec<u64>| {
        asked.lock().unwrap().extend(&missing);
        async move {
            time::sleep(slow).await;
            Ok::<_, Infallible>(
                missing.into_iter().map(|key| (key, key as u32 * 10 + node)).collect::<Vec<_>>(),
            )
        }
    };
    let keys: Vec<u64> = keys.collect();
    cache
        .load_many(&keys, loader)
        .await
        .iter()
        .map(|found| **found.as_ref().unwrap().as_ref().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn s25_of_two_batches_on_two_nodes_each_key_is_loaded_once() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (space_b, b)) = (node(&store).await, node(&store).await);
    let (asked, begun) = (Asked::default(), time::now());
    let (one, other) =
        tokio::join!(batch(&a, 0..20, &asked, (1, MS(100))), batch(&b, 10..30, &asked, (2, MS(100))),);
    assert!(begun.elapsed() < MS(320), "looked for often enough: {:?}", begun.elapsed());
    let mut asked = asked.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, (0..30).collect::<Vec<_>>(), "each key once");
    assert_eq!(one[10..], other[..10], "and both nodes have the same values");
    let (a, b) = (space_a.stats(), space_b.stats());
    assert_eq!((a.leases + b.leases, a.lease_waits + b.lease_waits), (30, 10));
    time::sleep(MS(20)).await;
    assert_eq!(space_a.stats().written + space_b.stats().written, 30);
}

#[tokio::test(start_paused = true)]
async fn s25_a_batch_whose_node_dies_is_taken_over_and_its_late_writes_are_refused() {
    let store = Arc::new(MemoryStore::new());
    let ((space_a, a), (_, b)) = (node(&store).await, node(&store).await);
    let asked = Asked::default();
    // Its load takes longer than the leases: for others it is as good as dead.
    let (first, noted) = (a.clone(), Arc::clone(&asked));
    let stuck = tokio::spawn(async move { batch(&first, 0..5, &noted, (1, Duration::from_secs(5))).await });
    time::sleep(MS(10)).await;
    let begun = time::now();
    assert_eq!(batch(&b, 3..8, &asked, (2, MS(10))).await, [32, 42, 52, 62, 72]);
    let waited = begun.elapsed();
    assert!(waited > MS(1_900) && waited < MS(2_300), "after the life of the leases: {waited:?}");
    assert_eq!(stuck.await.unwrap(), [1, 11, 21, 31, 41], "whoever waited for the slow load gets its values");
    time::sleep(MS(20)).await;
    assert_eq!(space_a.stats().lease_refusals, 5);
    let (_, c) = node(&store).await;
    assert_eq!(c.fetch(&3).await.as_deref(), Some(&32), "the late value did not replace the newer one");
}

#[tokio::test(start_paused = true)]
async fn s25_a_batch_that_fails_gives_its_leases_back_and_one_without_the_store_needs_none() {
    let store = Arc::new(MemoryStore::new());
    let ((_, a), (_, b)) = (node(&store).await, node(&store).await);
    let failing = |_: Vec<u64>| async { Err::<Vec<(u64, u32)>, _>("down") };
    assert!(a.load_many(&[1, 2, 3], failing).await.iter().all(Result::is_err));
    let (asked, begun) = (Asked::default(), time::now());
    assert_eq!(batch(&b, 1..4, &asked, (2, MS(1))).await, [12, 22, 32]);
    store.set_down(true);
    assert_eq!(batch(&b, 4..6, &asked, (2, MS(1))).await, [42, 52]);
    assert!(begun.elapsed() < MS(50), "nobody waits for them: {:?}", begun.elapsed());
}

/// What every store with leases does, and within which time one ends.
pub(crate) async fn keeps_the_rules_of_leases(store: &(impl Store + Leases), life: Duration) {
    assert_eq!(store.take(b"k", None, 1, life).await, Ok(Taken::Granted));
    assert_eq!(store.take(b"k", None, 1, life).await, Ok(Taken::Granted), "asking again changes nothing");
    assert_eq!(store.take(b"k", None, 2, life).await, Ok(Taken::Held));
    assert_eq!(store.fill(b"k", 2, b"wrong", life).await, Ok(false));
    store.release(b"k", 2).await.unwrap();
    assert_eq!(store.fill(b"k", 1, b"value", life).await, Ok(true));
    assert_eq!(store.fill(b"k", 1, b"twice", life).await, Ok(false));
    let taken = store.take(b"k", None, 3, life).await.unwrap();
    assert!(matches!(taken, Taken::Filled(stored) if stored.bytes == b"value"));
    assert_eq!(store.take(b"k", Some(b"val"), 3, life).await, Ok(Taken::Granted), "useless to the caller");
    time::sleep(life * 2).await;
    assert_eq!(store.fill(b"k", 3, b"late", life).await, Ok(false));
    store.set(b"k", b"other", life).await.unwrap();
    store.release(b"k", 3).await.unwrap();
    assert!(matches!(store.take(b"k", None, 4, life).await, Ok(Taken::Filled(_))));

    // Many at once, each as if it were alone.
    store.set(b"there", b"value", life).await.unwrap();
    store.set(b"useless", b"old value", life).await.unwrap();
    store.take(b"held", None, 9, life).await.unwrap();
    let wanted =
        |key: &[u8], known: Option<&[u8]>| Wanted { key: key.to_vec(), known: known.map(<[u8]>::to_vec) };
    let all = [
        wanted(b"new", None),
        wanted(b"there", None),
        wanted(b"held", None),
        wanted(b"useless", Some(b"old")),
    ];
    let taken: Vec<Taken> = store.take_many(&all, 5, life).await.into_iter().map(Result::unwrap).collect();
    assert!(
        matches!(&taken[1], Taken::Filled(stored) if stored.bytes == b"value" && stored.remaining <= life)
    );
    assert_eq!((&taken[0], &taken[2], &taken[3]), (&Taken::Granted, &Taken::Held, &Taken::Granted));
    let entries = ["new", "held", "useless"].map(|key| (key.as_bytes().to_vec(), b"filled".to_vec(), life));
    assert_eq!(store.fill_many(&entries, 5).await, [Ok(true), Ok(false), Ok(true)]);
    assert!(
        matches!(store.take(b"useless", None, 6, life).await, Ok(Taken::Filled(s)) if s.bytes == b"filled")
    );
    assert_eq!((store.take_many(&[], 5, life).await, store.fill_many(&[], 5).await), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn s25_the_store_in_memory_keeps_the_rules_of_leases() {
    keeps_the_rules_of_leases(&MemoryStore::new(), Duration::from_secs(1)).await;
}
