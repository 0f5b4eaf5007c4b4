//! Connections that come back: from users, and from the jobs of the maintenance task.

use super::{Core, Delivery, Entry, Hold, Job, Refusal, Why, average};
use crate::clock::Tick;
use crate::error::Cause;
use crate::event::PoolEvent;
use crate::manager::Condition;

/// How a job on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
}

/// What is left of a connection that went down with the job about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    slot: u32,
    ageing: bool,
}

impl Lost {
    pub(crate) const fn of<C>(entry: &Entry<C>) -> Self {
        Self { slot: entry.slot, ageing: entry.ageing }
    }
}

/// How an attempt to connect began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) at: Tick,
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
    pub(crate) successor: bool,
}

/// How an attempt to connect ended.
#[derive(Debug)]
pub(crate) enum Attempt<C> {
    Connected(C),
    Failed {
        cause: Cause,
        permanent: bool,
    },
    Panicked,
    /// The task was stopped with its runtime.
    Abandoned,
}

impl<C> Core<C> {
    /// A lease comes back. Returns what is to be delivered to the waiter that gets the connection at once.
    #[inline]
    pub(crate) fn give_back(
        &mut self,
        mut entry: Box<Entry<C>>,
        condition: Condition,
        now: Tick,
    ) -> Option<Delivery<C>> {
        let good = condition == Condition::Clean && self.open && now < entry.ages_at;
        if !good || entry.generation != self.generation {
            self.give_back_with_care(entry, condition, now);
            return None;
        }
        entry.idle_since = now;
        let direct = !self.queue.is_empty() && !self.is_suspect(&entry) && !self.may_barge(now);
        if direct && self.staying() <= self.ceiling() {
            // From one hand to the next: the connection stays leased.
            let delivery = match self.hand_over(entry, now) {
                Ok(delivery) => Some(delivery),
                Err(entry) => {
                    self.end_hold(&entry);
                    self.put_idle(entry);
                    None
                }
            };
            self.pump_for_waiters(now);
            return delivery;
        }
        self.end_hold(&entry);
        if self.is_over() {
            self.retire(entry, Why::Surplus);
        } else if self.queue.is_empty() || self.may_barge(now) {
            self.rest(entry);
        } else {
            self.start_check(entry);
        }
        self.pump_for_waiters(now);
        None
    }

    #[inline]
    fn pump_for_waiters(&mut self, now: Tick) {
        if !self.queue.is_empty() && !self.is_at_its_limit() {
            self.pump(now);
        }
    }

    /// The same where there is something about the connection.
    #[cold]
    fn give_back_with_care(&mut self, mut entry: Box<Entry<C>>, condition: Condition, now: Tick) {
        self.end_hold(&entry);
        entry.idle_since = now;
        self.notice_age(&mut entry, now);
        match condition {
            Condition::Clean => self.settle(entry, now),
            Condition::Dirty => match self.unwanted(&entry, now) {
                Some(why) => self.retire(entry, why),
                None => {
                    self.counts.resetting += 1;
                    self.push_job(Job::Reset(entry));
                }
            },
            Condition::Broken => {
                self.suspect();
                self.scrap(entry, Why::Broken);
            }
        }
        if !self.queue.is_empty() {
            self.pump(now);
        }
    }

    /// A lease is taken out of the pool for good.
    pub(crate) fn detach(&mut self, entry: &Entry<C>, now: Tick) {
        self.end_hold(entry);
        self.release_slot(entry);
        self.totals.detached += 1;
        self.effects.changed = true;
        self.pump(now);
    }

    pub(crate) fn check_done(&mut self, mut entry: Box<Entry<C>>, verdict: Verdict, now: Tick) {
        self.counts.checking -= 1;
        self.totals.checked += 1;
        match verdict {
            Verdict::Good => {
                entry.proven = now;
                self.settle(entry, now);
            }
            Verdict::Bad => {
                if !entry.doubted {
                    self.suspect();
                }
                self.scrap(entry, Why::CheckFailed);
            }
        }
        self.pump(now);
    }

    pub(crate) fn reset_done(&mut self, mut entry: Box<Entry<C>>, verdict: Verdict, now: Tick) {
        self.counts.resetting -= 1;
        self.totals.reset += 1;
        match verdict {
            Verdict::Good => {
                entry.proven = now;
                self.settle(entry, now);
            }
            Verdict::Bad => self.scrap(entry, Why::ResetFailed),
        }
        self.pump(now);
    }

    /// A check or reset did not come to an end: its connection is gone.
    pub(crate) fn job_lost(&mut self, was_check: bool, lost: Lost, panicked: bool, now: Tick) {
        if was_check {
            self.counts.checking -= 1;
            self.totals.count_closed(Why::CheckFailed);
        } else {
            self.counts.resetting -= 1;
            self.totals.count_closed(Why::ResetFailed);
        }
        self.totals.panicked += u64::from(panicked);
        self.free_slots.push(lost.slot);
        self.forget_ageing(lost.ageing);
        self.pump(now);
    }

    pub(crate) fn close_done(&mut self, panicked: bool, now: Tick) {
        self.counts.closing -= 1;
        self.totals.panicked += u64::from(panicked);
        self.pump(now);
        self.effects.changed = true;
    }

    pub(crate) fn connect_done(&mut self, attempt: Attempt<C>, begun: Begun, now: Tick) {
        self.counts.connecting -= 1;
        if begun.successor {
            self.successor_done();
        }
        self.effects.changed = true;
        match attempt {
            Attempt::Connected(connection) => self.connected(connection, begun, now),
            Attempt::Failed { cause, permanent } => self.connect_failed(cause, permanent, now),
            Attempt::Panicked => {
                self.totals.panicked += 1;
                self.totals.connect_failed += 1;
                self.back_off(now);
                self.effects.events.push(PoolEvent::ManagerPanicked);
                let refused = self.queue.refuse_oldest(Refusal::Panicked);
                self.effects.deliveries.extend(refused);
            }
            Attempt::Abandoned => {}
        }
        self.pump(now);
    }

    fn connected(&mut self, connection: C, begun: Begun, now: Tick) {
        self.totals.connected += 1;
        self.attempts.failed = 0;
        self.attempts.retry_at = None;
        self.attempts.last_error = None;
        self.attempts.permanent = false;
        self.attempts.took = average(self.attempts.took, now.since(begun.at), 2);
        let lifetime = self.config.max_lifetime.map(|most| most.mul_f64(0.9 + 0.1 * self.rng.unit()));
        let expires = lifetime.map_or(Tick::NEVER, |lifetime| now.after(lifetime));
        let entry = Box::new(Entry {
            connection,
            slot: self.claim_slot(),
            generation: begun.generation,
            epoch: begun.epoch,
            idle_since: now,
            ages_at: self.ages_at(expires),
            expires,
            born: now,
            proven: now,
            doubted: false,
            ageing: false,
        });
        if begun.successor {
            self.succeed();
        }
        self.settle(entry, now);
    }

    fn connect_failed(&mut self, cause: Cause, permanent: bool, now: Tick) {
        self.totals.connect_failed += 1;
        self.back_off(now);
        self.attempts.last_error = Some(cause.clone());
        self.attempts.permanent = permanent;
        self.effects
            .events
            .push(PoolEvent::ConnectFailed { cause: cause.clone(), attempts: self.attempts.failed });
        if (permanent || self.config.fail_fast) && !self.has_live() {
            while let Some(delivery) = self.queue.refuse_oldest(Refusal::Failed(cause.clone())) {
                self.effects.deliveries.push(delivery);
            }
        }
    }

    fn back_off(&mut self, now: Tick) {
        let attempts = &mut self.attempts;
        attempts.failed = attempts.failed.saturating_add(1);
        let delay = self.config.backoff().delay(attempts.failed, attempts.last_delay, &mut self.rng);
        attempts.last_delay = delay;
        attempts.retry_at = Some(now.after(delay));
    }

    /// Whether some connection lives that may still serve a waiter.
    pub(crate) fn has_live(&self) -> bool {
        !self.idle.is_empty() || self.counts.leased + self.counts.checking + self.counts.resetting > 0
    }

    /// Gives a good connection, not counted at this moment, to the oldest waiter or to the idle ones.
    pub(super) fn settle(&mut self, entry: Box<Entry<C>>, now: Tick) {
        if let Some(why) = self.unwanted(&entry, now) {
            self.retire(entry, why);
        } else if self.queue.is_empty() || self.paused {
            self.rest(entry);
        } else if self.is_suspect(&entry) {
            self.start_check(entry);
        } else {
            self.hand(entry, now);
        }
    }

    #[inline]
    fn rest(&mut self, entry: Box<Entry<C>>) {
        let surplus = self.config.overflow_linger.is_zero()
            && self.config.keep.is_some_and(|keep| self.idle.len() >= keep.max(self.config.min_idle));
        if surplus {
            self.retire(entry, Why::Surplus);
        } else {
            self.put_idle(entry);
        }
    }

    pub(super) fn start_check(&mut self, mut entry: Box<Entry<C>>) {
        entry.doubted = self.is_suspect(&entry);
        entry.epoch = self.epoch;
        self.counts.checking += 1;
        self.push_job(Job::Check(entry));
    }

    /// Hands a connection directly to the oldest waiter, or lets it rest.
    pub(super) fn hand(&mut self, entry: Box<Entry<C>>, now: Tick) {
        match self.hand_over(entry, now) {
            Ok(delivery) => {
                self.counts.leased += 1;
                self.effects.deliveries.push(delivery);
            }
            Err(entry) => self.put_idle(entry),
        }
    }

    /// Makes a connection the lease of the oldest waiter, from this moment on; the caller counts it as leased. Gives it
    /// back when nobody waits.
    #[inline]
    fn hand_over(&mut self, entry: Box<Entry<C>>, now: Tick) -> Result<Delivery<C>, Box<Entry<C>>> {
        let Some(caller) = self.queue.oldest_caller() else { return Err(entry) };
        let slot = entry.slot as usize;
        let measured = self.measures_hold(now);
        let delivery = self.queue.hand(entry, measured)?;
        self.holds[slot] = Some(Hold::new(now, caller));
        self.acquired += 1;
        Ok(delivery)
    }

    /// The lease on this connection ends.
    #[inline]
    pub(super) fn end_hold(&mut self, entry: &Entry<C>) {
        self.counts.leased -= 1;
        self.effects.changed |= self.closed;
        self.holds[entry.slot as usize] = None;
    }
}
