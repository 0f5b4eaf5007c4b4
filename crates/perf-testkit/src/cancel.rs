//! Drops a future at every await, and stops at each.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::coop;

/// How long one round may take on tokio's clock before the future counts as hanging. A paused clock gets there at once.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many polls a future may need before it counts as never ending.
const MOST: usize = 10_000;

/// Drops a future at each of its awaits in turn: in round `k` it is polled `k` times, then dropped if it still waits. The
/// rounds end when it finishes first. Returns the number of awaits, so that a test can insist on having met some. Awaits
/// whose result is there at once are passed, unless the future is made to stop there by [`step_by_step`].
///
/// `make` gives each round its state and the future that works on it. `check` looks at the state after each round, with
/// the output in the last one and `None` where the future was dropped; it may await, for example until spawned work ends.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use perf_testkit::cancel_at_every_await;
/// use std::sync::Arc;
/// use tokio::sync::Semaphore;
///
/// let awaits = cancel_at_every_await(
///     || {
///         let permits = Arc::new(Semaphore::new(1));
///         let work = {
///             let permits = Arc::clone(&permits);
///             async move {
///                 let _permit = permits.acquire().await;
///                 tokio::task::yield_now().await;
///                 "done"
///             }
///         };
///         (permits, work)
///     },
///     async |permits, _output| assert_eq!(permits.available_permits(), 1),
/// )
/// .await;
/// assert!(awaits >= 1);
/// # });
/// ```
///
/// # Panics
/// When a round does not end: the future neither finishes nor is woken for ten minutes, or needs more than 10,000 polls.
pub async fn cancel_at_every_await<S, F: Future>(
    mut make: impl FnMut() -> (S, F),
    mut check: impl AsyncFnMut(S, Option<F::Output>),
) -> usize {
    for polls in 0..MOST {
        let (state, future) = make();
        // The limit is looked at first, so that its end does not poll the future once more.
        let output = tokio::select! {
            biased;
            () = tokio::time::sleep(PATIENCE) => fail(&format!("the future hangs after {} polls", polls - 1)),
            output = poll_times(future, polls) => output,
        };
        let finished = output.is_some();
        check(state, output).await;
        if finished {
            return polls - 1;
        }
    }
    fail(&format!("the future did not finish within {MOST} polls"))
}

/// Polls `future` each time it is woken, at most `polls` times, and drops it.
async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The work, one await at a time: of tokio's resources (time, channels, locks, sockets) no more than one is ready in a poll.
/// Without it an await whose result is there already is passed in the same poll as the one before it, and against a real
/// server or disk it is a matter of luck where a future stops: on a busy machine hardly anywhere.
///
/// It uses up tokio's [cooperative budget](coop) before each poll.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use perf_testkit::{cancel_at_every_await, step_by_step};
/// use tokio::sync::Semaphore;
///
/// let permits = Semaphore::new(2);
/// let both = || async {
///     let _first = permits.acquire().await;
///     let _second = permits.acquire().await;
/// };
/// assert_eq!(cancel_at_every_await(|| ((), both()), async |(), _| ()).await, 0);
/// assert_eq!(cancel_at_every_await(|| ((), step_by_step(both())), async |(), _| ()).await, 1);
/// # });
/// ```
///
/// # Panics
/// When it is polled where there is no such budget, which is outside of tokio: nothing would stop.
///
/// # Cancel safety
/// As the work.
pub fn step_by_step<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let mut work = Box::pin(work);
    poll_fn(move |context| {
        leave_budget_for_one();
        work.as_mut().poll(context)
    })
}

/// tokio lets a task that has used up its budget wait although it need not.
fn leave_budget_for_one() {
    let mut nobody = Context::from_waker(Waker::noop());
    let mut last = None;
    // More than any budget.
    for _ in 0..1000 {
        let Poll::Ready(one) = coop::poll_proceed(&mut nobody) else {
            // The last one is given back.
            return drop(last);
        };
        if let Some(before) = last.replace(one) {
            coop::RestoreOnPending::made_progress(&before);
        }
    }
    fail("there is no end to the budget")
}

#[expect(clippy::panic, reason = "a helper of a test fails the test by panicking")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Three awaits; says how far it came.
    async fn three_steps(reached: Arc<AtomicUsize>) -> &'static str {
        for _ in 0..3 {
            reached.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        "done"
    }

    #[tokio::test(start_paused = true)]
    async fn each_await_is_a_round_and_the_last_one_finishes() {
        let mut rounds = Vec::new();
        let awaits = cancel_at_every_await(
            || {
                let reached = Arc::new(AtomicUsize::new(0));
                (Arc::clone(&reached), three_steps(reached))
            },
            async |reached, output| rounds.push((reached.load(Ordering::Relaxed), output)),
        )
        .await;
        assert_eq!(awaits, 3);
        assert_eq!(rounds, [(0, None), (1, None), (2, None), (3, None), (3, Some("done"))]);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the future hangs after 1 polls")]
    async fn a_future_that_is_never_woken_fails_the_test() {
        cancel_at_every_await(|| ((), std::future::pending::<()>()), async |(), _| {}).await;
    }

    #[test]
    #[should_panic(expected = "there is no end to the budget")]
    fn a_future_that_nothing_would_stop_fails_the_test() {
        let mut work = pin!(step_by_step(async {}));
        let _ = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    #[tokio::test]
    async fn a_future_without_awaits_finishes_in_the_first_poll() {
        let awaits = cancel_at_every_await(|| ((), async { 7 }), async |(), _| {}).await;
        assert_eq!(awaits, 0);
    }
}
