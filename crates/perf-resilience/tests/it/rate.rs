use perf_core::time::{self, Duration};
use perf_core::{Deadline, Reason};
use perf_resilience::rate::{Quota, RateBuilder, RateLimit, per_second};
use std::sync::{Arc, Mutex};

const MS: Duration = Duration::from_millis(1);

fn limit(quota: Quota) -> RateLimit {
    RateLimit::builder("r").quota(quota).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a01_permits_come_evenly_after_the_burst() {
    let limit = limit(per_second(10).burst(3));
    let now = |limit: &RateLimit| (0..20).take_while(|_| limit.try_acquire().is_ok()).count();
    assert_eq!(now(&limit), 3);
    time::sleep(MS * 99).await;
    assert_eq!(now(&limit), 0);
    time::sleep(MS).await;
    assert_eq!(now(&limit), 1);
    time::sleep(MS * 10_000).await;
    assert_eq!(now(&limit), 3, "a pause saves up a burst and no more");
}

#[tokio::test(start_paused = true)]
async fn a02_more_than_a_burst_is_refused_at_once_and_for_good() {
    let limit = limit(per_second(10).burst(3));
    let refused = limit.acquire_many(4, Deadline::NEVER).await.unwrap_err();
    assert_eq!((refused.reason(), refused.retry_hint()), (Reason::RateLimited, None));
    assert_eq!(refused.decided_by().unwrap().limit, 3.0);
}

#[tokio::test(start_paused = true)]
async fn a03_a_dropped_reservation_is_given_back_if_it_was_the_last() {
    let limit = limit(per_second(10));
    limit.try_acquire().unwrap();
    let first = limit.reserve(1, Deadline::NEVER).unwrap();
    let second = limit.reserve(1, Deadline::NEVER).unwrap();
    assert_eq!(second.at() - first.at(), MS * 100);
    let turn = second.at();
    drop(second);
    let again = limit.reserve(1, Deadline::NEVER).unwrap();
    assert_eq!((again.at(), limit.stats().lost), (turn, 0));
    drop(first);
    assert_eq!(limit.stats().lost, 1, "a later turn had been given");
}

#[tokio::test(start_paused = true)]
async fn a04_turns_come_in_the_order_they_were_asked_for() {
    let limit = RateLimit::builder("r").quota(per_second(100)).max_wait(MS * 10_000).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let start = time::now();
    let tasks: Vec<_> = (0..10_u32)
        .map(|number| {
            let (limit, order) = (limit.clone(), order.clone());
            tokio::spawn(async move {
                limit.acquire(Deadline::NEVER).await.unwrap();
                order.lock().unwrap().push((number, time::now() - start));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<_> = (0..10).map(|number| (number, MS * 10 * number)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a04_several_permits_wait_until_the_last_of_them_is_due() {
    // governor, future.rs: pauses_n, proceeds_n; direct.rs: never_allows_more_than_capacity_all, consume_borrow_from_future.
    let limit = limit(per_second(10).burst(10));
    let start = time::now();
    limit.acquire_many(6, Deadline::NEVER).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    limit.acquire_many(5, Deadline::NEVER).await.unwrap();
    assert_eq!(start.elapsed(), MS * 100);
    // What is reserved beyond the burst has to be paid off before anything is free.
    limit.reserve(10, Deadline::NEVER).unwrap().take();
    assert!(limit.try_acquire().is_err());
    time::sleep(MS * 1000).await;
    assert!(limit.try_acquire().is_err(), "the ten are paid off, and their place is used up");
    time::sleep(MS * 100).await;
    assert!(limit.try_acquire().is_ok() && limit.try_acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn a05_a_refused_request_takes_nothing() {
    let limit = limit(per_second(10));
    limit.try_acquire().unwrap();
    for _ in 0..1000 {
        assert!(limit.try_acquire().is_err());
        assert!(limit.acquire(Deadline::within(MS * 50)).await.is_err());
    }
    time::sleep(MS * 100).await;
    limit.try_acquire().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a06_a_change_of_rate_keeps_turns_already_given() {
    let limit = RateLimit::builder("r").quota(per_second(1)).max_wait(MS * 10_000).build().unwrap();
    limit.try_acquire().unwrap();
    let given = limit.reserve(1, Deadline::NEVER).unwrap();
    let at = given.at();
    limit.change(per_second(100)).unwrap();
    assert_eq!(given.at(), at);
    let next = limit.reserve(1, Deadline::NEVER).unwrap();
    assert!(next.at() > at && next.at() - at <= MS * 1000);
    assert_eq!(limit.change(per_second(0)).unwrap_err().field(), "permits");
}

#[tokio::test(start_paused = true)]
async fn a07_keys_do_not_share_and_their_number_is_bounded() {
    let limit = RateLimit::builder("r").quota(per_second(1)).max_keys(64).build_keyed::<u64>().unwrap();
    for key in 0..10_000 {
        let first = limit.try_acquire(&key).is_ok();
        assert!(first || limit.overflowed() > 0, "only keys without a place share a limit");
    }
    assert!(limit.len() <= 64, "{}", limit.len());
    assert!(limit.try_acquire(&0).is_err(), "inventing keys makes nobody forget what was spent");
    time::sleep(MS * 1000).await;
    assert!(limit.try_acquire(&20_000).is_ok(), "keys that have their burst again make room");
    assert!(limit.try_acquire(&20_000).is_err());
}

#[test]
fn a09_threads_that_ask_at_once_get_the_burst_and_no_more() {
    let hourly = Quota { permits: 1, per: Duration::from_secs(3600), burst: 1000 };
    let (limit, admitted) = (limit(hourly), std::sync::atomic::AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mine = (0..1000).filter(|_| limit.try_acquire().is_ok()).count() as u32;
                admitted.fetch_add(mine, std::sync::atomic::Ordering::Relaxed);
            });
        }
    });
    assert_eq!((admitted.into_inner(), limit.stats().admitted, limit.stats().refused), (1000, 1000, 3000));
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_its_bounds_is_refused_at_once() {
    let limit = RateLimit::builder("r").quota(per_second(1)).max_wait(MS * 1500).build().unwrap();
    limit.try_acquire().unwrap();
    let start = time::now();
    let soon = Deadline::within(MS * 900);
    let refused = limit.acquire(soon).await.unwrap_err();
    assert_eq!(refused.retry_hint(), Some(MS * 1000));
    assert_eq!(start.elapsed(), Duration::ZERO);
    limit.acquire(Deadline::NEVER).await.unwrap();
    assert_eq!(start.elapsed(), MS * 1000);
}

#[test]
fn impossible_settings_are_named() {
    let field = |quota: Quota| RateLimit::builder("r").quota(quota).build().unwrap_err().field().to_owned();
    assert_eq!(field(per_second(0)), "quota.permits");
    assert_eq!(field(per_second(1).burst(0)), "quota.burst");
    assert_eq!(field(Quota { permits: 5, per: Duration::from_nanos(4), burst: 1 }), "quota.per");
    assert_eq!(field(Quota { permits: 5, per: Duration::MAX, burst: 1 }), "quota.per");
    let keys: RateBuilder = RateLimit::builder("r").max_keys(0);
    assert_eq!(keys.build_keyed::<u8>().unwrap_err().field(), "max_keys");
}
