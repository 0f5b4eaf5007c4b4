//! Getting a connection: statements 1 to 6 of the design.

use crate::fake::{Act, Fake, FakeError, ms, settle};
use perf_core::Reason;
use perf_core::time;
use perf_pool::{Error, Lease, Pool};
use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Statement 1. The thread knows of no runtime, so that a timer or a task would be a panic there.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_returned_by_the_first_poll_without_timer_or_task() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    drop(pool.acquire().await.unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(poll_once(pin!(pool.acquire())), Poll::Ready(Ok(_)))));
    });
    assert_eq!((pool.stats().waited, pool.stats().checked, pool.stats().idle), (1, 0, 1), "once, at first");
}

/// Statement 1: what is under suspicion is not returned by the first poll, and neither is what has expired.
#[tokio::test(start_paused = true)]
async fn the_first_poll_returns_nothing_that_has_expired_or_is_suspect() {
    let build = || Pool::builder(Fake::new()).max(1).check_after(ms(60_000)).replace_overlap(0);
    let suspect = build().build().unwrap();
    drop(suspect.acquire().await.unwrap());
    suspect.suspect_all();
    assert!(poll_once(pin!(suspect.acquire())).is_pending());
    let old = build().max_lifetime(ms(1000)).maintenance_interval(ms(60_000)).build().unwrap();
    drop(old.acquire().await.unwrap());
    time::sleep(ms(1000)).await;
    assert!(poll_once(pin!(old.acquire())).is_pending());
}

/// Statement 2.
#[tokio::test(start_paused = true)]
async fn the_deadline_is_absolute_and_the_error_names_the_holder() {
    let pool = Pool::builder(Fake::new()).name("orders").max(1).acquire_timeout(ms(500)).build().unwrap();
    let _held = pool.acquire().await.unwrap();
    let start = time::now();
    time::sleep(ms(100)).await;
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(start.elapsed(), ms(600));
    let Error::Saturated(saturated) = &error else { panic!("{error:?}") };
    assert_eq!((saturated.in_use, saturated.waiters, saturated.waited), (1, 0, ms(500)));
    assert_eq!(saturated.holder.unwrap().held, ms(600));
    assert!(saturated.holder.unwrap().site.file().ends_with("acquire.rs"));
    assert_eq!(error.rejected().unwrap().reason(), Reason::Full);
}

/// Statement 2: five dead connections are checked one after the other, each check taking 100 ms, and so is a server that
/// is away: none of it gives the caller more time, and a deadline of its own counts if it is sooner.
#[tokio::test(start_paused = true)]
async fn failing_checks_and_attempts_do_not_extend_the_deadline() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(5).acquire_timeout(ms(250)).build().unwrap();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.acquire().await.unwrap());
    }
    drop(held);
    time::sleep(ms(1500)).await;
    fake.kill_all();
    fake.check_ms.store(100, std::sync::atomic::Ordering::SeqCst);
    fake.set_connect(Act::Fail);
    let start = time::now();
    let error = pool.acquire().await.unwrap_err();
    assert!(error.is_timeout() && start.elapsed() == ms(250), "{error:?} after {:?}", start.elapsed());
    assert!(
        pool.stats().closed_check_failed >= 2,
        "more than one check failed meanwhile: {:?}",
        pool.stats()
    );

    let sooner = perf_core::Deadline::within(ms(120));
    time::sleep(ms(50)).await;
    let start = time::now();
    let error = pool.acquire_until(sooner).await.unwrap_err();
    assert!(error.is_timeout() && start.elapsed() == ms(70), "{error:?} after {:?}", start.elapsed());
    assert_eq!((pool.stats().timed_out, pool.stats().waiting), (2, 0));
}

/// Statement 2.
#[tokio::test(start_paused = true)]
async fn a_zero_timeout_never_yields() {
    let pool = Pool::builder(Fake::new()).max(1).acquire_timeout(ms(0)).build().unwrap();
    assert!(matches!(poll_once(pin!(pool.acquire())), Poll::Ready(Err(_))));
    assert_eq!((pool.stats().timed_out, pool.stats().waited), (1, 0));
    drop(pool.acquire_until(perf_core::Deadline::within(ms(1000))).await.unwrap());
    assert!(matches!(poll_once(pin!(pool.acquire())), Poll::Ready(Ok(_))), "as `try_acquire`");
}

/// Statement 3.
#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_and_newcomers_queue_behind_them() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let held = pool.acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..5 {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _lease = pool.acquire().await.unwrap();
            order.lock().unwrap().push(number);
            time::sleep(ms(10)).await;
        }));
        settle().await;
    }
    drop(held);
    assert!(pool.try_acquire().is_err(), "the connection was handed to the first waiter directly");
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
}

/// Statement 4.
#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_passes_on_what_it_was_given() {
    let pool = Pool::builder(Fake::new()).max(1).build().unwrap();
    let held = pool.acquire().await.unwrap();
    let mut second = Box::pin(pool.acquire());
    let mut third = Box::pin(pool.acquire());
    assert!(poll_once(pin!(&mut second)).is_pending());
    assert!(poll_once(pin!(&mut third)).is_pending());
    drop(held);
    drop(second);
    let lease: Lease<Fake> = match poll_once(pin!(&mut third)) {
        Poll::Ready(lease) => lease.unwrap(),
        Poll::Pending => panic!("the connection was lost with the waiter"),
    };
    assert_eq!(pool.stats().leased, 1);
    drop(lease);
    assert_eq!((pool.stats().idle, pool.stats().size), (1, 1));
}

/// Statement 4.
#[tokio::test(start_paused = true)]
async fn a_waiter_woken_but_polled_after_its_deadline_passes_the_connection_on() {
    let pool = Pool::builder(Fake::new()).max(1).acquire_timeout(ms(100)).build().unwrap();
    let held = pool.acquire().await.unwrap();
    let mut late = Box::pin(pool.acquire());
    assert!(poll_once(pin!(&mut late)).is_pending());
    drop(held);
    time::sleep(ms(200)).await;
    let mut next = Box::pin(pool.acquire());
    assert!(poll_once(pin!(&mut next)).is_pending(), "the connection is the late waiter's");
    assert!(matches!(poll_once(pin!(&mut late)), Poll::Ready(Err(Error::Saturated(_)))));
    assert!(matches!(poll_once(pin!(&mut next)), Poll::Ready(Ok(_))));
}

/// Statement 5.
#[tokio::test(start_paused = true)]
async fn above_the_waiter_cap_callers_are_refused_at_once() {
    let pool = Pool::builder(Fake::new()).max(1).max_waiters(1).build().unwrap();
    let _held = pool.acquire().await.unwrap();
    let mut waiting = pin!(pool.acquire());
    assert!(poll_once(waiting.as_mut()).is_pending());
    let Poll::Ready(Err(error)) = poll_once(pin!(pool.acquire())) else { panic!("it waits") };
    assert!(matches!(&error, Error::Rejected(refusal) if refusal.reason() == Reason::Full), "{error:?}");
    assert_eq!((pool.stats().refused_full, pool.stats().timed_out, pool.stats().waiting), (1, 0, 1));
}

/// Statement 5, node-pool's `maxWaitingClients: 0`: nobody waits for a lease to end, but whom a connection can be made
/// for is not turned away.
#[tokio::test(start_paused = true)]
async fn with_a_cap_of_zero_callers_are_served_as_long_as_there_is_room() {
    let pool = Pool::builder(Fake::new().slow(ms(10))).max(2).max_waiters(0).build().unwrap();
    let (mut first, mut second) = (pin!(pool.acquire()), pin!(pool.acquire()));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    assert!(matches!(poll_once(pin!(pool.acquire())), Poll::Ready(Err(Error::Rejected(_)))));
    let leases = (first.await.unwrap(), second.await.unwrap());
    assert!(matches!(poll_once(pin!(pool.acquire())), Poll::Ready(Err(Error::Rejected(_)))));
    drop(leases);
    assert!(pool.acquire().await.is_ok());
    assert_eq!(pool.stats().refused_full, 2);
}

/// Statement 6.
#[tokio::test(start_paused = true)]
async fn a_wrong_password_fails_the_waiters_within_one_attempt() {
    let fake = Fake::new();
    fake.set_connect(Act::Refuse);
    let pool = Pool::builder(fake.clone()).build().unwrap();
    let start = time::now();
    let error = pool.acquire().await.unwrap_err();
    assert!(start.elapsed() < ms(10));
    assert_eq!(fake.connects(), 1);
    let Error::Connecting { attempts: 1, source: Some(cause), .. } = &error else { panic!("{error:?}") };
    assert_eq!(cause.get().downcast_ref(), Some(&FakeError::WrongPassword));
    assert_eq!(error.source().unwrap().to_string(), "wrong password");
}

/// Statement 6.
#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_the_error_carries_the_last_reason() {
    let fake = Fake::new();
    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake.clone()).acquire_timeout(ms(2000)).build().unwrap();
    let error = pool.acquire().await.unwrap_err();
    let Error::Connecting { attempts, source: Some(_), waited, .. } = error else { panic!("{error:?}") };
    assert!(attempts >= 2 && waited == ms(2000), "{attempts} attempts in {waited:?}");
    assert_eq!(u64::from(fake.connects()), pool.stats().connect_failed);
}

/// Statement 3: with barging a newcomer takes what rests while the oldest waiter has waited for less than the bound, and
/// nobody is overtaken for longer.
#[tokio::test(start_paused = true)]
async fn barging_lets_newcomers_overtake_within_its_bound_only() {
    let fairness = perf_pool::Fairness::Barging { max_wait: ms(50) };
    let pool = Pool::builder(Fake::new()).max(1).fairness(fairness).build().unwrap();
    let held = pool.acquire().await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move {
            let asked = time::now();
            let lease = pool.acquire().await.unwrap();
            (lease.id, asked.elapsed())
        }
    });
    settle().await;
    drop(held);
    let newcomer = pool.try_acquire().expect("it rests, and the waiter has only been told");
    time::sleep(ms(60)).await;
    drop(newcomer);
    assert!(pool.try_acquire().is_err(), "beyond the bound it is the waiter's");
    assert_eq!(waiter.await.unwrap(), (1, ms(60)));
    assert_eq!((pool.stats().idle, pool.stats().waiting), (1, 0));
}

/// Statement 3 and B: whoever is told of a connection and does not come, or goes away, holds up nobody for longer.
#[tokio::test(start_paused = true)]
async fn with_barging_a_waiter_that_does_not_come_is_passed_over() {
    let fairness = perf_pool::Fairness::Barging { max_wait: ms(50) };
    let pool = Pool::builder(Fake::new()).max(2).fairness(fairness).build().unwrap();
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let mut sleeper = Box::pin(pool.acquire());
    let mut leaver = Box::pin(pool.acquire());
    assert!(poll_once(pin!(&mut sleeper)).is_pending() && poll_once(pin!(&mut leaver)).is_pending());
    let served = tokio::spawn({
        let pool = pool.clone();
        async move { drop(pool.acquire().await.unwrap()) }
    });
    settle().await;
    drop(held);
    drop(leaver);
    time::timeout(ms(60), served).await.expect("the sleeper's patience ends").unwrap();
    assert!(matches!(poll_once(pin!(&mut sleeper)), Poll::Ready(Ok(_))), "its own was kept for it");
    drop(sleeper);
    crate::accounts::assert_full_capacity(&pool).await;
}

/// Statement 3: many tasks on few connections with barging: all are served, and the wait is bounded.
#[tokio::test(start_paused = true)]
async fn with_barging_nobody_starves() {
    let fairness = perf_pool::Fairness::Barging { max_wait: ms(20) };
    let pool = Pool::builder(Fake::new()).max(2).fairness(fairness).refuse_hopeless(false).build().unwrap();
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut worst = ms(0);
                for _ in 0..50 {
                    let asked = time::now();
                    let _lease = pool.acquire().await.unwrap();
                    worst = worst.max(asked.elapsed());
                    time::sleep(ms(1)).await;
                }
                worst
            })
        })
        .collect();
    for worker in workers {
        let worst = worker.await.unwrap();
        assert!(worst <= ms(60), "{worst:?}");
    }
    assert_eq!(pool.stats().acquired, 1000);
    crate::accounts::assert_full_capacity(&pool).await;
}
