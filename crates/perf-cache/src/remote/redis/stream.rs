//! The invalidation log as a Redis Stream.

use super::link::{Connection, Link};
use crate::remote::port::{End, Ends, InvalidationLog, News, Position, Record, StoreError};
use async_trait::async_trait;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{Cmd, RedisError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Longer than any read waits, so that only a connection that is broken runs into it.
const ANSWER: Duration = Duration::from_secs(5);

/// One stream per space. Its positions are the server's, so no clock of an application takes part.
pub(super) struct StreamLog {
    link: Arc<Link>,
    /// Reads block, hence their own connection.
    follower: Mutex<Option<Connection>>,
    key: Vec<u8>,
    retain: usize,
}

impl StreamLog {
    pub(super) fn new(link: Arc<Link>, space: &str, retain: usize) -> Self {
        let key = crate::CacheKey::key_bytes(&("pk:log", space));
        Self { link, follower: Mutex::new(None), key, retain }
    }

    fn add(&self, id: &str, origin: u64, serial: u64, fences: &[u64]) -> Cmd {
        let bytes: Vec<u8> = fences.iter().flat_map(|fence| fence.to_be_bytes()).collect();
        let mut command = redis::cmd("XADD");
        command.arg(&self.key).arg("MAXLEN").arg("~").arg(self.retain).arg(id);
        command.arg("o").arg(&origin.to_be_bytes()[..]).arg("s").arg(serial).arg("f").arg(bytes);
        command
    }

    async fn run(&self, action: &'static str, command: &Cmd) -> Result<Position, StoreError> {
        let id: String =
            self.link.call(action, async |mut connection| command.query_async(&mut connection).await).await?;
        position(&id).ok_or_else(|| StoreError::new(action, "the position cannot be read"))
    }

    fn oldest(&self) -> Cmd {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.key).arg("-").arg("+").arg("COUNT").arg(1);
        command
    }

    fn after(&self, after: Position, wait: Duration) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1000);
        if !wait.is_zero() {
            command.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(1).max(1));
        }
        command.arg("STREAMS").arg(&self.key).arg(after.to_string());
        command
    }
}

#[async_trait]
impl InvalidationLog for StreamLog {
    async fn append(
        &self,
        origin: u64,
        serial: u64,
        fences: &[u64],
        after: Position,
    ) -> Result<Position, StoreError> {
        const ACTION: &str = "append to the invalidation log";
        let at = self.run(ACTION, &self.add("*", origin, serial, fences)).await?;
        if at > after {
            return Ok(at);
        }
        // A failover lost the end of the log, and the new primary's clock is behind: its positions have been used before.
        // From beyond them on, positions mean what they say again.
        let beyond = Position { major: after.major.saturating_add(1), minor: 0 }.to_string();
        match self.run(ACTION, &self.add(&beyond, origin, serial, fences)).await {
            Ok(at) => Ok(at),
            // Somebody else has just done the same.
            Err(_) => self.run(ACTION, &self.add("*", origin, serial, fences)).await,
        }
    }

    async fn read(&self, after: Position, wait: Duration) -> Result<News, StoreError> {
        const ACTION: &str = "follow the invalidation log";
        let failed = |error: RedisError| StoreError::new(ACTION, error);
        let mut place = self.follower.lock().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.link.server.connect(Some(ANSWER)).await?,
        };
        // If the record last seen has gone by now, others may have gone with it before they were read. Asked behind the
        // read, in the same breath: the answer is never older than the records.
        let (read, oldest) = (self.after(after, wait), self.oldest());
        let (reply, oldest): (Option<StreamReadReply>, StreamRangeReply) = match &mut connection {
            Connection::Cluster(cluster) => (
                read.query_async(cluster).await.map_err(failed)?,
                oldest.query_async(cluster).await.map_err(failed)?,
            ),
            Connection::One(one) => {
                let mut pipe = redis::pipe();
                pipe.add_command(read).add_command(oldest);
                pipe.query_async(one).await.map_err(failed)?
            }
        };
        // Only a connection that has answered is used again: one that was dropped while it waited may answer late.
        *place = Some(connection);
        let ids = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        let records = ids
            .map(|id| record(&id).ok_or_else(|| StoreError::new(ACTION, "a record cannot be read")))
            .collect::<Result<Vec<_>, _>>()?;
        let oldest = oldest.ids.first().and_then(|id| position(&id.id));
        let broken = !records.is_empty() && oldest.is_none_or(|oldest| oldest > after);
        Ok(News { records, changed: Vec::new(), broken })
    }

    async fn holds(&self, at: Position, origin: u64, serial: u64) -> Result<bool, StoreError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.key).arg(at.to_string()).arg(at.to_string());
        let found: StreamRangeReply = self
            .link
            .call("look at the invalidation log", async |mut connection| {
                command.query_async(&mut connection).await
            })
            .await?;
        let found = found.ids.first().and_then(record);
        Ok(found.is_some_and(|record| (record.origin, record.serial) == (origin, serial)))
    }

    async fn ends(&self) -> Result<Option<Ends>, StoreError> {
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(&self.key).arg("+").arg("-").arg("COUNT").arg(1);
        let oldest = self.oldest();
        let (oldest, newest): (StreamRangeReply, StreamRangeReply) = self
            .link
            .call("look at the invalidation log", async |mut connection| {
                if matches!(connection, Connection::Cluster(_)) {
                    let oldest = oldest.query_async(&mut connection).await?;
                    return Ok((oldest, newest.query_async(&mut connection).await?));
                }
                let mut pipe = redis::pipe();
                pipe.add_command(oldest).add_command(newest);
                pipe.query_async(&mut connection).await
            })
            .await?;
        Ok(end(&oldest).zip(end(&newest)).map(|(oldest, newest)| Ends { oldest, newest }))
    }
}

fn end(reply: &StreamRangeReply) -> Option<End> {
    let id = reply.ids.first()?;
    let record = record(id).map(|record| (record.origin, record.serial));
    Some(End { position: position(&id.id)?, record })
}

fn position(id: &str) -> Option<Position> {
    let (major, minor) = id.split_once('-')?;
    Some(Position { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn record(id: &StreamId) -> Option<Record> {
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
