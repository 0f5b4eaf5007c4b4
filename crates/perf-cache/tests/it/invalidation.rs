use perf_cache::{Cache, CacheSpace, Entries, Freshness, Loaded, Lookup, tag};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

fn cache(space: &CacheSpace, name: &str) -> Cache<u64, u32> {
    space.cache(name).capacity(Entries(100)).jitter(0.0).fresh(Duration::from_secs(60)).build().unwrap()
}

/// Starts a load that gives `value` when told to go on.
fn slow_load(
    cache: &Cache<u64, u32>,
    value: u32,
    loaded: impl FnOnce(u32) -> Loaded<u32> + Send + 'static,
) -> (tokio::task::JoinHandle<(u32, Freshness)>, Arc<Notify>) {
    let (cache, go) = (cache.clone(), Arc::new(Notify::new()));
    let wait = Arc::clone(&go);
    let task = tokio::spawn(async move {
        let hit = cache
            .load_with(&1, move |_| async move {
                wait.notified().await;
                Ok::<_, Infallible>(loaded(value))
            })
            .await
            .unwrap();
        (*hit, hit.freshness().clone())
    });
    (task, go)
}

#[tokio::test(start_paused = true)]
async fn s1_s4_a_load_overtaken_by_its_keys_invalidation_is_returned_but_never_stored() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let (first, go) = slow_load(&cache, 1, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    let (joined, _) = slow_load(&cache, 3, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    cache.invalidate(&1).await;
    let (second, go_second) = slow_load(&cache, 2, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), (1, Freshness::Superseded));
    assert_eq!(
        joined.await.unwrap(),
        (1, Freshness::Superseded),
        "who had joined before has its value as well"
    );
    assert!(cache.get(&1).is_none(), "the overtaken value is not visible");
    go_second.notify_one();
    assert_eq!(second.await.unwrap(), (2, Freshness::Fresh), "who came after started a flight of its own");
    assert_eq!(cache.get(&1).as_deref(), Some(&2));
    assert_eq!((cache.stats().superseded, cache.stats().loaded), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s2_a_tag_invalidated_during_the_load_counts_even_if_only_the_result_names_it() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let (first, go) = slow_load(&cache, 1, |value| Loaded::new(value).tag(tag!("org", 7)));
    time::sleep(Duration::from_millis(1)).await;
    space.invalidate_tags([tag!("org", 7)]).await;
    // This caller joins the flight before anyone can know its tags; it must not be given the old value.
    let (late, go_late) = slow_load(&cache, 2, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    go.notify_one();
    go_late.notify_one();
    assert_eq!(first.await.unwrap(), (1, Freshness::Superseded));
    assert_eq!(late.await.unwrap(), (2, Freshness::Fresh));
    assert_eq!(cache.get(&1).as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn s2_an_unrelated_tag_invalidated_during_the_load_changes_nothing() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let (first, go) = slow_load(&cache, 1, |value| Loaded::new(value).tag(tag!("org", 7)));
    time::sleep(Duration::from_millis(1)).await;
    space.invalidate_tags([tag!("org", 8)]).await;
    let (late, _) = slow_load(&cache, 2, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), (1, Freshness::Fresh));
    assert_eq!(late.await.unwrap(), (1, Freshness::Fresh), "one load serves both");
    assert_eq!(cache.stats().loaded, 1);
}

#[tokio::test(start_paused = true)]
async fn s3_a_load_overtaken_by_clear_is_never_stored() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    cache.insert(5, 5);
    let (first, go) = slow_load(&cache, 1, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    cache.clear().await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), (1, Freshness::Superseded));
    assert!(cache.get(&1).is_none() && cache.get(&5).is_none());
}

#[tokio::test(start_paused = true)]
async fn s1_a_value_put_in_during_a_load_is_not_overwritten_by_it() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let (first, go) = slow_load(&cache, 1, Loaded::new);
    time::sleep(Duration::from_millis(1)).await;
    cache.insert(1, 9);
    go.notify_one();
    assert_eq!(first.await.unwrap(), (1, Freshness::Superseded));
    assert_eq!(cache.get(&1).as_deref(), Some(&9));
}

#[tokio::test(start_paused = true)]
async fn s12_a_tag_reaches_only_entries_whose_latest_write_has_it() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    let (a, b) = (tag!("a"), tag!("b"));
    cache.insert_with(1, Loaded::new(1).tag(a));
    cache.insert_with(2, Loaded::new(2).tag(b));
    cache.insert_with(3, Loaded::new(3).tag(a));
    cache.insert(3, 30);
    space.invalidate_tags([a]).await;
    assert!(cache.get(&1).is_none());
    assert_eq!(cache.get(&2).as_deref(), Some(&2));
    assert_eq!(cache.get(&3).as_deref(), Some(&30), "the later write without tags dropped the tag");
}

#[tokio::test(start_paused = true)]
async fn s13_a_namespace_never_affects_one_that_it_prefixes() {
    let space = CacheSpace::in_process("t");
    let (users, other) = (cache(&space, "users"), cache(&space, "usersAbc"));
    users.insert(1, 1);
    other.insert(1, 2);
    users.clear().await;
    assert!(users.get(&1).is_none());
    assert_eq!(other.get(&1).as_deref(), Some(&2));
    assert!(space.cache::<u64, u32>("users").build().is_err(), "names are unique");
}

#[tokio::test(start_paused = true)]
async fn s14_every_way_of_reading_applies_the_same_fence() {
    for way in ["key", "expire", "tag", "clear"] {
        let space = CacheSpace::in_process("t");
        let cache = cache(&space, "a");
        let fill = || {
            cache.insert_with(1, Loaded::new(1).tag(tag!("a")));
            assert!(cache.contains(&1) && cache.get(&1).is_some());
        };
        let end = || match way {
            "key" => cache.invalidate(&1).detach(),
            "expire" => cache.expire(&1).detach(),
            "tag" => space.invalidate_tags([tag!("a")]).detach(),
            _ => cache.clear().detach(),
        };
        fill();
        end();
        assert!(!cache.contains(&1) && cache.get(&1).is_none(), "{way}");
        assert!(matches!(cache.lookup(&1), Lookup::Unknown), "{way}");
        assert!(cache.get_many(&[1])[0].is_none(), "{way}");
        assert!(cache.fetch(&1).await.is_none() && cache.fetch_many(&[1]).await[0].is_none(), "{way}");
        assert!(!cache.explain(&1).await.entry.is_some_and(|entry| entry.served), "{way}");
        assert_eq!(kept_keys(&cache).await, 0, "{way}: nor is it a key to warm up");
        let loads = Arc::new(AtomicU32::new(10));
        let next = || {
            let count = Arc::clone(&loads);
            move || async move { Ok::<_, Infallible>(count.fetch_add(1, Ordering::Relaxed)) }
        };
        assert_eq!(*cache.get_or_load(&1, next()).await.unwrap(), 10, "{way}");
        fill();
        end();
        let found = cache.find_or_load(&1, || async { Ok::<_, Infallible>(Some(11)) }).await;
        assert_eq!(found.unwrap().as_deref(), Some(&11), "{way}");
        fill();
        end();
        let twelve = |keys: Vec<u64>| async move {
            Ok::<_, Infallible>(keys.into_iter().map(|key| (key, 12)).collect::<Vec<_>>())
        };
        let many = cache.load_many(&[1], twelve).await.remove(0).unwrap();
        assert_eq!(many.as_deref(), Some(&12), "{way}");
        fill();
        end();
        let warmed = cache.warm([1], 1, |_| async { Ok::<_, Infallible>(13) }).await;
        assert_eq!((warmed.loaded, warmed.present, cache.get(&1).as_deref()), (1, 0, Some(&13)), "{way}");
    }
}

/// How many keys would be saved for the next run.
async fn kept_keys(cache: &Cache<u64, u32>) -> usize {
    let name = format!("perf-cache-{}-{:?}.keys", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    let kept = cache.save_keys(&path, 10).await.unwrap();
    std::fs::remove_file(path).unwrap();
    kept
}

#[tokio::test(start_paused = true)]
async fn s11_expire_keeps_the_value_for_failures_and_invalidate_does_not() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, u32> = space
        .cache("a")
        .capacity(Entries(10))
        .stale_if_error(Duration::from_secs(3600), |_: &String| true)
        .build()
        .unwrap();
    let failing = || async { Err::<u32, _>(String::from("down")) };
    cache.insert(1, 1);
    cache.expire(&1).await;
    assert!(cache.get(&1).is_none());
    let hit = cache.get_or_load(&1, failing).await.unwrap();
    assert_eq!((*hit, hit.freshness()), (1, &Freshness::StaleError("down".into())));
    cache.invalidate(&1).await;
    assert!(cache.get_or_load(&1, failing).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_collector_publishes_once_and_nothing_when_it_is_dropped() {
    let space = CacheSpace::in_process("t");
    let cache = cache(&space, "a");
    cache.insert_with(1, Loaded::new(1).tag(tag!("a")));
    cache.insert(2, 2);
    drop(space.collector().tag(tag!("a")).key(&cache, 2));
    assert!(cache.contains(&1) && cache.contains(&2));
    let receipt = space.collector().tag(tag!("a")).key(&cache, 2).publish().await;
    assert!(receipt.acked && !cache.contains(&1) && !cache.contains(&2));
}
