use super::Timeout;
use crate::race::{Limit, Over, Timer};
use crate::scope::Entered;
use perf_core::time::{self, Instant};
use perf_core::{Deadline, Rejected};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a [`Timeout`] round a service; made by [`Timeout::layer`].
#[derive(Clone, Debug)]
pub struct TimeoutLayer(Timeout);

impl Timeout {
    /// The timeout as a tower layer. Waiting for readiness is not part of the time.
    #[must_use]
    pub fn layer(&self) -> TimeoutLayer {
        TimeoutLayer(self.clone())
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, timeout: self.0.clone() }
    }
}

/// A service whose calls are given up in time; made by [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    timeout: Timeout,
}

impl<S, Q> Service<Q> for Limited<S>
where
    S: Service<Q>,
    S::Error: From<Rejected>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LimitedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let deadline = crate::current_deadline();
        let expired = deadline != Deadline::NEVER && deadline.has_passed(time::now());
        LimitedFuture {
            work: (!expired).then(|| self.inner.call(request)),
            timer: Timer::new(),
            limit: Limit { timeout: Some(self.timeout.0.limit), deadline },
            end: None,
            timeout: self.timeout.clone(),
        }
    }
}

pin_project! {
    /// A call with a time limit.
    pub struct LimitedFuture<F> {
        #[pin]
        work: Option<F>,
        #[pin]
        timer: Timer,
        limit: Limit,
        end: Option<(Option<Instant>, Over)>,
        timeout: Timeout,
    }
}

impl<F, T, E> Future for LimitedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejected>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(this.timeout.over(Over::Deadline)));
        };
        let polled = {
            let _entered = Entered::new(this.limit.deadline);
            work.poll(context)
        };
        if polled.is_ready() {
            return polled;
        }
        let (end, over) = *this.end.get_or_insert_with(|| this.limit.end(time::now()));
        let Some(end) = end else { return Poll::Pending };
        ready!(this.timer.poll_until(end, context));
        this.work.set(None);
        Poll::Ready(Err(this.timeout.over(over)))
    }
}
