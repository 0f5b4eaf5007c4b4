use super::{DEFAULT_ETAG_LIMIT, ETag, Preconditions, Verdict};
use crate::Problem;
use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE, VARY};
use http::response::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::combinators::Collect;
use http_body_util::{BodyExt, Full};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Gives answers an entity tag and answers 304 to a client that has them already, 412 where a precondition fails.
///
/// Only GET and HEAD, and only a 200. A handler's own `ETag` is used as it is; otherwise one is made from the bytes of a
/// body whose length is known and within the limit. Streams are left alone. The work of the handler is done all the same:
/// what is saved is the way to the client. For methods that change something see [`Preconditions`].
#[derive(Clone, Copy, Debug)]
pub struct ConditionalLayer {
    limit: Option<u64>,
}

impl ConditionalLayer {
    /// Tags bodies of at most [`DEFAULT_ETAG_LIMIT`] bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: Some(DEFAULT_ETAG_LIMIT) }
    }

    /// Tags bodies of at most `bytes`.
    #[must_use]
    pub const fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// A layer that does nothing, for stacks in which it is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { limit: None }
    }
}

impl Default for ConditionalLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ConditionalLayer {
    type Service = Conditional<S>;

    fn layer(&self, inner: S) -> Conditional<S> {
        Conditional { inner, limit: self.limit }
    }
}

/// The service made by [`ConditionalLayer`].
#[derive(Clone, Debug)]
pub struct Conditional<S> {
    inner: S,
    limit: Option<u64>,
}

impl<S, Q> Service<Request<Q>> for Conditional<S>
where
    S: Service<Request<Q>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ConditionalFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let asked = self.limit.filter(|_| reads).map(|limit| Asked {
            limit,
            method: request.method().clone(),
            preconditions: Preconditions::of(request.headers()),
        });
        ConditionalFuture { state: State::Waiting { inner: self.inner.call(request), asked } }
    }
}

#[derive(Debug)]
struct Asked {
    limit: u64,
    method: Method,
    preconditions: Preconditions,
}

pin_project! {
    /// The future of [`Conditional`].
    pub struct ConditionalFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Waiting { #[pin] inner: F, asked: Option<Asked> },
        // A body of known length is read, so that it can be tagged.
        Reading { #[pin] body: Collect<Body>, head: Option<(Parts, Asked)> },
    }
}

impl<F, E> Future for ConditionalFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Waiting { inner, asked } => {
                    let response = ready!(inner.poll(context))?;
                    let asked = asked.take().filter(|_| response.status() == StatusCode::OK);
                    let Some(asked) = asked else { return Poll::Ready(Ok(response)) };
                    let length = response.body().size_hint().exact();
                    let tagged = response.headers().contains_key(ETAG);
                    if tagged || length.is_none_or(|length| length > asked.limit) {
                        let (parts, body) = response.into_parts();
                        return Poll::Ready(Ok(decided(&asked, parts, body)));
                    }
                    let (parts, body) = response.into_parts();
                    state.set(State::Reading { body: body.collect(), head: Some((parts, asked)) });
                }
                StateProjection::Reading { body, head } => {
                    let read = ready!(body.poll(context));
                    let Some((mut parts, asked)) = head.take() else { return Poll::Ready(Ok(broken())) };
                    let Ok(read) = read else { return Poll::Ready(Ok(broken())) };
                    let trailers = read.trailers().cloned();
                    let bytes = read.to_bytes();
                    if let Some(tag) = ETag::of(&bytes).to_value() {
                        parts.headers.insert(ETAG, tag);
                    }
                    return Poll::Ready(Ok(decided(&asked, parts, whole(bytes, trailers))));
                }
            }
        }
    }
}

/// The body again, as it was.
fn whole(bytes: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => Body::from(bytes),
        Some(trailers) => Body::new(Full::new(bytes).with_trailers(std::future::ready(Some(Ok(trailers))))),
    }
}

/// A body that broke off before its head was sent can still be an honest error.
fn broken() -> Response<Body> {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off").response()
}

fn decided(asked: &Asked, mut parts: Parts, body: Body) -> Response<Body> {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let tag = text(ETAG).and_then(ETag::parse);
    match asked.preconditions.check(&asked.method, tag.as_ref(), text(LAST_MODIFIED)) {
        Verdict::Proceed => Response::from_parts(parts, body),
        Verdict::Failed => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "the resource is another version than asked for")
                .response()
        }
        Verdict::NotModified => {
            let kept =
                [ETAG, DATE, CACHE_CONTROL, CONTENT_LOCATION, EXPIRES, VARY, LAST_MODIFIED, SET_COOKIE];
            let old = std::mem::take(&mut parts.headers);
            for name in kept {
                for value in old.get_all(&name) {
                    parts.headers.append(name.clone(), value.clone());
                }
            }
            parts.status = StatusCode::NOT_MODIFIED;
            Response::from_parts(parts, Body::empty())
        }
    }
}
