//! What the maintenance task looks after from time to time.

use super::{Begun, Core, Entry, Refusal, Why};
use crate::clock::Tick;
use crate::event::PoolEvent;

impl<C> Core<C> {
    /// Does what is due at `now` and says when to look again.
    pub(crate) fn tick(&mut self, now: Tick) -> Tick {
        self.notice_stall(now);
        self.recent = self.recent.max(now);
        let deliveries = &mut self.effects.deliveries;
        self.queue.expire(now, |delivery| deliveries.push(delivery));
        if !self.closed {
            self.notice_ages(now);
            self.sweep_idle(now);
            self.report_leaks(now);
        }
        self.pump(now);
        let regular = now.after(self.config.maintenance_interval);
        let next = [
            Some(self.queue.next_deadline()),
            self.next_attempt(),
            self.reconsider_at(now),
            self.patience_ends(),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .fold(regular, Tick::min);
        self.planned = Some(regular);
        self.next_wake = Some(next);
        next
    }

    /// When the next attempt to connect may be made, if one is wanted.
    pub(super) fn next_attempt(&self) -> Option<Tick> {
        let wanted = !self.queue.is_empty() || self.size() < self.config.min_idle;
        self.attempts.retry_at.filter(|_| wanted && !self.paused && !self.closed)
    }

    /// A process that stood still does not know what became of its connections.
    fn notice_stall(&mut self, now: Tick) {
        let Some(planned) = self.planned else { return };
        if now.since(planned) > self.config.maintenance_interval.mul_f64(1.5) {
            let by = now.since(planned);
            self.suspect();
            self.idle.excuse(by, now);
            self.effects.events.push(PoolEvent::Stalled { by });
        }
    }

    /// Of the idle connections only those that are used now and then, or that `min_idle` asks for, get a successor.
    fn notice_ages(&mut self, now: Tick) {
        if self.config.replace_overlap == 0 || self.idle.is_empty() {
            return;
        }
        let needed = self.staying() <= self.config.min_idle;
        let every = self.config.maintenance_interval * 10;
        let lead = self.replace_ahead();
        let mut found = 0;
        self.idle.look_at_each(|entry| {
            if (needed || now.since(entry.idle_since) < every) && entry.begins_to_age(now, lead) {
                found += 1;
            }
        });
        self.ageing_noticed(found);
    }

    fn sweep_idle(&mut self, now: Tick) {
        let mut index = 0;
        while index < self.idle.len() {
            let Some(verdict) = self.due(index, now) else {
                index += 1;
                continue;
            };
            let Some(entry) = self.idle.remove(index) else { return };
            match verdict {
                Due::Close(why) => self.retire(entry, why),
                Due::Check => self.start_check(entry),
            }
        }
    }

    /// What is to be done with the idle connection at `index`, the one idle longest being the first.
    fn due(&self, index: usize, now: Tick) -> Option<Due> {
        let entry: &Entry<C> = self.idle.get(index)?;
        let idle_for = now.since(entry.idle_since);
        if entry.generation != self.generation {
            return Some(Due::Close(Why::Evicted));
        }
        if entry.expires <= now {
            return Some(Due::Close(Why::Expired));
        }
        if self.staying() > self.config.max + self.overlap() {
            return Some(Due::Close(Why::Surplus));
        }
        let spare = self.staying() > self.config.min_idle;
        if spare && self.config.idle_timeout.is_some_and(|most| idle_for >= most) {
            return Some(Due::Close(Why::Idle));
        }
        let above_keep = self.config.keep.is_some_and(|keep| self.staying() > keep);
        if spare && above_keep && idle_for >= self.config.overflow_linger {
            return Some(Due::Close(Why::Surplus));
        }
        let unproven = now.since(entry.proven.max(entry.idle_since));
        let stale = self.config.keepalive.is_some_and(|every| unproven >= every) || self.is_suspect(entry);
        let last_while_others_wait = self.idle.len() == 1 && !self.queue.is_empty();
        (stale && !last_while_others_wait && (self.counts.checking as usize) < self.config.max_connecting)
            .then_some(Due::Check)
    }

    fn report_leaks(&mut self, now: Tick) {
        let Some(limit) = self.config.leak_after else { return };
        for hold in self.holds.iter_mut().flatten() {
            if !hold.reported && now.since(hold.since) >= limit {
                hold.reported = true;
                self.totals.leaked += 1;
                self.effects.events.push(PoolEvent::HeldTooLong { holder: hold.holder(now) });
            }
        }
    }

    /// No lease is given out until [`Core::resume`].
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.open = false;
    }

    pub(crate) fn resume(&mut self, now: Tick) {
        self.paused = false;
        self.open = !self.closed;
        self.effects.signal = true;
        self.pump(now);
    }

    /// Lets no connection made until now be used again.
    pub(crate) fn evict_all(&mut self, now: Tick) {
        self.generation = self.generation.wrapping_add(1);
        while let Some(entry) = self.idle.pop_oldest() {
            self.retire(entry, Why::Evicted);
        }
        self.pump(now);
    }

    /// Changes the largest size. What is leased stays; what is too much goes as it comes back.
    pub(crate) fn resize(&mut self, max: usize, now: Tick) {
        self.config.max = max;
        self.config.min_idle = self.config.min_idle.min(max);
        self.config.keep = self.config.keep.map(|keep| keep.min(max));
        while self.staying() > max {
            let Some(entry) = self.idle.pop_oldest() else { break };
            self.retire(entry, Why::Surplus);
        }
        self.effects.signal = true;
        self.pump(now);
    }

    /// Refuses everyone from now on, and lets go of everything idle.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.open = false;
        self.effects.signal = true;
        self.effects.changed = true;
        while let Some(entry) = self.idle.pop_oldest() {
            self.retire(entry, Why::Shutdown);
        }
        while let Some(delivery) = self.queue.refuse_oldest(Refusal::Closed) {
            self.effects.deliveries.push(delivery);
        }
    }

    /// An attempt to connect that begins now.
    pub(crate) const fn begin(&self, at: Tick, successor: bool) -> Begun {
        Begun { at, generation: self.generation, epoch: self.epoch, successor }
    }
}

enum Due {
    Close(Why),
    Check,
}
