use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_http::compression::predicate::Predicate;
use tower_http::compression::{Compression, CompressionLayer};
use tower_layer::Layer;
use tower_service::Service;

/// Smaller bodies are sent as they are: below 1 KiB an answer fits into one packet either way.
pub const DEFAULT_COMPRESSION_MIN_BYTES: u64 = 1024;

/// Compresses answers with the encoding the client likes best: gzip, brotli or zstd.
///
/// Left as they are: bodies known to be smaller than the limit, what is compressed already (images, video, archives,
/// fonts), `Cache-Control: no-transform`, event streams (each event must leave at once), and answers marked
/// [`NeverCompress`], which a handler sets where a secret and what a stranger sent meet in one body (BREACH).
#[derive(Clone, Copy, Debug)]
pub struct CompressLayer {
    rules: CompressionRules,
}

/// In the extensions of a response: it is not compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverCompress;

impl axum::response::IntoResponseParts for NeverCompress {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut parts: axum::response::ResponseParts,
    ) -> Result<axum::response::ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

impl CompressLayer {
    /// The layer with its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { rules: CompressionRules { enabled: true, min_bytes: DEFAULT_COMPRESSION_MIN_BYTES } }
    }

    /// Bodies known to be smaller are sent as they are; [`DEFAULT_COMPRESSION_MIN_BYTES`] unless said otherwise.
    #[must_use]
    pub const fn min_bytes(mut self, bytes: u64) -> Self {
        self.rules.min_bytes = bytes;
        self
    }

    /// A layer that compresses nothing, for stacks in which it is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { rules: CompressionRules { enabled: false, min_bytes: 0 } }
    }
}

impl Default for CompressLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CompressLayer {
    type Service = Compress<S>;

    fn layer(&self, inner: S) -> Compress<S> {
        Compress { inner: CompressionLayer::new().compress_when(self.rules).layer(inner) }
    }
}

/// Which answers [`CompressLayer`] compresses.
#[derive(Clone, Copy, Debug)]
pub struct CompressionRules {
    enabled: bool,
    min_bytes: u64,
}

impl Predicate for CompressionRules {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let known = response.body().size_hint().exact();
        self.enabled
            && known.is_none_or(|bytes| bytes >= self.min_bytes)
            && response.extensions().get::<NeverCompress>().is_none()
            && !forbids_transformation(response.headers())
            && response.headers().get(CONTENT_TYPE).is_none_or(|kind| is_compressible(kind.as_bytes()))
    }
}

/// A strong tag names bytes, and these are others now: it becomes a weak one.
fn weaken(headers: &mut HeaderMap) {
    let strong =
        headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).and_then(|tag| tag.to_str().ok());
    let weak = strong.and_then(|tag| HeaderValue::try_from(format!("W/{tag}")).ok());
    if let Some(weak) = weak.filter(|_| headers.contains_key(CONTENT_ENCODING)) {
        headers.insert(ETAG, weak);
    }
}

fn forbids_transformation(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

/// Whether a media type is worth compressing.
fn is_compressible(kind: &[u8]) -> bool {
    const STREAMED: [&[u8]; 2] = [b"text/event-stream", b"application/grpc"];
    const PACKED: [&[u8]; 13] = [
        b"image/",
        b"video/",
        b"audio/",
        b"font/woff",
        b"application/zip",
        b"application/gzip",
        b"application/x-gzip",
        b"application/x-bzip2",
        b"application/x-7z-compressed",
        b"application/x-xz",
        b"application/zstd",
        b"application/vnd.rar",
        b"application/pdf",
    ];
    let starts =
        |prefix: &&[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let text_image = starts(&&b"image/svg"[..]) || starts(&&b"image/bmp"[..]);
    !STREAMED.iter().any(starts) && (text_image || !PACKED.iter().any(starts))
}

/// The service made by [`CompressLayer`].
#[derive(Clone)]
pub struct Compress<S> {
    inner: Compression<S, CompressionRules>,
}

impl<S> std::fmt::Debug for Compress<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compress").finish_non_exhaustive()
    }
}

impl<S, Q, B> Service<Request<Q>> for Compress<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CompressFuture<<Compression<S, CompressionRules> as Service<Request<Q>>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        CompressFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of [`Compress`].
    pub struct CompressFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, B, E> Future for CompressFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.project().inner.poll(context))?;
        weaken(response.headers_mut());
        Poll::Ready(Ok(response.map(Body::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_or_streamed_is_left_alone() {
        for kind in
            ["image/png", "IMAGE/PNG", "video/mp4", "application/zip", "text/event-stream; charset=utf-8"]
        {
            assert!(!is_compressible(kind.as_bytes()), "{kind}");
        }
        for kind in
            ["application/json", "text/html; charset=utf-8", "image/svg+xml", "application/problem+json"]
        {
            assert!(is_compressible(kind.as_bytes()), "{kind}");
        }
    }
}
