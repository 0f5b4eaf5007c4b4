//! Entries that are pinned: low ones go first, high ones last, and pins cannot fill the cache.

use perf_cache::{Cache, CacheSpace, Cause, Entries, LoadContext, Loaded, Priority};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex};

fn cache() -> Cache<u64, u64> {
    CacheSpace::in_process("t").cache("c").capacity(Entries(100)).build().unwrap()
}

fn put(cache: &Cache<u64, u64>, keys: Range<u64>, priority: Priority) {
    keys.for_each(|key| cache.insert_with(key, Loaded::new(key).priority(priority)));
}

fn held(cache: &Cache<u64, u64>, keys: Range<u64>) -> usize {
    keys.filter(|key| cache.contains(key)).count()
}

#[test]
fn what_is_pinned_high_outlives_any_number_of_others() {
    let cache = cache();
    put(&cache, 0..50, Priority::High);
    for key in 1000..5000 {
        cache.insert(key, key);
        // Asked for more often than what is pinned, which makes no difference.
        (0..3).for_each(|_| drop(cache.get(&key)));
    }
    assert_eq!(held(&cache, 0..50), 50);
}

#[test]
fn what_is_pinned_low_goes_before_all_others_however_often_it_is_read() {
    let cache = cache();
    put(&cache, 0..50, Priority::Low);
    put(&cache, 100..150, Priority::Normal);
    for key in 0..50 {
        (0..5).for_each(|_| assert!(cache.get(&key).is_some()));
    }
    put(&cache, 150..200, Priority::Normal);
    assert_eq!((held(&cache, 0..50), held(&cache, 100..200)), (0, 100));
    put(&cache, 0..1, Priority::Low);
    assert_eq!((held(&cache, 0..1), held(&cache, 100..200)), (0, 100), "there is no room for it");
    drop(cache.invalidate(&100));
    put(&cache, 0..1, Priority::Low);
    assert_eq!(held(&cache, 0..1), 1, "there is now");
}

#[test]
fn no_more_than_half_of_the_capacity_can_be_pinned_high() {
    let cache = cache();
    put(&cache, 0..1000, Priority::High);
    for _ in 0..50 {
        for key in 5000..5040 {
            if cache.get(&key).is_none() {
                cache.insert(key, key);
            }
        }
    }
    assert_eq!(held(&cache, 950..1000), 50, "the newest pins hold");
    assert!(held(&cache, 5000..5040) >= 30, "others find room: {}", held(&cache, 5000..5040));
    assert!(held(&cache, 0..6000) <= 100);
}

#[test]
fn writing_a_key_again_says_its_priority_again() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&dropped);
    let cache: Cache<u64, u64> = CacheSpace::in_process("t")
        .cache("c")
        .capacity(Entries(100))
        .on_removal(move |key: &u64, _: Option<&u64>, cause| {
            if cause == Cause::Room {
                seen.lock().unwrap().push(*key);
            }
        })
        .build()
        .unwrap();
    put(&cache, 0..1, Priority::High);
    put(&cache, 0..1, Priority::Low);
    put(&cache, 1..100, Priority::Normal);
    put(&cache, 1..2, Priority::High);
    put(&cache, 100..101, Priority::Normal);
    assert_eq!(*dropped.lock().unwrap(), [0]);
}

#[tokio::test]
async fn a_loader_pins_what_it_loads() {
    let cache = cache();
    let loader = |context: LoadContext<u64, u64>| async move {
        Ok::<_, Infallible>(Loaded::new(*context.key()).priority(Priority::High))
    };
    cache.load_with(&7, loader).await.unwrap();
    put(&cache, 1000..3000, Priority::Normal);
    assert!(cache.contains(&7));
}

#[test]
fn where_priorities_are_off_all_entries_rank_alike() {
    let off =
        || CacheSpace::in_process("t").cache("c").capacity(Entries(100)).priorities(false).build().unwrap();
    let high: Cache<u64, u64> = off();
    put(&high, 0..50, Priority::High);
    for key in 1000..5000 {
        high.insert(key, key);
        (0..3).for_each(|_| drop(high.get(&key)));
    }
    assert!(held(&high, 0..50) < 25, "what is read goes before what is not");
    let low: Cache<u64, u64> = off();
    put(&low, 0..50, Priority::Low);
    for key in 0..50 {
        (0..5).for_each(|_| assert!(low.get(&key).is_some()));
    }
    put(&low, 100..200, Priority::Normal);
    assert!(held(&low, 0..50) > 25, "and stays, whatever was asked for");
}

#[cfg(feature = "moka")]
#[test]
fn an_engine_that_pins_nothing_is_refused_until_nothing_is_to_be_pinned() {
    let space = CacheSpace::in_process("t");
    let builder = || space.cache::<u64, u64>("c").capacity(Entries(100)).engine(perf_cache::EngineKind::Moka);
    let refused = builder().build().unwrap_err();
    assert_eq!(refused.field(), "c.priorities");
    assert!(refused.to_string().contains("`moka` pins nothing"), "{refused}");
    let cache = builder().priorities(false).build().unwrap();
    put(&cache, 0..1000, Priority::High);
    assert!((1..=100).contains(&cache.stats().entries), "it holds what it may, pinned or not");
    cache.clear().detach();
    assert_eq!(held(&cache, 0..1000), 0);
}
