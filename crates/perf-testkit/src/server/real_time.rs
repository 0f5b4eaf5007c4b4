//! Waiting in real time, for processes that do not follow a paused clock.

use super::ServerError;
use std::time::Duration;

/// How often a condition is looked at: short against the 50 ms that the fastest server takes to start.
const STEP: Duration = Duration::from_millis(3);

/// Looks at `condition` until it holds or `limit` has passed; says whether it held.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "servers live in real time, also when a test has paused the clock; this runs on the blocking pool"
)]
pub(crate) fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(STEP);
    }
}

/// Runs `work` on the blocking pool. Dropping the future lets the work finish; its result is dropped then.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(ServerError::Io {
                doing: "the runtime stopped before the server did what was asked".to_owned(),
                source: std::io::Error::other(cancelled),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_ends_with_no() {
        let mut looks = 0;
        let held = poll_until(Duration::from_millis(10), || {
            looks += 1;
            false
        });
        assert!(!held && looks > 1);
    }
}
