//! What a cache asks of its second tier and of its invalidation log.

use async_trait::async_trait;
use std::fmt;
use std::time::Duration;

/// A place in an invalidation log. Only the log hands them out, so no clock of an application takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The first part: for Redis Streams, milliseconds of the server.
    pub major: u64,
    /// The second part: orders what has the same first part.
    pub minor: u64,
}

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self { major: 0, minor: 0 };
    /// After everything: not known yet.
    pub(crate) const PENDING: Self = Self { major: u64::MAX, minor: u64::MAX };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

/// A second tier or a log could not do what was asked. It never reaches the caller of a cache: it is counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not {action}: {reason}")]
pub struct StoreError {
    /// What was attempted.
    pub action: &'static str,
    /// What came back.
    pub reason: String,
}

impl StoreError {
    /// An error with what was attempted and what came back.
    pub fn new(action: &'static str, reason: impl fmt::Display) -> Self {
        Self { action, reason: reason.to_string() }
    }
}

/// Bytes and how long they still live in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What was stored.
    pub bytes: Vec<u8>,
    /// What is left of its life.
    pub remaining: Duration,
}

/// How far a [`Store::scan`] has come. The default is the beginning; only the store knows what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which of the store's servers.
    pub server: usize,
    /// Where on that server.
    pub at: u64,
}

/// What one step of a [`Store::scan`] brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Keys, perhaps none.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// A second tier: bytes by bytes, each with a life. Shared by processes; reached over a network.
#[async_trait]
pub trait Store: Send + Sync {
    /// The bytes under each of these keys, in their order. A key that fails does not fail the others.
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>>;

    /// Puts bytes under a key for a life of at least a millisecond.
    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError>;

    /// The bytes under one key. Unless overridden, [`get_many`](Self::get_many) is asked for it alone.
    async fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let found = self.get_many(&[key.to_vec()]).await.pop();
        found.unwrap_or_else(|| Err(StoreError::new("read", "the store did not answer")))
    }

    /// Removes what is under a key.
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError>;

    /// Puts many values. A key that fails does not fail the others. Unless overridden, one after the other.
    async fn set_many(&self, entries: &[(Vec<u8>, Vec<u8>, Duration)]) -> Vec<Result<(), StoreError>> {
        let mut results = Vec::with_capacity(entries.len());
        for (key, bytes, life) in entries {
            results.push(self.set(key, bytes, *life).await);
        }
        results
    }

    /// Removes what is under many keys. A key that fails does not fail the others. Unless overridden, one after the other.
    async fn remove_many(&self, keys: &[Vec<u8>]) -> Vec<Result<(), StoreError>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.remove(key).await);
        }
        results
    }

    /// Some of the keys that begin with `prefix`, and where to go on. A key that is there all the time comes at least once,
    /// and may come twice. It walks through everything the store has, so only administrators' calls ask for it. Unless
    /// overridden, an error.
    async fn scan(&self, prefix: &[u8], from: Cursor) -> Result<Scanned, StoreError> {
        let _ = (prefix, from);
        Err(StoreError::new("look for keys", "this store cannot be searched"))
    }

    /// Leases, if the store has them; without them every node loads for itself.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The lease is the caller's.
    Granted,
    /// Somebody else has it.
    Held,
    /// It is not needed: there is a value.
    Filled(Stored),
}

/// A key whose lease is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The key.
    pub key: Vec<u8>,
    /// Bytes that begin with these do not count as a value.
    pub known: Option<Vec<u8>>,
}

/// Leases of a store: the right of one node at a time to fill a key.
///
/// The lease *is* what lies under the key until the value does, so whatever removes the key ends the lease as well, and a
/// write under a lease that has ended is refused by the store itself, however late it comes.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes the lease of a key for `life`, unless there is a value, or a lease of somebody else. Bytes that begin with
    /// `known` do not count as a value: the caller has seen them and has no use for them.
    async fn take(
        &self,
        key: &[u8],
        known: Option<&[u8]>,
        token: u64,
        life: Duration,
    ) -> Result<Taken, StoreError>;

    /// Puts the value in the place of the lease with this token; false when that lease has ended.
    async fn fill(&self, key: &[u8], token: u64, bytes: &[u8], life: Duration) -> Result<bool, StoreError>;

    /// Ends the lease with this token, if it has not ended yet.
    async fn release(&self, key: &[u8], token: u64) -> Result<(), StoreError>;

    /// Takes the leases of many keys, each as [`take`](Self::take) does. A key that fails does not fail the others. Unless
    /// overridden, one after the other.
    async fn take_many(
        &self,
        wanted: &[Wanted],
        token: u64,
        life: Duration,
    ) -> Vec<Result<Taken, StoreError>> {
        let mut taken = Vec::with_capacity(wanted.len());
        for Wanted { key, known } in wanted {
            taken.push(self.take(key, known.as_deref(), token, life).await);
        }
        taken
    }

    /// Puts many values in the places of the leases with this token, each as [`fill`](Self::fill) does. Unless overridden,
    /// one after the other.
    async fn fill_many(
        &self,
        entries: &[(Vec<u8>, Vec<u8>, Duration)],
        token: u64,
    ) -> Vec<Result<bool, StoreError>> {
        let mut filled = Vec::with_capacity(entries.len());
        for (key, bytes, life) in entries {
            filled.push(self.fill(key, token, bytes, *life).await);
        }
        filled
    }
}

/// What a lease with this token looks like under its key.
pub(crate) fn lease_mark(token: u64) -> Vec<u8> {
    [LEASE, &token.to_be_bytes()].concat()
}

/// What every lease begins with.
pub(crate) const LEASE: &[u8] = b"PKL1";

/// One entry of an invalidation log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub position: Position,
    /// Which node wrote it.
    pub origin: u64,
    /// The number of this record among those of its node, from 1 on; a number that is missing was lost. 0 is not counted.
    pub serial: u64,
    /// What it invalidates; empty means everything that is older.
    pub fences: Vec<u64>,
}

/// What a read of a log brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Records, oldest first.
    pub records: Vec<Record>,
    /// Fences of keys whose stored value was changed by somebody: copies in memory are to be read again.
    pub changed: Vec<u64>,
    /// Records before these may have been lost.
    pub broken: bool,
}

/// One end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Where it is.
    pub position: Position,
    /// Origin and serial of the record that is there, where the log keeps records. After a failover another one may be
    /// there, which [`InvalidationLog::holds`] tells.
    pub record: Option<(u64, u64)>,
}

/// The ends of what a log still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Every record after this can be read.
    pub oldest: End,
    /// Nothing is newer than this.
    pub newest: End,
}

/// An ordered log of invalidations that every node reads to the end.
#[async_trait]
pub trait InvalidationLog: Send + Sync {
    /// Appends one record behind everything it holds and behind `after`, and returns its position.
    async fn append(
        &self,
        origin: u64,
        serial: u64,
        fences: &[u64],
        after: Position,
    ) -> Result<Position, StoreError>;

    /// What came after a position, oldest first; waits up to `wait` for the first record.
    async fn read(&self, after: Position, wait: Duration) -> Result<News, StoreError>;

    /// The ends of what it holds; `None` when that is nothing.
    async fn ends(&self) -> Result<Option<Ends>, StoreError>;

    /// Whether what it holds at this position is the record with this origin and serial. After a failover that lost records
    /// it may be another one: positions are handed out again. A log that keeps no records says yes.
    async fn holds(&self, _position: Position, _origin: u64, _serial: u64) -> Result<bool, StoreError> {
        Ok(true)
    }
}

const _: () = {
    const fn dyn_compatible(_: Option<(&dyn Store, &dyn Leases, &dyn InvalidationLog)>) {}
    dyn_compatible(None);
};
