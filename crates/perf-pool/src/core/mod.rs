//! The pool as plain data: what is idle, leased or under way, and who waits. No clock, no task, no await.
//!
//! Every method takes `now` and leaves behind what is to be done after the lock is released: wakers to wake, jobs for
//! the maintenance task, events to report.

mod entry;
#[cfg(all(test, perf_loom))]
mod interleavings;
mod queue;
mod replace;
mod returns;
mod supply;
mod sweep;
#[cfg(all(test, not(perf_loom)))]
mod tests;
mod totals;

pub(crate) use entry::{Entry, Hold};
pub(crate) use queue::{Grant, Refusal, Waiting};
pub(crate) use returns::{Attempt, Begun, Lost, Verdict};
pub(crate) use totals::{Totals, Why};

use crate::PoolConfig;
use crate::error::{Cause, Holder};
use crate::event::PoolEvent;
use perf_core::time::{Duration, Instant};
use perf_core::{Rng, Ticket};
use queue::Queue;
use replace::Replacements;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

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
    pub(crate) leased: usize,
    pub(crate) connecting: usize,
    pub(crate) checking: usize,
    pub(crate) resetting: usize,
    pub(crate) closing: usize,
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
    pub(crate) retry_at: Option<Instant>,
    last_delay: Duration,
    /// A moving average over the successful ones, in nanoseconds.
    took: Option<u64>,
}

/// The answer to a caller who wants a connection now.
#[derive(Debug)]
pub(crate) enum Take<C> {
    Lease(Box<Entry<C>>),
    /// There is none to be had at once.
    Wait,
    Closed,
}

/// What is to be done once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    first: Option<Waker>,
    more: Vec<Waker>,
    /// The maintenance task has something to do.
    pub(crate) signal: bool,
    /// Something changed that [`Pool::close`](crate::Pool::close) or a warm-up may wait for.
    pub(crate) changed: bool,
    pub(crate) events: Vec<PoolEvent>,
}

impl Effects {
    fn wake(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none() && !self.signal && !self.changed && self.events.is_empty()
    }

    pub(crate) fn wake_all(&mut self) {
        self.first.take().into_iter().chain(self.more.drain(..)).for_each(Waker::wake);
    }
}

#[derive(Debug)]
pub(crate) struct Core<C> {
    pub(crate) config: PoolConfig,
    idle: VecDeque<Box<Entry<C>>>,
    queue: Queue<C>,
    /// One place for each connection, with the lease it is out on.
    holds: Vec<Option<Hold>>,
    free_slots: Vec<u32>,
    pub(crate) counts: Counts,
    pub(crate) jobs: VecDeque<Job<C>>,
    pub(crate) effects: Effects,
    pub(crate) totals: Totals,
    pub(crate) attempts: Attempts,
    replacements: Replacements,
    /// A moving average of how long leases are held, in nanoseconds.
    hold_time: Option<u64>,
    /// Grows with each death. A connection whose proof was begun in an older epoch is checked before it is used.
    epoch: u64,
    /// Connections of an older generation are not used again.
    generation: u32,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    /// Whether a maintenance task is there to do the jobs.
    pub(crate) running: bool,
    /// The runtime of the maintenance task.
    pub(crate) runtime: Option<tokio::runtime::Id>,
    /// Whether the waiters come from another runtime, and so mind their deadlines themselves.
    pub(crate) foreign: bool,
    /// Callers of `close` that wait for leases to come back.
    pub(crate) drainers: usize,
    /// When the maintenance task wakes at the latest.
    next_wake: Option<Instant>,
    /// When the maintenance task means to look again.
    planned: Option<Instant>,
    /// The latest moment seen: a lower bound of the present that costs no reading of the clock.
    recent: Instant,
    /// When the maintenance task last looked.
    ticked: Instant,
    /// When the next hold time is measured.
    next_hold_sample: Instant,
    /// When the next wait is measured.
    next_wait_sample: Instant,
    rng: Rng,
}

/// Times are measured at most this often. Below ten thousand leases a second that is every one of them; above, measuring
/// each would cost more than the checkout.
const SAMPLE_EVERY: Duration = Duration::from_micros(100);

impl<C> Core<C> {
    pub(crate) fn new(config: PoolConfig, rng: Rng, now: Instant) -> Self {
        let places = (config.max + config.replace_overlap).min(1024);
        Self {
            config,
            idle: VecDeque::with_capacity(places),
            queue: Queue::new(),
            holds: Vec::with_capacity(places),
            free_slots: Vec::with_capacity(places),
            counts: Counts::default(),
            jobs: VecDeque::with_capacity(places),
            effects: Effects::default(),
            totals: Totals::default(),
            attempts: Attempts::default(),
            replacements: Replacements::default(),
            hold_time: None,
            epoch: 0,
            generation: 0,
            paused: false,
            closed: false,
            running: false,
            runtime: None,
            foreign: false,
            drainers: 0,
            next_wake: None,
            planned: None,
            recent: now,
            ticked: now,
            next_hold_sample: now,
            next_wait_sample: now,
            rng,
        }
    }

    /// Takes an idle connection that needs no check, if nobody waits for one.
    #[inline]
    pub(crate) fn take(&mut self, hold: Hold) -> Take<C> {
        if self.closed {
            return Take::Closed;
        }
        if self.paused || !self.queue.is_empty() {
            return Take::Wait;
        }
        let now = hold.since;
        self.recent = self.recent.max(now);
        while let Some(entry) = self.pop_idle() {
            if let Some(why) = self.unwanted(&entry, now) {
                self.retire(entry, why);
            } else if self.needs_check(&entry, now) {
                self.put_idle(entry);
                break;
            } else {
                return Take::Lease(self.lease(entry, hold));
            }
        }
        Take::Wait
    }

    /// Joins the queue and sets in motion what the caller waits for.
    pub(crate) fn join(&mut self, waker: Waker, waiting: Waiting) -> Result<Ticket, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.config.max_waiters.is_some_and(|most| self.queue.len() >= most) {
            self.totals.refused_full += 1;
            return Err(Refusal::Full);
        }
        let now = waiting.since;
        if let Some(refusal) = self.refusal_in_outage(now) {
            return Err(refusal);
        }
        if let Some(predicted) = self.hopeless(&waiting) {
            self.totals.refused_hopeless += 1;
            return Err(Refusal::Hopeless(predicted));
        }
        self.report_nested(&waiting);
        let (ticket, sooner) = self.queue.join(waker, waiting);
        self.totals.waited += 1;
        self.effects.signal |= sooner;
        self.pump(now);
        let reconsider = self.reconsider_at(now);
        self.effects.signal |= reconsider.is_some_and(|at| self.next_wake.is_none_or(|next| at < next));
        Ok(ticket)
    }

    /// What the waiter was given, if anything.
    pub(crate) fn poll(&mut self, ticket: Ticket, context: &mut Context<'_>) -> Poll<Grant<C>> {
        self.queue.poll(ticket, context)
    }

    /// A waiter goes away. What it was given and did not take belongs to the next one.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: Instant) {
        if let Some(Grant::Lease(entry)) = self.queue.leave(ticket) {
            self.give_on(entry, now);
        }
    }

    /// A connection that was handed over and not used goes to the next waiter, or back where it came from.
    pub(crate) fn give_on(&mut self, entry: Box<Entry<C>>, now: Instant) {
        self.end_hold(&entry);
        self.settle(entry, now);
        self.pump(now);
    }

    /// All connections in whatever state. Never above the ceiling unless the pool was made smaller.
    pub(crate) fn size(&self) -> usize {
        let Counts { leased, connecting, checking, resetting, closing } = self.counts;
        self.idle.len() + leased + connecting + checking + resetting + closing
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Who has held a connection longest.
    pub(crate) fn longest_holder(&self, now: Instant) -> Option<Holder> {
        self.holds.iter().flatten().map(|hold| hold.holder(now)).max_by_key(|holder| holder.held)
    }

    /// Everyone who holds a connection.
    pub(crate) fn holders(&self, now: Instant) -> Vec<Holder> {
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
        while let Some(waker) = self.queue.refuse_oldest(Refusal::Orphaned) {
            self.effects.wake(waker);
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

    /// Whether a lease that comes back makes it worth reading the clock. If not, it is put down as given back at the
    /// latest moment seen, which is less than a maintenance interval ago.
    #[inline]
    pub(crate) fn estimate(&self, entry: &Entry<C>) -> Option<Instant> {
        let hold = self.holds[entry.slot as usize].as_ref()?;
        let ages = entry
            .expires
            .is_some_and(|at| at.saturating_duration_since(self.recent) < self.config.maintenance_interval);
        (!hold.sampled && self.ticked <= hold.since && !ages).then_some(self.recent)
    }

    /// A waiter has taken what it was handed: its lease begins now. Returns whether its wait is measured.
    pub(crate) fn begin_hold(&mut self, entry: &Entry<C>, now: Instant) -> bool {
        self.recent = self.recent.max(now);
        let sampled = self.sample_hold(now);
        if let Some(hold) = &mut self.holds[entry.slot as usize] {
            hold.since = now;
            hold.sampled = sampled;
        }
        self.sample_wait(now)
    }

    pub(crate) fn sample_wait(&mut self, now: Instant) -> bool {
        let due = now >= self.next_wait_sample;
        if due {
            self.next_wait_sample = now + SAMPLE_EVERY;
        }
        due
    }

    fn sample_hold(&mut self, now: Instant) -> bool {
        let due = now >= self.next_hold_sample;
        if due {
            self.next_hold_sample = now + SAMPLE_EVERY;
        }
        due
    }

    fn lease(&mut self, entry: Box<Entry<C>>, mut hold: Hold) -> Box<Entry<C>> {
        hold.sampled = self.sample_hold(hold.since);
        self.holds[entry.slot as usize] = Some(hold);
        self.counts.leased += 1;
        self.totals.acquired += 1;
        entry
    }

    fn pop_idle(&mut self) -> Option<Box<Entry<C>>> {
        match self.config.order {
            crate::Order::Lifo => self.idle.pop_back(),
            crate::Order::Fifo => self.idle.pop_front(),
        }
    }

    /// Puts a connection among the idle ones, which are in order of when they were last used.
    fn put_idle(&mut self, entry: Box<Entry<C>>) {
        if self.idle.back().is_none_or(|last| last.idle_since <= entry.idle_since) {
            self.idle.push_back(entry);
        } else {
            let place = self.idle.partition_point(|other| other.idle_since <= entry.idle_since);
            self.idle.insert(place, entry);
        }
    }

    /// Why a connection must not be used again, if so. The connection itself is not counted at this moment.
    fn unwanted(&self, entry: &Entry<C>, now: Instant) -> Option<Why> {
        if self.closed {
            Some(Why::Shutdown)
        } else if entry.generation != self.generation {
            Some(Why::Evicted)
        } else if entry.expires.is_some_and(|at| at <= now) || self.is_replaced(entry) {
            Some(Why::Expired)
        } else if self.size() - self.counts.closing >= self.config.max + self.overlap() {
            Some(Why::Surplus)
        } else {
            None
        }
    }

    const fn is_suspect(&self, entry: &Entry<C>) -> bool {
        entry.epoch < self.epoch
    }

    fn needs_check(&self, entry: &Entry<C>, now: Instant) -> bool {
        let rested = now.saturating_duration_since(entry.idle_since.max(entry.proven));
        rested > self.config.check_after || self.config.check_after.is_zero() || self.is_suspect(entry)
    }

    /// From now on nothing is trusted that has not been proven good since.
    pub(crate) fn suspect(&mut self) {
        self.epoch += 1;
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
    let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
    Some(average.map_or(sample, |old| old - (old >> shift) + (sample >> shift)))
}
