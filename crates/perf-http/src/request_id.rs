use crate::{Head, TrustedProxies, random, wallclock};
use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// The header field that carries the identifier in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LONGEST: usize = 128;

/// The identifier of a request, in its extensions: `Extension<RequestId>` in a handler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only visible ASCII is ever put in.
        self.0.to_str().unwrap_or_default()
    }

    fn new() -> Self {
        let text = random::uuid_v7(wallclock::unix_millis());
        Self(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// What a trusted proxy calls the request: the trace of `traceparent` first, `X-Request-Id` second.
    fn inbound(head: Head<'_>) -> Option<Self> {
        let traced = head.headers.get(TRACEPARENT).and_then(|value| trace_id(value.to_str().ok()?));
        if let Some(trace) = traced {
            return HeaderValue::from_str(trace).ok().map(Self);
        }
        let value = head.headers.get(X_REQUEST_ID)?;
        is_identifier(value.as_bytes()).then(|| Self(value.clone()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `[A-Za-z0-9._-]{1,128}`: nothing that could break out of a log line.
fn is_identifier(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(allowed)
}

/// The trace identifier of a W3C `traceparent`: 32 lower-case hexadecimal digits that are not all zero.
fn trace_id(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let complete = version != "00" || parts.next().is_none();
    let known = hex(version, 2) && version != "ff" && hex(parent, 16) && hex(flags, 2) && complete;
    let set = |text: &str| text.bytes().any(|byte| byte != b'0');
    (known && hex(trace, 32) && set(trace) && set(parent)).then_some(trace)
}

/// Gives every request an identifier, which its handler, its logs and its answer carry.
///
/// An identifier that comes in is believed only from a trusted proxy; everybody else gets a new UUID of version 7. So a
/// stranger can neither write into the logs nor make two requests look like one.
#[derive(Clone, Debug, Default)]
pub struct RequestIdLayer {
    proxies: Arc<TrustedProxies>,
}

impl RequestIdLayer {
    /// Believes the identifiers that `proxies` send.
    #[must_use]
    pub fn behind(proxies: TrustedProxies) -> Self {
        Self { proxies: Arc::new(proxies) }
    }

    /// Believes nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify { inner, proxies: Arc::clone(&self.proxies) }
    }
}

/// The service made by [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub struct Identify<S> {
    inner: S,
    proxies: Arc<TrustedProxies>,
}

impl<S, Q, B> Service<Request<Q>> for Identify<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = IdentifyFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let head = Head::of(&request);
        let trusted = head.peer().is_some_and(|peer| self.proxies.contains(peer));
        let id = trusted.then(|| RequestId::inbound(head)).flatten().unwrap_or_else(RequestId::new);
        request.headers_mut().insert(X_REQUEST_ID, id.0.clone());
        request.extensions_mut().insert(id.clone());
        IdentifyFuture { inner: self.inner.call(request), id: Some(id) }
    }
}

pin_project! {
    /// The future of [`Identify`].
    #[derive(Debug)]
    pub struct IdentifyFuture<F> {
        #[pin]
        inner: F,
        id: Option<RequestId>,
    }
}

impl<F, B, E> Future for IdentifyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(RequestId(id)) = this.id.take() {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_identifiers_are_taken() {
        assert!(is_identifier(b"a.B_9-z") && is_identifier(&[b'a'; 128]));
        for text in [&b""[..], &[b'a'; 129], b"a b", b"a\"b", b"a\nb", "ä".as_bytes()] {
            assert!(!is_identifier(text), "{text:?}");
        }
    }

    #[test]
    fn a_trace_is_read_only_from_a_whole_traceparent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{trace}-00f067aa0ba902b7-01")), Some(trace));
        for text in [
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-00f067aa0ba902b7-01-x"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
        ] {
            assert_eq!(trace_id(&text), None, "{text}");
        }
    }
}
