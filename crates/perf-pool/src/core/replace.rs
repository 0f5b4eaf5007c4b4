//! Make before break: a connection in use gets its successor before it expires, so that nobody meets a gap.

use super::{Core, Entry, Job, Why};
use crate::clock::Tick;
use perf_core::time::Duration;

/// How far the replacement of ageing connections has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replacements {
    /// Connections that are about to expire.
    ageing: usize,
    /// Successors being made.
    coming: usize,
    /// Successors that have come while the connection they replace was in use: it goes when it comes back.
    owed: usize,
}

impl<C> Core<C> {
    /// How many connections may be held above `max` because one of them is about to go.
    pub(super) const fn overlap(&self) -> usize {
        self.replacements.owed + self.replacements.coming
    }

    /// Looks whether a connection in use is about to expire.
    pub(super) fn notice_age(&mut self, entry: &mut Entry<C>, now: Tick) {
        if self.config.replace_overlap > 0 && !self.closed && entry.begins_to_age(now, self.replace_ahead()) {
            self.ageing_noticed(1);
        }
    }

    pub(super) fn ageing_noticed(&mut self, count: usize) {
        self.replacements.ageing += count;
        self.effects.signal |= count > 0;
    }

    /// From when on the age of a connection is looked at as it comes back: in the last tenth of its life, or at its end.
    pub(super) fn ages_at(&self, expires: Tick) -> Tick {
        match (self.config.max_lifetime, self.config.replace_overlap) {
            (None, _) | (_, 0) => expires,
            (Some(lifetime), _) => expires.before(lifetime / 10),
        }
    }

    /// Long enough before the end to notice and to connect, never more than the last tenth of a life.
    pub(super) fn replace_ahead(&self) -> Duration {
        let connecting = self.mean_connect().unwrap_or_default() * 4;
        let lead = connecting.max(self.config.maintenance_interval * 2);
        lead.min(self.config.max_lifetime.unwrap_or_default() / 10)
    }

    /// Starts to make successors, as many at a time as the overlap allows.
    pub(super) fn start_replacements(&mut self) {
        let Replacements { ageing, coming, owed } = self.replacements;
        let most = self.config.replace_overlap;
        let unserved = ageing.saturating_sub(coming + owed);
        let room = (self.config.max + most).saturating_sub(self.size());
        for _ in 0..unserved.min(most.saturating_sub(coming + owed)).min(room) {
            self.replacements.coming += 1;
            self.counts.connecting += 1;
            self.push_job(Job::Connect { successor: true });
        }
    }

    pub(super) const fn successor_done(&mut self) {
        self.replacements.coming -= 1;
    }

    /// A successor is there: the oldest ageing connection goes, now or when it comes back.
    pub(super) fn succeed(&mut self) {
        if self.replacements.ageing <= self.replacements.owed {
            return;
        }
        match self.idle.position(|entry| entry.ageing) {
            Some(place) => {
                if let Some(entry) = self.idle.remove(place) {
                    self.retire(entry, Why::Expired);
                }
            }
            None => self.replacements.owed += 1,
        }
    }

    /// Whether the successor of this connection is there already.
    pub(super) const fn is_replaced(&self, entry: &Entry<C>) -> bool {
        entry.ageing && self.replacements.owed > 0
    }

    /// An ageing connection is gone.
    pub(super) fn forget_ageing(&mut self, ageing: bool) {
        if ageing {
            self.replacements.ageing -= 1;
            self.replacements.owed = self.replacements.owed.min(self.replacements.ageing);
        }
    }
}
