//! One place for a connection.

use crate::websocket::call::Call;
use crate::websocket::intake::Stream;
use perf_core::time::Instant;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Notify, Semaphore};

/// What a connection is told to do.
#[derive(Debug)]
pub(in crate::websocket) enum Command {
    Subscribe(Arc<Stream>),
    Unsubscribe(Arc<Stream>),
    /// Something is held back that the connection before had promised to look at again.
    LookAgain(Arc<Stream>),
    Call(Call),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Phase {
    /// There is no connection yet, or none any more.
    Connecting,
    Open,
    /// What it carries moves to others, after which it is closed.
    Leaving,
}

/// One place for a connection, which is made again when it breaks.
#[derive(Debug)]
pub(in crate::websocket) struct Link {
    pub(in crate::websocket) phase: Phase,
    /// Subscriptions that belong here, and those on their way.
    pub(in crate::websocket) streams: BTreeSet<u64>,
    pub(in crate::websocket) coming: BTreeSet<u64>,
    pub(in crate::websocket) commands: VecDeque<Command>,
    /// The link whose subscriptions this one takes over.
    pub(in crate::websocket) replaces: Option<u64>,
    pub(super) rotate_at: Option<Instant>,
    pub(in crate::websocket) signal: Arc<Notify>,
    pub(in crate::websocket) room: Arc<Semaphore>,
    pub(in crate::websocket) messages: Arc<AtomicU64>,
    pub(in crate::websocket) calls: usize,
}

impl Link {
    pub(super) fn load(&self) -> usize {
        self.streams.len() + self.coming.len()
    }
}
