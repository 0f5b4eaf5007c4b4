//! How many loads run at once, and what becomes of loads nobody waits for.

use perf_cache::{
    Cache, CacheBuilder, CacheSpace, CancelPolicy, Entries, Freshness, LoadError, Refresh, WhenFull,
};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn builder(space: &CacheSpace, name: &str) -> CacheBuilder<u64, u64> {
    space.cache(name).capacity(Entries(1000)).jitter(0.0).fresh(MS(1000)).max_loads(2)
}

/// Counts loads that run at the same time.
#[derive(Clone, Default)]
struct Source {
    running: Arc<AtomicI32>,
    most: Arc<AtomicI32>,
    ended: Arc<AtomicU32>,
}

impl Source {
    fn load(&self, value: u64) -> impl FnOnce() -> futures::Load + Send + 'static {
        let source = self.clone();
        move || {
            Box::pin(async move {
                let now = source.running.fetch_add(1, Ordering::Relaxed) + 1;
                source.most.fetch_max(now, Ordering::Relaxed);
                let _running = Running(Arc::clone(&source.running));
                time::sleep(MS(10)).await;
                source.ended.fetch_add(1, Ordering::Relaxed);
                Ok(value)
            })
        }
    }
}

mod futures {
    use std::convert::Infallible;
    use std::pin::Pin;

    pub(super) type Load = Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;
}

struct Running(Arc<AtomicI32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn callers(
    cache: &Cache<u64, u64>,
    source: &Source,
    keys: std::ops::Range<u64>,
) -> Vec<tokio::task::JoinHandle<Result<u64, String>>> {
    keys.map(|key| {
        let (cache, load) = (cache.clone(), source.load(key));
        tokio::spawn(async move {
            cache.get_or_load(&key, load).await.map(|hit| *hit).map_err(|error| error.to_string())
        })
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn s23_more_loads_than_may_run_at_once_wait_for_their_turn() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").build().unwrap();
    let begun = time::now();
    for (key, caller) in callers(&cache, &source, 0..10).into_iter().enumerate() {
        assert_eq!(caller.await.unwrap(), Ok(key as u64));
    }
    assert_eq!((source.most.load(Ordering::Relaxed), begun.elapsed()), (2, MS(50)));
    assert_eq!(cache.stats().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn s23_a_load_that_waits_longer_than_its_callers_is_refused() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").timeouts(MS(5), MS(15)).build().unwrap();
    let ends: Vec<_> = callers(&cache, &source, 0..6).into_iter().collect();
    let mut given = 0;
    for end in ends {
        given += u32::from(end.await.unwrap().is_ok());
    }
    time::sleep(MS(100)).await;
    assert_eq!((given, source.ended.load(Ordering::Relaxed), cache.stats().refused), (2, 4, 2));
    assert_eq!(cache.loading(), 0);
}

#[tokio::test(start_paused = true)]
async fn s23_where_the_policy_is_to_shed_excess_loads_are_refused_at_once() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").when_full(WhenFull::Shed).build().unwrap();
    let running = callers(&cache, &source, 0..2);
    time::sleep(MS(1)).await;
    let begun = time::now();
    let error = cache.get_or_load(&5, source.load(5)).await.unwrap_err();
    assert!(matches!(error, LoadError::Overloaded(_)), "{error}");
    assert_eq!((begun.elapsed(), cache.stats().refused), (Duration::ZERO, 1));
    for caller in running {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(*cache.get_or_load(&5, source.load(5)).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn s23_a_shed_load_is_answered_with_what_is_left_of_an_older_value() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a")
        .when_full(WhenFull::Shed)
        .stale_if_error(Duration::from_secs(60), |_: &Infallible| true)
        .build()
        .unwrap();
    cache.insert(7, 70);
    time::sleep(MS(1500)).await;
    let _running = callers(&cache, &source, 0..2);
    time::sleep(MS(1)).await;
    let hit = cache.get_or_load(&7, source.load(7)).await.unwrap();
    assert!(matches!(hit.freshness(), Freshness::StaleError(_)) && *hit == 70);
    assert_eq!(cache.stats().stale_error, 1);
}

#[tokio::test(start_paused = true)]
async fn s23_refreshes_are_shed_first_and_leave_places_to_loads_somebody_waits_for() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").max_loads(8).refresh(Refresh::Fraction(0.5)).build().unwrap();
    (0..8).for_each(|key| cache.insert(key, key));
    time::sleep(MS(600)).await;
    for key in 0..8 {
        assert_eq!(*cache.get_or_load(&key, source.load(key)).await.unwrap(), key, "a hit all the same");
    }
    let stats = cache.stats();
    assert_eq!((stats.refreshes, stats.shed, stats.refused), (7, 1, 0), "one of eight places is left");
    let begun = time::now();
    assert_eq!(*cache.get_or_load(&100, source.load(100)).await.unwrap(), 100);
    assert_eq!(begun.elapsed(), MS(10), "the miss did not wait");
}

#[tokio::test(start_paused = true)]
async fn s23_the_limit_of_a_space_holds_for_all_its_caches_together() {
    let source = Source::default();
    let space = CacheSpace::builder("t").max_loads(3).build().await.unwrap();
    let (a, b) = (builder(&space, "a").build().unwrap(), builder(&space, "b").build().unwrap());
    let all: Vec<_> = callers(&a, &source, 0..5).into_iter().chain(callers(&b, &source, 0..5)).collect();
    for caller in all {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(source.most.load(Ordering::Relaxed), 3);
    let error = CacheSpace::builder("t").max_loads(0).build().await.unwrap_err();
    assert_eq!(error.field(), "max_loads");
}

#[tokio::test(start_paused = true)]
async fn s23_a_load_within_a_load_never_waits_for_the_place_of_the_outer_one() {
    let space = CacheSpace::in_process("t");
    let cache = builder(&space, "a").max_loads(1).build().unwrap();
    let inner = cache.clone();
    let outer = move || async move {
        inner.get_or_load(&2, || async { Ok::<u64, Infallible>(2) }).await.map(|hit| *hit + 1)
    };
    let begun = time::now();
    assert_eq!(*cache.get_or_load(&1, outer).await.unwrap(), 3);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn s18_with_abort_a_load_ends_when_its_last_caller_gives_up_and_not_before() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").on_cancel(CancelPolicy::Abort).build().unwrap();
    let mut waiting = callers(&cache, &source, 1..2);
    waiting.extend(callers(&cache, &source, 1..2));
    time::sleep(MS(2)).await;
    assert_eq!((cache.loading(), source.running.load(Ordering::Relaxed)), (1, 1));
    waiting[0].abort();
    time::sleep(MS(2)).await;
    assert_eq!(source.running.load(Ordering::Relaxed), 1, "the other caller keeps it");
    waiting[1].abort();
    time::sleep(MS(2)).await;
    assert_eq!((cache.loading(), source.running.load(Ordering::Relaxed)), (0, 0));
    assert_eq!((source.ended.load(Ordering::Relaxed), cache.stats().abandoned), (0, 1));
    assert_eq!(*cache.get_or_load(&1, source.load(5)).await.unwrap(), 5, "the key is loadable at once");
}

#[tokio::test(start_paused = true)]
async fn s18_a_caller_that_wants_the_value_later_keeps_an_abortable_load() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a").on_cancel(CancelPolicy::Abort).build().unwrap();
    let patient = cache.get_or_load(&1, source.load(1)).on_cancel(CancelPolicy::Detach);
    assert!(time::timeout(MS(2), patient).await.is_err());
    time::sleep(MS(20)).await;
    assert_eq!(cache.get(&1).as_deref(), Some(&1));
    let detached = builder(&space, "b").build().unwrap();
    let dear = detached.get_or_load(&1, source.load(1)).on_cancel(CancelPolicy::Abort);
    assert!(time::timeout(MS(2), dear).await.is_err());
    time::sleep(MS(20)).await;
    assert!(detached.get(&1).is_none(), "one call may say otherwise than its cache");
}

/// Callers come and go at random: whoever stays gets a value, and nobody is left behind.
#[tokio::test(start_paused = true)]
async fn s18_whoever_stays_gets_a_value_however_others_come_and_go() {
    let (space, source) = (CacheSpace::in_process("t"), Source::default());
    let cache = builder(&space, "a")
        .on_cancel(CancelPolicy::Abort)
        .fresh(Duration::ZERO)
        .max_loads(64)
        .build()
        .unwrap();
    let mut rng = perf_core::Rng::seeded(5);
    let mut tasks = Vec::new();
    for _ in 0..2000 {
        let (cache, load, key) = (cache.clone(), source.load(1), rng.below(3));
        let patience = (rng.below(2) == 0).then(|| MS(1 + rng.below(12)));
        tasks.push(tokio::spawn(async move {
            let call = cache.get_or_load(&key, load);
            match patience {
                Some(limit) => time::timeout(limit, call).await.map_or(true, |end| end.is_ok()),
                None => call.await.is_ok(),
            }
        }));
        if rng.below(4) == 0 {
            time::sleep(MS(1)).await;
        }
    }
    for task in tasks {
        assert!(task.await.unwrap());
    }
    time::sleep(MS(50)).await;
    assert_eq!((cache.loading(), source.running.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn a_limit_of_the_second_tier_that_is_none_is_refused_with_its_range() {
    for (limit, shown) in [(Duration::ZERO, "0"), (Duration::from_secs(3601), "3601s"), (Duration::MAX, "s")]
    {
        let said = CacheSpace::builder("shop").store_timeout(limit).build().await.unwrap_err().to_string();
        assert!(
            said.contains("store_timeout") && said.contains(shown) && said.contains("1ns to 1h"),
            "{said}"
        );
    }
    assert!(CacheSpace::builder("shop").store_timeout(Duration::from_secs(3600)).build().await.is_ok());
}
