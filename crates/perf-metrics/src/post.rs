//! Posts bodies over HTTP/1.1 to one address, on one connection that is kept between posts.

#[cfg(feature = "tls")]
use crate::tls::Tls;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use perf_core::{InvalidConfig, Secret};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Bytes of an answer that are read: enough for any receiver's complaint, and a bound for one that never ends.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// Nobody answers at the address.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or what came back is not HTTP.
    #[error("the exchange failed: {0}")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The receiver refused.
    #[error("the receiver answered {0}")]
    Status(u16),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
}

impl PostError {
    /// Whether the same body may be accepted later: everything but a refusal of the body itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Status(status) if !matches!(*status, 408 | 429 | 500..=599))
    }
}

/// One address, and the connection to it.
#[derive(Debug)]
pub(crate) struct Poster {
    address: String,
    host: HeaderValue,
    path: Uri,
    headers: Vec<(HeaderName, Secret<HeaderValue>)>,
    kept: Arc<Mutex<Option<Connection>>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// What an address may look like.
#[cfg(feature = "tls")]
const ALLOWED: &str = "http[s]://host[:port][/path]; tokens go into headers";
#[cfg(not(feature = "tls"))]
const ALLOWED: &str = "http://host[:port][/path] (https needs the feature `tls`); tokens go into headers";

impl Poster {
    /// Posts to `url`.
    pub(crate) fn new(field: &'static str, url: &str) -> Result<Self, InvalidConfig> {
        // A password in a URL must not reach a log with the error.
        let shown = if url.contains('@') { "a URL with credentials" } else { url };
        let invalid = || InvalidConfig::new(field, shown, ALLOWED);
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(invalid)?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            #[cfg(feature = "tls")]
            Some("https") => 443,
            _ => return Err(invalid()),
        };
        #[cfg(feature = "tls")]
        let tls = match port {
            443 => Some(Tls::to(authority.host()).ok_or_else(invalid)?),
            _ => None,
        };
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| invalid())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port)),
            host,
            path: path.parse().map_err(|_| invalid())?,
            headers: Vec::new(),
            kept: Arc::default(),
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Trusts the authorities of a PEM text, and nobody else.
    #[cfg(feature = "tls")]
    pub(crate) fn trust_only(&mut self, pem: &[u8]) -> Result<(), InvalidConfig> {
        let plain = || InvalidConfig::new("authorities", "without https", "https://… to use them with");
        self.tls.as_mut().ok_or_else(plain)?.trust_only(pem)
    }

    /// A header of every post.
    pub(crate) fn header(&mut self, name: &str, value: &Secret<String>) -> Result<(), InvalidConfig> {
        let name: HeaderName =
            name.parse().map_err(|_| InvalidConfig::new("header", name, "a legal header name"))?;
        let value = HeaderValue::try_from(value.expose().as_str());
        let value = value.map_err(|_| InvalidConfig::new("header", &name, "a value of visible ASCII"))?;
        self.headers.push((name, Secret::new(value)));
        Ok(())
    }

    /// A bearer token of every post.
    #[cfg(feature = "webhook")]
    pub(crate) fn bearer(&mut self, token: &Secret<String>) -> Result<(), InvalidConfig> {
        self.header("authorization", &Secret::new(format!("Bearer {}", token.expose())))
    }

    /// Posts a body and returns the answer's, cut to its first 64 KiB.
    ///
    /// A dropped future closes the connection: what was half sent is not followed by anything else.
    pub(crate) async fn post(&self, content_type: &'static str, body: Bytes) -> Result<Bytes, PostError> {
        let kept = self.kept().take().filter(|connection| !connection.sender.is_closed());
        let request = self.request(content_type, body);
        let (connection, answer) = match kept {
            None => self.post_on(self.connect().await?, request).await?,
            Some(mut connection) => match connection.sender.try_send_request(request).await {
                Ok(answer) => (connection, answer),
                // The receiver closed the idle connection before anything was sent: that is no failure.
                Err(mut error) => match error.take_message() {
                    Some(request) => self.post_on(self.connect().await?, request).await?,
                    None => return Err(PostError::Exchange(error.into_error().into())),
                },
            },
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
        let body = body.map_err(PostError::Exchange)?.to_bytes();
        *self.kept() = Some(connection);
        if status.is_success() { Ok(body) } else { Err(PostError::Status(status.as_u16())) }
    }

    async fn post_on(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<hyper::body::Incoming>), PostError> {
        let answer = connection.sender.send_request(request).await;
        answer.map(|answer| (connection, answer)).map_err(|error| PostError::Exchange(error.into()))
    }

    fn request(&self, content_type: &'static str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in &self.headers {
            headers.insert(name, value.expose().clone());
        }
        request
    }

    async fn connect(&self) -> Result<Connection, PostError> {
        let connected = TcpStream::connect(&self.address).await;
        let refused = |source| PostError::Connect { address: self.address.clone(), source };
        let stream = connected.map_err(refused)?;
        // A request is written at once; waiting for more to send would only delay it.
        stream.set_nodelay(true).map_err(refused)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Connection::over(tls.connect(stream).await.map_err(refused)?).await;
        }
        Connection::over(stream).await
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and the task that drives it, which ends with it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, PostError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|error| PostError::Exchange(error.into()))?;
        let driver = tokio::spawn(async move {
            // The sender is told of what goes wrong.
            let _ = driver.await;
        });
        Ok(Self { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_posted_to_are_refused_without_their_secrets() {
        for url in ["", "collector", "wss://collector", "ftp://x/", "http:///v1", "http://a b/"] {
            let error = Poster::new("endpoint", url).unwrap_err();
            assert!(error.to_string().contains("endpoint"), "{error}");
        }
        match Poster::new("url", "https://alerts/hook") {
            Ok(poster) => assert_eq!((cfg!(feature = "tls"), poster.address.as_str()), (true, "alerts:443")),
            Err(error) => assert!(!cfg!(feature = "tls") && error.allowed().contains("tls"), "{error}"),
        }
        let error = Poster::new("url", "http://user:hunter2@alerts/hook").unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("hunter2"), "{error}");
        assert_eq!(Poster::new("url", "http://alerts").unwrap().address, "alerts:80");
        assert_eq!(Poster::new("url", "http://[::1]:4318/v1/metrics").unwrap().address, "[::1]:4318");
        let mut poster = Poster::new("url", "http://alerts").unwrap();
        assert!(poster.header("a b", &Secret::new(String::new())).is_err());
        assert!(poster.header("api-key", &Secret::new("a\nb".to_owned())).is_err());
        poster.header("api-key", &Secret::new("hunter2".to_owned())).unwrap();
        assert!(!format!("{poster:?}").contains("hunter2"));
    }

    #[test]
    fn only_a_refusal_of_the_body_is_final() {
        assert!(PostError::Status(503).is_retryable() && PostError::Status(429).is_retryable());
        assert!(!PostError::Status(400).is_retryable() && PostError::TimedOut.is_retryable());
    }
}
