//! Nothing is lost and nothing is counted twice: statements A, B and C of the design.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::time;
use perf_pool::{Error, Pool, PoolEvent};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Every connection is in exactly one state, and there are not more than allowed.
pub(crate) fn assert_balanced(pool: &Pool<Fake>) {
    let s = pool.stats();
    assert_eq!(s.idle + s.leased + s.connecting + s.checking + s.resetting + s.closing, s.size, "{s:?}");
    assert!(s.size <= s.max, "{s:?}");
    assert!(pool.manager().alive() <= s.max, "{} alive, {s:?}", pool.manager().alive());
}

/// The whole capacity can be leased at once.
pub(crate) async fn assert_full_capacity(pool: &Pool<Fake>) {
    let max = pool.config().max;
    let mut leases = Vec::new();
    for _ in 0..max {
        leases.push(pool.acquire().await.unwrap());
    }
    assert_eq!(pool.stats().leased, max);
    drop(leases);
    settle().await;
    assert_balanced(pool);
}

const ACTS: [Act; 4] = [Act::Ok, Act::Fail, Act::Panic, Act::Hang];

/// Statements A, B, C: four behaviours of five hooks are 1,024 combinations, each with eight callers that give up.
/// The behaviours are deadpool's gates, with a panic in the place of a slow answer; slowness is the callers' timing.
#[tokio::test(start_paused = true)]
async fn eight_cancelled_callers_leave_full_capacity_in_each_of_1024_combinations() {
    crate::fake::hush_scripted_panics();
    for combination in 0..1024_usize {
        let act = |hook: u32| ACTS[combination / 4_usize.pow(hook) % 4];
        let fake = Fake::new();
        let pool = Pool::builder(fake.clone())
            .max(2)
            .check_after(ms(0))
            .connect_timeout(ms(50))
            .check_timeout(ms(50))
            .close_timeout(ms(50))
            .retry_base(ms(1))
            .retry_cap(ms(5))
            .seed(combination as u64)
            .build()
            .unwrap();
        fake.set_connect(act(0));
        fake.set_check(act(1));
        fake.set_reset(act(2));
        fake.set_close(act(3));
        fake.condition_panics.store(act(4) == Act::Panic, Ordering::SeqCst);
        for caller in 0..8_u64 {
            let attempt = time::timeout(ms(caller * 15), pool.acquire()).await;
            if let Ok(Ok(mut lease)) = attempt {
                if act(4) != Act::Ok {
                    lease.taint();
                }
                if caller % 3 == 2 {
                    drop(lease.detach());
                }
            }
            assert_balanced(&pool);
        }
        for set in [Fake::set_connect, Fake::set_check, Fake::set_reset, Fake::set_close] {
            set(&fake, Act::Ok);
        }
        fake.condition_panics.store(false, Ordering::SeqCst);
        time::sleep(ms(200)).await;
        assert_full_capacity(&pool).await;
        pool.close().await;
        assert_eq!((pool.stats().size, fake.alive()), (0, 0), "combination {combination}");
    }
}

/// Statement B: callers that are dropped at every await point, many at a time.
#[tokio::test(start_paused = true)]
async fn callers_dropped_at_any_moment_leave_the_books_balanced() {
    let pool = Pool::builder(Fake::new().slow(ms(3))).max(3).check_after(ms(0)).build().unwrap();
    pool.manager().check_ms.store(2, Ordering::SeqCst);
    for patience in 0..40_u64 {
        let callers: Vec<_> = (0..10)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let limit = ms((patience * 7 + number) % 13);
                    let held = time::timeout(limit, async {
                        let _lease = pool.acquire().await.unwrap();
                        time::sleep(ms(2)).await;
                    });
                    let _ = held.await;
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
            assert_balanced(&pool);
        }
    }
    assert_full_capacity(&pool).await;
}

/// Statement C, and the panic row of the scenarios.
#[tokio::test(start_paused = true)]
async fn a_panic_in_connect_reaches_the_waiter_and_costs_no_capacity() {
    let fake = Fake::new();
    fake.set_connect(Act::Panic);
    let events = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&events);
    let pool = Pool::builder(fake.clone())
        .max(2)
        .on_event(move |event| {
            *seen.lock().unwrap() += u32::from(matches!(event, PoolEvent::ManagerPanicked));
        })
        .build()
        .unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, Error::ManagerPanicked { .. }), "{error:?}");
    assert_eq!(*events.lock().unwrap(), 1);
    assert_balanced(&pool);
    fake.set_connect(Act::Ok);
    assert_full_capacity(&pool).await;
}

/// Statement C.
#[tokio::test(start_paused = true)]
async fn a_panic_while_checking_costs_the_connection_and_nothing_else() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).check_after(ms(0)).build().unwrap();
    drop(pool.acquire().await.unwrap());
    fake.set_check(Act::Panic);
    let mut waiting = pin!(pool.acquire());
    let lease = waiting.as_mut().await.unwrap();
    assert_eq!((lease.id, pool.stats().panicked), (2, 1));
    drop(lease);
    fake.set_check(Act::Ok);
    assert_full_capacity(&pool).await;
}

/// Statement C.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_look_at_a_returned_connection_closes_it() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    let lease = pool.acquire().await.unwrap();
    fake.condition_panics.store(true, Ordering::SeqCst);
    drop(lease);
    fake.condition_panics.store(false, Ordering::SeqCst);
    settle().await;
    assert_eq!((pool.stats().closed_broken, fake.alive()), (1, 0));
    assert_full_capacity(&pool).await;
}

/// Statement C: a listener is code of the user's too.
#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_loses_its_event_and_nothing_else() {
    let fake = Fake::new();
    fake.set_connect(Act::Fail);
    let pool = Pool::builder(fake.clone())
        .acquire_timeout(ms(500))
        .retry_cap(ms(100))
        .on_event(|_| panic!("a bad listener"))
        .build()
        .unwrap();
    assert!(pool.acquire().await.unwrap_err().is_timeout());
    fake.set_connect(Act::Ok);
    assert_full_capacity(&pool).await;
}
