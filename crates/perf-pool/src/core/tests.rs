//! The core against an oracle: random histories, each step checked against a few lines that know only the totals.

use super::{Attempt, Begun, Caller, Core, Entry, Grant, Job, SeatId, Take, Verdict, Waiting};
use crate::PoolConfig;
use crate::clock::Tick;
use crate::error::Cause;
use crate::manager::Condition;
use perf_core::Rng;
use perf_core::time::Duration;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::Location;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    /// Polls a waiter.
    Poll(usize),
    /// What is on its way to a waiter arrives.
    Deliver,
    Cancel(usize),
    GiveBack(usize, Condition),
    Detach(usize),
    /// Ends a job well or badly.
    Finish(usize, bool),
    /// A job is lost with its task.
    Lose(usize, bool),
    Wait(u64),
    Resize(usize),
    Pause,
    Resume,
    EvictAll,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![
        4 => Just(Condition::Clean),
        1 => Just(Condition::Dirty),
        1 => Just(Condition::Broken),
    ];
    prop_oneof![
        8 => Just(Step::Acquire),
        5 => (0..32_usize).prop_map(Step::Poll),
        6 => Just(Step::Deliver),
        2 => (0..32_usize).prop_map(Step::Cancel),
        8 => (0..32_usize, condition).prop_map(|(which, how)| Step::GiveBack(which, how)),
        1 => (0..32_usize).prop_map(Step::Detach),
        10 => (0..32_usize, prop::bool::weighted(0.8)).prop_map(|(which, well)| Step::Finish(which, well)),
        1 => (0..32_usize, any::<bool>()).prop_map(|(which, panicked)| Step::Lose(which, panicked)),
        4 => (0..3000_u64).prop_map(Step::Wait),
        1 => (1..6_usize).prop_map(Step::Resize),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::EvictAll),
    ]
}

/// What is outside the core: leases with users, jobs under way, callers in the queue.
struct World {
    core: Core<u32>,
    now: Tick,
    #[expect(clippy::vec_box, reason = "the core hands out boxes, and takes them back as they are")]
    leases: Vec<Box<Entry<u32>>>,
    jobs: VecDeque<(Job<u32>, Option<Begun>)>,
    queue: Vec<(usize, SeatId)>,
    arrived: usize,
    /// Connections made, and connections gone for good: the oracle.
    made: usize,
    gone: usize,
    served: Vec<usize>,
    /// What was given back and not yet laid on the next waiter's seat, who may leave meanwhile.
    undelivered: Vec<super::Delivery<u32>>,
}

impl World {
    fn new(config: PoolConfig) -> Self {
        let now = Tick::at(1_000_000_000);
        let mut core = Core::new(config, Rng::seeded(1), now);
        core.running = true;
        Self {
            core,
            now,
            leases: Vec::new(),
            jobs: VecDeque::new(),
            queue: Vec::new(),
            arrived: 0,
            made: 0,
            gone: 0,
            served: Vec::new(),
            undelivered: Vec::new(),
        }
    }

    /// Takes over what the core wants done.
    fn collect(&mut self) {
        while let Some(job) = self.core.jobs.pop_front() {
            let begun = match &job {
                Job::Connect { successor } => Some(self.core.begin(self.now, *successor)),
                _ => None,
            };
            if let Job::Close { .. } = &job {
                self.gone += 1;
            }
            self.jobs.push_back((job, begun));
        }
        for delivery in self.core.effects.take().deliveries {
            self.deliver(delivery);
        }
    }

    fn deliver_all(&mut self) {
        while let Some(delivery) = self.undelivered.pop() {
            self.deliver(delivery);
        }
    }

    fn deliver(&mut self, delivery: super::Delivery<u32>) {
        if let Err(undelivered) = delivery.deliver(self.core.seats()) {
            self.core.take_back(undelivered, self.now);
            self.collect();
        }
    }

    fn apply(&mut self, step: &Step) {
        let site = Location::caller();
        match step {
            Step::Acquire => match self.core.take(self.now, Caller { site, task: None }) {
                Take::Lease { entry, .. } => {
                    assert_eq!(self.core.waiting(), 0, "a newcomer overtook a waiter");
                    self.leases.push(entry);
                }
                Take::Wait | Take::Closed => {
                    let deadline = self.now.after(Duration::from_secs(2));
                    let caller = Caller { site, task: None };
                    let waiting = Waiting { since: self.now, deadline, caller };
                    if let Ok(seat) = self.core.join(waiting, self.now) {
                        self.queue.push((self.arrived, seat));
                        self.arrived += 1;
                    }
                }
            },
            Step::Deliver => self.deliver_all(),
            Step::Poll(which) if !self.queue.is_empty() => self.poll(which % self.queue.len()),
            Step::Cancel(which) if !self.queue.is_empty() => {
                let (_, seat) = self.queue.remove(which % self.queue.len());
                drop(self.core.leave(seat, self.now));
            }
            Step::GiveBack(which, condition) if !self.leases.is_empty() => {
                let entry = self.leases.swap_remove(which % self.leases.len());
                if let Some(delivery) = self.core.give_back(entry, *condition, self.now) {
                    self.undelivered.push(delivery);
                }
            }
            Step::Detach(which) if !self.leases.is_empty() => {
                let entry = self.leases.swap_remove(which % self.leases.len());
                self.core.detach(&entry, self.now);
                self.gone += 1;
            }
            Step::Finish(which, well) if !self.jobs.is_empty() => {
                let place = which % self.jobs.len();
                if let Some((job, begun)) = self.jobs.remove(place) {
                    self.finish(job, begun, *well);
                }
            }
            Step::Lose(which, panicked) if !self.jobs.is_empty() => {
                let place = which % self.jobs.len();
                if let Some((job, begun)) = self.jobs.remove(place) {
                    self.lose(job, begun, *panicked);
                }
            }
            Step::Wait(millis) => {
                self.now = self.now.after(Duration::from_millis(*millis));
                self.core.tick(self.now);
            }
            Step::Resize(max) => self.core.resize(*max, self.now),
            Step::Pause => self.core.pause(),
            Step::Resume => self.core.resume(self.now),
            Step::EvictAll => self.core.evict_all(self.now),
            Step::Close => self.core.close(),
            _ => {}
        }
        self.collect();
    }

    fn poll(&mut self, place: usize) {
        let seat = self.core.seats().get(self.queue[place].1);
        let Poll::Ready(grant) = seat.poll(&mut Context::from_waker(Waker::noop())) else { return };
        let (number, seat) = self.queue.remove(place);
        self.core.reuse(seat);
        if let Grant::Lease { entry, .. } = grant {
            self.leases.push(entry);
            self.served.push(number);
        }
    }

    fn finish(&mut self, job: Job<u32>, begun: Option<Begun>, well: bool) {
        let verdict = if well { Verdict::Good } else { Verdict::Bad };
        match (job, begun) {
            (Job::Connect { .. }, Some(begun)) => {
                let attempt = if well {
                    self.made += 1;
                    Attempt::Connected(7)
                } else {
                    let cause = Cause::new(std::io::Error::other("refused"));
                    Attempt::Failed { cause, permanent: false }
                };
                self.core.connect_done(attempt, begun, self.now);
            }
            (Job::Check(entry), _) => self.core.check_done(entry, verdict, self.now),
            (Job::Reset(entry), _) => self.core.reset_done(entry, verdict, self.now),
            (Job::Close { .. }, _) => self.core.close_done(false, self.now),
            (Job::Connect { .. }, None) => {}
        }
    }

    fn lose(&mut self, job: Job<u32>, begun: Option<Begun>, panicked: bool) {
        match (job, begun) {
            (Job::Connect { .. }, Some(begun)) => {
                let attempt = if panicked { Attempt::Panicked } else { Attempt::Abandoned };
                self.core.connect_done(attempt, begun, self.now);
            }
            (Job::Check(entry), _) => {
                self.gone += 1;
                self.core.job_lost(true, super::Lost::of(&entry), panicked, self.now);
            }
            (Job::Reset(entry), _) => {
                self.gone += 1;
                self.core.job_lost(false, super::Lost::of(&entry), panicked, self.now);
            }
            (Job::Close { .. }, _) => self.core.close_done(panicked, self.now),
            (Job::Connect { .. }, None) => {}
        }
    }

    /// Statement A: each connection that was made and is not gone is in exactly one place, and there are not too many.
    fn check(&self, ceiling: usize) {
        let counts = self.core.counts;
        let [leased, connecting, checking, resetting, closing] =
            [counts.leased, counts.connecting, counts.checking, counts.resetting, counts.closing]
                .map(|n| n as usize);
        let jobs = |wanted: fn(&Job<u32>) -> bool| self.jobs.iter().filter(|(job, _)| wanted(job)).count();
        assert_eq!(jobs(|job| matches!(job, Job::Connect { .. })), connecting);
        assert_eq!(jobs(|job| matches!(job, Job::Check(_))), checking);
        assert_eq!(jobs(|job| matches!(job, Job::Reset(_))), resetting);
        assert_eq!(jobs(|job| matches!(job, Job::Close { .. })), closing);
        let granted = leased - self.leases.len();
        assert!(
            granted <= self.queue.len() + self.undelivered.len(),
            "{granted} connections wait for callers that are not there"
        );
        let alive = self.core.idle() + leased + checking + resetting;
        assert_eq!(alive, self.made - self.gone);
        assert!(self.core.size() <= ceiling, "{} of at most {ceiling}", self.core.size());
        let stranded = self.core.idle() > 0 && self.core.waiting() > checking;
        assert!(!stranded || self.core.paused, "a usable connection is idle while somebody waits");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Statement A, and that at the end of any history the whole capacity can be leased.
    #[test]
    fn every_history_keeps_the_books_and_the_capacity(
        steps in prop::collection::vec(step(), 1..160),
        max in 1..5_usize,
        overlap in 0..2_usize,
    ) {
        let config = PoolConfig {
            max,
            min_idle: max / 2,
            replace_overlap: overlap,
            max_lifetime: Some(Duration::from_secs(20)),
            idle_timeout: Some(Duration::from_secs(5)),
            ..PoolConfig::default()
        };
        let mut world = World::new(config);
        let mut ceiling = max + overlap;
        for step in &steps {
            if let Step::Resize(max) = step {
                // Leases outlive a smaller limit; the ceiling comes down as they return.
                ceiling = (max + overlap).max(world.core.size());
            }
            world.apply(step);
            world.check(ceiling);
            ceiling = (world.core.config.max + overlap).max(world.core.size().min(ceiling));
        }
        while let Some((_, seat)) = world.queue.pop() {
            drop(world.core.leave(seat, world.now));
            world.collect();
        }
        world.deliver_all();
        while !world.leases.is_empty() {
            world.apply(&Step::GiveBack(0, Condition::Clean));
            world.deliver_all();
        }
        let (free, made) = world.core.free_seats();
        prop_assert_eq!(free, made, "a seat was lost");
        world.apply(&Step::Resume);
        for _ in 0..4000 {
            if world.leases.len() >= world.core.config.max {
                break;
            }
            world.apply(&Step::Acquire);
            world.apply(&Step::Finish(0, true));
            for place in (0..world.queue.len()).rev() {
                world.poll(place);
            }
            world.apply(&Step::Wait(50));
        }
        prop_assert_eq!(world.leases.len(), world.core.config.max, "capacity was lost");
    }
}

/// Statement 3: whoever came first is served first.
#[test]
fn waiters_are_served_in_order_of_arrival() {
    let mut world = World::new(PoolConfig { max: 2, ..PoolConfig::default() });
    for _ in 0..6 {
        world.apply(&Step::Acquire);
    }
    let arrived: Vec<usize> = (0..6).collect();
    for _ in 0..200 {
        world.apply(&Step::Finish(0, true));
        world.apply(&Step::Poll(0));
        world.apply(&Step::GiveBack(0, Condition::Clean));
        world.deliver_all();
    }
    assert_eq!(world.served, arrived);
}

#[test]
fn a_closed_core_keeps_nothing() {
    let mut world = World::new(PoolConfig { max: 2, ..PoolConfig::default() });
    world.apply(&Step::Acquire);
    world.apply(&Step::Finish(0, true));
    world.poll(0);
    world.apply(&Step::Close);
    world.apply(&Step::GiveBack(0, Condition::Clean));
    world.apply(&Step::Finish(0, true));
    assert_eq!((world.core.size(), world.core.finished()), (0, true));
}
