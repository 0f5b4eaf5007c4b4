use super::body::MeasuredBody;
use super::state::{Flight, HttpMetrics, Panicked};
use axum::extract::MatchedPath;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use perf_core::time;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Measures every request into [`HttpMetrics`]; made by [`HttpMetrics::layer`].
#[derive(Clone, Debug)]
pub struct MeasureLayer(HttpMetrics);

impl MeasureLayer {
    pub(super) const fn new(metrics: HttpMetrics) -> Self {
        Self(metrics)
    }
}

impl<S> Layer<S> for MeasureLayer {
    type Service = Measure<S>;

    fn layer(&self, inner: S) -> Measure<S> {
        Measure { inner, metrics: self.0.clone() }
    }
}

/// The service made by [`MeasureLayer`]. It allocates nothing for a route and method it has seen before.
#[derive(Clone, Debug)]
pub struct Measure<S> {
    inner: S,
    metrics: HttpMetrics,
}

impl<S, Q, B> Service<Request<Q>> for Measure<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<MeasuredBody<B>>;
    type Error = S::Error;
    type Future = MeasureFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let template = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let flight = self.metrics.begin(template, request.method());
        let head = request.method() == Method::HEAD;
        // The flight is on the stack while the inner service is called, so that a panic in there is counted too.
        let inner = self.inner.call(request);
        MeasureFuture { inner, flight: Some(flight), head }
    }
}

pin_project! {
    /// The future of [`Measure`]. Dropping it counts as a client that went away.
    #[derive(Debug)]
    pub struct MeasureFuture<F> {
        #[pin]
        inner: F,
        flight: Option<Flight>,
        head: bool,
    }
}

impl<F, B, E> Future for MeasureFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<MeasuredBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(context));
        let flight = this.flight.take();
        match result {
            Ok(response) => Poll::Ready(Ok(answered(response, flight, *this.head))),
            Err(error) => {
                if let Some(flight) = flight {
                    flight.failed(time::now());
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Notes the header fields, and hands the flight on to the body when there is one to wait for.
fn answered<B: Body>(response: Response<B>, flight: Option<Flight>, head: bool) -> Response<MeasuredBody<B>> {
    let Some(mut flight) = flight else { return response.map(|body| MeasuredBody::new(body, None)) };
    let status = response.status();
    let panicked =
        status == StatusCode::INTERNAL_SERVER_ERROR && response.extensions().get::<Panicked>().is_some();
    let now = time::now();
    flight.headers(now, status, panicked);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        flight.upgraded();
        return response.map(|body| MeasuredBody::new(body, None));
    }
    // The server drops these bodies without polling them.
    let bodyless = head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodyless || response.body().is_end_stream() {
        flight.complete(now);
        return response.map(|body| MeasuredBody::new(body, None));
    }
    if is_event_stream(&response) {
        flight.streams();
    }
    response.map(|body| MeasuredBody::new(body, Some(flight)))
}

fn is_event_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    })
}
