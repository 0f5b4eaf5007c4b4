//! The primitives of this crate: the standard ones, or loom's when its scheduler explores the interleavings.

#[cfg(perf_loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(perf_loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
