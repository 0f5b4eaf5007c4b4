use perf_cache::{Cache, CacheSpace, Entries, Freshness, LoadError, Loaded, Lookup};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn cache() -> Cache<u64, u32> {
    CacheSpace::in_process("t")
        .cache("a")
        .capacity(Entries(100))
        .jitter(0.0)
        .fresh(Duration::from_secs(60))
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn s15_many_callers_of_one_key_run_its_loader_once() {
    let cache = cache();
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let loader = move || async move {
                    time::sleep(MS(10)).await;
                    Ok::<_, Infallible>(loads.fetch_add(1, Ordering::Relaxed) + 7)
                };
                *cache.get_or_load(&1, loader).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!((cache.stats().joined, cache.stats().misses), (999, 1000));
}

#[tokio::test(start_paused = true)]
async fn s16_an_error_reaches_all_who_joined_and_is_not_remembered() {
    let cache = cache();
    let failing = || async {
        time::sleep(MS(5)).await;
        Err::<u32, _>(String::from("down"))
    };
    let (a, b) = tokio::join!(cache.get_or_load(&1, failing), cache.get_or_load(&1, failing));
    let (LoadError::Load(a), LoadError::Load(b)) = (a.unwrap_err(), b.unwrap_err()) else {
        panic!("both get the loader's own error")
    };
    assert!(Arc::ptr_eq(&a, &b) && *a == "down");
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, String>(1) }).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn s16_who_joined_with_another_error_type_gets_the_message() {
    let cache = cache();
    let slow = || async {
        time::sleep(MS(5)).await;
        Err::<u32, _>(String::from("down"))
    };
    let other = || async { Err::<u32, _>(std::io::Error::other("unused")) };
    let (_, joined) = tokio::join!(cache.get_or_load(&1, slow), cache.get_or_load(&1, other));
    assert!(matches!(joined.unwrap_err(), LoadError::Foreign(message) if &*message == "down"));
}

#[tokio::test(start_paused = true)]
async fn s17_a_panic_reaches_all_who_joined_and_the_key_is_loadable_at_once() {
    // With one place for loads: a panic that kept it would show in the next.
    let cache = CacheSpace::in_process("t").cache("a").capacity(Entries(100)).max_loads(1).build().unwrap();
    for (round, told) in ["no luck", "no hope", "a panic without a message"].into_iter().enumerate() {
        let panicking = move || async move {
            time::sleep(MS(5)).await;
            match round {
                0 => panic!("no {}", "luck"),
                1 => panic!("no hope"),
                _ => std::panic::panic_any(7_u8),
            }
            #[expect(unreachable_code, reason = "the type of the loader's result")]
            Ok::<u32, Infallible>(0)
        };
        let (a, b) = tokio::join!(cache.get_or_load(&1, panicking), cache.get_or_load(&1, panicking));
        for error in [a.unwrap_err(), b.unwrap_err()] {
            assert!(matches!(error, LoadError::Panicked(message) if &*message == told));
        }
        assert_eq!((cache.stats().panicked, cache.loading()), (round as u64 + 1, 0));
    }
    let at_once =
        cache.get_or_load(&1, || -> std::future::Ready<Result<u32, Infallible>> { panic!("at once") });
    assert!(matches!(at_once.await.unwrap_err(), LoadError::Panicked(message) if &*message == "at once"));
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, Infallible>(1) }).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn s18_callers_that_give_up_leave_one_load_that_still_stores_its_value() {
    let cache = cache();
    let loads = Arc::new(AtomicU32::new(0));
    for _ in 0..1000 {
        let count = Arc::clone(&loads);
        let call = cache.get_or_load(&1, move || async move {
            time::sleep(MS(20_000)).await;
            Ok::<_, Infallible>(count.fetch_add(1, Ordering::Relaxed))
        });
        assert!(time::timeout(MS(10), call).await.is_err());
    }
    time::sleep(MS(20_000)).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(cache.get(&1).as_deref(), Some(&0));
}

#[test]
fn s19_a_runtime_that_shuts_down_ends_the_wait_of_those_on_another() {
    let cache = cache();
    let loading = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let call = cache.clone();
    loading.spawn(async move {
        let _ = call.get_or_load(&1, std::future::pending::<Result<u32, Infallible>>).await;
    });
    while cache.loading() == 0 {
        std::thread::yield_now();
    }
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = waiting.block_on(async {
        let waiter = cache.get_or_load(&1, || async { Ok::<u32, Infallible>(1) });
        let end = async {
            tokio::task::yield_now().await;
            loading.shutdown_background();
        };
        tokio::join!(waiter, end).0.unwrap_err()
    });
    assert!(matches!(error, LoadError::Shutdown(_)), "{error}");
    assert_eq!(cache.loading(), 0);
}

#[test]
fn s19_a_load_asked_for_outside_any_runtime_is_refused() {
    use std::future::Future;
    let cache = cache();
    let mut call = Box::pin(cache.get_or_load(&1, || async { Ok::<u32, Infallible>(1) }));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.as_mut().poll(&mut context)));
    assert!(matches!(outcome, Ok(std::task::Poll::Ready(Err(LoadError::Shutdown(_))))));
}

#[tokio::test(start_paused = true)]
async fn s21_after_the_soft_timeout_the_stale_value_is_served_and_the_load_goes_on() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, u32> = space
        .cache("a")
        .capacity(Entries(10))
        .jitter(0.0)
        .fresh(Duration::from_secs(1))
        .stale_if_error(Duration::from_secs(100), |_: &Infallible| true)
        .timeouts(MS(50), MS(500))
        .build()
        .unwrap();
    cache.insert(1, 1);
    time::sleep(Duration::from_secs(2)).await;
    let slow = |value| {
        move || async move {
            time::sleep(MS(900)).await;
            Ok::<u32, Infallible>(value)
        }
    };
    let begun = time::now();
    let hit = cache.get_or_load(&1, slow(2)).await.unwrap();
    assert_eq!((*hit, hit.freshness(), begun.elapsed()), (1, &Freshness::StaleTimeout, MS(50)));
    let again = cache.get_or_load(&1, slow(3)).await.unwrap();
    assert_eq!((*again, cache.loading()), (1, 1), "no second load starts while the first one runs");
    time::sleep(MS(1000)).await;
    assert_eq!(cache.get(&1).as_deref(), Some(&2), "the late value is stored");
    // Without a stale value the soft timeout means nothing and the hard one everything.
    let begun = time::now();
    let error = cache.get_or_load(&2, slow(4)).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(begun.elapsed(), MS(500));
    assert_eq!(*cache.get_or_load(&2, slow(5)).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn s22_a_loader_that_asks_for_its_own_key_is_told_at_once() {
    let cache = cache();
    let (inner, outer) = (cache.clone(), cache.clone());
    let error = cache
        .get_or_load(&1, move || async move {
            let through = inner.clone();
            // Through a second key, so that the chain has two links.
            inner
                .get_or_load(&2, move || async move {
                    through.get_or_load(&1, || async { Ok::<u32, Infallible>(1) }).await.map(|hit| *hit)
                })
                .await
                .map(|hit| *hit)
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("asked for the key it is loading"), "{error}");
    assert_eq!(outer.loading(), 0);
}

#[tokio::test(start_paused = true)]
async fn s24_a_refresh_runs_once_in_the_background_and_a_miss_meanwhile_joins_it() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, u32> = space
        .cache("a")
        .capacity(Entries(10))
        .jitter(0.0)
        .fresh(MS(1000))
        .refresh(perf_cache::Refresh::Fraction(0.5))
        .build()
        .unwrap();
    cache.insert(1, 1);
    time::sleep(MS(600)).await;
    let slow = |value| {
        move || async move {
            time::sleep(MS(700)).await;
            Ok::<u32, Infallible>(value)
        }
    };
    let begun = time::now();
    for value in [2, 3] {
        let hit = cache.get_or_load(&1, slow(value)).await.unwrap();
        assert_eq!((*hit, hit.freshness()), (1, &Freshness::Fresh));
    }
    assert_eq!((begun.elapsed(), cache.stats().refreshes), (Duration::ZERO, 1));
    time::sleep(MS(500)).await;
    let joined = cache.get_or_load(&1, slow(4)).await.unwrap();
    assert_eq!((*joined, begun.elapsed()), (2, MS(700)));
}

#[tokio::test(start_paused = true)]
async fn s24_a_refresh_goes_on_whatever_becomes_of_those_who_wait_for_it() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, u32> = space
        .cache("a")
        .capacity(Entries(10))
        .jitter(0.0)
        .fresh(MS(1000))
        .refresh(perf_cache::Refresh::Fraction(0.5))
        .on_cancel(perf_cache::CancelPolicy::Abort)
        .build()
        .unwrap();
    cache.insert(1, 1);
    time::sleep(MS(600)).await;
    let slow = || async {
        time::sleep(MS(700)).await;
        Ok::<u32, Infallible>(2)
    };
    // The caller is gone as soon as it has its answer, which it has at once.
    assert_eq!(*time::timeout(Duration::ZERO, cache.get_or_load(&1, slow)).await.unwrap().unwrap(), 1);
    time::sleep(MS(500)).await;
    assert!(time::timeout(MS(50), cache.get_or_load(&1, slow)).await.is_err(), "a miss that gives up");
    assert_eq!((cache.loading(), cache.stats().joined), (1, 1));
    time::sleep(MS(200)).await;
    assert_eq!((cache.get(&1).as_deref(), cache.stats().loaded), (Some(&2), 1));
}

#[tokio::test(start_paused = true)]
async fn s26_a_life_of_zero_returns_the_value_and_evicts_what_was_there() {
    let cache = cache();
    cache.insert(1, 1);
    cache.insert_with(1, Loaded::new(2).fresh(Duration::ZERO));
    assert!(cache.get(&1).is_none());
    let hit = cache.get_or_load(&1, || async { Ok::<_, Infallible>(3) }).fresh(Duration::ZERO).await.unwrap();
    assert_eq!(*hit, 3);
    assert!(cache.get(&1).is_none());
    let hit = cache.get_or_load(&1, || async { Ok::<_, Infallible>(4) }).fresh(Duration::MAX).await.unwrap();
    assert_eq!(*hit, 4);
    time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(cache.get(&1).as_deref(), Some(&4));
}

#[tokio::test(start_paused = true)]
async fn s29_that_there_is_nothing_is_remembered_for_its_own_time() {
    let cache = cache();
    let find = |found: Option<u32>| move || async move { Ok::<_, Infallible>(found) };
    assert!(cache.find_or_load(&1, find(None)).await.unwrap().is_none());
    assert!(matches!(cache.lookup(&1), Lookup::Nothing));
    assert!(matches!(cache.lookup(&2), Lookup::Unknown));
    assert!(cache.find_or_load(&1, find(Some(1))).await.unwrap().is_none(), "remembered");
    let error = cache.get_or_load(&1, || async { Ok::<u32, Infallible>(1) }).await.unwrap_err();
    assert!(error.is_missing());
    time::sleep(Duration::from_secs(6)).await;
    assert_eq!(cache.find_or_load(&1, find(Some(2))).await.unwrap().as_deref(), Some(&2));
    assert_eq!(cache.stats().missing, 1);
}

#[tokio::test(start_paused = true)]
async fn s30_a_value_too_large_is_returned_and_counted_but_not_kept() {
    let cache: Cache<u64, Vec<u8>> = CacheSpace::in_process("t")
        .cache("a")
        .capacity(perf_cache::Bytes(1 << 20))
        .max_entry_bytes(1000)
        .weigher(|_, value: &Vec<u8>| value.len() as u64)
        .build()
        .unwrap();
    let load = |size: usize| move || async move { Ok::<_, Infallible>(vec![0; size]) };
    assert_eq!(cache.get_or_load(&1, load(2000)).await.unwrap().len(), 2000);
    assert_eq!((cache.get(&1).is_none(), cache.stats().oversized), (true, 1));
    assert_eq!(cache.get_or_load(&2, load(500)).await.unwrap().len(), 500);
    assert!(cache.get(&2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_value_keeps_its_bytes_and_gets_a_new_life() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, String> = space
        .cache("a")
        .capacity(Entries(10))
        .jitter(0.0)
        .fresh(MS(1000))
        .stale_if_error(Duration::from_secs(60), |_: &Infallible| true)
        .build()
        .unwrap();
    cache.insert_with(1, Loaded::new(String::from("v")).etag("e1"));
    time::sleep(MS(1500)).await;
    let hit = cache
        .load_with(&1, |context| async move {
            assert_eq!((context.stale_etag(), context.stale().map(String::as_str)), (Some("e1"), Some("v")));
            Ok::<_, Infallible>(Loaded::not_modified())
        })
        .await
        .unwrap();
    assert_eq!((hit.as_str(), hit.freshness(), hit.age()), ("v", &Freshness::Fresh, Duration::ZERO));
    time::sleep(MS(900)).await;
    assert!(cache.get(&1).is_some());
    let error =
        cache.load_with(&2, |_| async { Ok::<_, Infallible>(Loaded::not_modified()) }).await.unwrap_err();
    assert!(error.to_string().contains("no value to keep"));
}
