use http::{HeaderName, HeaderValue, Request, Response};
use perf_core::time::{self, Duration, Instant};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// The field of W3C Server Timing, which browsers show beside their own times.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Tells the client how long the answer took to its header fields: `Server-Timing: app;dur=12.3`, in milliseconds.
///
/// It is appended: entries that a handler wrote stay. Times to a tenth of a millisecond help whoever tunes a page and tell
/// an attacker little more than his own clock; leave the layer out where even that is too much.
#[derive(Clone, Copy, Debug)]
pub struct ServerTimingLayer {
    enabled: bool,
}

impl ServerTimingLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self { enabled: true }
    }

    /// A layer that says nothing, for stacks in which the field is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { enabled: false }
    }
}

impl Default for ServerTimingLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ServerTimingLayer {
    type Service = ServerTimed<S>;

    fn layer(&self, inner: S) -> ServerTimed<S> {
        ServerTimed { inner, enabled: self.enabled }
    }
}

/// The service made by [`ServerTimingLayer`].
#[derive(Clone, Debug)]
pub struct ServerTimed<S> {
    inner: S,
    enabled: bool,
}

impl<S, Q, B> Service<Request<Q>> for ServerTimed<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ServerTimedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let began = self.enabled.then(time::now);
        ServerTimedFuture { inner: self.inner.call(request), began }
    }
}

pin_project! {
    /// The future of [`ServerTimed`].
    #[derive(Debug)]
    pub struct ServerTimedFuture<F> {
        #[pin]
        inner: F,
        began: Option<Instant>,
    }
}

impl<F, B, E> Future for ServerTimedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(began) = this.began.take()
            && let Some(value) = entry(time::now().saturating_duration_since(began))
        {
            response.headers_mut().append(SERVER_TIMING, value);
        }
        Poll::Ready(Ok(response))
    }
}

fn entry(took: Duration) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("app;dur={:.1}", took.as_secs_f64() * 1000.0)).ok()
}
