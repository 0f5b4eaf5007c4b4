//! Refreshes ahead of time, stale values meanwhile, and what loaders are offered.

use perf_cache::{Bytes, Cache, CacheBuilder, CacheSpace, Entries, Freshness, Loaded, Refresh, tag};
use perf_core::time;
use std::convert::Infallible;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn builder(space: &CacheSpace, name: &str) -> CacheBuilder<u64, u64> {
    space.cache(name).capacity(Entries(5000)).jitter(0.0).fresh(MS(10_000)).seed(3)
}

fn slow(
    value: u64,
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>> + Send {
    move || {
        Box::pin(async move {
            time::sleep(MS(100)).await;
            Ok(value)
        })
    }
}

async fn load(cache: &Cache<u64, u64>, keys: u64) {
    let calls: Vec<_> = (0..keys)
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { *cache.get_or_load(&key, slow(1)).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn s24_a_fixed_refresh_starts_so_long_after_the_load_and_not_before() {
    let cache = builder(&CacheSpace::in_process("t"), "a").refresh(Refresh::After(MS(3000))).build().unwrap();
    load(&cache, 1).await;
    time::sleep(MS(2900)).await;
    assert_eq!(*cache.get_or_load(&0, slow(2)).await.unwrap(), 1);
    assert_eq!(cache.stats().refreshes, 0);
    time::sleep(MS(101)).await;
    assert_eq!(*cache.get_or_load(&0, slow(2)).await.unwrap(), 1);
    assert_eq!(cache.stats().refreshes, 1);
    time::sleep(MS(101)).await;
    assert_eq!(cache.get(&0).as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn s24_xfetch_refreshes_early_as_often_as_its_formula_says() {
    // A load takes δ = 100 ms; so long before the end of the life, e⁻¹ of the keys are due, and e⁻³ three times as long.
    let space = CacheSpace::in_process("t");
    for (name, before_end, share) in [("a", 100, (-1.0_f64).exp()), ("b", 300, (-3.0_f64).exp())] {
        let cache = builder(&space, name).refresh(Refresh::xfetch(1.0)).max_loads(5000).build().unwrap();
        load(&cache, 2000).await;
        time::sleep(MS(10_000 - before_end)).await;
        for key in 0..2000 {
            assert_eq!(*cache.get_or_load(&key, slow(2)).await.unwrap(), 1);
        }
        let due = cache.stats().refreshes as f64 / 2000.0;
        assert!((due - share).abs() < 0.04, "{due} for {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_while_one_refresh_runs_and_never_beyond_its_window() {
    let cache = builder(&CacheSpace::in_process("t"), "a").stale_while_revalidate(MS(5000)).build().unwrap();
    load(&cache, 2).await;
    time::sleep(MS(10_001)).await;
    for _ in 0..3 {
        let hit = cache.get_or_load(&0, slow(2)).await.unwrap();
        assert_eq!((*hit, hit.freshness()), (1, &Freshness::Refreshing));
    }
    assert_eq!((cache.stats().refreshes, cache.stats().stale), (1, 3));
    assert!(cache.get(&0).is_none(), "a read without a loader gets no stale value");
    time::sleep(MS(101)).await;
    assert_eq!(cache.get(&0).as_deref(), Some(&2));
    time::sleep(MS(5000)).await;
    let begun = time::now();
    assert_eq!(*cache.get_or_load(&1, slow(3)).await.unwrap(), 3, "beyond the window it is loaded");
    assert_eq!(begun.elapsed(), MS(100));
}

fn failing(error: &'static str) -> impl AsyncLoader {
    move || std::future::ready(Err(String::from(error)))
}

/// A loader that fails at once.
trait AsyncLoader: FnOnce() -> std::future::Ready<Result<u32, String>> + Send + 'static {}
impl<F: FnOnce() -> std::future::Ready<Result<u32, String>> + Send + 'static> AsyncLoader for F {}

#[tokio::test(start_paused = true)]
async fn s20_an_error_within_the_window_is_answered_with_the_stale_value_and_says_so_until_the_next_attempt()
{
    let space = CacheSpace::in_process("t");
    // Lives are lengthened at random, up to twice as long; the wait for the next attempt is not.
    let cache: Cache<u64, u32> = space
        .cache("a")
        .capacity(Entries(10))
        .jitter(1.0)
        .fresh(MS(1000))
        .throttle(MS(3000))
        .stale_if_error(MS(100_000), |error: &String| error == "transient")
        .build()
        .unwrap();
    cache.insert(1, 1);
    time::sleep(MS(2_001)).await;
    let refused = cache.get_or_load(&1, failing("fatal")).await;
    assert!(refused.is_err(), "the predicate does not hold");
    assert!(cache.get(&1).is_none());
    let stale = (1, Freshness::StaleError("transient".into()));
    let hit = cache.get_or_load(&1, failing("transient")).await.unwrap();
    assert_eq!((*hit, hit.freshness().clone()), stale);
    let failed = cache.stats().failed;
    time::sleep(MS(2_999)).await;
    let hits = [
        cache.get_or_load(&1, failing("never asked")).await.unwrap(),
        cache.get(&1).unwrap(),
        cache.lookup(&1).hit().unwrap(),
        cache
            .load_many(&[1], |_| async { Err::<Vec<(u64, u32)>, _>("never") })
            .await
            .remove(0)
            .unwrap()
            .unwrap(),
    ];
    for hit in hits {
        assert_eq!((*hit, hit.freshness().clone()), stale, "a stale value is never silent");
    }
    assert_eq!(
        (cache.stats().failed, cache.stats().stale),
        (failed, 4),
        "until the throttle ends nothing is loaded"
    );
    time::sleep(MS(1)).await;
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, String>(2) }).await.unwrap(), 2, "then it is");
    assert_eq!(cache.get(&1).unwrap().freshness(), &Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn s20_no_failure_extends_a_life_beyond_its_window() {
    let space = CacheSpace::in_process("t");
    let builder =
        |name| space.cache(name).capacity(Entries(10)).jitter(0.0).fresh(MS(1000)).throttle(MS(5000));
    let cache: Cache<u64, u32> = builder("a").stale_if_error(MS(10_000), |_: &String| true).build().unwrap();
    cache.insert(1, 1);
    time::sleep(MS(10_000)).await;
    assert_eq!(*cache.get_or_load(&1, failing("down")).await.unwrap(), 1);
    time::sleep(MS(999)).await;
    assert_eq!(cache.get(&1).as_deref(), Some(&1));
    time::sleep(MS(1)).await;
    assert!(cache.get(&1).is_none() && cache.get_or_load(&1, failing("down")).await.is_err());
    // Without a window a refresh that fails shortly before the end leaves the end where it is.
    let bare: Cache<u64, u32> = builder("b").refresh(Refresh::Fraction(0.5)).build().unwrap();
    bare.insert(1, 1);
    time::sleep(MS(990)).await;
    assert_eq!(*bare.get_or_load(&1, failing("down")).await.unwrap(), 1);
    time::sleep(MS(9)).await;
    assert_eq!((bare.stats().failed, bare.get(&1).as_deref()), (1, Some(&1)));
    time::sleep(MS(1)).await;
    assert!(bare.get(&1).is_none() && bare.get_or_load(&1, failing("down")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn s21_a_late_error_is_only_counted() {
    let cache = builder(&CacheSpace::in_process("t"), "a")
        .stale_if_error(MS(60_000), |_: &String| true)
        .timeouts(MS(10), MS(1000))
        .build()
        .unwrap();
    load(&cache, 1).await;
    time::sleep(MS(10_001)).await;
    let failing = || async {
        time::sleep(MS(100)).await;
        Err::<u64, _>(String::from("down"))
    };
    let hit = cache.get_or_load(&0, failing).await.unwrap();
    assert_eq!((*hit, hit.freshness()), (1, &Freshness::StaleTimeout));
    time::sleep(MS(100)).await;
    assert_eq!((cache.stats().failed, cache.stats().stale_timeout, cache.stats().failing), (1, 1, 1));
    assert_eq!(*cache.get_or_load(&0, failing).await.unwrap(), 1, "the stale value is there still");
}

async fn base_after(cache: &Cache<u64, u64>, invalidate: impl AsyncFnOnce()) -> Option<u64> {
    cache.insert_with(1, Loaded::new(7).tag(tag!("a")).etag("v1"));
    invalidate().await;
    let (tell, told) = std::sync::mpsc::channel();
    let hit = cache
        .load_with(&1, move |context| async move {
            let base = context.stale().copied();
            let _ = tell.send(base);
            Ok::<_, Infallible>(if base.is_some() { Loaded::not_modified() } else { Loaded::new(8) })
        })
        .await
        .unwrap();
    assert_eq!(cache.get(&1).as_deref(), Some(&*hit), "what was confirmed or loaded is served from now on");
    told.recv().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s11_an_invalidated_value_is_a_base_for_not_modified_only_where_that_is_allowed() {
    let space = CacheSpace::in_process("t");
    let strict = builder(&space, "strict").build().unwrap();
    let lenient = builder(&space, "lenient").allow_invalidated_base(true).build().unwrap();
    let tagged = async || space.invalidate_tags([tag!("a")]).detach();
    assert_eq!(base_after(&strict, tagged).await, None);
    assert_eq!(base_after(&lenient, tagged).await, Some(7));
    assert_eq!(base_after(&strict, async || strict.invalidate(&1).detach()).await, None);
    assert_eq!(base_after(&lenient, async || lenient.invalidate(&1).detach()).await, None, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_chooses_life_and_tags_may_also_find_nothing() {
    let cache = builder(&CacheSpace::in_process("t"), "a").build().unwrap();
    let nothing = cache.find_with(&1, |_| async { Ok::<_, Infallible>(Loaded::nothing().fresh(MS(50))) });
    assert!(nothing.await.unwrap().is_none());
    let found = || cache.find_with(&1, |_| async { Ok::<_, Infallible>(Loaded::new(5)) });
    assert!(found().await.unwrap().is_none());
    time::sleep(MS(51)).await;
    assert_eq!(found().await.unwrap().as_deref(), Some(&5));
}

#[tokio::test(start_paused = true)]
async fn s30_a_weigher_that_says_nothing_or_everything_does_no_harm() {
    let space = CacheSpace::in_process("t");
    let weighing = |name: &str, weight: u64| -> Cache<u64, u64> {
        space.cache(name).capacity(Bytes(1 << 20)).weigher(move |_, _| weight).build().unwrap()
    };
    let (light, heavy) = (weighing("light", 0), weighing("heavy", u64::MAX));
    for key in 0..20_000 {
        light.insert(key, key);
        heavy.insert(key, key);
    }
    let stats = light.stats();
    assert!(stats.entries > 0 && stats.weight <= 1 << 20, "{stats:?}");
    assert_eq!((heavy.stats().entries, heavy.stats().oversized), (0, 20_000));
    assert_eq!(*heavy.get_or_load(&1, slow(9)).await.unwrap(), 9);
}
