//! Values and leases.

use super::clock::{self, ServerClock};
use super::config::{Invalidation, RedisConfig};
use super::link::{Connection, Link};
use super::push::{PushLog, Written};
use super::stream::StreamLog;
use crate::remote::port::{Cursor, InvalidationLog, Leases, Scanned, Store, StoreError, Stored};
use async_trait::async_trait;
use futures_util::future::{join, join_all};
use perf_core::{InvalidConfig, time};
use redis::{Cmd, RedisError, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Redis as a [`Store`] with [`Leases`]. It connects when it is first used and again whenever it must.
pub struct RedisStore {
    pub(super) link: Arc<Link>,
    written: Option<Arc<Written>>,
    log: Arc<dyn InvalidationLog>,
}

/// Keys in one pipeline: beyond it the answer holds up everything else on the connection.
pub(super) const PIPELINE: usize = 1_000;

impl RedisStore {
    /// A store for the space of this name. It does not connect yet, so it does not fail because Redis is down.
    ///
    /// # Errors
    /// [`InvalidConfig`] when an address cannot be understood, or the kind of invalidation is not to be had there.
    pub fn new(space: &str, config: &RedisConfig) -> Result<Self, InvalidConfig> {
        let link = Arc::new(Link::new(config.server()?));
        let retain = config.retain.max(1);
        let (written, log): (_, Arc<dyn InvalidationLog>) = match config.invalidation {
            Invalidation::Log => (None, Arc::new(StreamLog::new(Arc::clone(&link), space, retain))),
            Invalidation::PubSub => (None, Arc::new(PushLog::subscribed(Arc::clone(&link), space))),
            Invalidation::Tracking => {
                let written = Arc::new(Written::default());
                (Some(Arc::clone(&written)), Arc::new(PushLog::tracked(Arc::clone(&link), space, written)))
            }
        };
        Ok(Self { link, written, log })
    }

    /// The invalidation log that goes with it.
    #[must_use]
    pub fn log(&self) -> Arc<dyn InvalidationLog> {
        Arc::clone(&self.log)
    }

    /// Notes that a change of this key is our own.
    pub(super) fn note(&self, key: &[u8]) {
        if let Some(written) = &self.written {
            written.note(key);
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PIPELINE) {
            let clock = &self.link.clock;
            match self.link.call("read", async |connection| read(connection, clock, keys).await).await {
                Ok(found) => results.extend(found),
                Err(error) => results.extend(keys.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let clock = &self.link.clock;
        self.link.call("read", async |connection| read_one(connection, clock, key).await).await?
    }

    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        self.note(key);
        let clock = &self.link.clock;
        self.link
            .call("write", async |mut connection| {
                let now = server_time(&mut connection, clock).await?;
                set(key, bytes, life, now).query_async(&mut connection).await
            })
            .await
    }

    async fn set_many(&self, entries: &[(Vec<u8>, Vec<u8>, Duration)]) -> Vec<Result<(), StoreError>> {
        let mut results = Vec::with_capacity(entries.len());
        for entries in entries.chunks(PIPELINE) {
            entries.iter().for_each(|(key, ..)| self.note(key));
            let clock = &self.link.clock;
            match self.link.call("write", async |connection| write(connection, clock, entries).await).await {
                Ok(written) => results.extend(written),
                Err(error) => results.extend(entries.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        command.arg(key);
        self.link.call("remove", async |mut connection| command.query_async(&mut connection).await).await
    }

    async fn remove_many(&self, keys: &[Vec<u8>]) -> Vec<Result<(), StoreError>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PIPELINE) {
            match self.link.call("remove", async |connection| remove(connection, keys).await).await {
                Ok(removed) => results.extend(removed),
                Err(error) => results.extend(keys.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    async fn scan(&self, prefix: &[u8], from: Cursor) -> Result<Scanned, StoreError> {
        self.scan_from(prefix, from).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

async fn remove(
    mut connection: Connection,
    keys: &[Vec<u8>],
) -> Result<Vec<Result<(), StoreError>>, RedisError> {
    let failed = |error| StoreError::new("remove", error);
    if let Connection::Cluster(_) = connection {
        let each = keys.iter().map(|key| {
            let (mut connection, unlink) = (connection.clone(), command("UNLINK", key));
            async move { unlink.query_async(&mut connection).await.map_err(failed) }
        });
        return Ok(join_all(each).await);
    }
    let mut unlink = redis::cmd("UNLINK");
    keys.iter().for_each(|key| _ = unlink.arg(key));
    let _: i64 = unlink.query_async(&mut connection).await?;
    Ok(keys.iter().map(|_| Ok(())).collect())
}

/// Reads one value, which is what most reads do: no more steps than a bare `GET`.
async fn read_one(
    connection: Connection,
    clock: &ServerClock,
    key: &[u8],
) -> Result<Result<Option<Stored>, StoreError>, RedisError> {
    if let Some(now) = clock.now()
        && let Connection::One(mut one) = connection
    {
        return Ok(stored(one.send_packed_command(&command("GET", key)).await?, now));
    }
    // Once a second, and on a Cluster; in a box, so that the others are small.
    let keys = [key.to_vec()];
    let found = Box::pin(read(connection, clock, &keys)).await?.pop();
    Ok(found.unwrap_or_else(|| Err(StoreError::new("read", "there was no answer"))))
}

/// Reads values and what is left of their lives, in one round trip.
async fn read(
    mut connection: Connection,
    clock: &ServerClock,
    keys: &[Vec<u8>],
) -> Result<Vec<Result<Option<Stored>, StoreError>>, RedisError> {
    if let Connection::Cluster(_) = connection {
        return Ok(read_cluster(&connection, keys).await);
    }
    let mut values = match keys {
        [key] => command("GET", key),
        _ => redis::cmd("MGET"),
    };
    if keys.len() > 1 {
        keys.iter().for_each(|key| _ = values.arg(key));
    }
    let (reply, now) = match clock.now() {
        Some(now) => (values.query_async::<Value>(&mut connection).await?, now),
        None => {
            let asked = time::now();
            let mut pipe = redis::pipe();
            pipe.add_command(values).cmd("TIME");
            let (reply, (seconds, micros)): (Value, (u64, u64)) = pipe.query_async(&mut connection).await?;
            (reply, clock.learn(seconds, micros, asked))
        }
    };
    let found = match reply {
        Value::Array(found) if keys.len() > 1 => found,
        found => vec![found],
    };
    Ok(found.into_iter().map(|found| stored(found, now)).collect())
}

/// Commands one by one, because only those follow a slot that moves; they still travel together. Each master has a clock
/// of its own, so what is left of each life is asked for.
async fn read_cluster(connection: &Connection, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
    let each = keys.iter().map(|key| {
        let (mut one, mut other) = (connection.clone(), connection.clone());
        async move {
            let (bytes, left) = (command("GET", key), command("PTTL", key));
            let (bytes, left) =
                join(bytes.query_async::<Value>(&mut one), left.query_async::<i64>(&mut other)).await;
            let failed = |error| StoreError::new("read", error);
            // By a clock that stands at 0 all the life that is left lies ahead.
            let found = stored(bytes.map_err(failed)?, 0)?;
            let remaining = Duration::from_millis(u64::try_from(left.map_err(failed)?).unwrap_or(0));
            Ok(found.map(|stored| Stored { remaining, ..stored }))
        }
    });
    join_all(each).await
}

async fn write(
    mut connection: Connection,
    clock: &ServerClock,
    entries: &[(Vec<u8>, Vec<u8>, Duration)],
) -> Result<Vec<Result<(), StoreError>>, RedisError> {
    let failed = |error| StoreError::new("write", error);
    if let Connection::Cluster(_) = connection {
        let each = entries.iter().map(|(key, bytes, life)| {
            let mut connection = connection.clone();
            async move { set(key, bytes, *life, 0).query_async(&mut connection).await.map_err(failed) }
        });
        return Ok(join_all(each).await);
    }
    let now = server_time(&mut connection, clock).await?;
    let mut pipe = redis::Pipeline::with_capacity(entries.len());
    pipe.ignore_errors();
    entries.iter().for_each(|(key, bytes, life)| {
        pipe.add_command(set(key, bytes, *life, now));
    });
    let replies: Vec<Value> = pipe.query_async(&mut connection).await?;
    let each = replies.into_iter().map(|reply| reply.extract_error().map(drop).map_err(failed));
    Ok(each.collect())
}

/// The server's time, asked for when it is not known; a Cluster has none.
pub(super) async fn server_time(connection: &mut Connection, clock: &ServerClock) -> Result<u64, RedisError> {
    if let Connection::Cluster(_) = connection {
        return Ok(0);
    }
    if let Some(now) = clock.now() {
        return Ok(now);
    }
    let asked = time::now();
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    Ok(clock.learn(seconds, micros, asked))
}

fn command(name: &'static str, key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

fn set(key: &[u8], bytes: &[u8], life: Duration, now: u64) -> Cmd {
    let life = millis(life);
    let mut command = redis::cmd("SET");
    command.arg(key).arg(clock::with_end(bytes, now, life)).arg("PX").arg(life);
    command
}

/// A life that Redis accepts.
pub(super) fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 4)
}

/// One value and what is left of its life; what does not say when it ends was not written by us, and has none.
pub(super) fn stored(bytes: Value, now: u64) -> Result<Option<Stored>, StoreError> {
    let bytes = match bytes {
        Value::BulkString(bytes) => Some(bytes),
        Value::Nil => None,
        other => {
            let failed = |error: RedisError| StoreError::new("read", error);
            let parsed = |error: redis::ParsingError| StoreError::new("read", error);
            redis::from_redis_value(other.extract_error().map_err(failed)?).map_err(parsed)?
        }
    };
    Ok(bytes.map(|mut bytes| {
        let end = clock::take_end(&mut bytes).unwrap_or(0);
        Stored { bytes, remaining: Duration::from_millis(end.saturating_sub(now)) }
    }))
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("connected", &self.link.is_connected()).finish_non_exhaustive()
    }
}
