use super::Message;
use super::connect::{Connect, Tungstenite};
use super::transport::Transport;
use crate::error::Cause;
use crate::manager::{Condition, Manager};
use crate::redact::Redacted;
use perf_core::InvalidConfig;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

/// Makes WebSocket connections for exclusive use: `Pool::builder(WebSocket::new("ws://…")?)`.
///
/// For protocols whose answers carry no number: whoever holds the lease is alone on the connection. What the last user
/// left unread is dropped before the next one gets it.
#[derive(Clone)]
pub struct WebSocket {
    url: String,
    connect: Arc<dyn Connect>,
}

impl WebSocket {
    /// The server of a URL.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a URL that is not `ws://` or `wss://`.
    pub fn new(url: impl Into<String>) -> Result<Self, InvalidConfig> {
        let url = url.into();
        if !(url.starts_with("ws://") || url.starts_with("wss://")) {
            return Err(InvalidConfig::new("url", Redacted(&url), "ws://… or wss://…"));
        }
        Ok(Self { url, connect: Arc::new(Tungstenite::new()) })
    }

    /// Connects in another way.
    #[must_use]
    pub fn connect_with(mut self, connect: impl Connect) -> Self {
        self.connect = Arc::new(connect);
        self
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("url", &Redacted(&self.url)).finish_non_exhaustive()
    }
}

/// An open connection that belongs to whoever holds it.
pub struct WebSocketConnection {
    transport: Box<dyn Transport>,
    /// A message on its way out, kept if sending is cancelled.
    pending: Option<Message>,
    ended: bool,
    /// Messages sent that nobody has read an answer to, as far as one can know without knowing the protocol.
    used: bool,
}

/// The connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct ConnectionEnded;

impl WebSocketConnection {
    /// Sends a message.
    ///
    /// # Errors
    /// The transport's, after which the connection is broken.
    ///
    /// # Cancel safety
    /// The message may have been sent or not; a half-sent one is finished by the next call.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Cause> {
        self.used = true;
        self.flush().await?;
        self.pending = Some(message.into());
        self.flush().await
    }

    /// The next text or binary message.
    ///
    /// # Errors
    /// The transport's, or [`ConnectionEnded`] when the server has closed; the connection is broken then.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Message, Cause> {
        loop {
            let message = self.receive().await?;
            if message.is_text() || message.is_binary() {
                return Ok(message);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Cause> {
        let Self { transport, pending, .. } = self;
        let sent = poll_fn(|context| transport.poll_send(&mut || pending.take(), context)).await;
        self.ended |= sent.is_err();
        sent
    }

    async fn receive(&mut self) -> Result<Message, Cause> {
        let received = poll_fn(|context| self.transport.poll_receive(context)).await;
        let answer = received.unwrap_or_else(|| Err(Cause::new(ConnectionEnded)));
        self.ended |= answer.as_ref().map_or(true, Message::is_close);
        answer
    }
}

impl fmt::Debug for WebSocketConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketConnection").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Manager for WebSocket {
    type Connection = WebSocketConnection;
    type Error = Cause;

    async fn connect(&self) -> Result<WebSocketConnection, Cause> {
        let transport = self.connect.connect(&self.url).await?;
        Ok(WebSocketConnection { transport, pending: None, ended: false, used: false })
    }

    /// A ping, and whatever comes before its pong is dropped.
    async fn check(&self, connection: &mut WebSocketConnection) -> Result<(), Cause> {
        connection.flush().await?;
        connection.pending = Some(Message::Ping(b"perf-pool".as_slice().into()));
        connection.flush().await?;
        while !connection.receive().await?.is_pong() {}
        connection.used = false;
        Ok(())
    }

    /// Whoever has sent something may have left an answer unread.
    fn condition(&self, connection: &mut WebSocketConnection) -> Condition {
        match (connection.ended, connection.used) {
            (true, _) => Condition::Broken,
            (false, true) => Condition::Dirty,
            (false, false) => Condition::Clean,
        }
    }

    fn is_permanent(&self, error: &Cause) -> bool {
        self.connect.is_permanent(error)
    }

    async fn close(&self, mut connection: WebSocketConnection) {
        connection.pending = Some(Message::Close(None));
        // What the server makes of it changes nothing.
        let _ = connection.flush().await;
    }
}
