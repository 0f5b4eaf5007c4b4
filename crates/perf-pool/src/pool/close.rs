use super::shared::Shared;
use crate::clock::Tick;
use crate::error::{Error, Holder};
use crate::manager::Manager;
use perf_core::time;
use std::sync::Arc;

/// How closing a pool ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The leases that did not come back in time. They close their connections when they do.
    pub unreturned: Vec<Unreturned>,
}

/// A lease that did not come back in time.
pub type Unreturned = Holder;

/// Keeps the maintenance task alive while someone waits for the pool to drain.
struct Draining<M: Manager>(Arc<Shared<M>>);

impl<M: Manager> Drop for Draining<M> {
    fn drop(&mut self) {
        self.0.with(|core| {
            core.drainers -= 1;
            core.effects.signal = true;
        });
    }
}

pub(super) fn close<M: Manager>(
    shared: &Arc<Shared<M>>,
) -> impl Future<Output = CloseReport> + Send + use<M> {
    // Outside a runtime there is nobody to say good-bye: the connections are dropped where they are.
    let _ = shared.ensure_running();
    let limit = shared.with(|core| {
        core.drainers += 1;
        core.close();
        core.config.drain_timeout
    });
    let draining = Draining(Arc::clone(shared));
    async move {
        let drained = async {
            loop {
                let mut changed = std::pin::pin!(draining.0.changed.notified());
                changed.as_mut().enable();
                if draining.0.lock().size() == 0 {
                    return;
                }
                changed.await;
            }
        };
        let in_time = time::timeout(limit, drained).await.is_ok();
        let now = draining.0.clock.now();
        let unreturned = if in_time { Vec::new() } else { draining.0.lock().holders(now) };
        CloseReport { unreturned }
    }
}

impl<M: Manager> Shared<M> {
    pub(super) async fn warm_up(self: &Arc<Self>) -> Result<(), Error> {
        self.ensure_running()?;
        let began = self.clock.now();
        let limit = self.lock().config.warmup_timeout;
        self.signal.notify_one();
        let warm = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(answer) = self.is_warm(began) {
                    return answer;
                }
                changed.await;
            }
        };
        match time::timeout(limit, warm).await {
            Ok(answer) => answer,
            Err(_) => {
                let core = self.lock();
                let source = core.attempts.last_error.clone();
                let waited = self.clock.now().since(began);
                Err(Error::Connecting {
                    pool: self.name.clone(),
                    waited,
                    attempts: core.attempts.failed,
                    source,
                })
            }
        }
    }

    fn is_warm(&self, began: Tick) -> Option<Result<(), Error>> {
        let core = self.lock();
        let now = self.clock.now();
        if core.closed {
            return Some(Err(self.explain(&core, crate::core::Refusal::Closed, began, now)));
        }
        if core.idle() + core.counts.leased as usize >= core.config.min_idle {
            return Some(Ok(()));
        }
        let cause = core.attempts.last_error.clone().filter(|_| core.attempts.permanent)?;
        Some(Err(self.explain(&core, crate::core::Refusal::Failed(cause), began, now)))
    }
}
