use super::{Glance, Shared};
use crate::gate::{Now, Pass};
use crate::signal;
use perf_core::{Classify, Rejected, time};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// A call through a breaker. Written by hand because an `async fn` would move the call twice and its result three
    /// times, which costs more than the breaker does.
    #[must_use = "futures do nothing unless polled"]
    pub(super) struct Through<'b, F, C> {
        #[pin]
        work: F,
        pass: Option<Pass<&'b Shared>>,
        breaker: &'b Shared,
        classify: C,
    }
}

impl<'b, F, C> Through<'b, F, C> {
    #[inline]
    pub(super) const fn new(breaker: &'b Shared, classify: C, work: F) -> Self {
        Self { work, pass: None, breaker, classify }
    }
}

impl<F, C, T, E> Future for Through<'_, F, C>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejected>,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        if this.pass.is_none() {
            let now = Now::lazy();
            let token = match this.breaker.glance(&now) {
                Glance::Enter(token) => token,
                Glance::Refuse(wait) => return Poll::Ready(Err(signal::refuse(this.breaker.refused(wait)))),
                Glance::Look => match this.breaker.look(&now) {
                    Ok(token) => token,
                    Err(rejected) => return Poll::Ready(Err(signal::refuse(rejected))),
                },
            };
            *this.pass = Some(Pass::inside(*this.breaker, token));
        }
        let polled = {
            let left_by_panic = Panicking(this.pass);
            let polled = this.work.poll(context);
            std::mem::forget(left_by_panic);
            polled
        };
        match (&polled, this.pass.as_mut()) {
            (Poll::Ready(result), Some(pass)) => {
                pass.settle(this.classify.classify(result.as_ref()), &Now::lazy());
            }
            (Poll::Pending, Some(pass)) => {
                pass.started_mut().get_or_insert_with(time::now);
            }
            _ => {}
        }
        polled
    }
}

/// Gives the pass back while the panic is under way: when the future itself is dropped, it may be over.
struct Panicking<'a, 'b>(&'a mut Option<Pass<&'b Shared>>);

impl Drop for Panicking<'_, '_> {
    fn drop(&mut self) {
        *self.0 = None;
    }
}
