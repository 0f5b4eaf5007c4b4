//! The atomics and the lock of this crate: the standard ones, or loom's when its scheduler explores the interleavings.

#[cfg(perf_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(perf_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use std::sync::PoisonError;

/// Locks and goes on after a panic elsewhere: every critical section here leaves its data whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(perf_loom))]
pub(crate) use perf_core::Counter;

/// Under loom a plain counter: the striped one keeps a thread-local of its own, which outlives the model.
#[cfg(perf_loom)]
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

#[cfg(perf_loom)]
impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
