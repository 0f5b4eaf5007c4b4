use super::Message;
use crate::error::Cause;
use futures_util::{Sink, Stream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig as Limits;

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

/// Opens connections. Chosen at run time, so that tests need no network and hosts may bring their own TLS or proxy.
#[async_trait::async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to one of the endpoints. The pool bounds it by `connect_timeout`.
    async fn connect(&self, endpoint: &str) -> Result<Box<dyn Transport>, Cause>;
}

const _: Option<&dyn Connect> = None;

/// Connects with tokio-tungstenite: `ws://` always, and `wss://` by a [`Connect`] of the host that brings its TLS.
///
/// `TCP_NODELAY` is set. Frames and messages are bounded.
#[derive(Clone, Debug)]
pub struct Tungstenite {
    headers: Vec<(HeaderName, HeaderValue)>,
    limits: Limits,
}

impl Tungstenite {
    /// The largest message accepted: far above what anybody streams, far below what hurts.
    pub const DEFAULT_MAX_MESSAGE_SIZE: usize = 4 << 20;

    /// Connects as it comes.
    #[must_use]
    pub fn new() -> Self {
        let limits = Limits::default()
            .max_message_size(Some(Self::DEFAULT_MAX_MESSAGE_SIZE))
            .max_frame_size(Some(Self::DEFAULT_MAX_MESSAGE_SIZE));
        Self { headers: Vec::new(), limits }
    }

    /// A header of the handshake, such as `Authorization`. Its value is not printed.
    ///
    /// # Errors
    /// [`InvalidConfig`](perf_core::InvalidConfig) for a name or a value that HTTP does not allow.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, perf_core::InvalidConfig> {
        let bad = |what| perf_core::InvalidConfig::new("header", name, what);
        let name: HeaderName = name.parse().map_err(|_| bad("a name of HTTP"))?;
        let mut value: HeaderValue = value.parse().map_err(|_| bad("visible characters in the value"))?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(self)
    }

    /// The largest message accepted, in bytes.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits = self.limits.max_message_size(Some(bytes)).max_frame_size(Some(bytes));
        self
    }

    /// Makes a transport of a socket whose handshake has been done.
    pub fn wrap<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        socket: WebSocketStream<S>,
    ) -> Box<dyn Transport> {
        Box::new(Socket { socket, dirty: false })
    }
}

impl Default for Tungstenite {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Connect for Tungstenite {
    async fn connect(&self, endpoint: &str) -> Result<Box<dyn Transport>, Cause> {
        let mut request = endpoint.into_client_request().map_err(Cause::new)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(self.limits), true).await;
        Ok(Self::wrap(connected.map_err(Cause::new)?.0))
    }
}

struct Socket<S> {
    socket: WebSocketStream<S>,
    /// Whether something was accepted and not flushed.
    dirty: bool,
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
