use super::{Bulkhead, Permit};
use crate::signal;
use perf_core::{Deadline, Reason, Rejected};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a [`Bulkhead`] round a service; made by [`Bulkhead::layer`].
#[derive(Clone, Debug)]
pub struct BulkheadLayer(Bulkhead);

impl Bulkhead {
    /// The bulkhead as a tower layer: a place is taken while readiness is asked for, and given back if no call follows.
    #[must_use]
    pub fn layer(&self) -> BulkheadLayer {
        BulkheadLayer(self.clone())
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, bulkhead: self.0.clone(), place: Place::None }
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<Permit, Rejected>> + Send + Sync>>;

enum Place {
    None,
    Waiting(Acquire),
    Taken(Permit),
    /// Told to the caller with the next call: a failed readiness would be the end of the service.
    Refused(Rejected),
}

/// A service with bounded concurrency; made by [`BulkheadLayer`].
pub struct Bounded<S> {
    inner: S,
    bulkhead: Bulkhead,
    place: Place,
}

impl<S: Clone> Clone for Bounded<S> {
    /// The clone has no place yet.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), bulkhead: self.bulkhead.clone(), place: Place::None }
    }
}

impl<S: fmt::Debug> fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, Q> Service<Q> for Bounded<S>
where
    S: Service<Q>,
    S::Error: From<Rejected>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoundedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if matches!(self.place, Place::None) {
            self.place = match self.bulkhead.0.try_enter() {
                true => Place::Taken(Permit(self.bulkhead.0.clone())),
                false => {
                    let bulkhead = self.bulkhead.clone();
                    Place::Waiting(Box::pin(async move { bulkhead.acquire(Deadline::NEVER).await }))
                }
            };
        }
        if let Place::Waiting(acquire) = &mut self.place {
            self.place = match ready!(acquire.as_mut().poll(context)) {
                Ok(permit) => Place::Taken(permit),
                Err(rejected) => Place::Refused(rejected),
            };
        }
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        match std::mem::replace(&mut self.place, Place::None) {
            Place::Taken(permit) => {
                BoundedFuture { state: State::Running { work: self.inner.call(request), permit } }
            }
            Place::Refused(rejected) => BoundedFuture { state: State::Refused { rejected: Some(rejected) } },
            // Called without having been ready: the caller broke the contract, and is refused rather than let through.
            Place::None | Place::Waiting(_) => {
                let rejected = Rejected::new(Reason::Full, self.bulkhead.name().clone());
                BoundedFuture { state: State::Refused { rejected: Some(rejected) } }
            }
        }
    }
}

pin_project! {
    /// A call in a place of its own.
    pub struct BoundedFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Running {
            #[pin]
            work: F,
            permit: Permit,
        },
        Refused { rejected: Option<Rejected> },
    }
}

impl<F, T, E> Future for BoundedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejected>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Running { work, .. } => work.poll(context),
            StateProjection::Refused { rejected } => match rejected.take() {
                Some(rejected) => Poll::Ready(Err(signal::refuse(rejected))),
                None => Poll::Pending,
            },
        }
    }
}
