//! Making connections: statements 7 to 10.

use crate::accounts::assert_full_capacity;
use crate::fake::{Act, Fake, FakeError, ms, settle};
use perf_core::time;
use perf_pool::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Statement 7, and the "impatient callers" row: connecting takes 300 ms, callers give up after 200 ms.
#[tokio::test(start_paused = true)]
async fn impatient_callers_are_served_by_the_connect_their_predecessor_started() {
    let pool = Pool::builder(Fake::new().slow(ms(300))).max(4).build().unwrap();
    let mut served = 0;
    for _ in 0..10 {
        served += u32::from(matches!(time::timeout(ms(200), pool.acquire()).await, Ok(Ok(_))));
    }
    assert_eq!((served, pool.manager().connects()), (9, 1));
}

/// Statement 7.
#[tokio::test(start_paused = true)]
async fn a_connect_that_outlives_the_pool_is_not_kept() {
    let fake = Fake::new().slow(ms(100));
    let pool = Pool::builder(fake.clone()).min_idle(2).build().unwrap();
    settle().await;
    assert_eq!(pool.stats().connecting, 2);
    pool.close().await;
    time::sleep(ms(200)).await;
    assert_eq!((fake.alive(), pool.stats().size), (0, 0));
}

/// Statement 7: two are being made when the pool shrinks to one. Nobody stops them; the second is one too many.
#[tokio::test(start_paused = true)]
async fn a_connect_that_ends_after_the_pool_has_shrunk_is_closed() {
    let fake = Fake::new().slow(ms(100));
    let pool = Pool::builder(fake.clone()).max(2).min_idle(2).build().unwrap();
    let mut waiting = Box::pin(pool.acquire());
    tokio::select! {
        _ = &mut waiting => panic!("connecting takes longer"),
        () = time::sleep(ms(50)) => pool.resize(1).unwrap(),
    }
    assert_eq!(pool.stats().connecting, 2);
    let lease = waiting.await.unwrap();
    settle().await;
    assert_eq!((pool.stats().connected, pool.stats().closed_surplus), (2, 1));
    assert_eq!((pool.stats().size, fake.alive()), (1, 1));
    drop(lease);
    assert_full_capacity(&pool).await;
}

/// Statement 7: a connect under way when everything is evicted belongs to the old generation.
#[tokio::test(start_paused = true)]
async fn a_connect_begun_before_an_eviction_is_not_used() {
    let fake = Fake::new().slow(ms(100));
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    let mut waiting = Box::pin(pool.acquire());
    tokio::select! {
        _ = &mut waiting => panic!("connecting takes longer"),
        () = time::sleep(ms(50)) => pool.evict_all(),
    }
    assert_eq!(waiting.await.unwrap().id, 2);
    assert_eq!(pool.stats().closed_evicted, 1);
}

/// Statement 8.
#[tokio::test(start_paused = true)]
async fn at_most_max_connecting_attempts_are_under_way() {
    let pool = Pool::builder(Fake::new().slow(ms(100))).max(10).max_connecting(2).build().unwrap();
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _lease = pool.acquire().await.unwrap();
                time::sleep(ms(10_000)).await;
            })
        })
        .collect();
    let mut most = 0;
    for _ in 0..100 {
        time::sleep(ms(7)).await;
        assert!(pool.stats().connecting <= 2, "{:?}", pool.stats());
        most = most.max(pool.stats().connecting);
    }
    assert_eq!(most, 2);
    drop(callers);
}

/// Statement 8: the backoff is the pool's, not each waiter's; one success ends it.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_few_attempts_however_many_wait_and_ends_within_one_step() {
    let fake = Fake::new();
    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake.clone()).max(10).retry_base(ms(100)).retry_cap(ms(1000)).build().unwrap();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    time::sleep(ms(10_000)).await;
    assert!(fake.connects() <= 60, "{} attempts in ten seconds", fake.connects());
    assert_eq!(pool.stats().waiting, 50);
    fake.set_connect(Act::Ok);
    let back = time::now();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert!(back.elapsed() <= ms(1100), "{:?}", back.elapsed());
    // One success resets the backoff: the next outage begins with short waits again, 0 to 100 and 0 to 200 ms.
    fake.set_connect(Act::Fail);
    pool.evict_all();
    let before = fake.connects();
    let _ = pool.acquire_until(perf_core::Deadline::within(ms(310))).await.unwrap_err();
    assert!(fake.connects() - before >= 3, "{} attempts", fake.connects() - before);
}

/// The attempt that failed was for a caller who was refused; the next is made for whoever comes then, and not only when
/// the pool looks round.
#[tokio::test(start_paused = true)]
async fn a_caller_who_comes_between_two_attempts_is_served_by_the_next() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).acquire_timeout(ms(100)).seed(1).build().unwrap();
    fake.set_connect(Act::Refuse);
    assert!(pool.acquire().await.is_err());
    fake.set_connect(Act::Ok);
    let began = time::now();
    drop(pool.acquire().await.unwrap());
    assert!(began.elapsed() <= ms(51), "one backoff step: {:?}", began.elapsed());
}

/// Statement 8: pausing stops what is under way.
#[tokio::test(start_paused = true)]
async fn a_pause_cancels_attempts_and_resume_starts_them_again() {
    let pool = Pool::builder(Fake::new().slow(ms(100))).min_idle(1).build().unwrap();
    settle().await;
    assert_eq!(pool.stats().connecting, 1);
    pool.pause();
    settle().await;
    assert_eq!((pool.stats().connecting, pool.stats().size), (0, 0));
    pool.resume();
    time::sleep(ms(150)).await;
    assert_eq!(pool.stats().idle, 1);
}

/// Statement 9 and the "spike" row: connecting takes 150 ms, a query 2 ms; five connections serve fifty callers in 20 ms.
#[tokio::test(start_paused = true)]
async fn a_spike_is_served_by_the_connections_there_are() {
    let pool = Pool::builder(Fake::new().slow(ms(150))).min_idle(5).max(50).build().unwrap();
    pool.warm_up().await.unwrap();
    let start = time::now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _lease = pool.acquire().await.unwrap();
                time::sleep(ms(2)).await;
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(start.elapsed() <= ms(21), "{:?}", start.elapsed());
    time::sleep(ms(1000)).await;
    assert_eq!((pool.stats().size, pool.manager().connects()), (5, 5));
}

/// Statement 9: decided again at completion. A lease comes back before the connect that was begun for a waiter has ended;
/// what is one more than needed is kept, as there may be as many, and pruned when nobody has used it for long.
#[tokio::test(start_paused = true)]
async fn a_connection_nobody_needs_any_more_is_kept_and_pruned_later() {
    let fake = Fake::new().slow(ms(100));
    let pool = Pool::builder(fake.clone()).max(2).idle_timeout(ms(60_000)).build().unwrap();
    let held = pool.acquire().await.unwrap();
    time::sleep(ms(150)).await;
    let mut waiting = Box::pin(pool.acquire());
    tokio::select! {
        _ = &mut waiting => panic!("the only connection is held"),
        () = time::sleep(ms(50)) => drop(held),
    }
    assert_eq!(waiting.await.unwrap().id, 1, "served by the return");
    assert_eq!((pool.stats().connecting, pool.stats().idle), (1, 1), "nobody needs the second any more");
    time::sleep(ms(60)).await;
    assert_eq!((fake.connects(), pool.stats().idle, pool.stats().closed()), (2, 2, 0), "and yet it is kept");
    for _ in 0..120 {
        time::sleep(ms(500)).await;
        drop(pool.acquire().await.unwrap());
    }
    time::sleep(ms(2_000)).await;
    assert_eq!((pool.stats().closed_idle, pool.stats().idle, fake.connects()), (1, 1, 2), "and pruned");
}

/// Statement 9: elision is no refusal to grow; leases that are held long make connecting worth it.
#[tokio::test(start_paused = true)]
async fn the_pool_grows_when_the_queue_outlasts_a_connect() {
    let pool = Pool::builder(Fake::new().slow(ms(20))).min_idle(1).max(4).build().unwrap();
    pool.warm_up().await.unwrap();
    let start = time::now();
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.acquire().await.unwrap());
    }
    assert!(start.elapsed() <= ms(200), "{:?}", start.elapsed());
    assert_eq!(pool.stats().leased, 4);
}

/// Statement 10.
#[tokio::test(start_paused = true)]
async fn connecting_is_bounded_by_its_own_timeout() {
    let fake = Fake::new();
    fake.set_connect(Act::Hang);
    let pool =
        Pool::builder(fake.clone()).connect_timeout(ms(100)).acquire_timeout(ms(1000)).build().unwrap();
    let error = pool.acquire().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "connecting took longer than 100ms");
    assert!(fake.connects() > 1);
}

/// Statement 10: the hook has no more time than what is left of `connect_timeout`, and none of the caller's.
#[tokio::test(start_paused = true)]
async fn a_setup_that_hangs_is_cut_off_by_the_connect_timeout() {
    let fake = Fake::new().slow(ms(60));
    fake.set_setup(Act::Hang);
    let pool =
        fake.pool().connect_timeout(ms(100)).acquire_timeout(ms(5000)).retry_cap(ms(50)).build().unwrap();
    let mut waiting = Box::pin(pool.acquire());
    assert!(time::timeout(ms(99), &mut waiting).await.is_err());
    assert_eq!((pool.stats().connect_failed, fake.alive()), (0, 1));
    assert!(time::timeout(ms(2), &mut waiting).await.is_err());
    assert_eq!((pool.stats().connect_failed, fake.alive()), (1, 0), "after 100 ms in all");
    fake.set_setup(Act::Ok);
    drop(waiting.await.unwrap());
}

/// Statement 10: the hook runs once for each connection, and a connection it refuses is not used.
#[tokio::test(start_paused = true)]
async fn setup_runs_once_per_connection_within_the_connect_timeout() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    let pool = Pool::builder(Fake::new())
        .max(1)
        .retry_base(ms(1))
        .setup(move |connection| {
            let first = seen.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                assert!(connection.id > 0);
                if first { Err(FakeError::Unreachable) } else { Ok(()) }
            })
        })
        .build()
        .unwrap();
    assert_eq!(pool.acquire().await.unwrap().id, 2);
    assert_eq!(pool.acquire().await.unwrap().id, 2);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_full_capacity(&pool).await;
}
