//! Loading before anyone asks.

use perf_cache::{Cache, CacheSpace, Entries, KeyFileError, Loaded, Lookup, PrefetchConfig, tag};
use perf_core::{Rng, time};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn cache(space: &CacheSpace, name: &str) -> Cache<u64, u64> {
    let builder = space.cache(name).capacity(Entries(10_000)).jitter(0.0).fresh(Duration::from_secs(60));
    builder.sampling(perf_cache::CacheConfig::SAMPLING).build().unwrap()
}

async fn double(key: u64) -> Result<u64, Infallible> {
    time::sleep(MS(5)).await;
    Ok(key * 2)
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_loads_each_key_once_so_many_at_a_time() {
    let cache = cache(&CacheSpace::in_process("t"), "a");
    cache.insert(3, 6);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&running), Arc::clone(&most));
    let begun = time::now();
    let warmed = cache
        .warm(0..41, 4, move |key| {
            let (running, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let value = double(key).await;
                running.fetch_sub(1, Ordering::Relaxed);
                if key == 9 { Err("gone") } else { value.map_err(|_| "never") }
            }
        })
        .await;
    assert_eq!((warmed.loaded, warmed.present, warmed.failed), (39, 1, 1));
    assert_eq!((most.load(Ordering::Relaxed), begun.elapsed()), (4, MS(50)));
    assert_eq!(cache.get(&40).as_deref(), Some(&80));
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_keeps_the_tags_and_the_lives_that_its_loader_gives() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let loader = |key: u64| async move {
        Ok::<_, Infallible>(match key {
            0 => Loaded::nothing(),
            key => Loaded::new(key).tag(tag!("odd", key % 2)).fresh(Duration::from_secs(key)),
        })
    };
    let warmed = cache.warm(0..5, 2, loader).await;
    assert_eq!((warmed.loaded, warmed.failed), (5, 0));
    assert!(matches!(cache.lookup(&0), Lookup::Nothing));
    space.invalidate_tags([tag!("odd", 1)]).await;
    let held = || (1..5).filter(|key| cache.contains(key)).collect::<Vec<_>>();
    assert_eq!(held(), [2, 4]);
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(held(), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_is_dropped_starts_no_further_loads() {
    let cache = cache(&CacheSpace::in_process("t"), "a");
    assert!(time::timeout(MS(12), cache.warm(0..100, 2, double)).await.is_err());
    time::sleep(MS(100)).await;
    assert_eq!(cache.stats().entries, 6, "four in ten milliseconds, and the two that were under way");
}

/// A file of its own for each test, removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("perf-cache-{}-{name}", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn what_one_run_held_is_what_the_next_one_warms_up_with_hottest_first() {
    let file = File::new("round");
    let (first, second) = (CacheSpace::in_process("t"), CacheSpace::in_process("t"));
    let cache_before = cache(&first, "a");
    (0..100).for_each(|key| cache_before.insert(key, key));
    for _ in 0..20_000 {
        assert!(cache_before.get(&42).is_some());
    }
    assert_eq!(cache_before.save_keys(&file.0, 10).await.unwrap(), 10);
    let cache_after = cache(&second, "a");
    let warmed =
        cache_after.warm_from(&file.0, 4, |key| async move { Ok::<_, Infallible>(key) }).await.unwrap();
    assert_eq!(warmed.loaded, 10);
    assert!(cache_after.contains(&42), "the hottest key is among the few that were kept");
    assert_eq!(cache_before.save_keys(&file.0, 1000).await.unwrap(), 100, "the file is replaced");
}

#[tokio::test]
async fn a_key_file_that_is_not_there_is_empty_and_one_that_is_damaged_is_refused() {
    let (file, space) = (File::new("damaged"), CacheSpace::in_process("t"));
    let cache = cache(&space, "a");
    let warm = || cache.warm_from(&file.0, 4, |key| async move { Ok::<_, Infallible>(key) });
    assert_eq!(warm().await.unwrap().loaded, 0);
    cache.insert(1, 1);
    cache.save_keys(&file.0, 10).await.unwrap();
    let whole = std::fs::read(&file.0).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&whole[..0], &whole[..7], &whole[..whole.len() - 1], &flipped, b"something else entirely"] {
        std::fs::write(&file.0, bytes).unwrap();
        let error = warm().await.unwrap_err();
        assert!(matches!(error, KeyFileError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("damaged"), "{error}");
    }
    let error = cache.save_keys("/nowhere/at/all", 10).await.unwrap_err();
    assert!(matches!(error, KeyFileError::Io { .. }) && error.to_string().contains("/nowhere/at/all"));
}

/// Sessions that read 1, 2, 3 and then something of their own.
async fn walk(
    reader: &perf_cache::Prefetcher<u64, u64, fn(u64) -> Answer>,
    session: u64,
    steps: impl IntoIterator<Item = u64>,
) {
    for key in steps {
        assert_eq!(*reader.get(session, &key).await.unwrap(), key * 2);
        time::sleep(MS(20)).await;
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;

fn answer(key: u64) -> Answer {
    Box::pin(double(key))
}

#[tokio::test(start_paused = true)]
async fn what_usually_comes_next_is_there_before_it_is_asked_for() {
    let cache = cache(&CacheSpace::in_process("t"), "a");
    let reader = cache.prefetcher(answer as fn(u64) -> Answer).unwrap();
    for session in 0..5 {
        walk(&reader, session, [1, 2, 3, 100 + session]).await;
        cache.clear().await;
    }
    let learned = reader.stats();
    let begun = time::now();
    assert_eq!(*reader.get(50, &1).await.unwrap(), 2);
    assert_eq!(begun.elapsed(), MS(5), "the first key is loaded");
    time::sleep(MS(20)).await;
    let begun = time::now();
    assert_eq!(*reader.get(50, &2).await.unwrap(), 4);
    assert_eq!(begun.elapsed(), Duration::ZERO, "the next one has been");
    let stats = reader.stats();
    assert!(stats.issued > learned.issued && stats.useful > learned.useful, "{stats:?}");
    assert!(stats.precision().unwrap() > 0.5, "{stats:?}");
    assert!(!cache.contains(&100) && !cache.contains(&104), "what differs each time is not guessed");
}

#[tokio::test(start_paused = true)]
async fn reads_without_a_pattern_are_not_prefetched_for() {
    let cache = cache(&CacheSpace::in_process("t"), "a");
    let reader = cache.prefetcher(answer as fn(u64) -> Answer).unwrap();
    let mut rng = Rng::seeded(9);
    for session in 0..200 {
        for _ in 0..10 {
            let key = rng.below(2000);
            assert_eq!(*reader.get(session, &key).await.unwrap(), key * 2);
        }
    }
    let stats = reader.stats();
    assert!(stats.issued < 20, "{stats:?}");
    assert!(stats.bytes <= PrefetchConfig::MEMORY as u64, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn prefetching_stays_within_its_places_and_gives_way_to_loads_somebody_waits_for() {
    let space = CacheSpace::in_process("t");
    let config = PrefetchConfig { max_loads: 1, confidence: 0.2, ..PrefetchConfig::default() };
    let cache: Cache<u64, u64> = space.cache("a").max_loads(2).prefetch(config).build().unwrap();
    let reader = cache.prefetcher(answer as fn(u64) -> Answer).unwrap();
    for session in 0..20 {
        walk(&reader, session, [1, 10 + session % 3]).await;
    }
    cache.clear().await;
    let before = reader.stats();
    walk(&reader, 99, [1]).await;
    let after = reader.stats();
    assert_eq!(after.issued - before.issued, 1, "three are likely, and one place is there");
    assert!(after.refused > before.refused);
    let error =
        space.cache::<u64, u64>("b").prefetch(PrefetchConfig { memory: 1, ..config_of(&cache) }).build();
    assert_eq!(error.unwrap_err().field(), "b.prefetch.memory");
}

fn config_of(cache: &Cache<u64, u64>) -> PrefetchConfig {
    cache.config().prefetch.clone()
}
