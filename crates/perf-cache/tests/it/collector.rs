//! Invalidation that belongs to a transaction, and the time after it in which replicas lag.

use perf_cache::{Cache, CacheSpace, Entries, Freshness, Loaded, tag};
use perf_core::time;
use std::convert::Infallible;
use std::time::Duration;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn cache(space: &CacheSpace) -> Cache<u64, u64> {
    space.cache("a").capacity(Entries(100)).jitter(0.0).fresh(SEC(600)).build().unwrap()
}

async fn load(cache: &Cache<u64, u64>, key: u64, value: u64) -> (u64, Freshness) {
    let hit = cache
        .load_with(&key, move |_| async move { Ok::<_, Infallible>(Loaded::new(value).tag(tag!("org", 7))) })
        .await
        .unwrap();
    (*hit, hit.freshness().clone())
}

#[tokio::test(start_paused = true)]
async fn what_is_collected_takes_effect_when_published_and_never_when_dropped() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space);
    for key in 1..=3 {
        load(&cache, key, key).await;
    }
    cache.insert(4, 4);
    let collected = || space.collector().tag(tag!("org", 7)).key(&cache, 4);
    drop(collected());
    assert!((1..=4).all(|key| cache.contains(&key)), "a rollback invalidates nothing");
    collected().publish().await;
    assert!((1..=4).all(|key| !cache.contains(&key)));
}

#[tokio::test(start_paused = true)]
async fn during_a_hold_off_values_are_returned_but_not_kept() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space);
    space.collector().tag(tag!("org", 7)).key(&cache, 9).hold_off(SEC(2)).publish().await;
    // A replica that lags answers with the old value.
    assert_eq!(load(&cache, 1, 10).await, (10, Freshness::Superseded));
    assert!(cache.get(&1).is_none());
    let hit = cache.get_or_load(&9, || async { Ok::<_, Infallible>(90) }).await.unwrap();
    assert_eq!((*hit, cache.contains(&9)), (90, false), "keys are held like tags");
    let hit = cache.get_or_load(&8, || async { Ok::<_, Infallible>(80) }).await.unwrap();
    assert_eq!((*hit, cache.contains(&8)), (80, true), "nothing else is");
    assert_eq!(cache.stats().held, 2);
    time::sleep(Duration::from_millis(2001)).await;
    assert_eq!(load(&cache, 1, 11).await, (11, Freshness::Fresh));
    assert!(cache.contains(&1));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_during_a_hold_off_is_not_kept_after_it() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space);
    space.collector().tag(tag!("org", 7)).hold_off(SEC(2)).publish().await;
    let slow = cache.load_with(&1, |_| async {
        time::sleep(SEC(5)).await;
        Ok::<_, Infallible>(Loaded::new(1).tag(tag!("org", 7)))
    });
    assert_eq!(slow.await.unwrap().freshness(), &Freshness::Superseded);
    assert!(cache.get(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn when_a_hold_off_ends_everything_is_invalidated_again() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space);
    space.collector().tag(tag!("org", 7)).key(&cache, 9).hold_off(SEC(2)).publish().await;
    // As by a node that does not know of the hold-off.
    cache.insert_with(1, Loaded::new(1).tag(tag!("org", 7)));
    cache.insert(9, 9);
    time::sleep(Duration::from_millis(1999)).await;
    assert!(cache.contains(&1) && cache.contains(&9));
    time::sleep(Duration::from_millis(2)).await;
    assert!(!cache.contains(&1) && !cache.contains(&9));
}
