//! The engine: plans become requests, answers become numbers.

mod closed;
mod cpu;
mod numbers;
mod open;
mod pacer;
mod protocol;
mod run;
mod shard;
mod shared;
#[cfg(test)]
mod tests;
pub(crate) use shared::Shared;

pub(crate) use pacer::Pacer;
pub(crate) use protocol::{Failure, Fired, Protocol};
pub use run::{Progress, Run, StopHandle};

use crate::plan::{Model, Schedule};
use crate::scenario::Scenario;
use crate::stats::Recorder;
use perf_core::time::{self, Duration};
use shard::Shard;
use shared::Phase;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Makes scenarios: one for each user of a closed load, one for each shard of an open load.
pub(crate) trait ScenarioFactory: Send + Sync + 'static {
    type Scenario: Scenario;

    fn make(&self, index: u64) -> Self::Scenario;
}

impl<F, S> ScenarioFactory for F
where
    F: Fn(u64) -> S + Send + Sync + 'static,
    S: Scenario,
{
    type Scenario = S;

    fn make(&self, index: u64) -> S {
        self(index)
    }
}

/// Runs one shard from its start to its numbers.
async fn run_shard<P: Protocol, F: ScenarioFactory>(
    shared: Arc<Shared>,
    protocol: Arc<P>,
    factory: Arc<F>,
    index: usize,
    own_thread: bool,
) -> Result<Recorder, String> {
    let shard = Arc::new(Shard::new(shared, protocol, index));
    let shared = &shard.shared;
    let before = own_thread.then(cpu::thread_time).flatten();
    let work = async {
        let profile = shared.plan.profile();
        match shared.plan.model {
            Model::Closed => closed::run(&shard, profile, &*factory).await,
            Model::Open(arrivals) => {
                let shards = shared.plan.shards() as u64;
                let profile = Arc::new(profile);
                let schedule = Schedule::of_shard(arrivals, profile, shared.plan.seed, index as u64, shards);
                open::run(&shard, schedule, &*factory).await
            }
        }
    };
    let result = tokio::select! {
        biased;
        result = work => result,
        () = shard.watch_canary() => Ok(()),
    };
    let wall = shard.offset_now();
    if own_thread {
        shard.record_cpu(before, wall);
    }
    result.map(|()| shard.take_recorder())
}

/// Lets the tasks finish: to the end of the plan and for the grace after it, or until the run is cut. What is in flight then is
/// counted as cut off.
async fn drain<P: Protocol>(shard: &Shard<P>, mut tasks: JoinSet<()>) -> Result<(), String> {
    let shared = &shard.shared;
    let mut panicked = false;
    let limit = async {
        let end = shared.start + shared.length;
        tokio::select! {
            () = time::sleep_until(end) => {}
            () = shared.reached(Phase::Draining) => {}
        }
        tokio::select! {
            () = time::sleep(shared.plan.drain_limit().max(Duration::from_millis(1))) => {}
            () = shared.reached(Phase::Cut) => {}
        }
    };
    let finish = async {
        while let Some(ended) = tasks.join_next().await {
            panicked |= ended.is_err_and(|error| error.is_panic());
        }
    };
    tokio::select! {
        biased;
        () = finish => {}
        () = limit => {}
    }
    // Aborted tasks end at their next await, and all of theirs are this runtime's own.
    tasks.shutdown().await;
    shard.abandon_in_flight();
    if panicked { Err("a scenario panicked".to_owned()) } else { Ok(()) }
}
