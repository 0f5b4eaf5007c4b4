//! How long things are remembered: jitter, sliding lives, negative entries, errors.

use perf_cache::{Cache, CacheBuilder, CacheSpace, Entries, LoadError, Loaded, Lookup, tag};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn builder(space: &CacheSpace, name: &str) -> CacheBuilder<u64, u64> {
    space.cache(name).capacity(Entries(1000)).jitter(0.0).fresh(SEC(100))
}

fn alive(cache: &Cache<u64, u64>) -> Vec<u64> {
    (0..1000).filter(|key| cache.contains(key)).collect()
}

#[tokio::test(start_paused = true)]
async fn s27_jitter_lengthens_lives_by_at_most_its_share_and_the_same_seed_gives_the_same() {
    let space = CacheSpace::in_process("t");
    let caches: Vec<_> = [("a", 7), ("b", 7), ("c", 8)]
        .map(|(name, seed)| builder(&space, name).jitter(0.5).seed(seed).build().unwrap())
        .into();
    for cache in &caches {
        (0..1000).for_each(|key| cache.insert(key, key));
    }
    time::sleep(SEC(100) - Duration::from_millis(1)).await;
    let held: Vec<_> = caches.iter().map(|cache| alive(cache).len()).collect();
    time::sleep(SEC(25)).await;
    let halfway: Vec<_> = caches.iter().map(alive).collect();
    // The engine may evict a few for room; jitter must not end any of them early.
    assert!(held.iter().all(|held| *held >= 990), "no life is shorter than the configured one: {held:?}");
    assert!(halfway.iter().all(|half| (350..650).contains(&half.len())), "lives are spread evenly");
    assert_eq!(halfway[0], halfway[1], "the same seed gives the same lives");
    assert_ne!(halfway[0], halfway[2]);
    time::sleep(SEC(25) + Duration::from_millis(1)).await;
    assert!(caches.iter().all(|cache| alive(cache).is_empty()), "no life is longer than life and jitter");
}

#[tokio::test(start_paused = true)]
async fn s27_jitter_and_a_loaders_wish_end_at_the_greatest_age() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").jitter(1.0).max_age(SEC(120)).build().unwrap();
    (0..500).for_each(|key| cache.insert(key, key));
    cache.insert_with(999, Loaded::new(1).fresh(Duration::MAX));
    time::sleep(SEC(120) - Duration::from_millis(1)).await;
    assert!(cache.contains(&999));
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(alive(&cache), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn s31_a_sliding_life_is_extended_by_reads_and_bounded_by_the_greatest_age() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").fresh(SEC(10)).sliding(SEC(10)).max_age(SEC(60)).build().unwrap();
    cache.insert(1, 1);
    cache.insert(2, 2);
    let begun = time::now();
    while cache.get(&1).is_some() {
        time::sleep(SEC(9)).await;
    }
    assert_eq!(begun.elapsed(), SEC(63), "reads every nine seconds keep it until a minute is over");
    assert!(cache.get(&2).is_none(), "what is not read ends after ten seconds");
    cache.insert(3, 3);
    time::sleep(SEC(9)).await;
    assert!(cache.get(&3).is_some());
    time::sleep(SEC(10)).await;
    assert!(cache.get(&3).is_none(), "after the last read the sliding life is left");
}

#[tokio::test(start_paused = true)]
async fn s31_a_sliding_life_that_was_ended_by_hand_is_not_extended() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").sliding(SEC(10)).build().unwrap();
    cache.insert(1, 1);
    time::sleep(SEC(5)).await;
    cache.expire(&1).await;
    assert!(cache.get(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn s29_a_scan_of_keys_that_do_not_exist_evicts_no_value() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").capacity(Entries(2000)).negative(SEC(1000)).build().unwrap();
    (0..1000).for_each(|key| cache.insert(key, key));
    for key in 10_000..60_000 {
        let found = cache.find_or_load(&key, || async { Ok::<_, Infallible>(None) }).await.unwrap();
        assert!(found.is_none());
    }
    assert_eq!(alive(&cache).len(), 1000);
    let stats = cache.stats();
    assert!((1..=200).contains(&stats.negative), "a tenth of the capacity at most: {}", stats.negative);
    assert_eq!(stats.entries, 1000 + stats.negative);
}

#[tokio::test(start_paused = true)]
async fn s29_a_later_write_replaces_the_knowledge_that_there_is_nothing_and_the_other_way_round() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").build().unwrap();
    assert!(cache.find_or_load(&1, || async { Ok::<_, Infallible>(None) }).await.unwrap().is_none());
    assert!(matches!(cache.lookup(&1), Lookup::Nothing));
    cache.insert(1, 5);
    assert_eq!((cache.get(&1).as_deref(), cache.stats().negative, cache.stats().entries), (Some(&5), 0, 1));
    cache.insert_with(1, Loaded::nothing());
    assert!(matches!(cache.lookup(&1), Lookup::Nothing));
    assert_eq!((cache.stats().negative, cache.stats().entries), (1, 1));
    cache.invalidate(&1).await;
    assert!(matches!(cache.lookup(&1), Lookup::Unknown));
    cache.insert_with(2, Loaded::nothing());
    cache.clear().await;
    assert!(matches!(cache.lookup(&2), Lookup::Unknown));
}

/// A cache that remembers some errors, and a loader that counts and fails.
fn failing(space: &CacheSpace) -> (Cache<u64, u64>, Arc<AtomicU32>) {
    let remembers = |error: &String| error == "down";
    (builder(space, "a").cache_errors(SEC(10), remembers).build().unwrap(), Arc::default())
}

async fn fail(cache: &Cache<u64, u64>, loads: &Arc<AtomicU32>, error: &'static str) -> Arc<String> {
    let loads = Arc::clone(loads);
    let call = cache.get_or_load(&1, move || async move {
        loads.fetch_add(1, Ordering::Relaxed);
        Err::<u64, _>(String::from(error))
    });
    match call.tags([tag!("org", 7)]).await.unwrap_err() {
        LoadError::Load(error) => error,
        other => Arc::new(other.to_string()),
    }
}

#[tokio::test(start_paused = true)]
async fn s16_errors_are_remembered_only_where_that_is_asked_for_and_only_for_their_life() {
    let space = CacheSpace::in_process("t");
    let (cache, loads) = failing(&space);
    fail(&cache, &loads, "odd").await;
    let first = fail(&cache, &loads, "down").await;
    let again = fail(&cache, &loads, "never asked").await;
    assert!(Arc::ptr_eq(&first, &again), "the same error, without a load");
    assert_eq!((loads.load(Ordering::Relaxed), cache.stats().errors_served), (2, 1));
    assert!(matches!(cache.lookup(&1), Lookup::Unknown), "an error is not a value, nor the lack of one");
    time::sleep(SEC(10)).await;
    fail(&cache, &loads, "odd").await;
    assert_eq!(loads.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn s16_a_remembered_error_ends_with_an_invalidation_of_its_key_its_tags_or_everything() {
    let space = CacheSpace::in_process("t");
    let (cache, loads) = failing(&space);
    for end in 0..4 {
        fail(&cache, &loads, "down").await;
        match end {
            0 => drop(cache.invalidate(&1).await),
            1 => drop(space.invalidate_tags([tag!("org", 7)]).await),
            2 => drop(cache.clear().await),
            _ => cache.insert_with(1, Loaded::new(3).fresh(Duration::ZERO)),
        }
        fail(&cache, &loads, "down").await;
        assert_eq!(loads.load(Ordering::Relaxed), 2, "way {end}");
        loads.store(0, Ordering::Relaxed);
        cache.invalidate(&1).await;
    }
}
