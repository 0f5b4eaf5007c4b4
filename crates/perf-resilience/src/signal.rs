//! What an inner policy tells the one round it besides its error: do not try again, or not before.
//!
//! The error itself may be any type, so it cannot carry the mark. Both policies run in one poll of one task, which makes
//! a thread-local cell enough: the outer policy clears it before it polls the work, the inner one sets it as its future
//! ends, and the outer one reads it when the same poll returns. Work that was spawned elsewhere says nothing.

use perf_core::Rejected;
use perf_core::time::Duration;
use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Attempts or budget were spent below, or a policy there refuses for good.
    Stop,
    /// Refused below, and worth another try after this wait.
    After(Duration),
}

thread_local!(static SIGNAL: Cell<Option<Signal>> = const { Cell::new(None) });

#[inline]
pub(crate) fn clear() {
    SIGNAL.set(None);
}

#[inline]
pub(crate) fn take() -> Option<Signal> {
    SIGNAL.take()
}

pub(crate) fn put(signal: Option<Signal>) {
    SIGNAL.set(signal);
}

pub(crate) fn stop() {
    SIGNAL.set(Some(Signal::Stop));
}

/// Says that this refusal comes out.
#[inline(always)]
pub(crate) fn refused(rejected: &Rejected) {
    let signal = match rejected.retry_hint() {
        Some(wait) if rejected.is_retryable() => Signal::After(wait),
        _ => Signal::Stop,
    };
    SIGNAL.set(Some(signal));
}

/// Turns the refusal into the caller's error, and says so.
#[inline(always)]
pub(crate) fn refuse<E: From<Rejected>>(rejected: Rejected) -> E {
    refused(&rejected);
    rejected.into()
}
