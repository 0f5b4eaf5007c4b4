//! Which connection carries which subscription: the events from outside. `fleet` says which connections there are, `moves`
//! where subscriptions go.

mod fleet;
mod link;
mod moves;

pub(super) use link::{Command, Link, Phase};

use crate::websocket::WebSocketConfig;
use crate::websocket::error::Ended;
use crate::websocket::intake::Stream;
use crate::websocket::place::Size;
use perf_core::Rng;
use perf_core::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug)]
struct Placed {
    stream: Arc<Stream>,
    home: Option<u64>,
    heir: Option<u64>,
}

/// Which connection carries which subscription. Every subscription is at all times in one of three places: at home on a
/// link, paused there, or waiting for a link. Pure: it takes `now`, starts nothing and waits for nothing.
#[derive(Debug)]
pub(super) struct Hub {
    config: WebSocketConfig,
    rng: Rng,
    streams: BTreeMap<u64, Placed>,
    links: BTreeMap<u64, Link>,
    /// Subscriptions without a link, oldest first.
    waiting: BTreeSet<u64>,
    next: u64,
    size: Size,
    measured: Option<(Instant, u64)>,
    /// Messages of links that are gone.
    messages_before: u64,
    /// Connections at most, once a server has refused one for good.
    ceiling: usize,
    pub(super) closed: bool,
    pub(super) fatal: Option<Ended>,
    pub(super) moved: u64,
    pub(super) rotated: u64,
    /// Links to be started by whoever holds the hub.
    pub(super) to_start: Vec<u64>,
    /// Readers to be woken once the hub is let go.
    pub(super) to_wake: Vec<Waker>,
}

impl Hub {
    pub(super) fn new(config: WebSocketConfig, rng: Rng) -> Self {
        let ceiling = config.max;
        Self {
            config,
            rng,
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            waiting: BTreeSet::new(),
            next: 0,
            size: Size::default(),
            measured: None,
            messages_before: 0,
            ceiling,
            closed: false,
            fatal: None,
            moved: 0,
            rotated: 0,
            to_start: Vec::new(),
            to_wake: Vec::new(),
        }
    }

    /// A number that was never used before in this pool.
    pub(super) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) const fn links(&self) -> &BTreeMap<u64, Link> {
        &self.links
    }

    pub(super) fn link(&mut self, link: u64) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.streams.len() >= self.config.max.saturating_mul(self.config.max_streams)
    }

    /// Takes in a subscription and finds it a place.
    pub(super) fn subscribe(&mut self, stream: Arc<Stream>) {
        let id = stream.id;
        self.streams.insert(id, Placed { stream, home: None, heir: None });
        self.place(id);
        self.grow();
    }

    /// Forgets a subscription.
    pub(super) fn unsubscribe(&mut self, id: u64) {
        let Some(Placed { stream, home, heir }) = self.streams.remove(&id) else { return };
        self.waiting.remove(&id);
        for link in home.into_iter().chain(heir) {
            let Some(carrier) = self.links.get_mut(&link) else { continue };
            carrier.streams.remove(&id);
            carrier.coming.remove(&id);
            if carrier.phase != Phase::Connecting {
                carrier.commands.push_back(Command::Unsubscribe(Arc::clone(&stream)));
                carrier.signal.notify_one();
            }
            self.close_if_empty(link);
        }
    }

    /// A paused subscription goes on.
    pub(super) fn resume(&mut self, id: u64) {
        let Some(Placed { stream, home: Some(home), .. }) = self.streams.get(&id) else { return };
        let stream = Arc::clone(stream);
        if let Some(link) = self.links.get_mut(home).filter(|link| link.phase != Phase::Connecting) {
            link.commands.push_back(Command::Subscribe(stream));
            link.signal.notify_one();
        }
    }

    /// The server has acknowledged a subscription on a link.
    pub(super) fn acknowledged(&mut self, id: u64, link: u64) {
        let Some(placed) = self.streams.get_mut(&id) else { return };
        if placed.heir != Some(link) {
            return;
        }
        placed.stream.lock().promote();
        let stream = Arc::clone(&placed.stream);
        let old = placed.home.replace(link);
        placed.heir = None;
        self.moved += 1;
        if let Some(new) = self.links.get_mut(&link) {
            new.coming.remove(&id);
            new.streams.insert(id);
        }
        let Some(old) = old else { return };
        if let Some(former) = self.links.get_mut(&old) {
            former.streams.remove(&id);
            if former.phase == Phase::Open {
                former.commands.push_back(Command::Unsubscribe(stream));
                former.signal.notify_one();
            }
        }
        self.close_if_empty(old);
    }

    /// A connection has ended that was going to look again at what a subscription holds back.
    pub(super) fn look_again(&mut self, stream: Arc<Stream>) {
        let home = self.streams.get(&stream.id).and_then(|placed| placed.home);
        // Without a home, the acknowledgement of the next one sees to it.
        if let Some(link) = home.and_then(|home| self.links.get_mut(&home)) {
            link.commands.push_back(Command::LookAgain(stream));
            link.signal.notify_one();
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.end_all(&Ended::Closed);
        for link in self.links.values_mut() {
            link.commands.clear();
            link.commands.push_back(Command::Close);
            link.signal.notify_one();
        }
    }

    fn end_all(&mut self, ended: &Ended) {
        for placed in std::mem::take(&mut self.streams).into_values() {
            self.to_wake.extend(placed.stream.lock().end(ended.clone()));
        }
        self.waiting.clear();
        for link in self.links.values_mut() {
            link.streams.clear();
            link.coming.clear();
        }
    }
}
