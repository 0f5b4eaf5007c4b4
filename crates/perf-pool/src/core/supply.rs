//! Whether one more connection is worth making, and who is served by what there is.

use super::{Caller, Core, Job, Refusal, Waiting};
use crate::clock::{Tick, nanos};
use crate::event::PoolEvent;
use perf_core::time::Duration;

impl<C> Core<C> {
    /// Brings waiters and connections together, and starts what is missing. Called after every change.
    pub(crate) fn pump(&mut self, now: Tick) {
        if self.closed || self.paused {
            return;
        }
        self.serve_from_idle(now);
        while self.wants_connection(now) {
            self.counts.connecting += 1;
            self.push_job(Job::Connect { successor: false });
        }
        if self.attempts.failed == 0 {
            self.start_replacements();
        }
    }

    fn serve_from_idle(&mut self, now: Tick) {
        if self.may_barge(now) {
            return self.nudge_oldest();
        }
        while !self.queue.is_empty() {
            let Some(entry) = self.pop_idle().map(|resting| resting.entry) else { return };
            if let Some(why) = self.unwanted(&entry, now) {
                self.retire(entry, why);
            } else if self.needs_check(&entry, now) {
                // A check under way will serve one waiter, so it is worth starting another only for the next.
                if self.queue.len() <= self.counts.checking as usize {
                    return self.put_idle(entry);
                }
                self.start_check(entry);
            } else {
                self.hand(entry, now);
            }
        }
    }

    fn wants_connection(&self, now: Tick) -> bool {
        let outage = self.attempts.failed > 0;
        // After a failure one attempt at a time asks whether the server is back.
        let crowd = if outage { 1 } else { self.config.max_connecting };
        if self.size() >= self.config.max
            || self.counts.connecting as usize >= crowd
            || self.attempts.retry_at.is_some_and(|at| at > now)
        {
            return false;
        }
        self.staying() < self.config.min_idle || self.waiters_need_one(now)
    }

    /// Predictive elision: a connection is made only if the queue is going to outlast the making.
    fn waiters_need_one(&self, now: Tick) -> bool {
        let unserved = self.unserved();
        if unserved == 0 {
            return false;
        }
        if self.counts.leased == 0 {
            return true;
        }
        let Some(connect) = self.mean_connect() else { return true };
        self.wait_for(unserved, self.expected_hold(now)) > connect
    }

    /// Waiters for whom nothing is under way yet.
    fn unserved(&self) -> usize {
        let coming = self.counts.connecting + self.counts.checking + self.counts.resetting;
        self.queue.len().saturating_sub(coming as usize)
    }

    /// When [`Core::waiters_need_one`] will become true if nothing else happens.
    pub(super) fn reconsider_at(&self, now: Tick) -> Option<Tick> {
        let unserved = self.unserved();
        if unserved == 0 || self.counts.leased == 0 || self.size() >= self.config.max {
            return None;
        }
        let critical = self.mean_connect()?.mul_f64(f64::from(self.counts.leased) / unserved as f64);
        // What history says already suffices: something else is in the way, and its end is an event of its own.
        if critical < self.expected_hold(now) {
            return None;
        }
        let missing = critical.saturating_sub(self.mean_age(now));
        Some(now.after(missing + Duration::from_micros(1)))
    }

    /// How long leases are held: what history says, or what the present ones have shown already.
    fn expected_hold(&self, now: Tick) -> Duration {
        self.mean_hold().unwrap_or_default().max(self.mean_age(now))
    }

    fn mean_age(&self, now: Tick) -> Duration {
        let ages = self.holds.iter().flatten().map(|hold| now.nanos_since(hold.since));
        Duration::from_nanos(ages.fold(0, u64::saturating_add) / u64::from(self.counts.leased.max(1)))
    }

    /// How long it takes until `position` leases have come back.
    fn wait_for(&self, position: usize, hold: Duration) -> Duration {
        let holds = nanos(hold).saturating_mul(position as u64);
        Duration::from_nanos(holds / u64::from(self.counts.leased.max(1)))
    }

    /// The predicted wait, if it is longer than the caller's time and no further connection can shorten it.
    pub(super) fn hopeless(&self, waiting: &Waiting, now: Tick) -> Option<Duration> {
        let leased = u64::from(self.counts.leased);
        if !self.config.refuse_hopeless || leased == 0 || self.paused || waiting.deadline == Tick::NEVER {
            return None;
        }
        let holds = self.hold_time?.saturating_mul(self.queue.len() as u64);
        let left = waiting.deadline.nanos_since(now).saturating_mul(leased);
        (holds > left && self.size() >= self.config.max).then(|| Duration::from_nanos(holds / leased))
    }

    /// While the server is down and nothing lives, failing fast spares the caller the wait.
    pub(super) fn refusal_in_outage(&self, now: Tick) -> Option<Refusal> {
        let waiting_out = self.attempts.retry_at.is_some_and(|at| at > now);
        if !self.config.fail_fast || !waiting_out || self.has_live() {
            return None;
        }
        self.attempts.last_error.clone().map(Refusal::Failed)
    }

    /// Reports a task that waits on a full pool while it holds one of its connections: the way to a deadlock. Where more
    /// than ten thousand callers a second have to wait, not each of them is examined: a pool that stands still is not
    /// among those.
    pub(super) fn report_nested(&mut self, caller: Caller, now: Tick) {
        let Some(task) = caller.task.filter(|_| self.is_at_its_limit()) else { return };
        if !self.allowance.spend(now, |allowance| &mut allowance.examinations) {
            return;
        }
        let Some(held) = self.holds.iter().flatten().find(|hold| hold.caller.task == Some(task)) else {
            return;
        };
        self.totals.nested += 1;
        let event = PoolEvent::NestedAcquire { outer: held.caller.site, inner: caller.site };
        self.effects.events.push(event);
    }
}
