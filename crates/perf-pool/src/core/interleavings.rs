//! Every interleaving of the hand-off, explored by loom: `RUSTFLAGS="--cfg perf_loom" cargo test --lib`.

use super::{Attempt, Caller, Core, Entry, Grant, Job, Take, Waiting};
use crate::PoolConfig;
use crate::clock::{Offset, Tick};
use crate::manager::Condition;
use loom::sync::{Arc, Mutex};
use loom::thread;
use perf_core::{Rng, Ticket};
use std::panic::Location;
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
    now: Tick,
}

impl Pool {
    /// A pool of one connection, which is leased.
    fn with_one_lease() -> (Arc<Self>, Box<Entry<u32>>) {
        let now = Tick::at(1_000_000_000);
        let config = PoolConfig { max: 1, max_lifetime: None, ..PoolConfig::default() };
        let mut core = Core::new(config, Rng::seeded(1), now, Offset::default());
        core.running = true;
        let caller = Caller { site: Location::caller(), task: None };
        let waiting = Waiting { since: now, deadline: Tick::NEVER, caller };
        let ticket = core.join(Waker::noop().clone(), waiting, now).unwrap();
        let Some(Job::Connect { successor }) = core.jobs.pop_front() else { panic!("a connect is wanted") };
        let begun = core.begin(now, successor);
        core.connect_done(Attempt::Connected(7), begun, now);
        let Poll::Ready(Grant::Lease(entry)) = core.poll(ticket, &mut Context::from_waker(Waker::noop()))
        else {
            panic!("the connection is handed to the waiter")
        };
        core.effects.wake_all();
        (Arc::new(Self { core: Mutex::new(core), now }), entry)
    }

    fn with<R>(&self, change: impl FnOnce(&mut Core<u32>) -> R) -> R {
        let mut core = self.core.lock().unwrap();
        let result = change(&mut core);
        let mut effects = std::mem::take(&mut core.effects);
        drop(core);
        effects.wake_all();
        result
    }

    fn join(&self, waker: Waker) -> Result<Box<Entry<u32>>, Ticket> {
        let caller = Caller { site: Location::caller(), task: None };
        self.with(|core| match core.take(self.now, caller) {
            Take::Lease { entry, .. } => Ok(entry),
            _ => {
                let waiting = Waiting { since: self.now, deadline: Tick::NEVER, caller };
                Err(core.join(waker, waiting, self.now).unwrap())
            }
        })
    }

    fn poll(&self, ticket: Ticket) -> Option<Box<Entry<u32>>> {
        self.with(|core| match core.poll(ticket, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Grant::Lease(entry)) => Some(entry),
            _ => None,
        })
    }
}

/// Statement 4: a connection comes back while its next user goes away. Whoever is left gets it.
#[test]
fn a_hand_off_to_a_waiter_that_leaves_reaches_the_next() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let first = pool.join(Waker::noop().clone()).unwrap_err();
        let told = std::sync::Arc::new(Woken(AtomicUsize::new(0)));
        let second = pool.join(told.clone().into()).unwrap_err();
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let woken = pool.with(|core| core.give_back(lease, Condition::Clean, pool.now));
                woken.into_iter().for_each(Waker::wake);
            })
        };
        let leaving = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.with(|core| core.leave(first, pool.now)))
        };
        returning.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(told.0.load(Ordering::SeqCst), 1, "the second waiter was told once");
        assert!(pool.poll(second).is_some(), "the connection was lost");
        assert_eq!(pool.with(|core| (core.counts.leased, core.idle(), core.waiting())), (1, 0, 0));
    });
}

/// Statement 3: a newcomer arrives while a connection comes back. It never overtakes the waiter.
#[test]
fn a_newcomer_never_overtakes_a_waiter() {
    loom::model(|| {
        let (pool, lease) = Pool::with_one_lease();
        let waiter = pool.join(Waker::noop().clone()).unwrap_err();
        let returning = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let woken = pool.with(|core| core.give_back(lease, Condition::Clean, pool.now));
                woken.into_iter().for_each(Waker::wake);
            })
        };
        let newcomer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.join(Waker::noop().clone()).is_ok())
        };
        returning.join().unwrap();
        assert!(!newcomer.join().unwrap(), "the newcomer was served first");
        assert!(pool.poll(waiter).is_some());
    });
}
