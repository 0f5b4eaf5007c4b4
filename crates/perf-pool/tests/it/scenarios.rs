//! Cases of other pools, and the figures the design asks for, in paused time.

use crate::accounts::{assert_balanced, assert_full_capacity};
use crate::fake::{Act, Fake, ms, settle};
use perf_core::time::{self, Duration};
use perf_core::{Rng, time::Instant};
use perf_pool::sizing::erlang_c;
use perf_pool::{Condition, Error, Pool};

/// asyncpg's issue 1247: 100 workers on 10 connections held for 200 ms, for a minute.
#[tokio::test(start_paused = true)]
async fn a_hundred_workers_on_ten_connections_take_turns() {
    let pool = Pool::builder(Fake::new()).max(10).min_idle(10).max_connecting(10).build().unwrap();
    pool.warm_up().await.unwrap();
    let end = time::now() + Duration::from_secs(60);
    let workers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let (mut turns, mut worst) = (0, Duration::ZERO);
                while time::now() < end {
                    let asked = time::now();
                    let lease = pool.acquire().await.unwrap();
                    worst = worst.max(asked.elapsed());
                    time::sleep(ms(200)).await;
                    drop(lease);
                    turns += 1;
                }
                (turns, worst)
            })
        })
        .collect();
    let (mut turns, mut worst) = (Vec::new(), Duration::ZERO);
    for worker in workers {
        let (own, waited) = worker.await.unwrap();
        turns.push(own);
        worst = worst.max(waited);
    }
    let spread = turns.iter().max().unwrap() - turns.iter().min().unwrap();
    assert!(worst <= ms(1800), "{worst:?}");
    assert!(spread <= 1, "{spread}");
}

/// A pool is an M/M/c queue: the share of callers that wait is the one that Erlang's formula gives.
#[tokio::test(start_paused = true)]
async fn the_share_of_callers_that_wait_is_erlangs() {
    let rows = [(8, 5.0), (10, 5.0), (14, 10.0), (17, 10.0), (25, 20.0), (29, 20.0), (58, 50.0), (65, 50.0)];
    for (size, load) in rows {
        let pool = Pool::builder(Fake::new())
            .max(size)
            .min_idle(size)
            .max_connecting(size)
            .acquire_timeout(Duration::from_secs(3600))
            .max_lifetime(None)
            .idle_timeout(None)
            .keepalive(None)
            .leak_after(None)
            .check_after(Duration::from_secs(3600))
            .refuse_hopeless(false)
            .build()
            .unwrap();
        pool.warm_up().await.unwrap();
        let mut rng = Rng::seeded(11);
        let start: Instant = time::now();
        let mut at = 0.0;
        let mut callers = Vec::new();
        // The time of 1,200 holds or more, so that there are many busy periods however large the pool.
        for _ in 0..(1_200.0 * load) as u32 {
            at += rng.exponential(1.0 / load);
            let hold = Duration::from_secs_f64(rng.exponential(1.0));
            time::sleep_until(start + Duration::from_secs_f64(at)).await;
            let pool = pool.clone();
            callers.push(tokio::spawn(async move {
                let _lease = pool.acquire().await.unwrap();
                time::sleep(hold).await;
            }));
        }
        for caller in callers {
            caller.await.unwrap();
        }
        let stats = pool.stats();
        let waited = stats.waited as f64 / stats.acquired as f64;
        let expected = erlang_c(size, load);
        assert!((waited - expected).abs() < 0.05, "{size} for {load}: {waited} instead of {expected}");
    }
}

/// Go's TestPendingConnsAfterErr: two connections at most, six callers, all attempts fail, nobody is left behind.
#[tokio::test(start_paused = true)]
async fn failing_attempts_leave_no_caller_behind() {
    let fake = Fake::new().slow(ms(10));
    fake.set_connect(Act::Refuse);
    let pool = Pool::builder(fake).max(2).build().unwrap();
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(Error::Connecting { .. })));
    }
    assert_eq!(pool.stats().waiting, 0);
    assert_balanced(&pool);
}

/// Go's TestMaxOpenConns: two rounds of fifty slow calls on ten connections.
#[tokio::test(start_paused = true)]
async fn two_bursts_open_no_more_than_the_limit() {
    let fake = Fake::new().slow(ms(5));
    let pool = Pool::builder(fake.clone()).max(10).build().unwrap();
    for _ in 0..2 {
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let _lease = pool.acquire().await.unwrap();
                    time::sleep(ms(100)).await;
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    assert!(fake.connects() <= 10, "{}", fake.connects());
}

/// bb8's test_broken_connections_dont_starve_pool, Go's TestManyErrBadConn.
#[tokio::test(start_paused = true)]
async fn a_run_of_broken_connections_starves_nobody() {
    let pool = Pool::builder(Fake::new()).max(5).build().unwrap();
    for _ in 0..100 {
        let mut lease = pool.acquire().await.unwrap();
        lease.condition = Condition::Broken;
    }
    settle().await;
    assert_eq!(pool.stats().closed_broken, 100);
    assert_full_capacity(&pool).await;
}

/// HikariCP's TestSaturatedPool830: twenty callers a moment on three connections; the queue drains when they stop.
#[tokio::test(start_paused = true)]
async fn a_saturated_pool_drains_when_the_callers_stop() {
    let pool = Pool::builder(Fake::new().slow(ms(20))).max(3).acquire_timeout(ms(1000)).build().unwrap();
    let mut callers = Vec::new();
    for _ in 0..200 {
        let pool = pool.clone();
        callers.push(tokio::spawn(async move {
            let _lease = pool.acquire().await?;
            time::sleep(ms(100)).await;
            Ok::<_, Error>(())
        }));
        time::sleep(ms(10)).await;
    }
    let mut served = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(()) => served += 1,
            Err(error) => assert!(error.rejected().is_some(), "{error:?}"),
        }
    }
    assert!(served >= 55, "{served}");
    assert_eq!((pool.stats().waiting, pool.stats().leased), (0, 0));
    assert_full_capacity(&pool).await;
}

/// SQLAlchemy's test_hanging_connect_within_overflow: one connect that hangs does not hold up callers for whom others
/// come back.
#[tokio::test(start_paused = true)]
async fn a_hanging_connect_does_not_hold_up_those_served_by_returns() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(2).connect_timeout(Duration::from_secs(20)).build().unwrap();
    let held = pool.acquire().await.unwrap();
    fake.set_connect(Act::Hang);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap().id }
    });
    time::sleep(ms(500)).await;
    drop(held);
    assert_eq!(waiting.await.unwrap(), 1);
}

/// Ten thousand waiters: each is served, in order, and the books balance.
#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_are_all_served() {
    let pool = Pool::builder(Fake::new()).max(8).refuse_hopeless(false).build().unwrap();
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(pool.stats().acquired, 10_000);
    assert_full_capacity(&pool).await;
}
