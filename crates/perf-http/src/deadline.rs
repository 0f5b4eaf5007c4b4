use crate::{Head, Problem};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use perf_core::time::{self, Duration, Sleep};
use perf_core::{Deadline, InvalidConfig, Reason};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Time a request has to its header fields: what people wait for before they leave is shorter, what a browser waits longer.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The field in which a caller says how long it will wait: `Request-Timeout: 250ms`.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// Gives every request a [`Deadline`], which its handler finds in the extensions, and answers 504 when it passes.
///
/// The work is then dropped, so that cancellation reaches everything it awaits. The deadline covers the time to the header
/// fields; how long a body may take is for the one who streams it to say. A caller may shorten its time with
/// `Request-Timeout` (a duration such as `250ms`, or gRPC's `grpc-timeout`), never lengthen it.
///
/// ```
/// use perf_http::DeadlineLayer;
/// use std::time::Duration;
///
/// let layer = DeadlineLayer::new(Duration::from_secs(2)).unwrap();
/// assert!(DeadlineLayer::new(Duration::ZERO).is_err());
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    limit: Option<Duration>,
}

impl DeadlineLayer {
    /// At most `limit`, 1 ms to 1 day.
    ///
    /// # Errors
    /// [`InvalidConfig`] when `limit` is outside its range.
    pub fn new(limit: Duration) -> Result<Self, InvalidConfig> {
        if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&limit) {
            return Err(InvalidConfig::new("timeout", perf_core::duration::format(limit), "1ms to 86400s"));
        }
        Ok(Self { limit: Some(limit) })
    }

    /// A layer without a limit, for stacks in which it is a matter of configuration.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { limit: None }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, limit: self.limit }
    }
}

/// The service made by [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Timed<S> {
    inner: S,
    limit: Option<Duration>,
}

impl<S, Q, B> Service<Request<Q>> for Timed<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = TimedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let Some(limit) = self.limit else {
            return TimedFuture { inner: Some(self.inner.call(request)), sleep: None };
        };
        let limit = asked(Head::of(&request)).map_or(limit, |asked| asked.min(limit));
        let mut deadline = Deadline::after(time::now(), limit);
        if let Some(outer) = request.extensions().get::<Deadline>() {
            deadline = deadline.earliest(*outer);
        }
        request.extensions_mut().insert(deadline);
        TimedFuture {
            inner: Some(self.inner.call(request)),
            sleep: deadline.instant().map(time::sleep_until),
        }
    }
}

/// How long the caller says it will wait.
fn asked(head: Head<'_>) -> Option<Duration> {
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let own = text(REQUEST_TIMEOUT).and_then(|text| perf_core::duration::parse(text).ok());
    own.or_else(|| text(HeaderName::from_static("grpc-timeout")).and_then(grpc_timeout))
}

/// gRPC's form: up to eight digits and one of `H M S m u n`.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

pin_project! {
    /// The future of [`Timed`].
    #[derive(Debug)]
    pub struct TimedFuture<F> {
        #[pin]
        inner: Option<F>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F, B, E> Future for TimedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut()
            && let Poll::Ready(result) = inner.poll(context)
        {
            return Poll::Ready(result);
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(sleep.poll(context));
        // Dropped here and not with the future, so that the work stops before the answer leaves.
        this.inner.set(None);
        Poll::Ready(Ok(late()))
    }
}

fn late<B: From<Bytes>>() -> Response<B> {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "the answer took longer than it may")
        .with("reason", Reason::DeadlineExceeded.as_str())
        .response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc_are_read() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "m", "1", "123456789S", "-1S", "1x", "1é"] {
            let read = grpc_timeout(text);
            assert!(read.is_none() || text == "m", "{text}: {read:?}");
        }
    }
}
