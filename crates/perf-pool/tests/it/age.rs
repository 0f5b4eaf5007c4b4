//! Getting old: statements 18 to 21.

use crate::fake::{Fake, ms, settle};
use perf_core::time::{self, Duration};
use perf_pool::{Order, Pool, PoolEvent};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

const MINUTE: Duration = Duration::from_secs(60);

/// Statement 18.
#[tokio::test(start_paused = true)]
async fn connections_born_together_do_not_die_together() {
    let lifetime = MINUTE * 30;
    let pool = Pool::builder(Fake::new())
        .max(1000)
        .max_connecting(1000)
        .max_lifetime(lifetime)
        .idle_timeout(None)
        .keepalive(None)
        .replace_overlap(0)
        .seed(7)
        .build()
        .unwrap();
    let mut leases = Vec::new();
    for _ in 0..1000 {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    time::sleep(lifetime.mul_f64(0.89)).await;
    assert_eq!(pool.stats().closed_expired, 0);
    let mut before = 0;
    let mut most = 0;
    for _ in 0..12 {
        time::sleep(lifetime / 100).await;
        let died = pool.stats().closed_expired;
        most = most.max(died - before);
        before = died;
    }
    assert_eq!(before, 1000);
    assert!(most <= 150, "{most} died within one hundredth of the lifetime");
}

/// Statement 19: never handed out, neither from idle nor from hand to hand.
#[tokio::test(start_paused = true)]
async fn an_expired_connection_is_never_handed_out() {
    let pool = Pool::builder(Fake::new())
        .max(1)
        .max_lifetime(ms(1000))
        .maintenance_interval(MINUTE)
        .check_after(MINUTE)
        .replace_overlap(0)
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(1000)).await;
    let held = pool.acquire().await.unwrap();
    assert_eq!(held.id, 2, "found at acquire");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap().id }
    });
    time::sleep(ms(1000)).await;
    drop(held);
    assert_eq!(waiting.await.unwrap(), 3, "found at return");
    assert_eq!(pool.stats().closed_expired, 2);
}

/// Statement 19: nor does one that nobody asks for stay open.
#[tokio::test(start_paused = true)]
async fn maintenance_closes_what_has_expired() {
    let pool = Pool::builder(Fake::new())
        .max_lifetime(ms(10_000))
        .idle_timeout(None)
        .replace_overlap(0)
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(11_001)).await;
    settle().await;
    assert_eq!((pool.stats().closed_expired, pool.stats().size), (1, 0));
}

/// Idea 6: a connection in use gets its successor before it expires, and only one more than `max` exists.
#[tokio::test(start_paused = true)]
async fn a_connection_in_use_is_replaced_before_it_expires() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone())
        .max(1)
        .max_lifetime(Duration::from_secs(100))
        .acquire_timeout(ms(50))
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    fake.connect_ms.store(500, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..1500 {
        time::sleep(ms(100)).await;
        drop(pool.acquire().await.expect("nobody meets a connection being made"));
    }
    assert_eq!(pool.stats().closed_expired, 1);
    assert_eq!(fake.peak.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(fake.connects(), 2);
}

/// Idea 6: the same while the old connection is out on a long lease.
#[tokio::test(start_paused = true)]
async fn a_successor_waits_for_a_long_lease_to_end() {
    let pool = Pool::builder(Fake::new()).max(1).max_lifetime(Duration::from_secs(100)).build().unwrap();
    drop(pool.acquire().await.unwrap());
    time::sleep(ms(89_000)).await;
    let long = pool.acquire().await.unwrap();
    time::sleep(ms(2_000)).await;
    drop(long);
    let next = pool.acquire().await.unwrap();
    time::sleep(ms(20_000)).await;
    drop(next);
    let stats = pool.stats();
    assert!(stats.size - stats.closing <= 1, "{stats:?}");
    assert!(pool.acquire().await.unwrap().id >= 2);
}

/// Statement 20, and the "idle" row of the scenarios: nothing is closed and opened again.
#[tokio::test(start_paused = true)]
async fn the_idle_timeout_stops_at_min_idle() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone())
        .min_idle(2)
        .max(8)
        .idle_timeout(ms(200))
        .maintenance_interval(ms(50))
        .build()
        .unwrap();
    pool.warm_up().await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    time::sleep(ms(1200)).await;
    assert_eq!((pool.stats().size, pool.stats().closed_idle, fake.connects()), (2, 3, 5));
}

/// Statement 20: last in, first out leaves the rest to age; first in, first out uses them all.
#[tokio::test(start_paused = true)]
async fn the_order_of_use_decides_who_ages() {
    assert_eq!(Order::default(), Order::Lifo);
    for (order, used) in [(Order::Lifo, 1), (Order::Fifo, 3)] {
        let pool = Pool::builder(Fake::new()).max(3).order(order).build().unwrap();
        let leases =
            [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        drop(leases);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..9 {
            time::sleep(ms(1)).await;
            seen.insert(pool.acquire().await.unwrap().id);
        }
        assert_eq!(seen.len(), used, "{order:?}");
    }
}

/// A pool of five idle connections that tells how often it has stalled.
async fn five_idle(idle_timeout: Duration) -> (Fake, Pool<Fake>, Arc<AtomicUsize>) {
    let (fake, stalls) = (Fake::new(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&stalls);
    let pool = Pool::builder(fake.clone())
        .max(5)
        .min_idle(5)
        .check_after(MINUTE)
        .idle_timeout(idle_timeout)
        .on_event(move |event| {
            seen.fetch_add(usize::from(matches!(event, PoolEvent::Stalled { .. })), SeqCst);
        })
        .build()
        .unwrap();
    pool.warm_up().await.unwrap();
    time::sleep(ms(1_500)).await;
    (fake, pool, stalls)
}

/// Moving the clock without running anything is what a stopped process sees when it goes on.
async fn stall(time: Duration) {
    tokio::time::advance(time).await;
    settle().await;
    time::sleep(ms(1)).await;
}

/// Statement 21: a process that stood still checks all it has, and evicts nothing for its absence: not even what would
/// have been idle for too long.
#[tokio::test(start_paused = true)]
async fn after_a_stall_idle_connections_are_checked_not_evicted() {
    let (fake, pool, stalls) = five_idle(ms(3_000)).await;
    pool.resize(6).unwrap();
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    assert_eq!((stalls.load(SeqCst), fake.checks(), pool.stats().idle), (0, 0, 6));
    stall(ms(5_000)).await;
    assert_eq!(stalls.load(SeqCst), 1);
    assert_eq!((fake.checks(), pool.stats().checked), (6, 6));
    assert_eq!((pool.stats().idle, pool.stats().closed()), (6, 0), "five seconds were not spent idle");
    time::sleep(ms(4_500)).await;
    assert_eq!(
        (pool.stats().idle, pool.stats().closed_idle),
        (5, 1),
        "three seconds that it lived through were"
    );
    assert_eq!(stalls.load(SeqCst), 1);
}

/// Statement 21: nothing that died during the stall reaches a user.
#[tokio::test(start_paused = true)]
async fn after_a_stall_nothing_is_handed_out_unchecked() {
    let (fake, pool, _) = five_idle(MINUTE).await;
    fake.kill_all();
    stall(ms(5_000)).await;
    assert!(pool.acquire().await.unwrap().id > 5);
    settle().await;
    assert_eq!((pool.stats().closed_check_failed, pool.stats().closed()), (5, 5));
}

/// Statement 21: in paused time the pool's clock stands still while the machine's goes on, which is to the pool what a
/// jump of the wall clock is. Every limit is far exceeded by it, and nothing happens.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_does_nothing() {
    let build = || {
        Pool::builder(Fake::new())
            .max(1)
            .max_lifetime(ms(10))
            .idle_timeout(ms(10))
            .keepalive(ms(5))
            .check_after(ms(5))
            .leak_after(ms(10))
            .acquire_timeout(ms(10))
            .maintenance_interval(ms(1))
            .replace_overlap(0)
            .build()
            .unwrap()
    };
    let (resting, full) = (build(), build());
    drop(resting.acquire().await.unwrap());
    let held = full.acquire().await.unwrap();
    let mut waiting = Box::pin(full.acquire());
    assert!(time::timeout(ms(0), &mut waiting).await.is_err());
    let before = (resting.stats(), full.stats());
    #[expect(clippy::disallowed_methods, reason = "the wall clock is what has to move here")]
    std::thread::sleep(ms(30));
    settle().await;
    assert_eq!((resting.stats(), full.stats()), before, "nothing expired, was checked, leaked or timed out");
    assert_eq!((before.0.idle, before.1.waiting), (1, 1));
    assert!(resting.try_acquire().is_ok());
    time::sleep(ms(15)).await;
    assert_eq!((resting.stats().closed(), full.stats().leaked), (1, 1), "fifteen milliseconds of its own");
    assert!(waiting.await.unwrap_err().is_timeout());
    drop(held);
}

/// Statement 21: no file of the crate knows how to ask for the wall clock.
#[test]
fn the_wall_clock_is_never_read() {
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime"] {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 50, "{files} files");
}
