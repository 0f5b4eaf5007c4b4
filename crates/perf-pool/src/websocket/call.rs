use super::Message;
use super::error::Error;
use perf_core::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A message to be sent, and whoever waits for what comes of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) message: Message,
    /// The number its answer carries; none if nothing is awaited but that it has been sent.
    pub(super) id: Option<u64>,
    pub(super) deadline: Instant,
    /// Whoever waits; none for a message that nobody asks after.
    pub(super) reply: Option<oneshot::Sender<Result<Option<Message>, Error>>>,
    /// Its place in the send queue, free once the transport has taken the message.
    pub(super) room: OwnedSemaphorePermit,
}
