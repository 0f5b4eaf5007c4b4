use crate::Problem;
use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Limited;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Most bytes of a request body: 2 MiB, axum's own default for its extractors. Uploads ask for more by name.
pub const DEFAULT_BODY_LIMIT: usize = 2 * 1024 * 1024;

/// Refuses request bodies above a limit: at once with 413 when their length is announced, and otherwise by ending the body
/// with an error when the limit is passed, which axum's extractors answer with 413.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimitLayer {
    limit: Option<usize>,
}

impl BodyLimitLayer {
    /// At most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit: Some(limit) }
    }

    /// A layer without a limit, for stacks in which it is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { limit: None }
    }
}

impl Default for BodyLimitLayer {
    fn default() -> Self {
        Self::new(DEFAULT_BODY_LIMIT)
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimited<S>;

    fn layer(&self, inner: S) -> BodyLimited<S> {
        BodyLimited { inner, limit: self.limit }
    }
}

/// The service made by [`BodyLimitLayer`].
#[derive(Clone, Debug)]
pub struct BodyLimited<S> {
    inner: S,
    limit: Option<usize>,
}

impl<S, B> Service<Request<Body>> for BodyLimited<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BodyLimitFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(limit) = self.limit else {
            return BodyLimitFuture { inner: Some(self.inner.call(request)) };
        };
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return BodyLimitFuture { inner: None };
        }
        let request = if request.body().is_end_stream() {
            request
        } else {
            request.map(|body| Body::new(Limited::new(body, limit)))
        };
        BodyLimitFuture { inner: Some(self.inner.call(request)) }
    }
}

pin_project! {
    /// The future of [`BodyLimited`].
    #[derive(Debug)]
    pub struct BodyLimitFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F, B, E> Future for BodyLimitFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(context),
            None => {
                let detail = "the body of the request is larger than it may be";
                Poll::Ready(Ok(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).response()))
            }
        }
    }
}
