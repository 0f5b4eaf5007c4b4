//! Running a pool: statements 22 to 26.

use crate::accounts::{assert_balanced, assert_full_capacity};
use crate::fake::{Act, Fake, ms, settle};
use perf_core::{Reason, time};
use perf_pool::{Error, Pool, PoolEvent};
use std::pin::pin;
use std::sync::{Arc, Mutex};

/// Statement 22.
#[tokio::test(start_paused = true)]
async fn closing_refuses_at_once_and_reports_who_did_not_return() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(2).drain_timeout(ms(500)).build().unwrap();
    let (stays, leaves) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    settle().await;
    let closing = tokio::spawn(pool.close());
    assert!(waiting.await.unwrap().unwrap_err().is_closed());
    assert!(pool.acquire().await.unwrap_err().is_closed());
    assert_eq!(pool.try_acquire().unwrap_err().rejected().unwrap().reason(), Reason::Closed);
    drop(leaves);
    let start = time::now();
    let report = closing.await.unwrap();
    assert_eq!(start.elapsed(), ms(500));
    assert_eq!(report.unreturned.len(), 1);
    assert!(report.unreturned[0].site.file().ends_with("admin.rs"));
    drop(stays);
    settle().await;
    assert_eq!((pool.stats().size, fake.alive()), (0, 0));
}

/// Statement 22: more than once, at the same time, and dropped half-way.
#[tokio::test(start_paused = true)]
async fn closing_may_be_repeated_shared_and_dropped() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).min_idle(3).build().unwrap();
    pool.warm_up().await.unwrap();
    let held = pool.acquire().await.unwrap();
    drop(pool.close());
    assert!(pool.is_closed());
    let (first, second) = (tokio::spawn(pool.close()), tokio::spawn(pool.close()));
    settle().await;
    drop(held);
    assert_eq!(first.await.unwrap().unreturned, []);
    assert_eq!(second.await.unwrap().unreturned, []);
    assert_eq!(pool.close().await.unreturned, []);
    assert_eq!((pool.stats().closed_shutdown, fake.alive()), (3, 0));
}

/// Statement 22: a good-bye that hangs does not hold up the end.
#[tokio::test(start_paused = true)]
async fn a_good_bye_that_hangs_is_cut_off() {
    let fake = Fake::new();
    fake.set_close(Act::Hang);
    let pool = Pool::builder(fake.clone()).min_idle(2).close_timeout(ms(300)).build().unwrap();
    pool.warm_up().await.unwrap();
    let start = time::now();
    assert_eq!(pool.close().await.unreturned, []);
    assert_eq!((start.elapsed(), fake.alive()), (ms(300), 0));
}

/// Statement 23.
#[tokio::test(start_paused = true)]
async fn the_last_handle_closes_the_pool_and_its_task_ends() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).min_idle(2).build().unwrap();
    pool.warm_up().await.unwrap();
    let (other, lease) = (pool.clone(), pool.acquire().await.unwrap());
    drop(pool);
    settle().await;
    assert_eq!(fake.alive(), 2, "another handle is left");
    drop(other);
    settle().await;
    assert_eq!(fake.alive(), 1, "the lease outlives the pool");
    drop(lease);
    settle().await;
    assert_eq!(fake.alive(), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(Arc::strong_count(&fake.0), 1, "nothing of the pool is left");
}

/// Statement 24, with deadpool's cases: down while everything is leased, down to fewer than idle, and up again.
#[tokio::test(start_paused = true)]
async fn shrinking_never_takes_a_lease_and_growing_serves_waiters() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(4).build().unwrap();
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.acquire().await.unwrap());
    }
    pool.resize(1).unwrap();
    assert_eq!(pool.stats().leased, 4);
    while let Some(lease) = leases.pop() {
        drop(lease);
        settle().await;
    }
    assert_eq!((pool.stats().size, pool.stats().closed_surplus), (1, 3));
    let _held = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap().id }
    });
    settle().await;
    pool.resize(2).unwrap();
    assert_eq!(waiting.await.unwrap(), 5);
    assert_eq!(pool.resize(0).unwrap_err().field(), "max");
    assert_balanced(&pool);
}

/// Statement 24: idle connections above the new limit go at once.
#[tokio::test(start_paused = true)]
async fn shrinking_closes_idle_connections_above_the_limit() {
    let pool = Pool::builder(Fake::new()).max(5).min_idle(5).build().unwrap();
    pool.warm_up().await.unwrap();
    pool.resize(2).unwrap();
    settle().await;
    assert_eq!((pool.stats().size, pool.config().min_idle), (2, 2));
    assert_full_capacity(&pool).await;
}

/// Statement 25.
#[tokio::test(start_paused = true)]
async fn a_paused_pool_holds_callers_while_their_deadlines_run() {
    let pool = Pool::builder(Fake::new()).max(1).acquire_timeout(ms(100)).build().unwrap();
    drop(pool.acquire().await.unwrap());
    pool.pause();
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(&error, Error::Paused { waited, .. } if *waited == ms(100)), "{error:?}");
    assert_eq!(error.rejected().unwrap().reason(), Reason::Paused);
    let mut waiting = pin!(pool.acquire());
    tokio::select! {
        _ = &mut waiting => panic!("the pool is paused"),
        () = time::sleep(ms(50)) => pool.resume(),
    }
    assert_eq!(waiting.await.unwrap().id, 1);
}

/// Statement 25.
#[tokio::test(start_paused = true)]
async fn eviction_reaches_idle_connections_now_and_leases_when_they_return() {
    let pool = Pool::builder(Fake::new()).max(3).min_idle(2).build().unwrap();
    pool.warm_up().await.unwrap();
    let held = pool.acquire().await.unwrap();
    pool.evict_all();
    drop(held);
    settle().await;
    assert_eq!(pool.stats().closed_evicted, 2);
    assert_eq!(pool.stats().idle, 2, "min_idle is filled again");
    assert!(pool.acquire().await.unwrap().id > 2);
}

/// Statement 26.
#[tokio::test(start_paused = true)]
async fn warming_up_reaches_min_idle_or_says_why_not() {
    let fake = Fake::new().slow(ms(100));
    let pool = Pool::builder(fake.clone()).min_idle(4).build().unwrap();
    let start = time::now();
    pool.warm_up().await.unwrap();
    assert_eq!((pool.stats().idle, start.elapsed()), (4, ms(200)), "two at a time");

    let fake = Fake::new();
    fake.set_connect(Act::Refuse);
    let pool = Pool::builder(fake.clone()).min_idle(1).build().unwrap();
    assert!(matches!(pool.warm_up().await.unwrap_err(), Error::Connecting { attempts: 1, .. }));

    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake).min_idle(1).warmup_timeout(ms(700)).build().unwrap();
    let start = time::now();
    assert!(pool.warm_up().await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), ms(700));
}

/// Statement 26: without `min_idle` nothing is connected before somebody asks.
#[tokio::test(start_paused = true)]
async fn a_pool_without_min_idle_starts_lazily() {
    let pool = Pool::builder(Fake::new()).build().unwrap();
    time::sleep(ms(5000)).await;
    pool.warm_up().await.unwrap();
    assert_eq!(pool.manager().connects(), 0);
}

/// Idea 2.
#[tokio::test(start_paused = true)]
async fn a_caller_whose_wait_would_outlast_its_deadline_is_refused_at_once() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    for _ in 0..3 {
        let _lease = pool.acquire().await.unwrap();
        time::sleep(ms(1000)).await;
    }
    let _held = pool.acquire().await.unwrap();
    let mut first = pin!(pool.acquire());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    let start = time::now();
    let error = pool.acquire_until(perf_core::Deadline::within(ms(300))).await.unwrap_err();
    let refusal = error.rejected().unwrap();
    assert_eq!((refusal.reason(), start.elapsed()), (Reason::WontMakeIt, ms(0)));
    assert_eq!(refusal.retry_hint(), Some(ms(1000)));
    assert_eq!(pool.stats().refused_hopeless, 1);
}

/// Ideas 3 and 4: leases held too long and acquires inside acquires are told with their places.
#[tokio::test(start_paused = true)]
async fn leaks_and_nested_acquires_are_told_with_their_places() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let pool = Pool::builder(Fake::new())
        .max(1)
        .leak_after(ms(5000))
        .acquire_timeout(ms(100))
        .on_event(move |event| {
            let line = match event {
                PoolEvent::HeldTooLong { holder } => format!("{holder}"),
                PoolEvent::NestedAcquire { outer, inner } => format!("{} in {}", inner.line(), outer.line()),
                _ => return,
            };
            seen.lock().unwrap().push(line);
        })
        .build()
        .unwrap();
    tokio::spawn(async move {
        let (outer, _lease) = (line!(), pool.acquire().await.unwrap());
        let (inner, nested) = (line!(), pool.acquire().await);
        assert!(nested.is_err());
        assert_eq!(*told.lock().unwrap(), [format!("{inner} in {outer}")]);
        time::sleep(ms(7000)).await;
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].starts_with("held 5") && told[1].contains("admin.rs"), "{told:?}");
        assert_eq!((pool.stats().leaked, pool.stats().nested), (1, 1));
    })
    .await
    .unwrap();
}

/// Statement 6: while the server is down, `fail_fast` spares callers the wait.
#[tokio::test(start_paused = true)]
async fn with_fail_fast_an_outage_is_told_at_once() {
    let fake = Fake::new();
    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake.clone())
        .fail_fast(true)
        .retry_base(ms(1000))
        .retry_cap(ms(1000))
        .seed(1)
        .build()
        .unwrap();
    let start = time::now();
    for _ in 0..5 {
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, Error::Connecting { source: Some(_), .. }), "{error:?}");
    }
    assert!(start.elapsed() < ms(10));
    assert_eq!(fake.connects(), 1, "one attempt for all of them");
    fake.set_connect(Act::Ok);
    time::sleep(ms(1000)).await;
    assert_full_capacity(&pool).await;
}
