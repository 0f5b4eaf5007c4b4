use super::{Advice, Controller, Sample};
use crate::manager::Manager;
use crate::pool::Pool;
use perf_core::time::{self, Duration};

/// What is done with advice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum SizingMode {
    /// The pool is resized.
    Act,
    /// It is told, and nothing changes.
    #[default]
    Advise,
}

impl<M: Manager> Pool<M> {
    /// Observes the pool once a second and resizes it, or only tells, until it is closed. The host spawns it, and stops it
    /// by dropping it.
    ///
    /// # Cancel safety
    /// The size stays as it is.
    pub async fn autosize(
        &self,
        mut controller: Controller,
        mode: SizingMode,
        mut told: impl FnMut(&Advice) + Send,
    ) {
        let (mut waits, mut holds) = (self.waits(), self.holds());
        while !self.is_closed() {
            time::sleep(Duration::from_secs(1)).await;
            let stats = self.stats();
            let seen = self.waits();
            let p95 = seen.since(&waits).quantile(0.95).map_or(0.0, |estimate| estimate.value);
            waits = seen;
            let seen = self.holds();
            let mean = seen.since(&holds).mean();
            holds = seen;
            let sample = Sample {
                acquired: stats.acquired,
                mean_hold: mean
                    .map_or(stats.mean_hold, |mean| Duration::try_from_secs_f64(mean).unwrap_or_default()),
                wait_p95: Duration::try_from_secs_f64(p95).unwrap_or_default(),
                size: stats.max,
                idle: stats.idle,
            };
            let advice = controller.observe(sample, time::now());
            told(&advice);
            if mode == SizingMode::Act && advice.target != stats.max {
                // The controller's limits are sizes, so this cannot be refused.
                let _ = self.resize(advice.target);
            }
        }
    }
}
