use super::{Advice, Controller, Sample};
use crate::manager::Manager;
use crate::pool::{Pool, PoolStats};
use perf_core::HistogramSnapshot;
use perf_core::time::{self, Duration, Instant};

/// What is done with advice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SizingMode {
    /// The pool is resized.
    Act,
    /// It is told, and nothing changes.
    #[default]
    Advise,
    /// It shows in `perf_pool_advised_connections`, and nobody is told.
    Shadow,
}

/// How often a pool is observed: the windows of the controller are counted in seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Shows a controller what has happened since it was last shown anything.
#[derive(Debug)]
pub(crate) struct Observer {
    controller: Controller,
    waits: HistogramSnapshot,
    holds: HistogramSnapshot,
    before: PoolStats,
    pub(crate) due: Instant,
}

impl Observer {
    pub(crate) fn new(
        controller: Controller,
        before: PoolStats,
        waits: HistogramSnapshot,
        holds: HistogramSnapshot,
    ) -> Self {
        Self { controller, before, waits, holds, due: time::now() + EVERY }
    }

    pub(crate) fn observe(
        &mut self,
        stats: &PoolStats,
        waits: HistogramSnapshot,
        holds: HistogramSnapshot,
    ) -> Advice {
        let p95 = wait_p95(&waits.since(&self.waits), &stats.since(&self.before));
        let mean = holds.since(&self.holds).mean();
        (self.waits, self.holds, self.before) = (waits, holds, *stats);
        let sample = Sample {
            acquired: stats.acquired,
            mean_hold: mean
                .map_or(stats.mean_hold, |mean| Duration::try_from_secs_f64(mean).unwrap_or_default()),
            wait_p95: Duration::try_from_secs_f64(p95).unwrap_or_default(),
            size: stats.max,
            idle: stats.idle,
            nested: stats.nested,
        };
        let now = time::now();
        self.due = now + EVERY;
        self.controller.observe(sample, now)
    }
}

/// The 95th percentile of the waits of all callers, in seconds, from those of the callers that had to wait.
fn wait_p95(waits: &HistogramSnapshot, stats: &PoolStats) -> f64 {
    let callers = stats.acquired + stats.timed_out + stats.cancelled;
    let share = stats.waited as f64 / callers.max(1) as f64;
    // One in twenty waits longer; among those who wait at all that is a larger share.
    let longer = 0.05 / share.min(1.0);
    if longer >= 1.0 {
        return 0.0;
    }
    waits.quantile(1.0 - longer).map_or(0.0, |estimate| estimate.value)
}

impl<M: Manager> Pool<M> {
    /// Observes the pool once a second and resizes it, or only tells, until it is closed. The host spawns it, and stops it
    /// by dropping it. A pool whose configuration has [`sizing`](crate::PoolConfig::sizing) does this by itself.
    ///
    /// # Cancel safety
    /// The size stays as it is.
    pub async fn autosize(
        &self,
        controller: Controller,
        mode: SizingMode,
        mut told: impl FnMut(&Advice) + Send,
    ) {
        let mut observer = Observer::new(controller, self.stats(), self.waits(), self.holds());
        while !self.is_closed() {
            time::sleep_until(observer.due).await;
            let stats = self.stats();
            let advice = observer.observe(&stats, self.waits(), self.holds());
            if mode != SizingMode::Shadow {
                told(&advice);
            }
            if mode == SizingMode::Act && advice.target != stats.max {
                // The controller's limits are sizes, so this cannot be refused.
                let _ = self.resize(advice.target);
            }
        }
    }
}
