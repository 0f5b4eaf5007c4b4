//! The invalidation log as messages that Redis pushes: pub/sub, or RESP3 client tracking.
//!
//! Messages have consecutive numbers from a counter in Redis. What was lost cannot be read again, but that it was lost is
//! always noticed: by the next number, or by asking for the counter, which the follower does whenever it is quiet.

use super::link::Link;
use crate::clock::{Tick, tick};
use crate::remote::port::{End, Ends, InvalidationLog, News, Position, Record, StoreError};
use crate::remote::shared;
use async_trait::async_trait;
use perf_core::time;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use xxhash_rust::xxh3::xxh3_64;

/// A log of pushed messages.
pub(super) struct PushLog {
    link: Arc<Link>,
    /// Our own writes of values, when those are told as well.
    tracked: Option<Arc<Written>>,
    counter: Vec<u8>,
    /// The channel, or the beginning of the keys that stand for messages.
    channel: Vec<u8>,
    /// The beginning of all values of the space.
    values: Vec<u8>,
    open: Mutex<Option<Open>>,
}

/// A connection that listens.
struct Open {
    /// Dropping it would end the pushes.
    _connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    records: VecDeque<Record>,
    changed: Vec<u64>,
    /// Everything in Redis was deleted.
    flushed: bool,
    /// The newest message that has arrived, or was sent before this connection listened.
    seen: u64,
}

/// How long a message may be behind the counter before it counts as lost.
const LATE: Duration = Duration::from_millis(200);

const PUBLISH: &str = r"
local n = redis.call('INCR', KEYS[1])
if n <= tonumber(ARGV[1]) then
    n = tonumber(ARGV[1]) + 1
    redis.call('SET', KEYS[1], string.format('%.0f', n))
end
redis.call('PUBLISH', ARGV[2], string.format('%020.0f', n) .. ARGV[3])
return n
";

/// A message is a key that lives for a moment: writing it pushes its name to everyone who tracks its beginning.
const TOUCH: &str = r"
local n = redis.call('INCR', KEYS[1])
if n <= tonumber(ARGV[1]) then
    n = tonumber(ARGV[1]) + 1
    redis.call('SET', KEYS[1], string.format('%.0f', n))
end
redis.call('SET', ARGV[2] .. string.format('%020.0f', n) .. ARGV[3], '', 'PX', 1000)
return n
";

impl PushLog {
    pub(super) fn subscribed(link: Arc<Link>, space: &str) -> Self {
        Self::new(link, space, None)
    }

    pub(super) fn tracked(link: Arc<Link>, space: &str, written: Arc<Written>) -> Self {
        Self::new(link, space, Some(written))
    }

    fn new(link: Arc<Link>, space: &str, tracked: Option<Arc<Written>>) -> Self {
        let named = |name: &str| crate::CacheKey::key_bytes(&(name, space));
        Self {
            link,
            tracked,
            counter: named("pk:messages"),
            channel: named("pk:message"),
            values: shared::names_of(space),
            open: Mutex::new(None),
        }
    }

    /// Listens, before anything is asked: what is sent from now on arrives, or its loss is noticed.
    async fn listen(&self) -> Result<Open, StoreError> {
        const ACTION: &str = "listen for invalidations";
        let (sender, pushes) = mpsc::unbounded_channel();
        let mut connection = self.link.server.connect_pushed(sender).await?;
        let failed = |error: RedisError| StoreError::new(ACTION, error);
        if self.tracked.is_some() {
            let mut command = redis::cmd("CLIENT");
            command.arg("TRACKING").arg("ON").arg("BCAST");
            command.arg("PREFIX").arg(&self.channel).arg("PREFIX").arg(&self.values);
            command.exec_async(&mut connection).await.map_err(failed)?;
        } else {
            connection.subscribe(&self.channel).await.map_err(failed)?;
        }
        let seen = self.counter().await?.unwrap_or(0);
        let (records, changed) = (VecDeque::new(), Vec::new());
        Ok(Open { _connection: connection, pushes, records, changed, flushed: false, seen })
    }

    /// The number of the last message.
    async fn counter(&self) -> Result<Option<u64>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(&self.counter);
        self.link
            .call("ask for the last invalidation", async |mut connection| {
                command.query_async(&mut connection).await
            })
            .await
    }

    fn message(&self, origin: u64, serial: u64, fences: &[u64], after: Position) -> Cmd {
        let numbers = [origin, serial].into_iter().chain(fences.iter().copied());
        let bytes: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
        let mut command = redis::cmd("EVAL");
        command.arg(if self.tracked.is_some() { TOUCH } else { PUBLISH }).arg(1).arg(&self.counter);
        command.arg(after.major).arg(&self.channel).arg(bytes);
        command
    }

    /// Takes one push in; false when it says that the connection is gone.
    fn absorb(&self, open: &mut Open, push: PushInfo) -> bool {
        match push.kind {
            PushKind::Disconnection => return false,
            PushKind::Message => {
                if let Some(Value::BulkString(bytes)) = push.data.get(1) {
                    open.record(bytes);
                }
            }
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => keys.iter().for_each(|key| self.touched(open, key)),
                // Nothing in place of the keys: all of them.
                _ => open.flushed = true,
            },
            _ => {}
        }
        true
    }

    fn touched(&self, open: &mut Open, key: &Value) {
        let Value::BulkString(key) = key else { return };
        if let Some(message) = key.strip_prefix(&self.channel[..]) {
            open.record(message);
        } else if !self.tracked.as_ref().is_some_and(|written| written.take(key)) {
            open.changed.extend(shared::fence_of_name(key));
        }
    }

    /// Takes in what has arrived, or waits for the first push.
    async fn take_in(&self, open: &mut Open, wait: Duration) -> Result<(), StoreError> {
        let gone = || StoreError::new("listen for invalidations", "the connection is gone");
        let quiet = |open: &Open| open.records.is_empty() && open.changed.is_empty() && !open.flushed;
        loop {
            match open.pushes.try_recv() {
                Ok(push) => {
                    if !self.absorb(open, push) {
                        return Err(gone());
                    }
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(gone()),
            }
        }
        if quiet(open)
            && let Ok(push) = time::timeout(wait, open.pushes.recv()).await
        {
            let listens = push.is_some_and(|push| self.absorb(open, push));
            return if listens { Ok(()) } else { Err(gone()) };
        }
        Ok(())
    }
}

impl Open {
    fn record(&mut self, message: &[u8]) {
        let Some(record) = parse(message) else { return };
        // A key that stands for a message is pushed a second time when it ends.
        if record.position.major > self.seen {
            self.seen = record.position.major;
            self.records.push_back(record);
        }
    }
}

fn parse(message: &[u8]) -> Option<Record> {
    let (number, rest) = message.split_at_checked(20)?;
    let (numbers, rest) = rest.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
    Some(Record {
        position: Position { major: std::str::from_utf8(number).ok()?.parse().ok()?, minor: 0 },
        origin: numbers.next()?,
        serial: numbers.next()?,
        fences: rest.is_empty().then(|| numbers.collect())?,
    })
}

#[async_trait]
impl InvalidationLog for PushLog {
    async fn append(
        &self,
        origin: u64,
        serial: u64,
        fences: &[u64],
        after: Position,
    ) -> Result<Position, StoreError> {
        let command = self.message(origin, serial, fences, after);
        let major = self
            .link
            .call("send an invalidation", async |mut connection| command.query_async(&mut connection).await)
            .await?;
        Ok(Position { major, minor: 0 })
    }

    async fn read(&self, after: Position, wait: Duration) -> Result<News, StoreError> {
        let mut place = self.open.lock().await;
        // Taken out, so that an error or a dropped future leaves no connection of which some news are missing.
        let Some(mut open) = place.take() else {
            return Err(StoreError::new("listen for invalidations", "nobody listens yet"));
        };
        self.take_in(&mut open, wait).await?;
        let mut next = after.major;
        let mut news = News {
            changed: std::mem::take(&mut open.changed),
            broken: std::mem::take(&mut open.flushed),
            records: Vec::with_capacity(open.records.len()),
        };
        for record in open.records.drain(..).filter(|record| record.position > after) {
            news.broken |= record.position.major != next + 1;
            next = record.position.major;
            news.records.push(record);
        }
        *place = Some(open);
        Ok(news)
    }

    async fn ends(&self) -> Result<Option<Ends>, StoreError> {
        let mut place = self.open.lock().await;
        let mut open = match place.take() {
            Some(open) => open,
            None => self.listen().await?,
        };
        let newest = self.counter().await?;
        if let Some(newest) = newest {
            let deadline = perf_core::Deadline::within(LATE);
            while open.seen < newest {
                // Ends when the time does: what has not arrived by then is lost.
                let Ok(push) = deadline.run(open.pushes.recv()).await else { break };
                if !push.is_some_and(|push| self.absorb(&mut open, push)) {
                    return Err(StoreError::new("listen for invalidations", "the connection is gone"));
                }
            }
        }
        // Messages are not kept, so that nobody can be asked which one had a number.
        let at = |major| End { position: Position { major, minor: 0 }, record: None };
        let ends = newest.map(|newest| {
            let first = open.records.front().map_or(open.seen, |record| record.position.major - 1);
            Ends { oldest: at(if open.seen < newest { newest } else { first }), newest: at(newest) }
        });
        *place = Some(open);
        Ok(ends)
    }
}

/// Changes of values that are this node's own: they are pushed back to it, and are no news.
#[derive(Debug, Default)]
pub(super) struct Written(StdMutex<HashMap<u64, Tick>>);

impl Written {
    /// Changes remembered; more than can be on their way.
    const MOST: usize = 65_536;
    /// A push that has not come by then was none: the write failed.
    const LIFE: Duration = Duration::from_secs(2);

    pub(super) fn note(&self, key: &[u8]) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= Self::MOST {
            written.clear();
        }
        written.insert(xxh3_64(key), tick().after(Self::LIFE));
    }

    /// Whether a change is our own. It is forgotten then: the next one is somebody else's.
    fn take(&self, key: &[u8]) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.remove(&xxh3_64(key)).is_some_and(|until| tick() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(message in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&message);
            let numbered = [b"00000000000000000007", &message[..]].concat();
            if let Some(record) = parse(&numbered) {
                prop_assert_eq!((record.position.major, record.fences.len() * 8 + 16), (7, message.len()));
            }
        }
    }

    #[test]
    fn a_change_of_our_own_is_expected_once() {
        let written = Written::default();
        written.note(b"k");
        assert!(written.take(b"k") && !written.take(b"k") && !written.take(b"other"));
    }
}
