//! Who runs, who waits, and who is next. The word is read and changed without a lock while nobody waits.

use super::config::BulkheadConfig;
use perf_core::time::{Duration, Instant};
use perf_core::{Ticket, WaitList};
use std::collections::HashMap;
use std::task::Waker;

/// How much a call matters: lower classes are refused first and served last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Must go through if anything does: health checks, payments.
    Critical,
    /// Somebody waits for it.
    #[default]
    Normal,
    /// Somebody will look at it later.
    Low,
    /// Nobody would notice: prefetching, reports.
    Background,
}

impl Priority {
    /// Every class, the most important first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::Normal, Self::Low, Self::Background];
}

/// What a waiter is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Permit,
    /// A more important call took its place in the queue.
    Displaced,
}

/// After so many grants to others a waiting class is served: one in twenty is 5 %.
const PATIENCE: u32 = 19;

/// The calls in flight, the limit, and whether anybody waits, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load(pub(super) u64);

const QUEUED: u64 = 1 << 63;

impl Load {
    pub(super) const fn new(limit: u32) -> Self {
        Self((limit as u64) << 32)
    }

    pub(super) const fn in_flight(self) -> u32 {
        self.0 as u32
    }

    pub(super) const fn limit(self) -> u32 {
        ((self.0 & !QUEUED) >> 32) as u32
    }

    pub(super) const fn queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    pub(super) const fn has_room(self) -> bool {
        self.in_flight() < self.limit()
    }

    pub(super) const fn entered(self) -> Self {
        Self(self.0 + 1)
    }

    pub(super) const fn left(self) -> Self {
        Self(self.0 - 1)
    }

    pub(super) const fn with_queue(self, queued: bool) -> Self {
        Self(if queued { self.0 | QUEUED } else { self.0 & !QUEUED })
    }

    pub(super) const fn with_limit(self, limit: u32) -> Self {
        Self((self.0 & (QUEUED | u32::MAX as u64)) | (limit as u64) << 32)
    }
}

/// The waiters, by class.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) config: BulkheadConfig,
    lists: [WaitList<Grant>; 4],
    passed_over: [u32; 4],
    /// When each waiter came and how long it may wait; kept only where the order of service depends on it.
    arrivals: HashMap<(usize, Ticket), (Instant, Duration)>,
}

impl Queue {
    pub(super) fn new(config: BulkheadConfig) -> Self {
        let lists = std::array::from_fn(|_| WaitList::new());
        Self { config, lists, passed_over: [0; 4], arrivals: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(WaitList::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists.iter().all(WaitList::is_empty)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.config.queue as usize
    }

    /// Whether a call of `class` could not even wait: the queue is full of calls that matter as much or more.
    pub(super) fn is_full_for(&self, class: Priority) -> bool {
        self.is_full() && self.lists[class as usize + 1..].iter().all(WaitList::is_empty)
    }

    pub(super) fn join(&mut self, class: Priority, waker: Waker, now: Instant, wait: Duration) -> Ticket {
        let ticket = self.lists[class as usize].join(waker);
        if self.config.newest_first_when_late {
            self.arrivals.insert((class as usize, ticket), (now, wait));
        }
        ticket
    }

    pub(super) fn list(&mut self, class: Priority) -> &mut WaitList<Grant> {
        &mut self.lists[class as usize]
    }

    /// Gives up a place in the queue, and returns what its holder was given but had not taken.
    pub(super) fn leave(&mut self, class: Priority, ticket: Ticket) -> Option<Grant> {
        self.arrivals.remove(&(class as usize, ticket));
        self.lists[class as usize].leave(ticket)
    }

    pub(super) fn forget(&mut self, class: Priority, ticket: Ticket) {
        self.arrivals.remove(&(class as usize, ticket));
    }

    /// Makes room for a call of `class` by refusing the newest waiter of the least important class below it.
    pub(super) fn displace_below(&mut self, class: Priority) -> Option<Waker> {
        (class as usize + 1..4).rev().find_map(|low| self.lists[low].hand_over_newest(Grant::Displaced).ok())
    }

    /// Hands a permit to whoever is next.
    pub(super) fn hand_over(&mut self, now: Instant) -> Option<Waker> {
        let class = self.next_class()?;
        let late = self.oldest_is_late(class, now);
        let list = &mut self.lists[class];
        if late { list.hand_over_newest(Grant::Permit).ok() } else { list.hand_over(Grant::Permit).ok() }
    }

    fn next_class(&mut self) -> Option<usize> {
        let waiting: [bool; 4] = std::array::from_fn(|class| !self.lists[class].is_empty());
        let first = waiting.iter().position(|waits| *waits)?;
        let starved = (first..4).rev().find(|class| waiting[*class] && self.passed_over[*class] >= PATIENCE);
        let chosen = starved.unwrap_or(first);
        for (class, count) in self.passed_over.iter_mut().enumerate() {
            *count = if waiting[class] && class != chosen { *count + 1 } else { 0 };
        }
        Some(chosen)
    }

    fn oldest_is_late(&self, class: usize, now: Instant) -> bool {
        let Some(ticket) = self.lists[class].oldest() else { return false };
        self.arrivals
            .get(&(class, ticket))
            .is_some_and(|(came, wait)| now.saturating_duration_since(*came) > *wait / 2)
    }
}
