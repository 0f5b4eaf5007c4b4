//! Redis as the second tier and as the invalidation log.

use super::port::{Ends, InvalidationLog, Position, Record, Store, StoreError, Stored};
use async_trait::async_trait;
use perf_core::{InvalidConfig, Secret};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::streams::StreamRangeReply;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError};
use std::fmt;
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};

/// Where Redis is and how it is used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    url: Secret<String>,
    retain: usize,
}

impl RedisConfig {
    /// Records that the log retains: as many invalidations should be remembered as can happen within the longest life of a
    /// value. Too few cost loads on nodes that start, and are never wrong.
    pub const RETAIN: usize = 100_000;

    /// The server at this address: `redis://[user:password@]host:port[/database]`.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self { url: Secret::new(url.into()), retain: Self::RETAIN }
    }

    /// Records that the log retains.
    #[must_use]
    pub const fn retain(mut self, records: usize) -> Self {
        self.retain = records;
        self
    }
}

/// Redis as a [`Store`] and an [`InvalidationLog`]. It connects when it is first used and again whenever it must.
pub struct RedisStore {
    client: Client,
    shared: OnceCell<ConnectionManager>,
    /// Reads of the log block, hence their own connection.
    follower: Mutex<Option<MultiplexedConnection>>,
    log: Vec<u8>,
    retain: usize,
}

const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(1);

impl RedisStore {
    /// A store for the space of this name. It does not connect yet, so it does not fail because Redis is down.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the address cannot be understood.
    pub fn new(space: &str, config: &RedisConfig) -> Result<Self, InvalidConfig> {
        let refused =
            |reason: RedisError| InvalidConfig::new("redis.url", Secret::new(()), reason.to_string());
        // Without it the kernel holds small commands back for up to 40 ms.
        let info = config.url.expose().as_str().into_connection_info().map_err(refused)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self {
            client: Client::open(info).map_err(refused)?,
            shared: OnceCell::new(),
            follower: Mutex::new(None),
            log: crate::CacheKey::key_bytes(&("pk:log", space)),
            retain: config.retain.max(1),
        })
    }

    async fn shared(&self, action: &'static str) -> Result<ConnectionManager, StoreError> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(ANSWER))
                .set_number_of_retries(1);
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        self.shared.get_or_try_init(connect).await.cloned().map_err(|error| StoreError::new(action, error))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>> {
        let fail = |error: StoreError| keys.iter().map(|_| Err(error.clone())).collect();
        let mut connection = match self.shared("read").await {
            Ok(connection) => connection,
            Err(error) => return fail(error),
        };
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd("GET").arg(key).cmd("PTTL").arg(key);
        }
        match pipe.query_async::<Vec<redis::Value>>(&mut connection).await {
            Ok(replies) => replies.chunks(2).map(stored).collect(),
            Err(error) => fail(StoreError::new("read", error)),
        }
    }

    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError> {
        let mut connection = self.shared("write").await?;
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(bytes).arg("PX").arg(millis);
        command.query_async(&mut connection).await.map_err(|error| StoreError::new("write", error))
    }

    async fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut connection = self.shared("remove").await?;
        let mut command = redis::cmd("UNLINK");
        command.arg(key).query_async(&mut connection).await.map_err(|error| StoreError::new("remove", error))
    }
}

/// One value and its remaining life; one that never ends was not written by us.
fn stored(replies: &[redis::Value]) -> Result<Option<Stored>, StoreError> {
    let failed = |error| StoreError::new("read", error);
    let [bytes, remaining] = replies else { return Err(StoreError::new("read", "half an answer came back")) };
    let bytes: Option<Vec<u8>> = redis::from_redis_value_ref(bytes).map_err(failed)?;
    let remaining: i64 = redis::from_redis_value_ref(remaining).map_err(failed)?;
    let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
    Ok(bytes.map(|bytes| Stored { bytes, remaining }))
}

#[async_trait]
impl InvalidationLog for RedisStore {
    async fn append(&self, origin: u64, serial: u64, fences: &[u64]) -> Result<Position, StoreError> {
        const ACTION: &str = "append to the invalidation log";
        let mut connection = self.shared(ACTION).await?;
        let bytes: Vec<u8> = fences.iter().flat_map(|fence| fence.to_be_bytes()).collect();
        let mut command = redis::cmd("XADD");
        command.arg(&self.log).arg("MAXLEN").arg("~").arg(self.retain).arg("*");
        command.arg("o").arg(&origin.to_be_bytes()[..]).arg("s").arg(serial).arg("f").arg(bytes);
        let id: String =
            command.query_async(&mut connection).await.map_err(|error| StoreError::new(ACTION, error))?;
        position(&id).ok_or_else(|| StoreError::new(ACTION, "the position cannot be read"))
    }

    async fn read(&self, after: Position, wait: Duration) -> Result<Vec<Record>, StoreError> {
        const ACTION: &str = "follow the invalidation log";
        let mut place = self.follower.lock().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT))
                    .set_response_timeout(Some(Duration::from_secs(5)));
                self.client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
                    .map_err(|error| StoreError::new(ACTION, error))?
            }
        };
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1000);
        if !wait.is_zero() {
            command.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(1).max(1));
        }
        command.arg("STREAMS").arg(&self.log).arg(after.to_string());
        let reply: Option<redis::streams::StreamReadReply> =
            command.query_async(&mut connection).await.map_err(|error| StoreError::new(ACTION, error))?;
        // Only a connection that has answered is used again: one that was dropped while it waited may answer late.
        *place = Some(connection);
        let ids = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        ids.map(|id| record(&id).ok_or_else(|| StoreError::new(ACTION, "a record cannot be read"))).collect()
    }

    async fn ends(&self) -> Result<Ends, StoreError> {
        const ACTION: &str = "look at the invalidation log";
        let mut connection = self.shared(ACTION).await?;
        let mut pipe = redis::pipe();
        pipe.cmd("XRANGE").arg(&self.log).arg("-").arg("+").arg("COUNT").arg(1);
        pipe.cmd("XREVRANGE").arg(&self.log).arg("+").arg("-").arg("COUNT").arg(1);
        let (oldest, newest): (StreamRangeReply, StreamRangeReply) =
            pipe.query_async(&mut connection).await.map_err(|error| StoreError::new(ACTION, error))?;
        let end = |reply: &StreamRangeReply| reply.ids.first().and_then(|id| position(&id.id));
        Ok(end(&oldest).zip(end(&newest)))
    }
}

fn position(id: &str) -> Option<Position> {
    let (major, minor) = id.split_once('-')?;
    Some(Position { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn record(id: &redis::streams::StreamId) -> Option<Record> {
    let origin: Vec<u8> = id.get("o")?;
    let fences: Vec<u8> = id.get("f")?;
    Some(Record {
        position: position(&id.id)?,
        origin: u64::from_be_bytes(origin.try_into().ok()?),
        serial: id.get("s")?,
        fences: fences
            .chunks_exact(8)
            .filter_map(|chunk| chunk.try_into().ok().map(u64::from_be_bytes))
            .collect(),
    })
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("connected", &self.shared.initialized()).finish_non_exhaustive()
    }
}
