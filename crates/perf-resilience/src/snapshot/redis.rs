use super::error::SnapshotError;
use super::{Captured, Depth, Description, SnapshotTarget};
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

/// The stream's file inside a snapshot.
const FILE: &str = "keys.dump";
/// The first bytes of the stream.
const MAGIC: &[u8; 8] = b"perfkeys";
/// Keys asked for at once.
const PAGE: usize = 500;
/// No key or value is longer (Redis' own limit).
const LONGEST: u64 = 512 * 1024 * 1024;

/// A Redis database, captured key by key with `SCAN`, `DUMP` and the time of expiry.
///
/// It is not a point in time: keys written meanwhile may or may not be in it. Values are in the server's own format, so
/// they can be restored into a server of the same version or a newer one.
///
/// A restore goes from key to key, and then removes those that are not in the snapshot. One that is killed on the way leaves
/// some keys of the snapshot and some of before.
#[derive(Clone, Debug)]
pub struct RedisTarget {
    client: redis::Client,
    name: String,
    scratch: Option<redis::Client>,
}

/// One key with its value and its expiry in milliseconds since 1970, 0 for none.
struct Record {
    key: Vec<u8>,
    expires_ms: u64,
    value: Vec<u8>,
}

fn failed(what: &'static str) -> impl Fn(redis::RedisError) -> SnapshotError {
    move |error| SnapshotError::tool(what, error)
}

impl RedisTarget {
    /// The database that `client` connects to, called `name` when it is to be overwritten.
    pub fn new(client: redis::Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into(), scratch: None }
    }

    /// An empty database in which restoring can be rehearsed; it is emptied afterwards.
    #[must_use]
    pub fn scratch(mut self, client: redis::Client) -> Self {
        self.scratch = Some(client);
        self
    }

    async fn restore_into(
        client: &redis::Client,
        file: &Path,
        overwrite: bool,
    ) -> Result<u64, SnapshotError> {
        let mut connection = connect(client).await?;
        let mut reader = Reader::open(file).await?;
        let mut restored = 0;
        let mut keys = HashSet::new();
        while let Some(Record { key, expires_ms, value }) = reader.next().await? {
            let mut command = redis::cmd("RESTORE");
            command.arg(&key).arg(expires_ms).arg(value).arg("ABSTTL");
            if overwrite {
                command.arg("REPLACE");
                keys.insert(key);
            }
            command.query_async::<()>(&mut connection).await.map_err(failed("RESTORE"))?;
            restored += 1;
        }
        if overwrite {
            remove_others(&mut connection, &keys).await?;
        }
        Ok(restored)
    }
}

/// Removes every key but these: what was not there when the snapshot was taken.
async fn remove_others(
    connection: &mut MultiplexedConnection,
    keys: &HashSet<Vec<u8>>,
) -> Result<(), SnapshotError> {
    let mut cursor = 0_u64;
    loop {
        let (next, page) = scan(connection, cursor).await?;
        let others: Vec<_> = page.into_iter().filter(|key| !keys.contains(key)).collect();
        if !others.is_empty() {
            redis::cmd("UNLINK").arg(others).query_async::<()>(connection).await.map_err(failed("UNLINK"))?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// A page of keys, and where the next one begins; SCAN may name a key twice.
async fn scan(
    connection: &mut MultiplexedConnection,
    cursor: u64,
) -> Result<(u64, Vec<Vec<u8>>), SnapshotError> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("COUNT").arg(PAGE);
    scan.query_async(connection).await.map_err(failed("SCAN"))
}

async fn connect(client: &redis::Client) -> Result<MultiplexedConnection, SnapshotError> {
    client.get_multiplexed_async_connection().await.map_err(failed("connecting"))
}

async fn size(connection: &mut MultiplexedConnection) -> Result<u64, SnapshotError> {
    redis::cmd("DBSIZE").query_async(connection).await.map_err(failed("DBSIZE"))
}

#[async_trait]
impl SnapshotTarget for RedisTarget {
    fn describe(&self) -> Description {
        Description { kind: "redis", name: self.name.clone() }
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        let mut connection = connect(&self.client).await?;
        let path = directory.join(FILE);
        let file = tokio::fs::File::create_new(&path).await.map_err(SnapshotError::io("make", &path))?;
        let mut writer = BufWriter::new(file);
        let wrote = |result: std::io::Result<()>| result.map_err(SnapshotError::io("write", &path));
        wrote(writer.write_all(MAGIC).await)?;
        let (mut cursor, mut keys) = (0_u64, 0_u64);
        let mut seen = HashSet::new();
        loop {
            let (next, page) = scan(&mut connection, cursor).await?;
            for key in page {
                if !seen.insert(key.clone()) {
                    continue;
                }
                let mut both = redis::pipe();
                both.cmd("PEXPIRETIME").arg(&key).cmd("DUMP").arg(&key);
                let (expires, value): (i64, Option<Vec<u8>>) =
                    both.query_async(&mut connection).await.map_err(failed("DUMP"))?;
                // A key that is gone again by now is simply not in it.
                let Some(value) = value else { continue };
                for part in [
                    &(key.len() as u64).to_le_bytes()[..],
                    &key,
                    &u64::try_from(expires).unwrap_or(0).to_le_bytes(),
                    &(value.len() as u64).to_le_bytes(),
                    &value,
                ] {
                    wrote(writer.write_all(part).await)?;
                }
                keys += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // An end that says how many there are tells a whole stream from one that was cut off.
        wrote(writer.write_all(&u64::MAX.to_le_bytes()).await)?;
        wrote(writer.write_all(&keys.to_le_bytes()).await)?;
        wrote(writer.flush().await)?;
        let info: String =
            redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(failed("INFO"))?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default();
        Ok(Captured {
            files: vec![FILE.to_owned()],
            counts: BTreeMap::from([("keys".to_owned(), keys)]),
            versions: BTreeMap::from([("redis".to_owned(), version.trim().to_owned())]),
        })
    }

    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        let file = directory.join(FILE);
        let mut reader = Reader::open(&file).await?;
        let mut keys = 0;
        while reader.next().await?.is_some() {
            keys += 1;
        }
        if depth == Depth::Restore {
            let scratch = self.scratch.as_ref();
            let scratch =
                scratch.ok_or_else(|| SnapshotError::Refused("no scratch database is set".to_owned()))?;
            let mut connection = connect(scratch).await?;
            let there = size(&mut connection).await?;
            if there > 0 {
                return Err(SnapshotError::Refused(format!("the scratch database has {there} keys")));
            }
            let restored = Self::restore_into(scratch, &file, false).await;
            let emptied = redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await;
            keys = restored.map_err(|error| SnapshotError::Damaged(error.to_string()))?;
            emptied.map_err(failed("FLUSHDB"))?;
        }
        Ok(BTreeMap::from([("keys".to_owned(), keys)]))
    }

    async fn restore(&self, directory: &Path, overwrite: bool) -> Result<(), SnapshotError> {
        let mut connection = connect(&self.client).await?;
        let there = size(&mut connection).await?;
        if there > 0 && !overwrite {
            return Err(SnapshotError::Refused(format!("it has {there} keys")));
        }
        Self::restore_into(&self.client, &directory.join(FILE), overwrite).await.map(drop)
    }
}

/// Reads the records of a stream, and makes sure that it is whole.
struct Reader {
    file: BufReader<tokio::fs::File>,
    read: u64,
}

impl Reader {
    async fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = tokio::fs::File::open(path).await.map_err(SnapshotError::io("open", path))?;
        let mut reader = Self { file: BufReader::new(file), read: 0 };
        if reader.bytes(MAGIC.len() as u64).await? != MAGIC {
            return Err(SnapshotError::Damaged("this is not a stream of keys".to_owned()));
        }
        Ok(reader)
    }

    async fn next(&mut self) -> Result<Option<Record>, SnapshotError> {
        let length = self.number().await?;
        if length == u64::MAX {
            let expected = self.number().await?;
            if expected != self.read {
                return Err(SnapshotError::Damaged(format!("{} keys instead of {expected}", self.read)));
            }
            return Ok(None);
        }
        let key = self.bytes(length).await?;
        let expires_ms = self.number().await?;
        let length = self.number().await?;
        let value = self.bytes(length).await?;
        self.read += 1;
        Ok(Some(Record { key, expires_ms, value }))
    }

    async fn number(&mut self) -> Result<u64, SnapshotError> {
        self.file.read_u64_le().await.map_err(cut_off)
    }

    async fn bytes(&mut self, length: u64) -> Result<Vec<u8>, SnapshotError> {
        if length > LONGEST {
            return Err(SnapshotError::Damaged(format!("a length of {length}")));
        }
        let mut bytes = Vec::new();
        // Memory grows with what is really there, not with what a damaged length claims.
        (&mut self.file).take(length).read_to_end(&mut bytes).await.map_err(cut_off)?;
        if bytes.len() as u64 == length {
            Ok(bytes)
        } else {
            Err(cut_off(std::io::ErrorKind::UnexpectedEof.into()))
        }
    }
}

fn cut_off(error: std::io::Error) -> SnapshotError {
    SnapshotError::Damaged(error.to_string())
}
