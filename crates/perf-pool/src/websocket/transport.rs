use super::Message;
use crate::error::Cause;
use futures_util::{Sink, Stream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

/// One open connection, as narrow as it can be, so that another library can stand behind it. Pings are answered by the
/// transport itself.
pub trait Transport: Send + 'static {
    /// The next message; none once the connection has ended in good order.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, Cause>>>;

    /// Sends messages, taking each one out of `next` as it is accepted, and flushes. Ready once `next` has no more.
    fn poll_send(
        &mut self,
        next: &mut dyn FnMut() -> Option<Message>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Cause>>;
}

pub(super) struct Socket<S> {
    socket: WebSocketStream<S>,
    /// Whether something was accepted and not flushed.
    dirty: bool,
}

impl<S> Socket<S> {
    pub(super) const fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, dirty: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Socket<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, Cause>>> {
        Pin::new(&mut self.socket).poll_next(context).map_err(Cause::new)
    }

    fn poll_send(
        &mut self,
        next: &mut dyn FnMut() -> Option<Message>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        loop {
            ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(Cause::new)?;
            let Some(message) = next() else { break };
            self.dirty = true;
            Pin::new(&mut self.socket).start_send(message).map_err(Cause::new)?;
        }
        if self.dirty {
            ready!(Pin::new(&mut self.socket).poll_flush(context)).map_err(Cause::new)?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for Socket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}
