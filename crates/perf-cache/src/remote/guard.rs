//! Keeps a cache from waiting for a second tier that does not answer.

use crate::clock::Tick;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Decides whether the second tier is asked, and learns how it answered. The host may put a breaker of its own here.
pub trait StoreGuard: Send + Sync {
    /// Whether a call may be made now.
    fn allow(&self) -> bool;

    /// How a call that was allowed ended.
    fn record(&self, succeeded: bool);
}

/// The guard that is there unless the host gives one: after [`FAILURES`](Self::FAILURES) failures in a row it refuses for
/// a while, then lets one call through to see. Each time that fails it waits twice as long.
#[derive(Debug, Default)]
pub struct Trip {
    state: Mutex<State>,
    /// Whether there is anything in the state to look at; it changes under the lock. Nearly every call finds nothing.
    troubled: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    failures: u32,
    /// While open: when the next call is let through, and how long the wait was.
    open: Option<(Tick, Duration)>,
}

impl Trip {
    /// Failures in a row before it opens: fewer would be one lost packet, more would cost callers a timeout each.
    pub const FAILURES: u32 = 5;
    /// The first wait: a server that restarts is back after about a second.
    pub const FIRST_WAIT: Duration = Duration::from_secs(1);
    /// The longest wait. A space asks in the background then, so that looking often costs no caller anything.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(2);

    fn with<T>(&self, work: impl FnOnce(&mut State, Tick) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), crate::clock::tick())
    }
}

impl StoreGuard for Trip {
    fn allow(&self) -> bool {
        if !self.troubled.load(Ordering::Acquire) {
            return true;
        }
        self.with(|state, now| match &mut state.open {
            None => true,
            Some((until, wait)) if *until <= now => {
                // Whoever comes first is the probe; if it is never heard of again, another one follows after the wait.
                *until = now.after(*wait);
                true
            }
            Some(_) => false,
        })
    }

    fn record(&self, succeeded: bool) {
        if succeeded && !self.troubled.load(Ordering::Acquire) {
            return;
        }
        self.with(|state, now| {
            self.troubled.store(!succeeded, Ordering::Release);
            if succeeded {
                *state = State::default();
                return;
            }
            state.failures = state.failures.saturating_add(1);
            if state.failures >= Self::FAILURES {
                let wait =
                    state.open.map_or(Self::FIRST_WAIT, |(_, wait)| (wait * 2).min(Self::LONGEST_WAIT));
                state.open = Some((now.after(wait), wait));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;

    #[tokio::test(start_paused = true)]
    async fn s32_it_opens_after_failures_lets_one_probe_through_and_closes_on_success() {
        let trip = Trip::default();
        (0..Trip::FAILURES).for_each(|_| trip.record(false));
        assert!(!trip.allow());
        time::sleep(Trip::FIRST_WAIT).await;
        assert!(trip.allow() && !trip.allow(), "one probe");
        trip.record(false);
        time::sleep(Trip::FIRST_WAIT).await;
        assert!(!trip.allow(), "twice as long now");
        time::sleep(Trip::FIRST_WAIT).await;
        assert!(trip.allow());
        trip.record(true);
        assert!(trip.allow() && trip.allow());
    }
}
