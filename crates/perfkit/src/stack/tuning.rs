//! Sizes that are found: of pools, by rounds of self-tuning, and of the service, through the host's orchestrator.

use super::Stack;
use perf_core::{InvalidConfig, Name};
use perf_metrics::{Diagnosis, Proposal, Tuner};
use perf_pool::sizing::{ReplicaController, ReplicaEvent, ReplicaSample, ScaleTarget, SizingMode, autoscale};
use perf_pool::{Manager, Pool};
use std::sync::Arc;

/// A pool of any kind, as far as its size goes.
pub(crate) trait Resizable: Send + Sync {
    fn name(&self) -> &Name;
    fn max(&self) -> usize;
    /// What its controller advises, and the load that is behind it; none where it acts by itself, or only shows.
    fn advised(&self) -> Option<(usize, String)>;
    fn resize(&self, max: usize) -> Result<(), InvalidConfig>;
}

impl<M: Manager> Resizable for Pool<M> {
    fn name(&self) -> &Name {
        self.name()
    }

    fn max(&self) -> usize {
        self.stats().max
    }

    fn advised(&self) -> Option<(usize, String)> {
        self.config().sizing.filter(|sizing| sizing.mode == SizingMode::Advise)?;
        let advised = self.advised()?;
        let stats = self.stats();
        let load = format!(
            "{} of {} connections are leased and {} callers wait; {} of {} callers had to wait so far",
            stats.leased, stats.max, stats.waiting, stats.waited, stats.acquired
        );
        Some((advised, load))
    }

    fn resize(&self, max: usize) -> Result<(), InvalidConfig> {
        self.resize(max)
    }
}

/// Proposes the sizes that the pools' own controllers advise.
pub(super) struct PoolSizes(pub(super) Vec<Arc<dyn Resizable>>);

impl Tuner for PoolSizes {
    fn name(&self) -> &str {
        "pool sizes"
    }

    fn propose(&self, _: &Diagnosis) -> Vec<Proposal> {
        let proposal = |pool: &Arc<dyn Resizable>| {
            let (advised, load) = pool.advised()?;
            let max = pool.max();
            (advised != max).then(|| Proposal {
                what: format!("pool.{}.max", pool.name()),
                from: max.to_string(),
                to: advised.to_string(),
                reason: format!("its sizing controller advises {advised}: {load}"),
                expected: if advised > max { "shorter waits" } else { "fewer idle connections" }.to_owned(),
            })
        };
        self.0.iter().filter_map(proposal).collect()
    }

    fn apply(&self, proposal: &Proposal) -> Result<(), String> {
        let pool = self.0.iter().find(|pool| format!("pool.{}.max", pool.name()) == proposal.what);
        let pool = pool.ok_or_else(|| format!("there is no {}", proposal.what))?;
        let max =
            proposal.to.parse().map_err(|_| format!("{} is not a number of connections", proposal.to))?;
        pool.resize(max).map_err(|error| error.to_string())
    }
}

impl Stack {
    /// Callers that wait for a connection of one of the databases.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.databases.values().map(|opened| (opened.waiting)()).sum()
    }

    /// Observes the service and asks `target` for the number of replicas it should have, as the section `scaling` says,
    /// until the future is dropped. `measure` is given the number asked for and fills in how many of them serve, and what the
    /// host knows of processors, memory and the future; if it says nothing of a queue, that is who waits for the databases of this replica, times the
    /// replicas that serve.
    ///
    /// # Errors
    /// [`InvalidConfig`] if the configuration was changed to one that is not valid.
    ///
    /// # Cancel safety
    /// The number of replicas stays as it is.
    pub async fn autoscale(
        &self,
        target: &dyn ScaleTarget,
        mut measure: impl FnMut(usize) -> ReplicaSample + Send,
        told: impl FnMut(&ReplicaEvent) + Send,
    ) -> Result<(), InvalidConfig> {
        let scaling = &self.config.scaling;
        let controller = ReplicaController::new(scaling.replicas.clone())?;
        let measure = |replicas| {
            let sample = measure(replicas);
            let queue = sample.queue.unwrap_or_else(|| (self.waiting() * sample.ready) as f64);
            ReplicaSample { queue: Some(queue), ..sample }
        };
        autoscale(target, controller, scaling.mode, scaling.interval, measure, told).await;
        Ok(())
    }
}
