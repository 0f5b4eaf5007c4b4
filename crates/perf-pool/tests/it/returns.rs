//! Giving back: statements 14 to 17.

use crate::accounts::{assert_balanced, assert_full_capacity};
use crate::fake::{Act, Fake, ms, settle};
use perf_core::time;
use perf_pool::{Condition, Pool};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// Statement 14.
#[tokio::test(start_paused = true)]
async fn a_dirty_connection_is_put_in_order_and_handed_on() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    lease.condition = Condition::Dirty;
    drop(lease);
    assert_eq!(pool.stats().resetting, 1);
    let lease = pool.acquire().await.unwrap();
    assert_eq!((lease.id, pool.stats().reset, lease.condition), (1, 1, Condition::Clean));
}

/// Statement 14: putting in order is bounded.
#[tokio::test(start_paused = true)]
async fn a_reset_that_hangs_or_fails_costs_the_connection() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).check_timeout(ms(100)).build().unwrap();
    for act in [Act::Hang, Act::Fail] {
        fake.set_reset(act);
        let mut lease = pool.acquire().await.unwrap();
        lease.taint();
        drop(lease);
        time::sleep(ms(150)).await;
        assert_balanced(&pool);
    }
    assert_eq!((pool.stats().closed_reset_failed, fake.alive()), (2, 0));
}

/// Statement 14: a broken one is replaced only where somebody needs one.
#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_replaced_for_waiters_only() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    lease.condition = Condition::Broken;
    drop(lease);
    time::sleep(ms(100)).await;
    assert_eq!((fake.connects(), pool.stats().size), (1, 0));

    let mut lease = pool.acquire().await.unwrap();
    lease.condition = Condition::Broken;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap().id }
    });
    settle().await;
    drop(lease);
    assert_eq!(waiting.await.unwrap(), 3);
}

/// Statement 15.
#[test]
fn a_lease_may_be_dropped_outside_a_runtime_and_after_its_end() {
    let fake = Fake::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = Pool::builder(fake.clone()).max(3).build().unwrap();
    let (clean, mut dirty, broken) = runtime.block_on(async {
        (pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap())
    });
    drop(clean);
    assert_eq!(pool.stats().idle, 1, "outside the runtime");
    drop(runtime);
    dirty.taint();
    drop(dirty);
    let mut broken = broken;
    broken.condition = Condition::Broken;
    drop(broken);
    assert_balanced(&pool);
    assert_eq!((pool.stats().size, fake.alive()), (1, 1), "nobody was there to put it in order");
    assert!(pool.try_acquire().is_err(), "after a death the idle one must be checked first");
    let next = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    next.block_on(assert_full_capacity(&pool));
}

/// Statement 15: waiting needs a runtime, and says so.
#[test]
fn waiting_outside_a_runtime_is_an_error() {
    let pool = Pool::builder(Fake::new()).build().unwrap();
    let mut acquire = std::pin::pin!(pool.acquire());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = acquire.as_mut().poll(&mut context) else { panic!("it waits") };
    assert!(matches!(error, perf_pool::Error::NoRuntime { .. }), "{error:?}");
}

/// Statement 15: the pool's task may live in another runtime that nobody drives; deadlines hold all the same.
#[test]
fn a_caller_in_another_runtime_is_not_left_waiting() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let held = first.block_on(pool.acquire()).unwrap();
    let deadline = perf_core::Deadline::within(ms(50));
    assert!(second.block_on(pool.acquire_until(deadline)).unwrap_err().is_timeout());
    drop(held);
    assert!(second.block_on(pool.acquire()).is_ok());
    drop(first);
    assert!(second.block_on(pool.acquire()).is_ok());
}

/// Statement 16.
#[tokio::test(start_paused = true)]
async fn a_detached_connection_makes_room_for_a_waiter() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    let lease = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap().id }
    });
    settle().await;
    let mine = lease.detach();
    assert_eq!((mine.id, waiting.await.unwrap()), (1, 2));
    assert_eq!((pool.stats().detached, fake.alive()), (1, 2));
    drop(mine);
    assert_balanced(&pool);
    settle().await;
    drop(pool.acquire().await.unwrap().detach());
    time::sleep(ms(1000)).await;
    assert_eq!((fake.connects(), pool.stats().size), (2, 0), "without waiters nothing takes its place");
}

/// Statement 17.
#[tokio::test(start_paused = true)]
async fn a_lease_dropped_by_a_panic_is_put_in_order() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let lease = pool.acquire().await.unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _lease = lease;
        panic!("in the middle of something");
    }));
    assert!(unwound.is_err());
    assert_eq!(pool.stats().resetting, 1);
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.stats().reset, 1);
}

/// Idea 5: a guarded future that is dropped half-way leaves the connection dirty, one that ends leaves it clean.
#[tokio::test(start_paused = true)]
async fn work_dropped_half_way_leaves_the_connection_dirty() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let number = pool.with(async |connection| connection.id).await.unwrap();
    assert_eq!((number, pool.stats().idle), (1, 1));
    let cut = time::timeout(ms(10), pool.with(async |_| time::sleep(ms(100)).await)).await;
    assert!(cut.is_err());
    assert_eq!(pool.stats().resetting, 1);
    assert_full_capacity(&pool).await;
    assert_eq!(pool.manager().resets.load(Ordering::SeqCst), 1);
}
