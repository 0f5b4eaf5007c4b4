use std::sync::atomic::{AtomicU8, Ordering};

/// Where a host is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Lifecycle {
    /// Not yet able to serve.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what it has; new requests should go elsewhere.
    Draining,
    /// Done.
    Stopped,
}

#[derive(Debug, Default)]
pub(super) struct LifecycleCell(AtomicU8);

impl LifecycleCell {
    pub(super) fn get(&self) -> Lifecycle {
        match self.0.load(Ordering::Acquire) {
            0 => Lifecycle::Starting,
            1 => Lifecycle::Ready,
            2 => Lifecycle::Draining,
            _ => Lifecycle::Stopped,
        }
    }

    /// Moves forward to `next`; a step back has no effect.
    pub(super) fn advance(&self, next: Lifecycle) {
        self.0.fetch_max(next as u8, Ordering::AcqRel);
    }
}
