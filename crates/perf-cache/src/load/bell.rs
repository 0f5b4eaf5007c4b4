//! One timer for the patience of a crowd.

use super::flight::Flight;
use perf_core::time::{self, Instant};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::task::AbortHandle;

/// Rings once, before the patience of the callers ends that listen to it. Until then they need no timers of their own: one
/// timer stands for a crowd's, and nearly every flight lands before it rings.
pub(super) struct Bell {
    /// When; `None` where there is no runtime to ring it.
    rings: Option<Instant>,
    rung: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

impl Bell {
    /// A bell that rings halfway through the patience of the first who asks.
    pub(super) fn hang<K, V>(flight: &Arc<Flight<K, V>>, end: Instant) -> Self
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let (now, rung) = (time::now(), Arc::new(AtomicBool::new(false)));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Self { rings: None, rung, task: None };
        };
        let rings = now + end.saturating_duration_since(now) / 2;
        let ringing = Ringing { flight: Arc::downgrade(flight), rung: Arc::clone(&rung) };
        let task = runtime.spawn(async move {
            let ringing = ringing;
            time::sleep_until(rings).await;
            drop(ringing);
        });
        Self { rings: Some(rings), rung, task: Some(task.abort_handle()) }
    }

    /// Whether it is still to ring, and before this.
    pub(super) fn rings_before(&self, end: Instant) -> bool {
        self.rings.is_some_and(|rings| rings <= end) && !self.rung.load(Ordering::Acquire)
    }

    /// Nobody needs it any more.
    pub(super) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Rings when it is dropped: in time, or when the runtime that should have rung the bell is gone.
struct Ringing<K, V> {
    flight: Weak<Flight<K, V>>,
    rung: Arc<AtomicBool>,
}

impl<K, V> Drop for Ringing<K, V> {
    fn drop(&mut self) {
        self.rung.store(true, Ordering::Release);
        if let Some(flight) = self.flight.upgrade() {
            flight.rouse();
        }
    }
}
