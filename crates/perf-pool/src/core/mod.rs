//! The pool as plain data: what is idle, leased or under way, and who waits. No clock, no task, no await.
//!
//! Every method takes `now` and leaves behind what is to be done after the lock is released: deliveries to waiters, jobs for
//! the maintenance task, events to report.

mod barge;
mod entry;
mod idle;
#[cfg(all(test, perf_loom))]
mod interleavings;
mod queue;
mod replace;
mod returns;
mod ring;
mod seat;
mod supply;
mod sweep;
#[cfg(all(test, not(perf_loom)))]
mod tests;
mod totals;

pub(crate) use entry::{Caller, Entry, Hold};
pub(crate) use queue::{Refusal, Waiting};
pub(crate) use returns::{Attempt, Begun, Lost, Verdict};
pub(crate) use seat::{Delivery, Grant, SeatId, Seats, Undelivered};
pub(crate) use totals::{Totals, Why};

use crate::PoolConfig;
use crate::clock::{Tick, nanos};
use crate::error::{Cause, Holder};
use crate::event::PoolEvent;
use idle::{Idle, Resting};
use perf_core::Rng;
use perf_core::time::Duration;
use queue::{Chosen, Queue};
use replace::Replacements;
use seat::LeftBehind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// What the maintenance task has to do, off the lock.
#[derive(Debug)]
pub(crate) enum Job<C> {
    /// Make a connection, counted as connecting; a successor may be one above the limit.
    Connect { successor: bool },
    /// Ask a connection whether it lives; it is counted as checking.
    Check(Box<Entry<C>>),
    /// Put a returned connection in order; it is counted as resetting.
    Reset(Box<Entry<C>>),
    /// Close a connection, counted as closing; a dead one without a good-bye.
    Close { entry: Box<Entry<C>>, graceful: bool },
}

/// How many connections there are in each state that is not idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) leased: u32,
    pub(crate) connecting: u32,
    pub(crate) checking: u32,
    pub(crate) resetting: u32,
    pub(crate) closing: u32,
}

/// What the attempts to connect have come to.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Failures in a row.
    pub(crate) failed: u32,
    pub(crate) last_error: Option<Cause>,
    /// Whether the manager said that trying again cannot help.
    pub(crate) permanent: bool,
    /// No attempt is started before this.
    pub(crate) retry_at: Option<Tick>,
    last_delay: Duration,
    /// A moving average over the successful ones, in nanoseconds.
    took: Option<u64>,
}

/// The answer to a caller who wants a connection now.
#[derive(Debug)]
pub(crate) enum Take<C> {
    /// Here it is; `measured` says whether the time it is held is to be measured.
    Lease {
        entry: Box<Entry<C>>,
        measured: bool,
    },
    /// There is none to be had at once.
    Wait,
    Closed,
}

/// What is to be done once the lock is released.
#[derive(Debug)]
pub(crate) struct Effects<C> {
    /// What waiters are given.
    pub(crate) deliveries: Vec<Delivery<C>>,
    /// Who is told to look for itself.
    pub(crate) nudges: Vec<SeatId>,
    /// The maintenance task has something to do.
    pub(crate) signal: bool,
    /// Something changed that [`Pool::close`](crate::Pool::close) or a warm-up may wait for.
    pub(crate) changed: bool,
    pub(crate) events: Vec<PoolEvent>,
}

impl<C> Effects<C> {
    const fn new() -> Self {
        Self { deliveries: Vec::new(), nudges: Vec::new(), signal: false, changed: false, events: Vec::new() }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
            && self.nudges.is_empty()
            && !self.signal
            && !self.changed
            && self.events.is_empty()
    }

    pub(crate) const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}

/// In this order, and behind the lock at the beginning of a cache line, because a caller that waits and the one that serves
/// it write that line, and else only a place in the queue, a seat and a hold: under contention each line that is written has
/// to come from the other core.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Core<C> {
    /// The latest moment seen.
    recent: Tick,
    /// Leases given out.
    pub(crate) acquired: u64,
    /// Callers that had to wait.
    pub(crate) waited: u64,
    queue: Queue<C>,
    /// Neither closed nor paused.
    open: bool,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    /// Whether a maintenance task is there to do the jobs.
    pub(crate) running: bool,
    /// Connections of an older generation are not used again.
    generation: u32,
    pub(crate) counts: Counts,
    idle: Idle<C>,
    allowance: Allowance,
    /// A moving average of how long leases are held, in nanoseconds.
    hold_time: Option<u64>,
    /// Grows with each death. A connection whose proof was begun in an older epoch is checked before it is used.
    epoch: u64,
    replacements: Replacements,
    /// One place for each connection, with the lease it is out on.
    holds: Vec<Option<Hold>>,
    /// Whether the waiters come from another runtime, and so mind their deadlines themselves.
    pub(crate) foreign: bool,
    pub(crate) effects: Effects<C>,
    pub(crate) totals: Totals,
    pub(crate) config: PoolConfig,
    free_slots: Vec<u32>,
    pub(crate) jobs: VecDeque<Job<C>>,
    pub(crate) attempts: Attempts,
    /// The runtime of the maintenance task.
    pub(crate) runtime: Option<tokio::runtime::Id>,
    /// Callers of `close` that wait for leases to come back.
    pub(crate) drainers: usize,
    /// When the maintenance task wakes at the latest.
    next_wake: Option<Tick>,
    /// When the maintenance task means to look again.
    planned: Option<Tick>,
    rng: Rng,
}

/// How many more times may be measured, and how many more callers examined, before the next refill.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    refilled: Tick,
    holds: u16,
    waits: u16,
    examinations: u16,
}

impl Allowance {
    /// Forty in four milliseconds are ten thousand a second: below that rate every time is measured, and above it
    /// reading the clock twice for each would cost more than the checkout.
    const EVERY: u64 = 4_000_000;
    const EACH: u16 = 40;

    const fn new(now: Tick) -> Self {
        Self { refilled: now, holds: Self::EACH, waits: Self::EACH, examinations: Self::EACH }
    }

    #[inline]
    fn spend(&mut self, now: Tick, which: fn(&mut Self) -> &mut u16) -> bool {
        if now.nanos_since(self.refilled) >= Self::EVERY {
            *self = Self::new(now);
        }
        let left = which(self);
        // Nothing is written where nothing is left, which is the rule under contention.
        if *left == 0 {
            return false;
        }
        *left -= 1;
        true
    }
}

impl<C> Core<C> {
    pub(crate) fn new(config: PoolConfig, rng: Rng, now: Tick) -> Self {
        let places = (config.max + config.replace_overlap).min(1024);
        let trust =
            if config.check_after.is_zero() { 0 } else { nanos(config.check_after).saturating_add(1) };
        Self {
            open: true,
            paused: false,
            closed: false,
            running: false,
            foreign: false,
            generation: 0,
            epoch: 0,
            recent: now,
            acquired: 0,
            waited: 0,
            allowance: Allowance::new(now),
            idle: Idle::new(places, trust),
            counts: Counts::default(),
            replacements: Replacements::default(),
            holds: Vec::with_capacity(places),
            queue: Queue::new(),
            effects: Effects::new(),
            hold_time: None,
            totals: Totals::default(),
            config,
            free_slots: Vec::with_capacity(places),
            jobs: VecDeque::with_capacity(places),
            attempts: Attempts::default(),
            runtime: None,
            drainers: 0,
            next_wake: None,
            planned: None,
            rng,
        }
    }

    /// Moments never go back: the present one, for a caller who glanced at the clock.
    #[inline]
    pub(crate) fn see(&mut self, glance: Tick) -> Tick {
        self.recent = self.recent.max(glance);
        self.recent
    }

    /// Takes an idle connection that needs no check, if nobody waits for one.
    #[inline]
    pub(crate) fn take(&mut self, now: Tick, caller: Caller) -> Take<C> {
        if !self.open || !(self.queue.is_empty() || self.may_barge(now)) {
            return if self.closed { Take::Closed } else { Take::Wait };
        }
        let Some(resting) = self.pop_idle() else { return Take::Wait };
        if resting.is_fresh(now) {
            return self.lease(resting, now, caller);
        }
        self.take_with_care(resting, now, caller)
    }

    #[cold]
    fn take_with_care(&mut self, first: Resting<C>, now: Tick, caller: Caller) -> Take<C> {
        let mut candidate = Some(first);
        while let Some(resting) = candidate {
            if let Some(why) = self.unwanted(&resting.entry, now) {
                self.retire(resting.entry, why);
            } else if self.needs_check(&resting.entry, now) {
                self.put_idle(resting.entry);
                break;
            } else {
                return self.lease(resting, now, caller);
            }
            candidate = self.pop_idle();
        }
        Take::Wait
    }

    /// Joins the queue and sets in motion what the caller waits for.
    pub(crate) fn join(&mut self, waiting: Waiting, now: Tick) -> Result<SeatId, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.config.max_waiters.is_some_and(|most| self.queue.len() >= most.saturating_add(self.room())) {
            self.totals.refused_full += 1;
            return Err(Refusal::Full);
        }
        if let Some(refusal) = self.refusal_in_outage(now) {
            return Err(refusal);
        }
        if let Some(predicted) = self.hopeless(&waiting, now) {
            self.totals.refused_hopeless += 1;
            return Err(Refusal::Hopeless(predicted));
        }
        self.report_nested(waiting.caller, now);
        let (seat, sooner) = self.queue.join(waiting);
        self.waited += 1;
        if sooner {
            self.effects.signal = true;
        }
        if !self.is_at_its_limit() {
            self.pump(now);
            let wake = [self.reconsider_at(now), self.next_attempt()].into_iter().flatten().min();
            self.effects.signal |= wake.is_some_and(|at| self.next_wake.is_none_or(|next| at < next));
        }
        Ok(seat)
    }

    /// A waiter goes away. What it was given and did not take belongs to the next one. Its waker is to be dropped off the
    /// lock: nobody knows what that sets off.
    pub(crate) fn leave(&mut self, seat: SeatId, now: Tick) -> Option<Waker> {
        match self.queue.leave(seat) {
            Ok(waker) => {
                // It may have been told of a connection that it did not take.
                self.nudge_oldest();
                waker
            }
            Err(Chosen) => match self.seats().get(seat).leave() {
                LeftBehind::Nothing(waker) => waker,
                LeftBehind::Grant(grant) => {
                    self.reuse(seat);
                    if let Grant::Lease { entry, .. } = grant {
                        self.give_on(entry, now);
                    }
                    None
                }
            },
        }
    }

    /// How many seats are free, and how many there are.
    #[cfg(all(test, not(perf_loom)))]
    fn free_seats(&self) -> (u32, u32) {
        self.queue.free_seats()
    }

    /// The seats of the waiters.
    pub(crate) const fn seats(&self) -> &Arc<Seats<C>> {
        &self.queue.seats
    }

    /// A seat nobody sits on any more.
    #[inline]
    pub(crate) fn reuse(&mut self, seat: SeatId) {
        self.queue.reuse(seat);
    }

    /// What was to be delivered to a waiter that has gone.
    pub(crate) fn take_back(&mut self, undelivered: Undelivered<C>, now: Tick) {
        self.reuse(undelivered.seat);
        if let Some(entry) = undelivered.entry {
            self.give_on(entry, now);
        }
    }

    /// A connection that was handed over and not used goes to the next waiter, or back where it came from.
    pub(crate) fn give_on(&mut self, entry: Box<Entry<C>>, now: Tick) {
        self.end_hold(&entry);
        self.settle(entry, now);
        self.pump(now);
    }

    /// All connections in whatever state. Never above the ceiling unless the pool was made smaller.
    pub(crate) fn size(&self) -> usize {
        self.staying() + self.counts.closing as usize
    }

    /// All connections but those that are being closed.
    #[inline]
    fn staying(&self) -> usize {
        let Counts { leased, connecting, checking, resetting, closing: _ } = self.counts;
        self.idle.len() + (leased + connecting + checking + resetting) as usize
    }

    /// Whether every connection there may be is out on lease: nothing can be set in motion for a waiter.
    #[inline]
    fn is_at_its_limit(&self) -> bool {
        self.counts.leased as usize >= self.config.max && self.idle.is_empty()
    }

    /// How many waiters can be served before any lease has to end.
    const fn room(&self) -> usize {
        self.config.max.saturating_sub(self.counts.leased as usize)
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Who has held a connection longest.
    pub(crate) fn longest_holder(&self, now: Tick) -> Option<Holder> {
        self.holds.iter().flatten().map(|hold| hold.holder(now)).max_by_key(|holder| holder.held)
    }

    /// Everyone who holds a connection.
    pub(crate) fn holders(&self, now: Tick) -> Vec<Holder> {
        self.holds.iter().flatten().map(|hold| hold.holder(now)).collect()
    }

    /// How long leases are held, on average; none before the first came back.
    pub(crate) fn mean_hold(&self) -> Option<Duration> {
        self.hold_time.map(Duration::from_nanos)
    }

    /// How long making a connection takes, on average.
    pub(crate) fn mean_connect(&self) -> Option<Duration> {
        self.attempts.took.map(Duration::from_nanos)
    }

    /// Forgets the waiters' places because nobody is there to serve them; they join again.
    pub(crate) fn orphan_waiters(&mut self) {
        while let Some(delivery) = self.queue.refuse_oldest(Refusal::Orphaned) {
            self.effects.deliveries.push(delivery);
        }
    }

    /// Takes the jobs away from a pool that has nobody to do them. What they hold is to be dropped off the lock.
    pub(crate) fn abandon_jobs(&mut self) -> VecDeque<Job<C>> {
        let jobs = std::mem::take(&mut self.jobs);
        for job in &jobs {
            match job {
                Job::Connect { successor } => {
                    self.counts.connecting -= 1;
                    if *successor {
                        self.successor_done();
                    }
                }
                Job::Check(entry) => {
                    self.counts.checking -= 1;
                    self.totals.count_closed(Why::Shutdown);
                    self.release_slot(entry);
                }
                Job::Reset(entry) => {
                    self.counts.resetting -= 1;
                    self.totals.count_closed(Why::Shutdown);
                    self.release_slot(entry);
                }
                Job::Close { .. } => self.counts.closing -= 1,
            }
        }
        jobs
    }

    /// Whether the maintenance task of a closed pool has nothing left to do.
    pub(crate) fn finished(&self) -> bool {
        self.closed && self.drainers == 0 && self.jobs.is_empty()
    }

    #[inline]
    fn measures_hold(&mut self, now: Tick) -> bool {
        self.allowance.spend(now, |allowance| &mut allowance.holds)
    }

    /// Whether the wait of a caller that joins now is measured.
    #[inline]
    pub(crate) fn measures_wait(&mut self, now: Tick) -> bool {
        self.allowance.spend(now, |allowance| &mut allowance.waits)
    }

    /// Takes in how long a lease was held.
    pub(crate) fn learn_hold(&mut self, held: Duration) {
        self.hold_time = average(self.hold_time, held, 3);
    }

    #[inline]
    fn lease(&mut self, resting: Resting<C>, now: Tick, caller: Caller) -> Take<C> {
        self.holds[resting.slot as usize] = Some(Hold::new(now, caller));
        self.counts.leased += 1;
        self.acquired += 1;
        Take::Lease { entry: resting.entry, measured: self.measures_hold(now) }
    }

    #[inline]
    fn pop_idle(&mut self) -> Option<Resting<C>> {
        self.idle.pop(self.config.order)
    }

    /// Puts a connection among the idle ones.
    #[inline]
    fn put_idle(&mut self, entry: Box<Entry<C>>) {
        let suspect = self.is_suspect(&entry);
        self.idle.put(entry, suspect);
    }

    /// Why a connection must not be used again, if so. The connection itself is not counted at this moment.
    fn unwanted(&self, entry: &Entry<C>, now: Tick) -> Option<Why> {
        if self.closed {
            Some(Why::Shutdown)
        } else if entry.generation != self.generation {
            Some(Why::Evicted)
        } else if entry.expires <= now || self.is_replaced(entry) {
            Some(Why::Expired)
        } else if self.is_over() {
            Some(Why::Surplus)
        } else {
            None
        }
    }

    /// Whether one more connection than those counted would be too much.
    #[inline]
    fn is_over(&self) -> bool {
        self.staying() >= self.ceiling()
    }

    /// How many connections there may be at this moment.
    #[inline]
    const fn ceiling(&self) -> usize {
        self.config.max + self.overlap()
    }

    const fn is_suspect(&self, entry: &Entry<C>) -> bool {
        entry.epoch < self.epoch
    }

    fn needs_check(&self, entry: &Entry<C>, now: Tick) -> bool {
        let rested = now.since(entry.idle_since.max(entry.proven));
        rested > self.config.check_after || self.config.check_after.is_zero() || self.is_suspect(entry)
    }

    /// From now on nothing is trusted that has not been proven good since.
    pub(crate) fn suspect(&mut self) {
        self.epoch += 1;
        self.idle.distrust();
        self.effects.signal = true;
    }

    /// Gives up a connection in good order: it is counted until the good-bye is said.
    fn retire(&mut self, entry: Box<Entry<C>>, why: Why) {
        self.release_slot(&entry);
        self.totals.count_closed(why);
        self.counts.closing += 1;
        self.push_job(Job::Close { entry, graceful: true });
    }

    /// Gives up a connection that is dead already, without a good-bye.
    fn scrap(&mut self, entry: Box<Entry<C>>, why: Why) {
        self.release_slot(&entry);
        self.totals.count_closed(why);
        self.counts.closing += 1;
        self.push_job(Job::Close { entry, graceful: false });
    }

    fn push_job(&mut self, job: Job<C>) {
        self.jobs.push_back(job);
        self.effects.signal = true;
    }

    fn release_slot(&mut self, entry: &Entry<C>) {
        self.holds[entry.slot as usize] = None;
        self.free_slots.push(entry.slot);
        self.forget_ageing(entry.ageing);
    }

    fn claim_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.holds.push(None);
            (self.holds.len() - 1) as u32
        })
    }
}

/// A moving average in nanoseconds in which the newest of `2^shift` samples weighs as much as the rest forget.
fn average(average: Option<u64>, sample: Duration, shift: u32) -> Option<u64> {
    let sample = nanos(sample);
    Some(average.map_or(sample, |old| old - (old >> shift) + (sample >> shift)))
}
