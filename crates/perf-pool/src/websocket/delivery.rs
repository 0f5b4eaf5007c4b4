use super::Message;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// What a full queue does with the next message of its subscription. No choice holds up any other subscription: the
/// connection goes on being read, and its pings and closes are answered.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Nothing is thrown away: the subscription is paused at the server and goes on, after the last message, once half of
    /// the queue has been read. What a server that cannot go on leaves out is told as a gap.
    #[default]
    Block,
    /// The oldest message makes room.
    DropOldest,
    /// The next message is dropped.
    DropNewest,
    /// The next message takes the place of a waiting one of the same key; the oldest makes room if there is none.
    Conflate(Key),
    /// The subscription ends.
    Disconnect,
}

/// Tells which messages replace each other.
#[derive(Clone)]
pub struct Key(Arc<dyn Fn(&Message) -> u64 + Send + Sync>);

impl Key {
    /// Messages for which `key` answers the same replace each other.
    pub fn new(key: impl Fn(&Message) -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(key))
    }

    /// All messages replace each other: only the latest counts.
    #[must_use]
    pub fn latest() -> Self {
        Self::new(|_| 0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// What a subscription hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// A message of the topic.
    Message(Message),
    /// Messages are missing that the server numbered: all between the two numbers.
    Gap {
        /// The last number before them.
        last_seen: u64,
        /// The first number after them.
        next: u64,
    },
    /// This many messages were dropped because they were not read in time.
    Lagged(u64),
    /// The connection was lost and replaced, and messages are not numbered: some may be missing.
    Interrupted,
    /// The server counts anew.
    Restarted {
        /// The last number of the old count, if there was one.
        last_seen: Option<u64>,
        /// The first number of the new count.
        next: u64,
    },
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    Dropped,
    Conflated,
    /// The policy ends the subscription.
    Overrun,
}

/// A bounded queue and its policy. Pure.
#[derive(Debug)]
pub(super) struct Inbox {
    policy: Policy,
    capacity: usize,
    queue: VecDeque<Delivery>,
    messages: usize,
    /// Where the waiting message of a key is, counted from the first delivery ever.
    keys: HashMap<u64, u64>,
    popped: u64,
}

impl Inbox {
    pub(super) fn new(policy: Policy, capacity: usize) -> Self {
        Self { policy, capacity, queue: VecDeque::new(), messages: 0, keys: HashMap::new(), popped: 0 }
    }

    pub(super) const fn blocks(&self) -> bool {
        matches!(self.policy, Policy::Block)
    }

    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.popped += 1;
        if let Delivery::Message(message) = &delivery {
            self.messages -= 1;
            if let Policy::Conflate(key) = &self.policy {
                self.keys.remove(&(key.0)(message));
            }
        }
        Some(delivery)
    }

    pub(super) fn offer(&mut self, message: Message) -> Offered {
        if let Policy::Conflate(key) = &self.policy {
            let key = (key.0)(&message);
            return self.conflate(key, message);
        }
        if self.messages < self.capacity {
            return self.push(message);
        }
        match self.policy {
            // The caller pauses the subscription; until that has reached the server, messages go on coming.
            Policy::Block => self.push(message),
            Policy::DropNewest => {
                self.lagged_at(self.queue.len());
                Offered::Dropped
            }
            Policy::Disconnect => Offered::Overrun,
            Policy::DropOldest | Policy::Conflate(_) => {
                self.drop_oldest();
                self.push(message);
                Offered::Dropped
            }
        }
    }

    /// Puts a notice in its place among the messages. Notices are bounded too: if nobody reads, the oldest are summed up.
    pub(super) fn notice(&mut self, notice: Delivery) {
        match (self.queue.back_mut(), notice) {
            (Some(Delivery::Lagged(before)), Delivery::Lagged(more)) => *before += more,
            (_, notice) => self.queue.push_back(notice),
        }
        self.bound_notices();
    }

    fn push(&mut self, message: Message) -> Offered {
        self.queue.push_back(Delivery::Message(message));
        self.messages += 1;
        Offered::Taken
    }

    fn conflate(&mut self, key: u64, message: Message) -> Offered {
        if let Some(at) = self.keys.get(&key)
            && let Some(place) = self.queue.get_mut((at - self.popped) as usize)
        {
            *place = Delivery::Message(message);
            return Offered::Conflated;
        }
        let full = self.messages >= self.capacity;
        if full {
            self.drop_oldest();
        }
        self.push(message);
        self.keys.insert(key, self.popped + self.queue.len() as u64 - 1);
        if full { Offered::Dropped } else { Offered::Taken }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.queue.iter().position(|delivery| matches!(delivery, Delivery::Message(_)));
        let Some(oldest) = oldest else { return };
        self.queue.remove(oldest);
        self.messages -= 1;
        self.lagged_at(oldest);
    }

    /// Counts one dropped message at a place of the queue.
    fn lagged_at(&mut self, place: usize) {
        match place.checked_sub(1).and_then(|before| self.queue.get_mut(before)) {
            Some(Delivery::Lagged(count)) => *count += 1,
            _ => self.queue.insert(place, Delivery::Lagged(1)),
        }
        self.bound_notices();
        self.index_keys();
    }

    fn bound_notices(&mut self) {
        let mut changed = false;
        while self.queue.len() - self.messages > self.capacity.max(2) {
            let mut missing = 0;
            // The two oldest notices become one; the messages between them stay where they are.
            for _ in 0..2 {
                let notice = self.queue.iter().position(|d| !matches!(d, Delivery::Message(_)));
                match notice.and_then(|at| self.queue.remove(at)) {
                    Some(Delivery::Lagged(count)) => missing += count,
                    Some(Delivery::Gap { last_seen, next }) => {
                        missing += next.saturating_sub(last_seen).saturating_sub(1);
                    }
                    _ => {}
                }
            }
            self.queue.push_front(Delivery::Lagged(missing));
            changed = true;
        }
        if changed {
            self.index_keys();
        }
    }

    fn index_keys(&mut self) {
        let Policy::Conflate(key) = &self.policy else { return };
        self.keys.clear();
        for (place, delivery) in self.queue.iter().enumerate() {
            if let Delivery::Message(message) = delivery {
                self.keys.insert((key.0)(message), self.popped + place as u64);
            }
        }
    }
}
