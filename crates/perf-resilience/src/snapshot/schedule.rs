use super::{Snapshots, now_ms};
use perf_core::time::{self, Duration};
use perf_core::{InvalidConfig, Rng, duration};

/// A day's work is what most can bear to lose.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A backup that has not been restored for a week is a hope.
pub const DEFAULT_DRILL_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A capture that failed is tried again after this part of the interval.
const RETRY_SOONER: u32 = 10;

/// When snapshots are taken and rehearsed.
///
/// ```
/// use perf_resilience::snapshot::Schedule;
/// use std::time::Duration;
///
/// let schedule = Schedule::every(Duration::from_secs(3600));
/// assert!(schedule.validate().is_ok() && schedule.drill_every.is_none());
/// assert!(Schedule::every(Duration::ZERO).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// Time between two captures, lengthened by up to a tenth. 1 second to 366 days, default [`DEFAULT_EVERY`].
    pub every: Duration,
    /// Time between two rehearsals, each after a capture; `None` for no rehearsals. 1 second to 366 days, default
    /// [`DEFAULT_DRILL_EVERY`].
    pub drill_every: Option<Duration>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { every: DEFAULT_EVERY, drill_every: Some(DEFAULT_DRILL_EVERY) }
    }
}

impl Schedule {
    /// A capture at every interval, and no rehearsals.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self { every: interval, drill_every: None }
    }

    /// Checks both intervals.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, value) in [("every", Some(self.every)), ("drill_every", self.drill_every)] {
            let Some(value) = value else { continue };
            if value < Duration::from_secs(1) || value > Duration::from_secs(366 * 24 * 3600) {
                return Err(InvalidConfig::new(field, duration::format(value), "1s to 366d"));
            }
        }
        Ok(())
    }
}

impl Snapshots {
    /// Takes, verifies, rehearses and prunes as `schedule` says. The first capture is due when the newest snapshot is as
    /// old as the interval: at once if there is none or runs were missed, however many. One that failed is counted and tried
    /// again after a tenth of the interval. Runs until it is dropped.
    ///
    /// # Cancel safety
    /// As [`Snapshots::capture`] and [`Snapshots::drill`].
    pub async fn run(&self, schedule: Schedule) {
        let mut rng = Rng::from_entropy();
        // What cannot be listed cannot be judged either; the capture says what is wrong.
        let newest = self.list().await.ok().and_then(|there| Some(there.last()?.started_ms));
        let mut wait = due_in(newest, schedule.every);
        loop {
            time::sleep(wait).await;
            wait = schedule.every / RETRY_SOONER;
            if let Ok(manifest) = self.capture().await
                && self.verify(&manifest.id).await.is_ok()
            {
                wait = schedule.every;
                if let Some(every) = schedule.drill_every {
                    self.drill_if_due(every).await;
                }
                // What could not be removed now is removed after the next capture.
                let _ = self.prune().await;
            }
            wait = wait.mul_f64(1.0 + 0.1 * rng.unit());
        }
    }

    /// As [`Snapshots::run`], without rehearsals.
    pub async fn run_every(&self, interval: Duration) {
        self.run(Schedule::every(interval)).await;
    }

    async fn drill_if_due(&self, every: Duration) {
        let Ok(there) = self.list().await else { return };
        let last = there.iter().filter_map(|manifest| Some(manifest.drill.as_ref()?.at_ms)).max();
        if due_in(last, every).is_zero() {
            // Its failure is counted, and shows as degraded health.
            let _ = self.drill().await;
        }
    }
}

/// How long until what was last done at `last_ms` is to be done again.
fn due_in(last_ms: Option<u64>, every: Duration) -> Duration {
    let age = last_ms.map(|last| Duration::from_millis(now_ms().saturating_sub(last)));
    age.map_or(Duration::ZERO, |age| every.saturating_sub(age))
}
