use crate::Problem;
use crate::measure::Panicked;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Turns a panic of a handler into a 500 with problem+json. The client learns nothing of the panic's message, which the
/// panic hook of the program has printed already.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// The service made by [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for CatchPanic<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // A service that panicked is not used again for this request, and its clones share only what it shares safely.
        let inner = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        CatchPanicFuture { inner: inner.ok() }
    }
}

pin_project! {
    /// The future of [`CatchPanic`].
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F, B, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.as_mut().project().inner.as_pin_mut() else {
            return Poll::Ready(Ok(panicked()));
        };
        let Ok(polled) = catch_unwind(AssertUnwindSafe(|| inner.poll(context))) else {
            self.project().inner.set(None);
            return Poll::Ready(Ok(panicked()));
        };
        Poll::Ready(ready!(polled))
    }
}

fn panicked<B: From<Bytes>>() -> Response<B> {
    let mut response =
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be served").response();
    response.extensions_mut().insert(Panicked);
    response
}
