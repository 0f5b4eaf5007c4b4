//! Leases: what lies under a key until its value does.

use super::clock;
use super::link::Connection;
use super::store::{PIPELINE, RedisStore, millis, server_time, stored};
use crate::remote::port::{Leases, StoreError, Stored, Taken, Wanted, lease_mark};
use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{Cmd, RedisError, Value};
use std::time::Duration;

/// Takes the lease of each key unless there is a value that is not known to be useless, or another lease.
/// 1: granted, 0: held, otherwise the value and what is left of its life, or an error.
const TAKE: &str = r"
local answers = {}
for i, key in ipairs(KEYS) do
    local held, known = redis.pcall('GET', key), ARGV[i + 2]
    if type(held) == 'table' then
        answers[i] = held
    elseif held and held == ARGV[1] then
        answers[i] = 1
    elseif held and string.sub(held, 1, 4) == string.sub(ARGV[1], 1, 4) then
        answers[i] = 0
    elseif held and (known == '' or string.sub(held, 1, #known) ~= known) then
        answers[i] = {held, redis.call('PTTL', key)}
    else
        redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
        answers[i] = 1
    end
end
return answers
";

/// Puts each value in the place of the lease. 1: done, 0: that lease has ended.
const FILL: &str = r"
local answers = {}
for i, key in ipairs(KEYS) do
    answers[i] = 0
    if redis.pcall('GET', key) == ARGV[1] then
        redis.call('SET', key, ARGV[2 * i], 'PX', ARGV[2 * i + 1])
        answers[i] = 1
    end
end
return answers
";

const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// A script sent whole: a few hundred bytes more, and nothing to load again after a failover.
fn script<'k>(text: &'static str, keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len());
    keys.for_each(|key| _ = command.arg(key));
    command
}

/// One script for all keys, or one for each on a Cluster, where they lie in different places.
async fn run<T>(
    connection: &Connection,
    items: &[T],
    command: impl Fn(&[T]) -> Cmd,
) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
    if items.len() > 1 && matches!(connection, Connection::Cluster(_)) {
        let each = items.chunks(1).map(|item| {
            let (mut connection, command) = (connection.clone(), command(item));
            async move {
                let answers = command.query_async::<Vec<Value>>(&mut connection).await?;
                answers.into_iter().next().unwrap_or(Value::Nil).extract_error()
            }
        });
        return Ok(join_all(each).await);
    }
    let answers: Value =
        redis::aio::ConnectionLike::req_packed_command(&mut connection.clone(), &command(items)).await?;
    match answers {
        Value::Array(answers) if answers.len() == items.len() => {
            Ok(answers.into_iter().map(Value::extract_error).collect())
        }
        other => {
            other.extract_error()?;
            let kind = redis::ErrorKind::UnexpectedReturnType;
            Err(RedisError::from((kind, "an answer for each key was expected")))
        }
    }
}

fn taken(answer: Value) -> Result<Taken, StoreError> {
    match answer {
        Value::Int(1) => Ok(Taken::Granted),
        Value::Array(mut parts) if parts.len() == 2 => {
            let left: i64 = parts.pop().and_then(|left| redis::from_redis_value(left).ok()).unwrap_or(0);
            let remaining = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            let found = stored(parts.pop().unwrap_or(Value::Nil), 0)?;
            let found = found.map(|stored| Stored { remaining, ..stored });
            // A value that vanished between the two looks was about to end.
            Ok(found.map_or(Taken::Held, Taken::Filled))
        }
        _ => Ok(Taken::Held),
    }
}

#[async_trait]
impl Leases for RedisStore {
    async fn take(
        &self,
        key: &[u8],
        known: Option<&[u8]>,
        token: u64,
        life: Duration,
    ) -> Result<Taken, StoreError> {
        let wanted = Wanted { key: key.to_vec(), known: known.map(<[u8]>::to_vec) };
        one(self.take_many(&[wanted], token, life).await)
    }

    async fn fill(&self, key: &[u8], token: u64, bytes: &[u8], life: Duration) -> Result<bool, StoreError> {
        one(self.fill_many(&[(key.to_vec(), bytes.to_vec(), life)], token).await)
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), StoreError> {
        self.note(key);
        let mut command = script(RELEASE, [key].into_iter());
        command.arg(lease_mark(token));
        self.link.call("end a lease", async |mut connection| command.query_async(&mut connection).await).await
    }

    async fn take_many(
        &self,
        wanted: &[Wanted],
        token: u64,
        life: Duration,
    ) -> Vec<Result<Taken, StoreError>> {
        const ACTION: &str = "take a lease";
        let command = |wanted: &[Wanted]| {
            let mut command = script(TAKE, wanted.iter().map(|wanted| &*wanted.key));
            command.arg(lease_mark(token)).arg(millis(life));
            wanted.iter().for_each(|wanted| _ = command.arg(wanted.known.as_deref().unwrap_or_default()));
            command
        };
        let mut all = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(PIPELINE) {
            wanted.iter().for_each(|wanted| self.note(&wanted.key));
            let answers =
                self.link.call(ACTION, async |connection| run(&connection, wanted, command).await).await;
            match answers {
                Ok(answers) => all.extend(
                    answers
                        .into_iter()
                        .map(|answer| taken(answer.map_err(|error| StoreError::new(ACTION, error))?)),
                ),
                Err(error) => all.extend(wanted.iter().map(|_| Err(error.clone()))),
            }
        }
        all
    }

    async fn fill_many(
        &self,
        entries: &[(Vec<u8>, Vec<u8>, Duration)],
        token: u64,
    ) -> Vec<Result<bool, StoreError>> {
        const ACTION: &str = "write under a lease";
        let clock = &self.link.clock;
        let mut all = Vec::with_capacity(entries.len());
        for entries in entries.chunks(PIPELINE) {
            entries.iter().for_each(|(key, ..)| self.note(key));
            let call = async |mut connection: Connection| {
                let now = server_time(&mut connection, clock).await?;
                let command = |entries: &[(Vec<u8>, Vec<u8>, Duration)]| {
                    let mut command = script(FILL, entries.iter().map(|(key, ..)| &**key));
                    command.arg(lease_mark(token));
                    for (_, bytes, life) in entries {
                        let life = millis(*life);
                        command.arg(clock::with_end(bytes, now, life)).arg(life);
                    }
                    command
                };
                run(&connection, entries, command).await
            };
            match self.link.call(ACTION, call).await {
                Ok(answers) => all.extend(answers.into_iter().map(|answer| {
                    Ok(answer.map_err(|error| StoreError::new(ACTION, error))? == Value::Int(1))
                })),
                Err(error) => all.extend(entries.iter().map(|_| Err(error.clone()))),
            }
        }
        all
    }
}

/// What there is for the only key that was asked for.
fn one<T>(answers: Vec<Result<T, StoreError>>) -> Result<T, StoreError> {
    let lost = || Err(StoreError::new("use a lease", "there was no answer"));
    answers.into_iter().next().unwrap_or_else(lost)
}
