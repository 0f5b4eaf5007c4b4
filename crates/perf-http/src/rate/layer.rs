use super::fields::limit_field;
use super::{Decision, RateLimit};
use crate::{Head, Problem};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Refuses the requests of clients that spent their quota; made by [`RateLimit::layer`].
#[derive(Clone, Debug)]
pub struct RateLimitLayer(Option<RateLimit>);

impl RateLimitLayer {
    pub(super) const fn new(limit: RateLimit) -> Self {
        Self(Some(limit))
    }

    /// A layer that limits nothing, for stacks in which the limit is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> RateLimited<S> {
        RateLimited { inner, limit: self.0.clone() }
    }
}

/// The service made by [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimited<S> {
    inner: S,
    limit: Option<RateLimit>,
}

impl<S, Q, B> Service<Request<Q>> for RateLimited<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let Some(limit) = &self.limit else {
            return RateLimitFuture { inner: Some(self.inner.call(request)), fields: None, refusal: None };
        };
        let decision = limit.check_request(Head::of(&request));
        let fields = Fields::new(limit, &decision);
        if decision.is_allowed() {
            RateLimitFuture { inner: Some(self.inner.call(request)), fields: Some(fields), refusal: None }
        } else {
            RateLimitFuture { inner: None, fields: Some(fields), refusal: Some(refusal(limit, &decision)) }
        }
    }
}

fn refusal(limit: &RateLimit, decision: &Decision) -> Problem {
    let quota = limit.quota(decision).name.as_str();
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests: the quota is spent")
        .kind(QUOTA_EXCEEDED, "Request cannot be satisfied as assigned quota has been exceeded")
        .with("violated-policies", vec![quota])
        .retry_after(decision.wait().max(Duration::from_nanos(1)))
}

/// The two fields, made when the decision is.
#[derive(Debug)]
struct Fields {
    limit: Option<HeaderValue>,
    policy: HeaderValue,
}

impl Fields {
    fn new(limit: &RateLimit, decision: &Decision) -> Self {
        Self { limit: limit_field(limit.quota(decision), decision), policy: limit.policy().clone() }
    }

    fn write_to<B>(self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.insert(POLICY, self.policy);
        if let Some(limit) = self.limit {
            headers.insert(LIMIT, limit);
        }
    }
}

pin_project! {
    /// The future of [`RateLimited`]: the inner one, or the refusal.
    #[derive(Debug)]
    pub struct RateLimitFuture<F> {
        #[pin]
        inner: Option<F>,
        fields: Option<Fields>,
        refusal: Option<Problem>,
    }
}

impl<F, B, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.as_pin_mut() {
            Some(inner) => ready!(inner.poll(context))?,
            // Polled again after its end it would say this; a future is not polled again after its end.
            None => this.refusal.take().unwrap_or_else(spent).response(),
        };
        if let Some(fields) = this.fields.take() {
            fields.write_to(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

fn spent() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
}
