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

/// deadpool's gates.
const GATES: [Act; 4] = [Act::Ok, Act::Fail, Act::Slow, Act::Hang];

const SET: [fn(&Fake, Act); 5] =
    [Fake::set_connect, Fake::set_setup, Fake::set_check, Fake::set_reset, Fake::set_close];

/// Eight callers, each a little later and with more patience than the one before, on a pool that has one good connection
/// and whose five hooks behave as told. Some give the connection back in disorder, some keep it. Returns how often the
/// hooks for connecting, checking, putting in order and closing were called.
async fn eight_cancelled_callers(seed: u64, gates: [Act; 5]) -> [u32; 4] {
    let fake = Fake::new();
    let pool = fake
        .pool()
        .max(2)
        .check_after(ms(0))
        .connect_timeout(ms(50))
        .check_timeout(ms(50))
        .close_timeout(ms(50))
        .retry_base(ms(10))
        .retry_cap(ms(20))
        .seed(seed)
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    for (set, gate) in SET.iter().zip(gates) {
        set(&fake, gate);
    }
    let callers: Vec<_> = (0..8_u64)
        .map(|caller| {
            let pool = pool.clone();
            tokio::spawn(async move {
                time::sleep(ms(caller * 6)).await;
                let visit = time::timeout(ms(caller * 9), async {
                    let mut lease = pool.acquire().await?;
                    time::sleep(ms(2)).await;
                    match caller % 3 {
                        0 => lease.taint(),
                        1 => drop(lease.detach()),
                        _ => {}
                    }
                    Ok::<(), Error>(())
                });
                let _ = visit.await;
                assert_balanced(&pool);
            })
        })
        .collect();
    for caller in callers {
        // No panic of the manager reaches a caller.
        caller.await.unwrap();
    }
    for set in SET {
        set(&fake, Act::Ok);
    }
    time::sleep(ms(150)).await;
    assert_full_capacity(&pool).await;
    pool.close().await;
    assert_eq!((pool.stats().size, fake.alive()), (0, 0), "{gates:?}");
    [&fake.connects, &fake.checks, &fake.resets, &fake.closes].map(|calls| calls.load(Ordering::SeqCst))
}

/// Statements A, B, C: four gates of five hooks are 1,024 combinations, each with eight callers that give up.
#[tokio::test(start_paused = true)]
async fn eight_cancelled_callers_leave_full_capacity_in_each_of_1024_combinations() {
    let mut called = [0; 4];
    for combination in 0..1024_u32 {
        let gates = [0, 1, 2, 3, 4].map(|hook| GATES[(combination / 4_u32.pow(hook) % 4) as usize]);
        let calls = eight_cancelled_callers(u64::from(combination), gates).await;
        called.iter_mut().zip(calls).for_each(|(sum, calls)| *sum += calls);
    }
    assert!(called.iter().all(|calls| *calls > 512), "each hook is met in many of them: {called:?}");
}

/// Statement C: the same with each hook in turn panicking, while each of the others behaves in every way.
#[tokio::test(start_paused = true)]
async fn eight_cancelled_callers_leave_full_capacity_whichever_hook_panics() {
    crate::fake::hush_scripted_panics();
    for panics in 0..5 {
        for combination in 0..64_usize {
            let mut gates = [0, 1, 2, 3, 4].map(|hook| GATES[(combination / 4_usize.pow(hook % 3)) % 4]);
            gates[panics] = Act::Panic;
            eight_cancelled_callers(combination as u64, gates).await;
        }
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
    assert_eq!((pool.stats().closed_broken, pool.stats().panicked, fake.alive()), (1, 1, 0));
    assert_full_capacity(&pool).await;
}

/// Statement C: the hook for fresh connections.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_setup_reaches_the_waiter_and_costs_no_capacity() {
    let fake = Fake::new();
    fake.set_setup(Act::Panic);
    let pool = fake.pool().max(2).build().unwrap();
    assert!(matches!(pool.acquire().await.unwrap_err(), Error::ManagerPanicked { .. }));
    assert_eq!((pool.stats().panicked, pool.stats().size, fake.alive()), (1, 0, 0));
    fake.set_setup(Act::Ok);
    assert_full_capacity(&pool).await;
}

/// Statement C.
#[tokio::test(start_paused = true)]
async fn a_panic_while_putting_in_order_or_closing_costs_the_connection_and_is_counted() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).build().unwrap();
    fake.set_reset(Act::Panic);
    let mut lease = pool.acquire().await.unwrap();
    lease.taint();
    drop(lease);
    settle().await;
    assert_eq!((pool.stats().closed_reset_failed, pool.stats().panicked, fake.alive()), (1, 1, 0));
    fake.set_close(Act::Panic);
    drop(pool.acquire().await.unwrap());
    pool.evict_all();
    settle().await;
    assert_eq!((pool.stats().closed_evicted, pool.stats().panicked, fake.alive()), (1, 2, 0));
    fake.set_close(Act::Ok);
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
