//! The tower layer of every gate.

use crate::gate::{Gate, Now, Pass};
use crate::judge::{ByOutcome, Judge};
use crate::signal;
use perf_core::Rejected;
use perf_core::time;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a gate round a service: a breaker, a rate limit, a throttle, an adaptive limit, or one of your own.
///
/// The gate is asked when the call is made, not when readiness is: readiness may be given up without a call, and a
/// probe or a permit must not be lost with it.
///
/// ```
/// use perf_core::CallError;
/// use perf_resilience::{Breaker, ByOutcome, GateLayer};
/// use perf_testkit::{Script, ScriptedService};
/// use std::future::poll_fn;
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let script = Script::<u8, Result<&str, CallError<&str>>>::new();
/// script.answer(Ok("yes"));
/// let breaker = Breaker::builder("users").build()?;
/// let mut service = GateLayer::new(breaker.clone()).layer(ScriptedService::new(script));
/// poll_fn(|context| service.poll_ready(context)).await.unwrap();
/// assert_eq!(service.call(1).await, Ok("yes"));
/// assert_eq!(breaker.stats().successes, 1);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GateLayer<G, J = ByOutcome> {
    gate: G,
    judge: J,
}

impl<G: Gate + Clone> GateLayer<G> {
    /// Every error is a failure.
    pub fn new(gate: G) -> Self {
        Self { gate, judge: ByOutcome::default() }
    }
}

impl<G: Gate + Clone, J> GateLayer<G, J> {
    /// The judge says what results mean.
    pub const fn judged(gate: G, judge: J) -> Self {
        Self { gate, judge }
    }
}

impl<S, G: Clone, J: Clone> Layer<S> for GateLayer<G, J> {
    type Service = Gated<S, G, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { inner, gate: self.gate.clone(), judge: self.judge.clone() }
    }
}

/// A service behind a gate; made by [`GateLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Gated<S, G, J> {
    inner: S,
    gate: G,
    judge: J,
}

impl<S, Q, G, J> Service<Q> for Gated<S, G, J>
where
    S: Service<Q>,
    S::Error: From<Rejected>,
    G: Gate + Clone,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = GatedFuture<S::Future, G, J>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        match Pass::enter_at(self.gate.clone(), &Now::lazy()) {
            Ok(pass) => {
                let work = self.inner.call(request);
                GatedFuture {
                    work: Work::Made { work, pass: Some(pass), judge: self.judge.clone(), waits: false },
                }
            }
            Err(rejected) => GatedFuture { work: Work::Refused { rejected: Some(rejected) } },
        }
    }
}

pin_project! {
    /// A call through a gate.
    pub struct GatedFuture<F, G: Gate, J> {
        #[pin]
        work: Work<F, G, J>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, G: Gate, J> {
        Made {
            #[pin]
            work: F,
            pass: Option<Pass<G>>,
            judge: J,
            waits: bool,
        },
        Refused { rejected: Option<Rejected> },
    }
}

impl<F, T, E, G, J> Future for GatedFuture<F, G, J>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejected>,
    G: Gate,
    J: Judge<T, E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().work.project() {
            WorkProjection::Refused { rejected } => match rejected.take() {
                Some(rejected) => Poll::Ready(Err(signal::refuse(rejected))),
                None => Poll::Pending,
            },
            WorkProjection::Made { work, pass, judge, waits } => {
                let polled = work.poll(context);
                match polled {
                    Poll::Ready(result) => {
                        if let Some(pass) = pass.take() {
                            pass.leave(judge.judge(result.as_ref()).outcome);
                        }
                        Poll::Ready(result)
                    }
                    Poll::Pending => {
                        if !*waits && let Some(pass) = pass {
                            *waits = true;
                            pass.started(time::now());
                        }
                        Poll::Pending
                    }
                }
            }
        }
    }
}
