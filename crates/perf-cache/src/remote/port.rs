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

/// A second tier: bytes by bytes, each with a life. Shared by processes; reached over a network.
#[async_trait]
pub trait Store: Send + Sync {
    /// The bytes under each of these keys, in their order. A key that fails does not fail the others.
    async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Stored>, StoreError>>;

    /// Puts bytes under a key for a life of at least a millisecond.
    async fn set(&self, key: &[u8], bytes: &[u8], life: Duration) -> Result<(), StoreError>;

    /// Removes what is under a key.
    async fn remove(&self, key: &[u8]) -> Result<(), StoreError>;
}

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

/// The ends of what a log still holds; `None` when it holds nothing.
pub type Ends = Option<(Position, Position)>;

/// An ordered log of invalidations that every node reads to the end.
#[async_trait]
pub trait InvalidationLog: Send + Sync {
    /// Appends one record and returns its position.
    async fn append(&self, origin: u64, serial: u64, fences: &[u64]) -> Result<Position, StoreError>;

    /// Records after a position, oldest first; waits up to `wait` for the first one.
    async fn read(&self, after: Position, wait: Duration) -> Result<Vec<Record>, StoreError>;

    /// The oldest and the newest position it holds.
    async fn ends(&self) -> Result<Ends, StoreError>;
}
