use super::WebSocketConfig;
use super::call::Call;
use super::error::Ended;
use super::intake::Stream;
use super::place::{Resize, Size, wanted};
use perf_core::Rng;
use perf_core::time::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use tokio::sync::{Notify, Semaphore};

/// What a connection is told to do.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(Arc<Stream>),
    Unsubscribe(Arc<Stream>),
    /// Something is held back that the connection before had promised to look at again.
    LookAgain(Arc<Stream>),
    Call(Call),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no connection yet, or none any more.
    Connecting,
    Open,
    /// What it carries moves to others, after which it is closed.
    Leaving,
}

/// One place for a connection, which is made again when it breaks.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) phase: Phase,
    /// Subscriptions that belong here, and those on their way.
    pub(super) streams: BTreeSet<u64>,
    pub(super) coming: BTreeSet<u64>,
    pub(super) commands: VecDeque<Command>,
    /// The link whose subscriptions this one takes over.
    pub(super) replaces: Option<u64>,
    rotate_at: Option<Instant>,
    pub(super) signal: Arc<Notify>,
    pub(super) room: Arc<Semaphore>,
    pub(super) messages: Arc<AtomicU64>,
    pub(super) calls: usize,
}

impl Link {
    fn load(&self) -> usize {
        self.streams.len() + self.coming.len()
    }
}

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

    /// A link has a connection: it takes over what it replaces, or its share of what waits.
    pub(super) fn opened(&mut self, id: u64, now: Instant) {
        let age = self.config.max_age.map(|age| age.mul_f64(1.0 - 0.1 * self.rng.unit()));
        let Some(link) = self.links.get_mut(&id) else { return };
        link.phase = Phase::Open;
        link.rotate_at = age.map(|age| now + age);
        if let Some(old) = link.replaces.take() {
            self.take_over(id, old);
        }
        self.take_share(id);
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

    /// A link has lost its connection. Returns whether it is to make another.
    pub(super) fn lost(&mut self, id: u64) -> bool {
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
    pub(super) fn refused(&mut self, id: u64, ended: &Ended) {
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
    pub(super) fn tick(&mut self, now: Instant) {
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
    pub(super) fn grow(&mut self) {
        if self.closed || self.fatal.is_some() {
            return;
        }
        let wanted = wanted(&self.config, self.streams.len(), 0.0).min(self.ceiling);
        let have = self.staying().count();
        (have..wanted).for_each(|_| self.start(None));
    }

    /// The server is going to close a link: what it carries moves first.
    pub(super) fn going_away(&mut self, id: u64) {
        if self.links.get(&id).is_some_and(|link| link.phase == Phase::Open) && !self.is_being_replaced(id) {
            self.rotated += 1;
            self.start(Some(id));
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

    /// The open link with the fewest calls, for one more; one that is being made if none is open.
    pub(super) fn for_call(&self) -> Option<u64> {
        let open = self.links.iter().filter(|(_, link)| link.phase == Phase::Open);
        open.min_by_key(|(_, link)| link.calls)
            .or_else(|| self.links.iter().find(|(_, link)| link.phase == Phase::Connecting))
            .map(|(id, _)| *id)
    }

    /// The next command of a link; subscriptions only if `subscriptions` are allowed.
    pub(super) fn next_command(&mut self, link: u64, subscriptions: bool) -> Option<Command> {
        let commands = &mut self.links.get_mut(&link)?.commands;
        if !subscriptions && matches!(commands.front(), Some(Command::Subscribe(_))) {
            return None;
        }
        commands.pop_front()
    }

    pub(super) fn remove(&mut self, id: u64) {
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
    fn staying(&self) -> impl Iterator<Item = (u64, &Link)> {
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

    /// The open link with the fewest subscriptions that has room for one more.
    fn least_loaded(&self, except: Option<u64>) -> Option<u64> {
        self.links
            .iter()
            .filter(|(id, link)| link.phase == Phase::Open && Some(**id) != except)
            .filter(|(_, link)| link.load() < self.config.max_streams)
            .min_by_key(|(_, link)| link.load())
            .map(|(id, _)| *id)
    }

    fn place(&mut self, id: u64) {
        match self.least_loaded(None) {
            Some(link) => self.settle(id, link, false),
            None => {
                self.waiting.insert(id);
            }
        }
    }

    /// Makes a link the home of a subscription; replays go before what was asked for later.
    fn settle(&mut self, id: u64, link: u64, first: bool) {
        let (Some(placed), Some(carrier)) = (self.streams.get_mut(&id), self.links.get_mut(&link)) else {
            return;
        };
        placed.home = Some(link);
        placed.stream.lock().set_home(link);
        carrier.streams.insert(id);
        let command = Command::Subscribe(Arc::clone(&placed.stream));
        if first {
            carrier.commands.push_front(command);
        } else {
            carrier.commands.push_back(command);
        }
        carrier.signal.notify_one();
    }

    /// Gives the oldest `most` waiting subscriptions to a link, before its other commands and in their order.
    fn give(&mut self, link: u64, most: usize) {
        let ids: Vec<u64> = self.waiting.iter().copied().take(most).collect();
        for id in ids.iter().rev() {
            self.waiting.remove(id);
            self.settle(*id, link, true);
        }
    }

    /// A link that has just opened takes its share of what waits: the others are going to come for theirs.
    fn take_share(&mut self, id: u64) {
        let links = self.staying().count().max(1);
        let share = self.streams.len().div_ceil(links).min(self.config.max_streams);
        let have = self.links.get(&id).map_or(0, Link::load);
        self.give(id, share.saturating_sub(have));
        self.even_out(id);
    }

    /// What waits goes to the links there are, the emptiest first.
    fn spread(&mut self) {
        let open = self.links.values().filter(|link| link.phase == Phase::Open).count();
        while !self.waiting.is_empty() {
            let Some(link) = self.least_loaded(None) else { return };
            let room = self.config.max_streams - self.links.get(&link).map_or(0, Link::load);
            let each = self.waiting.len().div_ceil(open.max(1)).min(room).max(1);
            self.give(link, each);
        }
    }

    /// Moves subscriptions from the fullest links to one that has far fewer than the mean.
    fn even_out(&mut self, id: u64) {
        let open = self.links.values().filter(|link| link.phase == Phase::Open).count().max(1);
        let mean = (self.streams.len() - self.waiting.len()) / open;
        let have = self.links.get(&id).map_or(0, Link::load);
        if have * 4 >= mean * 3 {
            return;
        }
        let mut missing = mean - have;
        let donors: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.phase == Phase::Open).map(|(id, _)| *id).collect();
        for donor in donors.into_iter().filter(|donor| *donor != id) {
            let Some(link) = self.links.get(&donor) else { continue };
            let spare = link.streams.len().saturating_sub(mean).min(missing);
            let ids: Vec<u64> = link.streams.iter().rev().copied().collect();
            let mut given = 0;
            for stream in ids {
                if given == spare {
                    break;
                }
                given += usize::from(self.move_to(stream, id));
            }
            missing -= given;
        }
    }

    /// Lets a subscription move: it is made on the new link before it ends on the old one. Returns whether it moves.
    fn move_to(&mut self, id: u64, to: u64) -> bool {
        let (Some(placed), Some(link)) = (self.streams.get_mut(&id), self.links.get_mut(&to)) else {
            return false;
        };
        if placed.heir.is_some() || placed.home == Some(to) {
            return false;
        }
        let mut intake = placed.stream.lock();
        if intake.is_paused() {
            // Nothing comes from the old link anyway.
            if let Some(home) = placed.home.replace(to) {
                intake.detach(home);
                intake.set_home(to);
                drop(intake);
                link.streams.insert(id);
                if let Some(old) = self.links.get_mut(&home) {
                    old.streams.remove(&id);
                }
            }
            return true;
        }
        intake.set_heir(to);
        drop(intake);
        placed.heir = Some(to);
        link.coming.insert(id);
        link.commands.push_back(Command::Subscribe(Arc::clone(&placed.stream)));
        link.signal.notify_one();
        true
    }

    fn take_over(&mut self, id: u64, old: u64) {
        let Some(leaving) = self.links.get_mut(&old) else { return };
        if leaving.phase != Phase::Open {
            // It broke meanwhile: what it had is placed already, and this link stays as one more.
            return;
        }
        leaving.phase = Phase::Leaving;
        let streams: Vec<u64> = leaving.streams.iter().copied().collect();
        for stream in streams {
            self.move_to(stream, id);
        }
        self.close_if_empty(old);
    }

    fn close_if_empty(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id)
            && link.phase == Phase::Leaving
            && link.streams.is_empty()
            && !matches!(link.commands.back(), Some(Command::Close))
        {
            link.commands.push_back(Command::Close);
            link.signal.notify_one();
        }
    }

    /// Takes everything off a link and finds it another place.
    fn displace(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (streams, coming) = (std::mem::take(&mut link.streams), std::mem::take(&mut link.coming));
        for stream in coming {
            if let Some(placed) = self.streams.get_mut(&stream) {
                placed.heir = None;
                placed.stream.lock().detach(id);
            }
        }
        for stream in streams {
            let Some(placed) = self.streams.get_mut(&stream) else { continue };
            placed.stream.lock().detach(id);
            placed.home = placed.heir.take();
            match placed.home.and_then(|heir| self.links.get_mut(&heir)) {
                Some(heir) => {
                    heir.coming.remove(&stream);
                    heir.streams.insert(stream);
                }
                None => {
                    placed.home = None;
                    self.waiting.insert(stream);
                }
            }
        }
        // A link that was being emptied into this one stays where it is.
        let emptied: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.phase == Phase::Leaving && !link.streams.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for leaving in emptied {
            let heirless = self.links[&leaving]
                .streams
                .iter()
                .any(|stream| self.streams.get(stream).is_some_and(|placed| placed.heir.is_none()));
            if heirless && let Some(link) = self.links.get_mut(&leaving) {
                link.phase = Phase::Open;
            }
        }
        self.spread();
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
