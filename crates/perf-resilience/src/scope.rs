//! The deadline that travels with a task.
//!
//! A pipeline takes the earliest of its own deadline, the caller's and the one of the scope it runs in, and opens a
//! scope with the result, so that calls made further down never outlive the call they serve.

use perf_core::Deadline;
use perf_core::time::Instant;
use pin_project_lite::pin_project;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local!(static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) });

/// The deadline of the scope this code runs in; [`Deadline::NEVER`] outside every scope.
///
/// ```
/// use perf_core::Deadline;
/// use perf_resilience::{current_deadline, with_deadline};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let soon = Deadline::within(Duration::from_secs(1));
/// with_deadline(soon, async move {
///     assert_eq!(current_deadline(), soon);
///     // A longer deadline inside a shorter one changes nothing.
///     with_deadline(Deadline::NEVER, async move { assert_eq!(current_deadline(), soon) }).await;
/// })
/// .await;
/// assert_eq!(current_deadline(), Deadline::NEVER);
/// # });
/// ```
#[must_use]
#[inline]
pub fn current_deadline() -> Deadline {
    CURRENT.get().map_or(Deadline::NEVER, Deadline::at)
}

/// Runs `work` in a scope with this deadline, or the surrounding one if that is earlier. Nothing is interrupted: the
/// scope only tells those who ask.
///
/// Spawned tasks start outside every scope; pass [`current_deadline`] on to them.
pub const fn with_deadline<F: Future>(deadline: Deadline, work: F) -> Scoped<F> {
    Scoped { deadline, work }
}

pin_project! {
    /// Work in a deadline scope; made by [`with_deadline`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        deadline: Deadline,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = Entered::new(*this.deadline);
        this.work.poll(context)
    }
}

/// Restores the surrounding scope when dropped, panics included. A deadline that is none changes nothing.
pub(crate) struct Entered(Option<Option<Instant>>);

impl Entered {
    #[inline]
    pub(crate) fn new(deadline: Deadline) -> Self {
        let Some(own) = deadline.instant() else { return Self(None) };
        let outer = CURRENT.get();
        CURRENT.set(Some(outer.map_or(own, |outer| outer.min(own))));
        Self(Some(outer))
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some(outer) = self.0 {
            CURRENT.set(outer);
        }
    }
}
