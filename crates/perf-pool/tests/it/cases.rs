//! Cases that other pools have in their test suites, ported as behaviours, and managers that misbehave.

use crate::accounts::{assert_balanced, assert_full_capacity};
use crate::fake::{Act, Fake, ms, settle};
use perf_core::time::{self, Duration};
use perf_pool::{Condition, Error, Order, Pool};
use std::sync::atomic::Ordering;

async fn callers(pool: &Pool<Fake>, count: usize, hold: Duration) {
    let running: Vec<_> = (0..count)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _lease = pool.acquire().await.unwrap();
                time::sleep(hold).await;
            })
        })
        .collect();
    for caller in running {
        caller.await.unwrap();
    }
}

/// HikariCP's ConnectionPoolSizeVsThreads, "about same size as thread count" turned round: 50 tasks of 1 ms work never
/// need as many connections as tasks when connecting takes 20 ms, and nothing is connected after work has stopped.
#[tokio::test(start_paused = true)]
async fn short_work_of_fifty_tasks_does_not_open_fifty_connections() {
    let fake = Fake::new().slow(ms(20));
    let pool = Pool::builder(fake.clone()).max(100).min_idle(2).build().unwrap();
    pool.warm_up().await.unwrap();
    for _ in 0..20 {
        callers(&pool, 50, ms(1)).await;
    }
    let after = fake.connects();
    assert!(after <= 25, "{after} connections");
    time::sleep(ms(5000)).await;
    assert_eq!(fake.connects(), after, "connected after work had stopped");
}

/// HikariCP's slow connection, bursty work: a burst whose work outlasts a connect gets more connections, within the limit.
#[tokio::test(start_paused = true)]
async fn a_burst_of_long_work_gets_the_connections_it_needs() {
    let fake = Fake::new().slow(ms(250));
    let pool = Pool::builder(fake.clone()).max(20).min_idle(2).max_connecting(4).build().unwrap();
    pool.warm_up().await.unwrap();
    let start = time::now();
    callers(&pool, 40, ms(1000)).await;
    assert!(start.elapsed() < ms(7000), "{:?} instead of 20,000 ms on two connections", start.elapsed());
    assert!((10..=20).contains(&fake.connects()), "{}", fake.connects());
}

/// HikariCP's testBackfill: broken connections are replaced up to `min_idle` without anybody asking.
#[tokio::test(start_paused = true)]
async fn what_breaks_below_min_idle_is_filled_up() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(4).min_idle(3).build().unwrap();
    pool.warm_up().await.unwrap();
    let mut leases = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    leases.iter_mut().for_each(|lease| lease.condition = Condition::Broken);
    drop(leases);
    time::sleep(ms(100)).await;
    assert_eq!((pool.stats().idle, pool.stats().closed_broken, fake.connects()), (3, 2, 5));
}

/// HikariCP's testEvictAllRefill.
#[tokio::test(start_paused = true)]
async fn evicting_everything_fills_up_to_min_idle_again() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(10).min_idle(5).build().unwrap();
    pool.warm_up().await.unwrap();
    for round in 1..=3 {
        pool.evict_all();
        time::sleep(ms(50)).await;
        assert_eq!((pool.stats().idle, pool.stats().closed_evicted), (5, 5 * round));
    }
}

/// Go's TestPoolExhaustOnCancel: cancelled waiters exhaust nothing.
#[tokio::test(start_paused = true)]
async fn cancelled_waiters_exhaust_nothing() {
    let pool = Pool::builder(Fake::new()).max(3).build().unwrap();
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    for _ in 0..300 {
        assert!(time::timeout(ms(1), pool.acquire()).await.is_err());
    }
    assert_eq!((pool.stats().waiting, pool.stats().cancelled), (0, 300));
    drop(held);
    assert_full_capacity(&pool).await;
}

/// Go's TestConnMaxLifetime: of two connections the expired one is closed at its next use, and one is opened for it.
#[tokio::test(start_paused = true)]
async fn an_expired_connection_costs_one_close_and_one_open() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone())
        .max(10)
        .max_lifetime(ms(10_000))
        .replace_overlap(0)
        .order(Order::Fifo)
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(5_000)).await;
    let pair = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(pair);
    assert_eq!(fake.connects(), 2);
    time::sleep(ms(5_500)).await;
    let pair = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(pair);
    assert_eq!((fake.connects(), pool.stats().closed_expired), (3, 1));
}

/// SQLAlchemy's test_overflow_reset_on_failed_connect: a failed connect gives its place back.
#[tokio::test(start_paused = true)]
async fn a_failed_connect_gives_its_place_back() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(2).acquire_timeout(ms(200)).build().unwrap();
    let _first = pool.acquire().await.unwrap();
    fake.set_connect(Act::Fail);
    for _ in 0..5 {
        assert!(pool.acquire().await.is_err());
        assert_balanced(&pool);
    }
    fake.set_connect(Act::Ok);
    let second = pool.acquire_until(perf_core::Deadline::within(ms(6000))).await.unwrap();
    assert_eq!((pool.stats().leased, second.id > 1), (2, true));
}

/// SQLAlchemy's test_lifo and test_fifo.
#[tokio::test(start_paused = true)]
async fn the_order_decides_which_connection_is_used_next() {
    for (order, expected) in [(Order::Lifo, [3, 3, 3]), (Order::Fifo, [1, 2, 3])] {
        let pool = Pool::builder(Fake::new()).max(3).order(order).build().unwrap();
        let leases =
            [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        for lease in leases {
            drop(lease);
            time::sleep(ms(1)).await;
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(pool.acquire().await.unwrap().id);
            time::sleep(ms(1)).await;
        }
        assert_eq!(seen, expected, "{order:?}");
    }
}

/// bb8's test_max_lifetime_reap_on_drop: a connection that expires while it is out is closed as it comes back.
#[tokio::test(start_paused = true)]
async fn a_connection_that_expires_on_lease_is_closed_as_it_returns() {
    let pool = Pool::builder(Fake::new()).max(1).max_lifetime(ms(1000)).replace_overlap(0).build().unwrap();
    let lease = pool.acquire().await.unwrap();
    time::sleep(ms(1500)).await;
    drop(lease);
    settle().await;
    assert_eq!((pool.stats().closed_expired, pool.stats().size), (1, 0));
}

/// deadpool's managed_deadlock (pool_drained): a manager that fails for a while does not leave waiters hanging.
#[tokio::test(start_paused = true)]
async fn waiters_survive_a_manager_that_fails_for_a_while() {
    let fake = Fake::new();
    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    time::sleep(ms(2000)).await;
    fake.set_connect(Act::Ok);
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    assert_full_capacity(&pool).await;
}

/// PgBouncer's test_server_login_retry and "fleet-polite recovery": pools that lost the same server at the same moment do
/// not come back in step, so that their attempts are spread and not a stampede.
#[tokio::test(start_paused = true)]
async fn a_fleet_does_not_come_back_in_step() {
    let fakes: Vec<_> = (0..50).map(|_| Fake::new()).collect();
    let pools: Vec<_> = (0_u64..)
        .zip(&fakes)
        .map(|(seed, fake)| {
            Pool::builder(fake.clone()).max(4).min_idle(4).retry_base(ms(1000)).seed(seed).build().unwrap()
        })
        .collect();
    for (pool, fake) in pools.iter().zip(&fakes) {
        pool.warm_up().await.unwrap();
        fake.set_connect(Act::Fail);
        pool.evict_all();
    }
    time::sleep(ms(20_000)).await;
    let mut before: u32 = fakes.iter().map(Fake::connects).sum();
    let (mut most, mut total) = (0, 0);
    for _ in 0..100 {
        time::sleep(ms(100)).await;
        let now: u32 = fakes.iter().map(Fake::connects).sum();
        most = most.max(now - before);
        total += now - before;
        before = now;
    }
    assert!(total > 50, "{total} attempts in ten seconds by fifty pools");
    assert!(most <= 16, "{most} of fifty pools attempted within the same tenth of a second");
    fakes.iter().for_each(|fake| fake.set_connect(Act::Ok));
    time::sleep(ms(5_500)).await;
    assert!(pools.iter().all(|pool| pool.stats().idle == 4), "each is back within one step of the backoff");
}

/// A manager that lies: every check succeeds, and every connection comes back broken. Users meet what breaks in their
/// hands; the pool keeps nothing and goes on.
#[tokio::test(start_paused = true)]
async fn a_manager_that_lies_about_health_costs_connections_and_no_capacity() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(2).check_after(ms(0)).build().unwrap();
    for _ in 0..50 {
        let mut lease = pool.acquire().await.unwrap();
        lease.condition = Condition::Broken;
    }
    settle().await;
    assert_eq!((pool.stats().closed_broken, fake.alive()), (50, 0));
    assert_full_capacity(&pool).await;
}

/// A manager whose every method hangs holds up nobody for longer than the limits say, and closing ends.
#[tokio::test(start_paused = true)]
async fn a_manager_that_hangs_everywhere_is_cut_off_everywhere() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone())
        .max(2)
        .acquire_timeout(ms(400))
        .connect_timeout(ms(100))
        .check_timeout(ms(100))
        .close_timeout(ms(100))
        .drain_timeout(ms(300))
        .build()
        .unwrap();
    let mut lease = pool.acquire().await.unwrap();
    for set in [Fake::set_connect, Fake::set_check, Fake::set_reset, Fake::set_close] {
        set(&fake, Act::Hang);
    }
    lease.taint();
    drop(lease);
    let start = time::now();
    assert!(pool.acquire().await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), ms(400));
    pool.close().await;
    assert!(start.elapsed() <= ms(800), "{:?}", start.elapsed());
    settle().await;
    assert_eq!((pool.stats().size, fake.alive()), (0, 0));
}

/// HikariCP's ShutdownTest: closing in every phase – connecting, checking, resetting, waiting – leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn closing_in_every_phase_leaves_nothing_behind() {
    for phase in 0..5 {
        let fake = Fake::new().slow(ms(50));
        let pool =
            Pool::builder(fake.clone()).max(2).check_after(ms(0)).drain_timeout(ms(100)).build().unwrap();
        fake.check_ms.store(50, Ordering::SeqCst);
        fake.reset_ms.store(50, Ordering::SeqCst);
        if phase > 0 {
            let mut lease = pool.acquire().await.unwrap();
            if phase == 2 {
                lease.taint();
            }
        }
        let caller = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(drop) }
        });
        time::sleep(ms(10 * phase)).await;
        let start = time::now();
        pool.close().await;
        assert!(start.elapsed() <= ms(100), "phase {phase}: {:?}", start.elapsed());
        match caller.await.unwrap() {
            Ok(()) => {}
            Err(error) => assert!(error.is_closed(), "phase {phase}: {error:?}"),
        }
        time::sleep(ms(200)).await;
        assert_eq!((pool.stats().size, fake.alive()), (0, 0), "phase {phase}");
        assert!(matches!(pool.acquire().await, Err(Error::Rejected(_))));
    }
}

/// Go's TestSingleOpenConn: one connection serves any number of callers in turn, and is the only one ever made.
#[tokio::test(start_paused = true)]
async fn a_pool_of_one_serves_everybody_with_one_connection() {
    let fake = Fake::new().slow(ms(20));
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    callers(&pool, 50, ms(3)).await;
    assert_eq!(fake.connects(), 1);
    assert_full_capacity(&pool).await;
}

/// Go's TestMaxOpenConnsOnBusy: a limit lowered while all connections are in use is reached as they come back.
#[tokio::test(start_paused = true)]
async fn a_limit_lowered_while_all_are_busy_is_reached_as_they_return() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(3).build().unwrap();
    let leases =
        [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    pool.resize(2).unwrap();
    assert_eq!(pool.stats().leased, 3, "nothing is taken from those who have it");
    drop(leases);
    settle().await;
    assert_eq!(pool.stats().size, 2);
    assert_full_capacity(&pool).await;
}
