//! What a cache shows of itself.

use perf_cache::{Bytes, Cache, CacheBuilder, CacheConfig, CacheSpace, Entries, Fenced, Loaded, tag};
use perf_core::{Rng, Zipf, time};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn builder(space: &CacheSpace, name: &str) -> CacheBuilder<u64, u64> {
    space.cache(name).capacity(Entries(1000)).jitter(0.0).fresh(SEC(10)).sampling(CacheConfig::SAMPLING)
}

fn read_through(cache: &Cache<u64, u64>, key: u64) {
    if cache.get(&key).is_none() {
        cache.insert(key, key);
    }
}

#[test]
fn the_live_curve_tells_within_five_points_what_other_capacities_would_give() {
    let space = CacheSpace::in_process("t");
    let cache = |name: &str, capacity| {
        builder(&space, name).capacity(Entries(capacity)).fresh(SEC(100_000)).sampling(0.25).build().unwrap()
    };
    let observed = cache("observed", 2000);
    let others = [1000, 2000, 4000, 8000].map(|capacity| cache(&capacity.to_string(), capacity));
    let (zipf, mut rng) = (Zipf::new(30_000, 0.9), Rng::seeded(4));
    for _ in 0..150_000 {
        let key = zipf.sample(&mut rng);
        read_through(&observed, key);
        others.iter().for_each(|other| read_through(other, key));
    }
    let curve = observed.miss_ratio_curve();
    assert_eq!(curve.iter().map(|point| point.capacity).collect::<Vec<_>>(), [1000, 2000, 4000, 8000]);
    for (point, other) in curve.iter().zip(&others) {
        let actual = other.stats().hit_ratio().unwrap();
        let told = point.hit_ratio;
        assert!((told - actual).abs() < 0.05, "{}x: told {told:.3}, is {actual:.3}", point.factor);
    }
    assert!(curve.is_sorted_by(|a, b| a.hit_ratio < b.hit_ratio));
}

#[test]
fn a_cache_that_samples_nothing_has_no_curve() {
    let cache = builder(&CacheSpace::in_process("t"), "a").sampling(0.0).build().unwrap();
    (0..5000).for_each(|key| read_through(&cache, key));
    assert_eq!(cache.miss_ratio_curve(), []);
    let error = builder(&CacheSpace::in_process("t"), "a").sampling(1.5).build().unwrap_err();
    assert_eq!(error.field(), "a.sampling");
}

#[test]
fn the_keys_read_most_are_named() {
    let cache = builder(&CacheSpace::in_process("t"), "a").build().unwrap();
    (0..1000).for_each(|key| cache.insert(key, key));
    let mut rng = Rng::seeded(6);
    for read in 0..400_000_u64 {
        let key = match read % 10 {
            0..4 => 7,
            4..6 => 8,
            _ => 20 + rng.below(900),
        };
        assert!(cache.get(&key).is_some());
    }
    let hot = cache.hot_keys(2);
    assert_eq!(hot.iter().map(|hot| hot.key).collect::<Vec<_>>(), [7, 8]);
    assert!((0.3..0.5).contains(&hot[0].share), "{hot:?}");
    assert!(cache.hot_keys(1000).len() <= 128);
}

#[test]
fn bytes_that_hits_saved_are_estimated_from_a_few_of_them_or_from_what_is_held() {
    for (name, sampling) in [("sampled", CacheConfig::SAMPLING), ("not_sampled", 0.0)] {
        let cache: Cache<u64, Vec<u8>> = CacheSpace::in_process("t")
            .cache(name)
            .capacity(Bytes(1 << 20))
            .weigher(|_, value: &Vec<u8>| value.len() as u64)
            .sampling(sampling)
            .build()
            .unwrap();
        cache.insert(1, vec![0; 872]);
        for _ in 0..200_000 {
            assert!(cache.get(&1).is_some());
        }
        let saved = cache.stats().saved_bytes as f64;
        assert!((saved / 200e6 - 1.0).abs() < 0.2, "{saved} of 200,000 hits of 1,000 bytes");
    }
}

/// A cache that verifies every hit, and the source that it is in front of.
fn verified() -> (CacheSpace, Cache<u64, u64>, Arc<AtomicU64>) {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").shadow(1.0, |a, b| a == b).build().unwrap();
    (space, cache, Arc::new(AtomicU64::new(1)))
}

async fn read(cache: &Cache<u64, u64>, source: &Arc<AtomicU64>) -> u64 {
    let source = Arc::clone(source);
    let hit = cache
        .get_or_load(&1, move || async move {
            let value = source.load(Ordering::Relaxed);
            time::sleep(Duration::from_millis(1)).await;
            Ok::<_, Infallible>(value)
        })
        .await
        .unwrap();
    let value = *hit;
    time::sleep(Duration::from_millis(5)).await;
    value
}

#[tokio::test(start_paused = true)]
async fn shadow_verification_counts_a_change_that_nobody_invalidated() {
    let (_space, cache, source) = verified();
    read(&cache, &source).await;
    assert_eq!(read(&cache, &source).await, 1);
    assert_eq!((cache.stats().verified, cache.stats().different), (1, 0));
    source.store(2, Ordering::Relaxed);
    assert_eq!(read(&cache, &source).await, 1, "the hit itself is served as it is");
    assert_eq!((cache.stats().verified, cache.stats().different), (1, 1));
    cache.invalidate(&1).await;
    assert_eq!(read(&cache, &source).await, 2);
    assert_eq!(cache.stats().different, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hit_invalidated_while_it_is_verified_counts_as_neither() {
    let (_space, cache, source) = verified();
    read(&cache, &source).await;
    source.store(2, Ordering::Relaxed);
    let slow = Arc::clone(&source);
    let hit = cache.get_or_load(&1, move || async move {
        time::sleep(Duration::from_millis(3)).await;
        Ok::<_, Infallible>(slow.load(Ordering::Relaxed))
    });
    assert_eq!(*hit.await.unwrap(), 1);
    time::sleep(Duration::from_millis(1)).await;
    cache.invalidate(&1).await;
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!((cache.stats().verified, cache.stats().different), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn explain_tells_what_is_held_who_loads_and_what_ended_it() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").cache_errors(SEC(60), |_: &String| true).build().unwrap();
    assert_eq!(cache.explain(&1).await.entry, None);
    let org = tag!("org", 7);
    cache.insert_with(1, Loaded::new(1).tag(org).etag("v1"));
    time::sleep(SEC(4)).await;
    let entry = cache.explain(&1).await.entry.unwrap();
    assert_eq!((entry.served, entry.age_class, entry.age, entry.fresh_for), (true, "fresh", SEC(4), SEC(6)));
    assert_eq!((entry.tags.as_slice(), entry.etag.as_deref(), entry.fenced), (&[org][..], Some("v1"), None));

    space.invalidate_tags([org]).await;
    let explained = cache.explain(&1).await;
    let entry = explained.entry.clone().unwrap();
    assert_eq!((entry.served, entry.fenced), (false, Some(Fenced::Tag(org))));
    assert!(explained.to_string().contains("not served"), "{explained}");

    let loading = cache.clone();
    let task = tokio::spawn(async move {
        let loader = || async {
            time::sleep(SEC(1)).await;
            Err::<u64, _>(String::from("down"))
        };
        loading.get_or_load(&1, loader).await.is_err()
    });
    time::sleep(Duration::from_millis(1)).await;
    let explained = cache.explain(&1).await;
    assert_eq!(explained.loading.map(|loading| (loading.waiting, loading.as_of)), Some((1, 1)));
    assert!(task.await.unwrap());
    assert_eq!(cache.explain(&1).await.error.as_deref(), Some("down"));

    space.collector().key(&cache, 2).hold_off(SEC(5)).publish().await;
    assert!(cache.explain(&2).await.held_off && !cache.explain(&3).await.held_off);
    assert_eq!(cache.stats().misses, 1, "explaining is not reading");
}
