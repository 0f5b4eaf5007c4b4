//! Every interleaving of the hand-off, explored by loom: `RUSTFLAGS="--cfg perf_loom" cargo test --lib`.

use super::{Attempt, Caller, Core, Delivery, Entry, Grant, Job, SeatId, Seats, Take, Waiting};
use crate::PoolConfig;
use crate::clock::Tick;
use crate::manager::Condition;
use loom::sync::Mutex;
use loom::thread;
use perf_core::Rng;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it was woken, so that a test can tell a waiter that was forgotten.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Pool {
    core: Mutex<Core<u32>>,
    seats: Arc<Seats<u32>>,
    now: Tick,
}

impl Pool {
    /// A pool of one connection, which is leased.
    fn with_one_lease() -> (Arc<Self>, Box<Entry<u32>>) {
        let now = Tick::at(1_000_000_000);
        let config = PoolConfig { max: 1, max_lifetime: None, ..PoolConfig::default() };
        let mut core = Core::new(config, Rng::seeded(1), now);
        core.running = true;
        let caller = Caller { site: Location::caller(), task: None };
        let waiting = Waiting { since: now, deadline: Tick::NEVER, caller };
        let seat = core.join(waiting, now).unwrap();
        let Some(Job::Connect { successor }) = core.jobs.pop_front() else { panic!("a connect is wanted") };
        let begun = core.begin(now, successor);
        core.connect_done(Attempt::Connected(7), begun, now);
        for delivery in core.effects.take().deliveries {
            delivery.deliver(core.seats()).unwrap();
        }
        let seats = Arc::clone(core.seats());
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Grant::Lease { entry, .. }) = seats.get(seat).poll(context) else {
            panic!("the connection is handed to the waiter")
        };
        core.reuse(seat);
        (Arc::new(Self { core: Mutex::new(core), seats, now }), entry)
    }

    fn with<R>(&self, change: impl FnOnce(&mut Core<u32>) -> R) -> R {
        let mut core = self.core.lock().unwrap();
        let result = change(&mut core);
        let effects = core.effects.take();
        drop(core);
        for delivery in effects.deliveries {
            self.deliver(delivery);
        }
        result
    }

    /// As the pool does it, off the lock.
    fn deliver(&self, delivery: Delivery<u32>) {
        if let Err(undelivered) = delivery.deliver(&self.seats) {
            self.with(|core| core.take_back(undelivered, self.now));
        }
    }

    fn give_back(&self, lease: Box<Entry<u32>>) {
        let delivery = self.with(|core| core.give_back(lease, Condition::Clean, self.now));
        if let Some(delivery) = delivery {
            self.deliver(delivery);
        }
    }

    fn join(&self, waker: &Waker) -> Result<Box<Entry<u32>>, SeatId> {
        let caller = Caller { site: Location::caller(), task: None };
        let seat = self.with(|core| match core.take(self.now, caller) {
            Take::Lease { entry, .. } => Ok(entry),
            _ => {
                let waiting = Waiting { since: self.now, deadline: Tick::NEVER, caller };
                Err(core.join(waiting, self.now).unwrap())
            }
        });
        match seat {
            Ok(entry) => Ok(entry),
            Err(seat) => match self.seats.get(seat).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(Grant::Lease { entry, .. }) => Ok(entry),
                _ => Err(seat),
            },
        }
    }

    fn poll(&self, seat: SeatId) -> Option<Box<Entry<u32>>> {
        match self.seats.get(seat).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Grant::Lease { entry, .. }) => Some(entry),
            _ => None,
        }
    }
}

/// Statement 4: a connection comes back while its next user goes away. Whoever is left gets it.
#[test]
fn a_hand_off_to_a_waiter_that_leaves_reaches_the_next() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let first = pool.join(Waker::noop()).unwrap_err();
        let told = Arc::new(Woken(AtomicUsize::new(0)));
        let second = pool.join(&told.clone().into()).unwrap_err();
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.give_back(lease))
        };
        let leaving = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || drop(pool.with(|core| core.leave(first, pool.now))))
        };
        returning.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(told.0.load(Ordering::SeqCst), 1, "the second waiter was told once");
        let third = pool.join(Waker::noop()).unwrap_err();
        assert!(pool.poll(third).is_none(), "nothing lies on the seat of the one who left");
        assert!(pool.poll(second).is_some(), "the connection was lost");
        assert_eq!(pool.with(|core| (core.counts.leased, core.idle(), core.waiting())), (1, 0, 1));
    });
}

/// Statement 3: a newcomer arrives while a connection comes back. It never overtakes the waiter.
#[test]
fn a_newcomer_never_overtakes_a_waiter() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let waiter = pool.join(Waker::noop()).unwrap_err();
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.give_back(lease))
        };
        let newcomer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.join(Waker::noop()).is_ok())
        };
        returning.join().unwrap();
        assert!(!newcomer.join().unwrap(), "the newcomer was served first");
        assert!(pool.poll(waiter).is_some());
    });
}

/// No wake-up is lost: a caller joins and sits down while the connection comes back. Either it is served at once, or it
/// is told.
#[test]
fn a_connection_that_comes_back_while_a_caller_sits_down_reaches_it() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.give_back(lease))
        };
        let told = Arc::new(Woken(AtomicUsize::new(0)));
        let joined = pool.join(&told.clone().into());
        returning.join().unwrap();
        if let Err(seat) = joined {
            assert_eq!(told.0.load(Ordering::SeqCst), 1, "nobody told the waiter");
            assert!(pool.poll(seat).is_some(), "the connection was lost");
        }
        assert_eq!(pool.with(|core| (core.counts.leased, core.idle(), core.waiting())), (1, 0, 0));
    });
}

/// The time of a waiter runs out while the connection comes back: it is refused or served, and the connection is not lost.
#[test]
fn a_deadline_that_passes_during_a_hand_off_loses_nothing() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let late = pool.now.after(std::time::Duration::from_secs(1));
        let caller = Caller { site: Location::caller(), task: None };
        let waiting = Waiting { since: pool.now, deadline: late, caller };
        let seat = pool.with(|core| core.join(waiting, pool.now).unwrap());
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.give_back(lease))
        };
        pool.with(|core| core.tick(late));
        returning.join().unwrap();
        let served = pool.poll(seat).is_some();
        let expected = if served { (1, 0, 0) } else { (0, 1, 0) };
        assert_eq!(pool.with(|core| (core.counts.leased, core.idle(), core.waiting())), expected);
    });
}
