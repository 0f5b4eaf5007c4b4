//! Checking: statements 11 to 13.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::time;
use perf_pool::balance::BalancedPool;
use perf_pool::{Condition, Error, Pool};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

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

/// Statement 12, HikariCP's issue 1839, under load: eight users work on twenty connections when all of them die. Whatever
/// is in hand fails; what was idle reaches nobody.
#[tokio::test(start_paused = true)]
async fn when_all_connections_die_under_load_users_see_only_what_they_had_in_hand() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(20).check_after(ms(60_000)).build().unwrap();
    warm(&pool, 20).await;
    let cut = Arc::new(Notify::new());
    let end = time::now() + ms(500);
    let users: Vec<_> = (0..8_u64)
        .map(|user| {
            let (pool, fake, cut) = (pool.clone(), fake.clone(), Arc::clone(&cut));
            tokio::spawn(async move {
                let (mut in_hand, mut from_idle) = (0, 0);
                while time::now() < end {
                    let mut lease = pool.acquire().await.unwrap();
                    from_idle += u32::from(lease.id <= fake.dead_up_to.load(Ordering::SeqCst));
                    tokio::select! {
                        biased;
                        () = cut.notified() => {
                            in_hand += 1;
                            lease.condition = Condition::Broken;
                        }
                        () = time::sleep(ms(3 + user)) => {}
                    }
                    drop(lease);
                    time::sleep(ms(1)).await;
                }
                (in_hand, from_idle)
            })
        })
        .collect();
    time::sleep(ms(100)).await;
    // Whoever comes at this very moment has come.
    settle().await;
    let in_use = pool.stats().leased as u32;
    assert!(in_use > 0 && pool.stats().idle > 0, "{:?}", pool.stats());
    fake.kill_all();
    cut.notify_waiters();
    let (mut in_hand, mut from_idle) = (0, 0);
    for user in users {
        let seen = user.await.unwrap();
        (in_hand, from_idle) = (in_hand + seen.0, from_idle + seen.1);
    }
    assert_eq!((in_hand, from_idle), (in_use, 0));
    assert_eq!(pool.stats().closed_broken + pool.stats().closed_check_failed, 20);
}

/// Statement 12: the same where nobody works at that moment, one after the other.
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
    let mut seen = 0;
    for _ in 0..40 {
        let lease = pool.acquire().await.unwrap();
        seen += u32::from(lease.id <= 20);
        time::sleep(ms(1)).await;
    }
    assert_eq!(seen, 0, "no idle connection that died reached a user");
    assert_eq!(pool.stats().closed_broken, 3);
    assert_eq!(pool.stats().closed_check_failed, 17);
}

/// Statement 12: the background checks begin with the connection idle longest, few at a time.
#[tokio::test(start_paused = true)]
async fn suspects_are_checked_in_the_background_oldest_first_and_a_few_at_a_time() {
    let pool = Pool::builder(Fake::new()).max(10).max_connecting(2).build().unwrap();
    let mut leases = Vec::new();
    for _ in 0..10 {
        leases.push(pool.acquire().await.unwrap());
    }
    let mut returned = Vec::new();
    while !leases.is_empty() {
        let lease = leases.swap_remove(leases.len() / 2);
        returned.push(lease.id);
        drop(lease);
        time::sleep(ms(1)).await;
    }
    pool.manager().check_ms.store(10, Ordering::SeqCst);
    pool.suspect_all();
    let mut most = 0;
    for _ in 0..60 {
        most = most.max(pool.stats().checking);
        time::sleep(ms(1)).await;
    }
    assert_eq!((most, pool.stats().checked, pool.stats().idle), (2, 10, 10));
    assert_eq!(*pool.manager().checked.lock().unwrap(), returned);
}

/// Statement 12: a check that fails on the way to a user makes the others suspect, even those used a moment ago.
#[tokio::test(start_paused = true)]
async fn a_failed_check_makes_the_others_prove_themselves() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(2).check_after(ms(10_000)).build().unwrap();
    warm(&pool, 2).await;
    time::sleep(ms(5_000)).await;
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(6_000)).await;
    let fresh = pool.acquire().await.unwrap();
    assert_eq!((fresh.id, fake.checks()), (2, 0), "used six seconds ago");
    fake.kill_all();
    let third = pool.acquire().await.unwrap();
    assert_eq!((third.id, fake.checks()), (3, 1), "the first had rested for eleven");
    drop(fresh);
    let fourth = pool.acquire().await.unwrap();
    assert_eq!((fourth.id, fake.checks(), pool.stats().closed_check_failed), (4, 2, 2));
}

/// Statement 12: a keepalive that fails raises suspicion of the endpoint: the connections used since, whose own keepalive
/// is not due for long, are checked at once. The other endpoint is not concerned.
#[tokio::test(start_paused = true)]
async fn a_failed_keepalive_makes_every_connection_of_its_endpoint_prove_itself() {
    let fakes = [Fake::new(), Fake::new()];
    let build = |fake: &Fake| {
        Pool::builder(fake.clone()).max(3).keepalive(ms(10_000)).check_after(ms(60_000)).build().unwrap()
    };
    let pools: Vec<_> = fakes.iter().map(build).collect();
    for pool in &pools {
        warm(pool, 3).await;
    }
    time::sleep(ms(5_000)).await;
    for pool in &pools {
        drop([pool.acquire().await.unwrap(), pool.acquire().await.unwrap()]);
    }
    fakes[0].dead_up_to.store(1, Ordering::SeqCst);
    let balanced = BalancedPool::new("reads", pools);
    time::sleep(ms(4_900)).await;
    assert!(balanced.pools().iter().all(|pool| pool.stats().checked == 0 && pool.stats().idle == 3));
    time::sleep(ms(1_200)).await;
    let [ill, well] = [&balanced.pools()[0], &balanced.pools()[1]].map(|pool| pool.stats());
    assert_eq!(
        (ill.closed_check_failed, ill.checked, ill.idle),
        (1, 3, 2),
        "and the two younger were checked"
    );
    assert_eq!((well.checked, well.idle), (1, 3), "only what was due");
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

/// Statement 13: while it is checked in the background a connection is reserved: it is not idle, nobody is given it, and
/// whoever asks for it meanwhile gets it when the check has ended.
#[tokio::test(start_paused = true)]
async fn a_connection_is_reserved_during_its_keepalive() {
    let fake = Fake::new();
    let pool =
        Pool::builder(fake.clone()).max(1).keepalive(ms(10_000)).check_after(ms(60_000)).build().unwrap();
    warm(&pool, 1).await;
    fake.check_ms.store(400, Ordering::SeqCst);
    let begins = time::now();
    while pool.stats().checking == 0 {
        assert!(begins.elapsed() < ms(12_000), "no keepalive: {:?}", pool.stats());
        time::sleep(ms(10)).await;
    }
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.checking, stats.leased, stats.size), (0, 1, 0, 1));
    assert!(pool.try_acquire().is_err(), "it is being talked to");
    let start = time::now();
    let lease = pool.acquire().await.unwrap();
    assert!((ms(380)..=ms(400)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((lease.id, pool.stats().checked, fake.checks()), (1, 1, 1), "checked once, then handed over");
}

/// Statement 13: the last idle connection is not taken away for a keepalive while callers are queued, as they can be
/// while the pool is paused; any but the last is.
#[tokio::test(start_paused = true)]
async fn the_last_idle_connection_is_not_checked_while_callers_wait() {
    let pool = Pool::builder(Fake::new())
        .max(2)
        .keepalive(ms(10_000))
        .check_after(ms(60_000))
        .check_timeout(ms(90_000))
        .build()
        .unwrap();
    warm(&pool, 2).await;
    pool.manager().check_ms.store(60_000, Ordering::SeqCst);
    pool.pause();
    let mut waiting = Box::pin(pool.acquire());
    assert!(time::timeout(ms(15_000), &mut waiting).await.is_err());
    let stats = pool.stats();
    assert_eq!((stats.checking, stats.idle, stats.waiting), (1, 1, 1), "one of two, not the last");
    pool.resume();
    let start = time::now();
    drop(waiting.await.unwrap());
    assert_eq!(start.elapsed(), ms(0), "it was there for the caller");
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
