//! Which connections there are: how many, how old, and what becomes of one that opens, breaks or is refused.

use super::{Command, Hub, Link, Phase};
use crate::websocket::error::Ended;
use crate::websocket::place::{Resize, wanted};
use perf_core::time::Instant;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, Semaphore};

impl Hub {
    /// A link has a connection: it takes over what it replaces, or its share of what waits.
    pub(in crate::websocket) fn opened(&mut self, id: u64, now: Instant) {
        let age = self.config.max_age.map(|age| age.mul_f64(1.0 - 0.1 * self.rng.unit()));
        let Some(link) = self.links.get_mut(&id) else { return };
        link.phase = Phase::Open;
        link.rotate_at = age.map(|age| now + age);
        if let Some(old) = link.replaces.take() {
            self.take_over(id, old);
        }
        self.take_share(id);
    }

    /// A link has lost its connection. Returns whether it is to make another.
    pub(in crate::websocket) fn lost(&mut self, id: u64) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let leaving = link.phase == Phase::Leaving;
        link.phase = Phase::Connecting;
        link.rotate_at = None;
        // Subscriptions are data and placed anew; calls that were not begun wait for the next connection.
        link.commands.retain(|command| matches!(command, Command::Call(_)));
        self.displace(id);
        if leaving || self.closed {
            self.remove(id);
            return false;
        }
        true
    }

    /// A link is refused by the server for good. Without any other link everything ends.
    pub(in crate::websocket) fn refused(&mut self, id: u64, ended: &Ended) {
        if let Some(link) = self.links.get_mut(&id) {
            link.phase = Phase::Connecting;
        }
        self.displace(id);
        self.remove(id);
        self.ceiling = self.links.len().max(1);
        if self.links.is_empty() {
            self.fatal = Some(ended.clone());
            self.end_all(ended);
        }
    }

    /// Looks after size and age, and gives a place to whatever has none.
    pub(in crate::websocket) fn tick(&mut self, now: Instant) {
        if self.closed || self.fatal.is_some() {
            return;
        }
        self.spread();
        self.rotate(now);
        let rate = self.rate(now);
        let wanted = wanted(&self.config, self.streams.len(), rate).min(self.ceiling);
        let staying: Vec<u64> = self.staying().map(|(id, _)| id).collect();
        match self.size.decide(staying.len(), wanted, &self.config, now) {
            Resize::Stay => {}
            Resize::Grow(more) => (0..more).for_each(|_| self.start(None)),
            Resize::ShrinkByOne => self.retire_one(),
        }
    }

    /// Starts as many links as are wanted now.
    pub(in crate::websocket) fn grow(&mut self) {
        if self.closed || self.fatal.is_some() {
            return;
        }
        let wanted = wanted(&self.config, self.streams.len(), 0.0).min(self.ceiling);
        let have = self.staying().count();
        (have..wanted).for_each(|_| self.start(None));
    }

    /// The server is going to close a link: what it carries moves first.
    pub(in crate::websocket) fn going_away(&mut self, id: u64) {
        if self.links.get(&id).is_some_and(|link| link.phase == Phase::Open) && !self.is_being_replaced(id) {
            self.rotated += 1;
            self.start(Some(id));
        }
    }

    /// The open link with the fewest calls, for one more; one that is being made if none is open.
    pub(in crate::websocket) fn for_call(&self) -> Option<u64> {
        let open = self.links.iter().filter(|(_, link)| link.phase == Phase::Open);
        open.min_by_key(|(_, link)| link.calls)
            .or_else(|| self.links.iter().find(|(_, link)| link.phase == Phase::Connecting))
            .map(|(id, _)| *id)
    }

    /// The next command of a link; subscriptions only if `subscriptions` are allowed.
    pub(in crate::websocket) fn next_command(&mut self, link: u64, subscriptions: bool) -> Option<Command> {
        let commands = &mut self.links.get_mut(&link)?.commands;
        if !subscriptions && matches!(commands.front(), Some(Command::Subscribe(_))) {
            return None;
        }
        commands.pop_front()
    }

    pub(in crate::websocket) fn remove(&mut self, id: u64) {
        if let Some(link) = self.links.remove(&id) {
            self.messages_before += link.messages.load(Ordering::Relaxed);
            // Calls of a link that leaves go to another; without one their callers are told by the drop.
            let other = self.for_call();
            if let Some(other) = other.and_then(|other| self.links.get_mut(&other)) {
                let calls = link.commands.into_iter().filter(|command| matches!(command, Command::Call(_)));
                other.commands.extend(calls);
                other.signal.notify_one();
            }
        }
    }

    /// Links that are not about to go: neither leaving nor standing in for one that is.
    pub(super) fn staying(&self) -> impl Iterator<Item = (u64, &Link)> {
        let stays = |link: &Link| link.phase != Phase::Leaving && link.replaces.is_none();
        self.links.iter().filter(move |(_, link)| stays(link)).map(|(id, link)| (*id, link))
    }

    fn is_being_replaced(&self, id: u64) -> bool {
        self.links.values().any(|link| link.replaces == Some(id))
    }

    fn start(&mut self, replaces: Option<u64>) {
        let id = self.number();
        let link = Link {
            phase: Phase::Connecting,
            streams: BTreeSet::new(),
            coming: BTreeSet::new(),
            commands: VecDeque::new(),
            replaces,
            rotate_at: None,
            signal: Arc::new(Notify::new()),
            room: Arc::new(Semaphore::new(self.config.send_queue)),
            messages: Arc::new(AtomicU64::new(0)),
            calls: 0,
        };
        self.links.insert(id, link);
        self.to_start.push(id);
    }

    /// Replaces the first link that is old enough, one at a time.
    fn rotate(&mut self, now: Instant) {
        if self.links.values().any(|link| link.replaces.is_some() || link.phase == Phase::Leaving) {
            return;
        }
        let is_due = |link: &Link| link.phase == Phase::Open && link.rotate_at.is_some_and(|at| at <= now);
        let due = self.links.iter().find(|(_, link)| is_due(link)).map(|(id, _)| *id);
        if let Some(id) = due {
            self.going_away(id);
        }
    }

    fn retire_one(&mut self) {
        let emptiest = self
            .links
            .iter()
            .filter(|(id, link)| link.phase == Phase::Open && !self.is_being_replaced(**id))
            .min_by_key(|(_, link)| link.load())
            .map(|(id, link)| (*id, link.streams.iter().copied().collect::<Vec<_>>()));
        let Some((id, streams)) = emptiest else { return };
        let room: usize = self
            .links
            .iter()
            .filter(|(other, link)| **other != id && link.phase == Phase::Open)
            .map(|(_, link)| self.config.max_streams.saturating_sub(link.load()))
            .sum();
        if room < streams.len() || self.links.len() < 2 {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.phase = Phase::Leaving;
        }
        for stream in streams {
            if let Some(to) = self.least_loaded(Some(id)) {
                self.move_to(stream, to);
            }
        }
        self.close_if_empty(id);
    }

    /// Messages per second since the last look.
    fn rate(&mut self, now: Instant) -> f64 {
        let total = self.messages_before
            + self.links.values().map(|link| link.messages.load(Ordering::Relaxed)).sum::<u64>();
        let last = self.measured.replace((now, total));
        let Some((at, before)) = last else { return 0.0 };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        if elapsed > 0.0 { total.saturating_sub(before) as f64 / elapsed } else { 0.0 }
    }
}
