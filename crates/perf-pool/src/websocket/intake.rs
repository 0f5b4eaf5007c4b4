use super::delivery::{Delivery, Inbox, Offered};
use super::error::{Ended, Error};
use super::overlap::Overlap;
use super::protocol::Position;
use super::sequence::{Seen, Sequencer};
use super::topic::Topic;
use super::{Message, WebSocketConfig};
use perf_core::time::{Duration, Instant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// What a message or an acknowledgement has set off.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) wake: Option<Waker>,
    /// The subscription is to be paused at the server.
    pub(super) pause: bool,
    /// The subscription has ended by its policy.
    pub(super) overrun: bool,
    /// Something is held back: look again then.
    pub(super) look_again: Option<Instant>,
    pub(super) dropped: u64,
    pub(super) conflated: u64,
    pub(super) duplicates: u64,
    pub(super) gaps: u64,
    pub(super) missed: u64,
}

/// What arrives for one subscription, from which connection, and what its reader gets. Pure: it takes `now`.
#[derive(Debug)]
pub(super) struct Intake {
    sequencer: Sequencer<Message>,
    numbered: bool,
    inbox: Inbox,
    reorder: usize,
    reorder_wait: Duration,
    hold_until: Option<Instant>,
    overlap: Overlap,
    /// The connection the subscription belongs to; the one it moves to; the one it has moved away from.
    home: Option<u64>,
    heir: Option<u64>,
    former: Option<u64>,
    attached_before: bool,
    paused: bool,
    ended: Option<Ended>,
    waker: Option<Waker>,
    first: Option<oneshot::Sender<Result<(), Error>>>,
}

/// Messages held back at most while a subscription moves: the old connection is behind the new one by a round trip.
const OVERLAP_WINDOW: usize = 4_096;
/// How long the old connection may be behind the new one.
const OVERLAP_WAIT: Duration = Duration::from_secs(1);
/// Messages taken in above the capacity while the word to pause travels to the server.
const SLACK: usize = 4_096;

impl Intake {
    pub(super) fn new(
        topic: &Topic,
        config: &WebSocketConfig,
        first: Option<oneshot::Sender<Result<(), Error>>>,
    ) -> Self {
        Self {
            sequencer: Sequencer::new(topic.after),
            numbered: topic.after.is_some(),
            inbox: Inbox::new(topic.policy.clone(), topic.capacity.unwrap_or(config.capacity).max(1)),
            reorder: config.reorder,
            reorder_wait: config.reorder_wait,
            hold_until: None,
            overlap: Overlap::default(),
            home: None,
            heir: None,
            former: None,
            attached_before: false,
            paused: false,
            ended: None,
            waker: None,
            first,
        }
    }

    pub(super) const fn set_home(&mut self, link: u64) {
        self.home = Some(link);
    }

    pub(super) const fn set_heir(&mut self, link: u64) {
        self.heir = Some(link);
    }

    /// The new connection carries the subscription: the old one may still have something under way.
    pub(super) const fn promote(&mut self) {
        if let Some(heir) = self.heir.take() {
            self.former = self.home.replace(heir);
        }
    }

    /// A connection carries the subscription no longer.
    pub(super) fn detach(&mut self, link: u64) {
        if self.home == Some(link) {
            self.home = self.heir.take();
        }
        self.heir = self.heir.filter(|heir| *heir != link);
        self.former = self.former.filter(|former| *former != link);
        if !self.is_moving() {
            self.overlap = Overlap::default();
        }
        if self.home.is_none() {
            // What is missing may be sent again by the next connection.
            self.hold_until = None;
        }
    }

    const fn is_moving(&self) -> bool {
        self.heir.is_some() || self.former.is_some()
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The message after which the server should go on.
    pub(super) fn after(&self) -> Option<u64> {
        if self.numbered { self.sequencer.last() } else { None }
    }

    pub(super) fn receive(
        &mut self,
        link: u64,
        number: Option<u64>,
        message: Message,
        now: Instant,
    ) -> Effect {
        let mut effect = Effect::default();
        let from = Some(link);
        let known = from == self.home || from == self.heir || from == self.former;
        if self.ended.is_some() || !known {
            return effect;
        }
        if self.inbox.blocks() && self.inbox.messages() >= self.inbox.capacity() + SLACK {
            effect.dropped = 1;
            if number.is_none() {
                self.inbox.notice(Delivery::Lagged(1));
            }
            // A numbered message is asked for again when the subscription goes on.
            return effect;
        }
        match number {
            Some(number) => self.receive_numbered(number, message, now, &mut effect),
            None => {
                let from_second = if self.heir.is_some() { from == self.heir } else { from == self.home };
                if self.is_moving() && !self.overlap.is_new(message_bytes(&message), from_second) {
                    effect.duplicates = 1;
                } else {
                    let offered = self.inbox.offer(message);
                    count(&mut effect, offered);
                }
            }
        }
        self.after_change(&mut effect);
        effect
    }

    fn receive_numbered(&mut self, number: u64, message: Message, now: Instant, effect: &mut Effect) {
        self.numbered = true;
        let moving = self.is_moving();
        let window = if moving { self.reorder.max(OVERLAP_WINDOW) } else { self.reorder };
        let Self { sequencer, inbox, .. } = self;
        let new = sequencer.see(number, message, window, &mut |seen| take(inbox, effect, seen));
        effect.duplicates += u64::from(!new);
        if !sequencer.is_holding() {
            self.hold_until = None;
        } else if self.hold_until.is_none() {
            let wait = if moving { self.reorder_wait.max(OVERLAP_WAIT) } else { self.reorder_wait };
            self.hold_until = Some(now + wait);
            effect.look_again = self.hold_until;
        }
    }

    /// Waits no longer for what is missing, if the time for that is over.
    pub(super) fn look_again(&mut self, now: Instant) -> Effect {
        let mut effect = Effect::default();
        // A paused subscription is going to be told again what it misses.
        if self.paused || self.ended.is_some() {
            return effect;
        }
        match self.hold_until {
            Some(until) if until <= now => {
                let Self { sequencer, inbox, .. } = self;
                sequencer.flush(&mut |seen| take(inbox, &mut effect, seen));
                self.hold_until = None;
                self.after_change(&mut effect);
            }
            until => effect.look_again = until,
        }
        effect
    }

    /// The server has acknowledged the subscription on a connection.
    pub(super) fn acknowledge(&mut self, link: u64, position: Position, now: Instant) -> Effect {
        let mut effect = Effect::default();
        if let Some(first) = self.first.take() {
            // The caller may have gone away; its subscription ends with its handle.
            let _ = first.send(Ok(()));
        }
        let again = std::mem::replace(&mut self.attached_before, true);
        if self.heir == Some(link) && matches!(position, Position::Restarted(_)) {
            // The numbers of the old connection mean nothing in the new count.
            self.home = None;
        } else if self.home != Some(link) || self.is_moving() {
            return effect;
        }
        let Self { sequencer, inbox, .. } = self;
        match position {
            Position::Next(next) => {
                self.numbered = true;
                sequencer.goes_on_with(next, &mut |seen| take(inbox, &mut effect, seen));
            }
            Position::Restarted(next) => {
                if again {
                    inbox.notice(Delivery::Restarted { last_seen: sequencer.last(), next });
                }
                self.numbered = true;
                sequencer.restart(next);
            }
            Position::Unknown if again && !self.numbered => inbox.notice(Delivery::Interrupted),
            Position::Unknown => {}
        }
        if self.sequencer.is_holding() {
            self.hold_until = Some(now + self.reorder_wait);
            effect.look_again = self.hold_until;
        }
        self.after_change(&mut effect);
        effect
    }

    /// The subscription is over. Returns whoever waits for it.
    pub(super) fn end(&mut self, ended: Ended) -> Option<Waker> {
        let told = match &ended {
            Ended::Refused(reason) => Some(Error::Refused { reason: reason.clone() }),
            Ended::Fatal { code, reason } => Some(Error::Fatal { code: *code, reason: reason.clone() }),
            // Whoever waits asks the pool, which knows its name and the last error.
            Ended::Unreachable(_) | Ended::Overrun | Ended::Closed => None,
        };
        if let (Some(first), Some(told)) = (self.first.take(), told) {
            let _ = first.send(Err(told));
        }
        self.ended.get_or_insert(ended);
        self.waker.take()
    }

    /// The next delivery, and whether the subscription is to go on at the server.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(Result<Delivery, Ended>, bool)> {
        let Some(delivery) = self.inbox.pop() else {
            if let Some(ended) = &self.ended {
                return Poll::Ready((Err(ended.clone()), false));
            }
            match &mut self.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        let resume = self.paused && self.inbox.messages() <= self.inbox.capacity() / 2;
        self.paused = self.paused && !resume;
        Poll::Ready((Ok(delivery), resume))
    }

    fn after_change(&mut self, effect: &mut Effect) {
        if effect.overrun {
            effect.wake = self.end(Ended::Overrun);
            return;
        }
        if self.inbox.blocks() && !self.paused && self.inbox.messages() >= self.inbox.capacity() {
            self.paused = true;
            effect.pause = true;
        }
        if !self.inbox.is_empty() {
            effect.wake = self.waker.take();
        }
    }
}

fn take(inbox: &mut Inbox, effect: &mut Effect, seen: Seen<Message>) {
    match seen {
        Seen::Item(message) => count(effect, inbox.offer(message)),
        Seen::Gap { last_seen, next } => {
            effect.gaps += 1;
            effect.missed += next.wrapping_sub(last_seen).saturating_sub(1);
            inbox.notice(Delivery::Gap { last_seen, next });
        }
    }
}

const fn count(effect: &mut Effect, offered: Offered) {
    match offered {
        Offered::Taken => {}
        Offered::Dropped => effect.dropped += 1,
        Offered::Conflated => effect.conflated += 1,
        Offered::Overrun => effect.overrun = true,
    }
}

fn message_bytes(message: &Message) -> &[u8] {
    match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes,
        Message::Close(_) | Message::Frame(_) => &[],
    }
}

/// One subscription, shared by its reader, the hub and the connections that carry it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u64,
    pub(super) topic: Arc<str>,
    intake: Mutex<Intake>,
}

impl Stream {
    pub(super) fn new(id: u64, topic: Arc<str>, intake: Intake) -> Arc<Self> {
        Arc::new(Self { id, topic, intake: Mutex::new(intake) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
