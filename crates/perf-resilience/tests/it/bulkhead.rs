use perf_core::time::{self, Duration};
use perf_core::{Deadline, Reason};
use perf_resilience::{Bulkhead, Permit, Priority};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

const MS: Duration = Duration::from_millis(1);

type Order = Arc<Mutex<Vec<u32>>>;

/// Waits in the queue, notes its number, and holds the place for a millisecond.
fn waiter(bulkhead: &Bulkhead, class: Priority, number: u32, order: &Order) -> JoinHandle<Option<Reason>> {
    let (bulkhead, order) = (bulkhead.clone(), order.clone());
    tokio::spawn(async move {
        match bulkhead.acquire_as(class, Deadline::NEVER).await {
            Ok(permit) => {
                order.lock().unwrap().push(number);
                time::sleep(MS).await;
                drop(permit);
                None
            }
            Err(rejected) => Some(rejected.reason()),
        }
    })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn held(bulkhead: &Bulkhead) -> Permit {
    bulkhead.try_acquire().unwrap()
}

#[tokio::test(start_paused = true)]
async fn k01_a_permit_gives_its_place_back_when_dropped() {
    let bulkhead = Bulkhead::builder("b").limit(2).build().unwrap();
    let (first, second) = (held(&bulkhead), held(&bulkhead));
    assert_eq!(bulkhead.try_acquire().unwrap_err().reason(), Reason::Full);
    drop(first);
    drop((held(&bulkhead), second));
    assert_eq!(bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn k02_waiters_are_served_in_order_and_beyond_the_bound_refused_at_once() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(3).max_wait(MS * 1000).build().unwrap();
    let (permit, order) = (held(&bulkhead), Order::default());
    let mut waiters = Vec::new();
    for number in 0..4 {
        waiters.push(waiter(&bulkhead, Priority::Normal, number, &order));
        settle().await;
    }
    assert_eq!(waiters.pop().unwrap().await.unwrap(), Some(Reason::Full));
    drop(permit);
    assert!(bulkhead.try_acquire().is_err(), "a newcomer cannot take what belongs to a waiter");
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), None);
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn k02_nobody_waits_longer_than_max_wait_or_the_deadline() {
    let bulkhead = Bulkhead::builder("b").limit(1).max_wait(MS * 20).build().unwrap();
    let _permit = held(&bulkhead);
    let start = time::now();
    assert_eq!(bulkhead.acquire(Deadline::NEVER).await.unwrap_err().reason(), Reason::WontMakeIt);
    assert_eq!(start.elapsed(), MS * 20);
    let soon = Deadline::within(MS * 5);
    assert_eq!(bulkhead.acquire(soon).await.unwrap_err().reason(), Reason::DeadlineExceeded);
    assert_eq!(start.elapsed(), MS * 25);
    assert_eq!((bulkhead.waiting(), bulkhead.stats().refused_wait), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn k03_a_grant_that_meets_a_cancelled_waiter_goes_to_the_next() {
    let bulkhead = Bulkhead::builder("b").limit(1).build().unwrap();
    let (permit, order) = (held(&bulkhead), Order::default());
    let gone = waiter(&bulkhead, Priority::Normal, 0, &order);
    settle().await;
    let next = waiter(&bulkhead, Priority::Normal, 1, &order);
    settle().await;
    drop(permit);
    // Granted, but not polled yet.
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(next.await.unwrap(), None);
    assert_eq!((order.lock().unwrap().clone(), bulkhead.in_flight()), (vec![1], 0));
}

#[tokio::test(start_paused = true)]
async fn k04_resizing_lets_holders_finish_and_wakes_waiters_in_order() {
    let bulkhead = Bulkhead::builder("b").limit(2).build().unwrap();
    let permits = (held(&bulkhead), held(&bulkhead));
    bulkhead.resize(1).unwrap();
    assert_eq!((bulkhead.in_flight(), bulkhead.limit()), (2, 1));
    let order = Order::default();
    let waiters: Vec<_> = (0..3).map(|number| waiter(&bulkhead, Priority::Normal, number, &order)).collect();
    settle().await;
    drop(permits.0);
    settle().await;
    assert!(order.lock().unwrap().is_empty(), "two held, one allowed: the first to go frees nothing");
    bulkhead.resize(3).unwrap();
    settle().await;
    assert_eq!(*order.lock().unwrap(), [0, 1]);
    drop(permits.1);
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    assert_eq!(bulkhead.in_flight(), 0);
    assert_eq!(bulkhead.resize(0).unwrap_err().field(), "limit");
}

#[tokio::test(start_paused = true)]
async fn k05_once_the_oldest_is_late_the_newest_is_served_first() {
    let bulkhead = Bulkhead::builder("b").limit(1).max_wait(MS * 100).build().unwrap();
    let (permit, order) = (held(&bulkhead), Order::default());
    let old = waiter(&bulkhead, Priority::Normal, 0, &order);
    time::sleep(MS * 60).await;
    let new: Vec<_> = (1..3).map(|number| waiter(&bulkhead, Priority::Normal, number, &order)).collect();
    settle().await;
    drop(permit);
    old.await.unwrap();
    for waiter in new {
        waiter.await.unwrap();
    }
    assert_eq!(order.lock().unwrap()[..], [2, 1, 0]);

    let fair =
        Bulkhead::builder("b").limit(1).max_wait(MS * 100).newest_first_when_late(false).build().unwrap();
    let (permit, order) = (held(&fair), Order::default());
    let old = waiter(&fair, Priority::Normal, 0, &order);
    time::sleep(MS * 60).await;
    let new = waiter(&fair, Priority::Normal, 1, &order);
    settle().await;
    drop(permit);
    old.await.unwrap();
    new.await.unwrap();
    assert_eq!(order.lock().unwrap()[..], [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn k06_more_important_calls_displace_and_overtake() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(2).build().unwrap();
    let (permit, order) = (held(&bulkhead), Order::default());
    let background = waiter(&bulkhead, Priority::Background, 0, &order);
    settle().await;
    let normal = waiter(&bulkhead, Priority::Normal, 1, &order);
    settle().await;
    let critical = waiter(&bulkhead, Priority::Critical, 2, &order);
    settle().await;
    assert_eq!(background.await.unwrap(), Some(Reason::Full), "displaced");
    let low = waiter(&bulkhead, Priority::Low, 3, &order);
    settle().await;
    assert_eq!(low.await.unwrap(), Some(Reason::Full), "nobody below it to displace");
    drop(permit);
    critical.await.unwrap();
    normal.await.unwrap();
    assert_eq!(*order.lock().unwrap(), [2, 1]);
    assert_eq!(bulkhead.stats().displaced, 1);
}

#[tokio::test(start_paused = true)]
async fn k06_every_class_gets_a_twentieth() {
    let bulkhead = Bulkhead::builder("b").limit(1).queue(1000).max_wait(MS * 100_000).build().unwrap();
    let (permit, order) = (held(&bulkhead), Order::default());
    let mut waiters: Vec<_> = (0..200).map(|_| waiter(&bulkhead, Priority::Critical, 0, &order)).collect();
    waiters.extend((0..10).map(|_| waiter(&bulkhead, Priority::Background, 3, &order)));
    settle().await;
    drop(permit);
    for waiter in waiters {
        waiter.await.unwrap();
    }
    let order = order.lock().unwrap();
    let served = order[..100].iter().filter(|class| **class == 3).count();
    assert_eq!(served, 5);
}

#[test]
fn places_are_neither_lost_nor_doubled_between_threads() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let bulkhead = Bulkhead::builder("b").limit(3).queue(64).max_wait(MS * 10_000).build().unwrap();
    let inside = Arc::new(std::sync::atomic::AtomicU32::new(0));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let (bulkhead, inside) = (bulkhead.clone(), inside.clone());
                tokio::spawn(async move {
                    for round in 0..200 {
                        let wait = bulkhead.acquire(Deadline::NEVER);
                        if (task + round) % 7 == 0 {
                            let given = time::timeout(Duration::ZERO, wait).await;
                            drop(given);
                            continue;
                        }
                        let permit = wait.await.unwrap();
                        let now_inside = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert!(now_inside < 3);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}
