#[cfg(feature = "websocket-tls")]
use super::tls::Tls;
use super::transport::{Socket, Transport};
use crate::error::Cause;
use perf_core::InvalidConfig;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig as Limits;

/// Opens connections. Chosen at run time, so that tests need no network and hosts may bring their own TLS or proxy.
#[async_trait::async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to one of the endpoints. The pool bounds it by `connect_timeout`.
    async fn connect(&self, endpoint: &str) -> Result<Box<dyn Transport>, Cause>;

    /// Whether trying again cannot help: a certificate of another host, an authority that is not trusted. Such an
    /// endpoint is not asked again, and without any other everything ends.
    fn is_permanent(&self, error: &Cause) -> bool {
        let _ = error;
        false
    }
}

const _: Option<&dyn Connect> = None;

/// Why a connection did not come to be, up to the words of WebSocket itself.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("cannot connect to {host}:{port}")]
    Tcp { host: String, port: u16, source: io::Error },
    #[cfg(feature = "websocket-tls")]
    #[error("cannot speak TLS with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[cfg(feature = "websocket-tls")]
    #[error("{host} cannot be the name in a certificate")]
    Name { host: String },
    #[cfg(not(feature = "websocket-tls"))]
    #[error("wss:// needs the feature `websocket-tls`, or a `Connect` that brings its own TLS")]
    NoTls,
    #[error("not a WebSocket URL: no host")]
    NoHost,
}

impl Failed {
    /// What is wrong with the configuration stays wrong; networks and servers recover.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Tcp { .. } => false,
            #[cfg(feature = "websocket-tls")]
            Self::Tls { source, .. } => super::tls::is_permanent(source),
            #[cfg(feature = "websocket-tls")]
            Self::Name { .. } => true,
            #[cfg(not(feature = "websocket-tls"))]
            Self::NoTls => true,
            Self::NoHost => true,
        }
    }
}

/// Connects with tokio-tungstenite: `ws://` always, and `wss://` with the feature `websocket-tls`.
///
/// `TCP_NODELAY` is set. Frames and messages are bounded.
#[derive(Clone, Debug)]
pub struct Tungstenite {
    headers: Vec<(HeaderName, HeaderValue)>,
    limits: Limits,
    #[cfg(feature = "websocket-tls")]
    tls: Tls,
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
        Self {
            headers: Vec::new(),
            limits,
            #[cfg(feature = "websocket-tls")]
            tls: Tls::new(),
        }
    }

    /// A header of the handshake, such as `Authorization`. Its value is not printed.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a name or a value that HTTP does not allow.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidConfig> {
        let bad = |what| InvalidConfig::new("header", name, what);
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

    /// Who is trusted behind `wss://`; the usual authorities unless said otherwise.
    #[cfg(feature = "websocket-tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Makes a transport of a socket whose handshake has been done.
    pub fn wrap<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        socket: WebSocketStream<S>,
    ) -> Box<dyn Transport> {
        Box::new(Socket::new(socket))
    }

    async fn greet<S>(&self, request: Request, stream: S) -> Result<Box<dyn Transport>, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let greeted = tokio_tungstenite::client_async_with_config(request, stream, Some(self.limits)).await;
        Ok(Self::wrap(greeted.map_err(Cause::new)?.0))
    }

    #[cfg(feature = "websocket-tls")]
    async fn secured(
        &self,
        request: Request,
        host: String,
        stream: TcpStream,
    ) -> Result<Box<dyn Transport>, Cause> {
        let Ok(name) = rustls::pki_types::ServerName::try_from(host.clone()) else {
            return Err(Cause::new(Failed::Name { host }));
        };
        let connector = self.tls.connector().map_err(Cause::new)?;
        match connector.connect(name, stream).await {
            Ok(stream) => self.greet(request, stream).await,
            Err(source) => Err(Cause::new(Failed::Tls { host, source })),
        }
    }

    #[cfg(not(feature = "websocket-tls"))]
    #[expect(clippy::unused_async, reason = "as with TLS")]
    async fn secured(&self, _: Request, _: String, _: TcpStream) -> Result<Box<dyn Transport>, Cause> {
        Err(Cause::new(Failed::NoTls))
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
        let uri = request.uri();
        let secure = uri.scheme_str() == Some("wss");
        // The brackets of an IPv6 address belong to the URL.
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let host = host.filter(|host| !host.is_empty()).ok_or_else(|| Cause::new(Failed::NoHost))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = match TcpStream::connect((host.as_str(), port)).await {
            Ok(stream) => stream,
            Err(source) => return Err(Cause::new(Failed::Tcp { host, port, source })),
        };
        stream.set_nodelay(true).map_err(Cause::new)?;
        if secure { self.secured(request, host, stream).await } else { self.greet(request, stream).await }
    }

    fn is_permanent(&self, error: &Cause) -> bool {
        error.get().downcast_ref::<Failed>().is_some_and(Failed::is_permanent)
    }
}
