//! Checking: statements 11 to 13.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::time;
use perf_pool::{Condition, Error, Pool};
use std::sync::atomic::Ordering;

async fn warm(pool: &Pool<Fake>, count: usize) {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    assert_eq!(pool.stats().idle, count);
}

/// Statement 11.
#[tokio::test(start_paused = true)]
async fn a_connection_in_steady_use_is_never_checked() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    for _ in 0..100 {
        let _lease = pool.acquire().await.unwrap();
        time::sleep(ms(500)).await;
    }
    assert_eq!(pool.stats().checked, 0);
}

/// Statement 11.
#[tokio::test(start_paused = true)]
async fn a_connection_that_rested_is_checked_before_use() {
    let pool = Pool::builder(Fake::new()).max(1).check_after(ms(1000)).build().unwrap();
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(1000)).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.stats().checked, 0);
    time::sleep(ms(1001)).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.stats().checked, 1);
}

/// Statement 11: a failed check closes the connection, and the same caller gets the next within its deadline.
#[tokio::test(start_paused = true)]
async fn a_dead_candidate_is_replaced_within_the_same_deadline() {
    let pool = Pool::builder(Fake::new()).max(3).acquire_timeout(ms(1000)).build().unwrap();
    warm(&pool, 3).await;
    pool.manager().kill_all();
    time::sleep(ms(5000)).await;
    let lease = pool.acquire().await.unwrap();
    assert_eq!(lease.id, 4);
    assert!(pool.stats().closed_check_failed >= 1);
}

/// Statement 11: the check has its own limit, and the error says that checking is what took the time.
#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_cut_off_and_named() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).check_timeout(ms(300)).build().unwrap();
    warm(&pool, 1).await;
    time::sleep(ms(5000)).await;
    fake.set_check(Act::Hang);
    fake.connect_ms.store(500, Ordering::SeqCst);
    let error = pool.acquire_until(perf_core::Deadline::within(ms(200))).await.unwrap_err();
    assert!(matches!(error, Error::Validating { waited, .. } if waited == ms(200)), "{error:?}");
    let start = time::now();
    drop(pool.acquire().await.unwrap());
    assert!(start.elapsed() <= ms(700), "{:?}", start.elapsed());
}

/// Statement 12, HikariCP's issue 1839: twenty idle connections die at once; users see only what they had in hand.
#[tokio::test(start_paused = true)]
async fn one_death_makes_every_older_connection_prove_itself() {
    let pool = Pool::builder(Fake::new()).max(20).check_after(ms(60_000)).build().unwrap();
    warm(&pool, 20).await;
    let mut in_use = Vec::new();
    for _ in 0..3 {
        in_use.push(pool.acquire().await.unwrap());
    }
    pool.manager().kill_all();
    for mut lease in in_use {
        lease.condition = Condition::Broken;
    }
    let failures = 3;
    let mut seen = 0;
    for _ in 0..40 {
        let lease = pool.acquire().await.unwrap();
        seen += u32::from(lease.id <= 20);
        time::sleep(ms(1)).await;
    }
    assert_eq!((seen, failures), (0, 3), "no idle connection that died reached a user");
    assert_eq!(pool.stats().closed_broken, 3);
    assert_eq!(pool.stats().closed_check_failed, 17);
}

/// Statement 12: the background checks go oldest first, few at a time.
#[tokio::test(start_paused = true)]
async fn suspects_are_checked_in_the_background_a_few_at_a_time() {
    let pool = Pool::builder(Fake::new()).max(10).max_connecting(2).build().unwrap();
    warm(&pool, 10).await;
    pool.manager().check_ms.store(10, Ordering::SeqCst);
    pool.suspect_all();
    for _ in 0..60 {
        assert!(pool.stats().checking <= 2, "{:?}", pool.stats());
        time::sleep(ms(1)).await;
    }
    assert_eq!((pool.stats().checked, pool.stats().idle), (10, 10));
}

/// Statement 12: a lease that was out when suspicion arose is checked before the next user, too.
#[tokio::test(start_paused = true)]
async fn a_lease_out_at_the_time_of_the_death_is_checked_when_it_is_handed_on() {
    let pool = Pool::builder(Fake::new()).max(2).build().unwrap();
    warm(&pool, 2).await;
    let (survivor, mut dead) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    dead.condition = Condition::Broken;
    drop(dead);
    drop(survivor);
    drop(pool.acquire().await.unwrap());
    assert!(pool.stats().checked >= 1);
}

/// Statement 13.
#[tokio::test(start_paused = true)]
async fn keepalive_checks_idle_connections_without_making_them_look_used() {
    let pool = Pool::builder(Fake::new())
        .max(2)
        .keepalive(ms(10_000))
        .idle_timeout(ms(60_000))
        .max_lifetime(None)
        .build()
        .unwrap();
    warm(&pool, 2).await;
    time::sleep(ms(35_000)).await;
    assert_eq!((pool.stats().checked, pool.stats().idle), (6, 2));
    time::sleep(ms(30_000)).await;
    assert_eq!((pool.stats().closed_idle, pool.stats().size), (2, 0));
}

/// Statement 13: a dead connection is found and let go before anyone asks for it.
#[tokio::test(start_paused = true)]
async fn keepalive_removes_the_dead() {
    let pool = Pool::builder(Fake::new()).max(2).keepalive(ms(10_000)).build().unwrap();
    warm(&pool, 2).await;
    pool.manager().kill_all();
    time::sleep(ms(12_000)).await;
    settle().await;
    assert_eq!((pool.stats().closed_check_failed, pool.stats().size), (2, 0));
}

/// The "cancelled validation" row: what was being checked when the caller left is not trusted for it.
#[tokio::test(start_paused = true)]
async fn a_check_whose_caller_left_still_decides() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    warm(&pool, 1).await;
    time::sleep(ms(5000)).await;
    pool.manager().kill_all();
    pool.manager().check_ms.store(100, Ordering::SeqCst);
    assert!(time::timeout(ms(50), pool.acquire()).await.is_err());
    time::sleep(ms(100)).await;
    assert_eq!((pool.stats().idle, pool.stats().closed_check_failed), (0, 1));
}
