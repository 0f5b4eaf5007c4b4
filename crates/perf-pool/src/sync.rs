//! The mutex of this crate: the standard one, or loom's when its scheduler explores the interleavings.

#[cfg(perf_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(perf_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
