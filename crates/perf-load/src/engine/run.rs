use super::shared::Shared;
use super::{Protocol, ScenarioFactory, run_shard};
use crate::Error;
use crate::http::{Http, Target};
use crate::plan::{Load, Threads};
use crate::report::RunReport;
use crate::scenario::Scenario;
use crate::stats::Recorder;
use perf_core::time::{self, Duration, Instant};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Offset 0 of the plan is this long after the start, so that every thread is ready for it.
const LEAD: Duration = Duration::from_millis(5);

impl Load {
    /// Runs the plan to its end: [`start`](Load::start) and [`Run::report`] in one.
    ///
    /// # Errors
    /// Those of [`start`](Load::start) and [`Run::report`].
    ///
    /// # Cancel safety
    /// Dropping the future cuts the run off; no thread or connection outlives it for long.
    pub async fn run<F, S>(&self, target: &Target, scenario: F) -> Result<RunReport, Error>
    where
        F: Fn(u64) -> S + Send + Sync + 'static,
        S: Scenario,
    {
        self.start(target, scenario).await?.report().await
    }

    /// Starts the plan against an HTTP/1.1 target. `scenario` makes the scenario of each user of a closed load, or of each shard of an
    /// open one, and gets its number.
    ///
    /// # Errors
    /// [`Error::Plan`] for an impossible plan, [`Error::Unreachable`] when nothing answers at the target (see
    /// [`preflight`](Load::preflight)), [`Error::Generator`] when a thread cannot be started.
    ///
    /// # Cancel safety
    /// Nothing has started when the future is dropped.
    pub async fn start<F, S>(&self, target: &Target, scenario: F) -> Result<Run, Error>
    where
        F: Fn(u64) -> S + Send + Sync + 'static,
        S: Scenario,
    {
        self.validate()?;
        let http = Http::new(
            target.clone(),
            self.timeout,
            self.connect_timeout,
            self.keep_alive,
            self.max_kept_body,
        );
        if self.preflight {
            http.probe().await.map_err(|failure| Error::Unreachable {
                authority: target.authority().to_owned(),
                detail: failure.detail,
            })?;
        }
        self.start_with(Arc::new(http), Arc::new(scenario), target.to_string())
    }

    pub(crate) fn start_with<P: Protocol, F: ScenarioFactory>(
        &self,
        protocol: Arc<P>,
        factory: Arc<F>,
        target: String,
    ) -> Result<Run, Error> {
        self.validate()?;
        let shared = Arc::new(Shared::new(self.clone(), time::now() + LEAD));
        let mut run = Run { shared: Arc::clone(&shared), target, shards: Vec::new() };
        for index in 0..self.shards() {
            let work = {
                let (shared, protocol) = (Arc::clone(&shared), Arc::clone(&protocol));
                let factory = Arc::clone(&factory);
                let own = self.threads != Threads::Caller;
                move || run_shard(shared, protocol, factory, index, own)
            };
            run.shards.push(match self.threads {
                Threads::Caller => Worker::Task(tokio::spawn(work())),
                Threads::Own(_) => Worker::Thread(own_thread(index, work)?),
            });
        }
        Ok(run)
    }
}

type ShardResult = Result<Recorder, String>;

fn own_thread<W, F>(index: usize, work: W) -> Result<oneshot::Receiver<ShardResult>, Error>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ShardResult>,
{
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Generator(format!("cannot start a runtime: {error}")))?;
    std::thread::Builder::new()
        .name(format!("perf-load-{index}"))
        .spawn(move || {
            // The receiver is gone when the run was dropped; then nobody wants the numbers.
            let _ = done.send(runtime.block_on(work()));
        })
        .map_err(|error| Error::Generator(format!("cannot start a thread: {error}")))?;
    Ok(result)
}

#[derive(Debug)]
enum Worker {
    Task(JoinHandle<ShardResult>),
    Thread(oneshot::Receiver<ShardResult>),
}

impl Worker {
    async fn result(&mut self) -> Result<Recorder, Error> {
        let ended = match self {
            Self::Task(task) => task.await.ok(),
            Self::Thread(result) => result.await.ok(),
        };
        match ended {
            Some(Ok(recorder)) => Ok(recorder),
            Some(Err(why)) => Err(Error::Generator(why)),
            None => Err(Error::Generator("a worker ended without its numbers".to_owned())),
        }
    }
}

/// A load test under way. Dropping it cuts the test off.
#[derive(Debug)]
#[must_use = "dropping a run cuts it off"]
pub struct Run {
    shared: Arc<Shared>,
    target: String,
    shards: Vec<Worker>,
}

impl Run {
    /// A handle that stops the run from elsewhere, such as a signal handler.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.shared))
    }

    /// How far the run has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.stop_handle().progress()
    }

    /// Waits for the end of the run and makes its report; after a stop, of what was measured until then.
    ///
    /// # Errors
    /// [`Error::Generator`] when the generator itself failed, as when a scenario panicked.
    ///
    /// # Cancel safety
    /// Dropping the future cuts the run off.
    pub async fn report(mut self) -> Result<RunReport, Error> {
        let mut all = Recorder::new();
        for shard in &mut self.shards {
            all.merge(shard.result().await?);
        }
        Ok(RunReport::build(&self.shared, self.target.clone(), all))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shared.cut();
    }
}

/// Stops a run, and tells how far it is. Cheap to clone; may outlive the run. It is also the run's
/// [`Component`](perf_core::Component): register it to see the run in the host's metrics.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    #[cfg(test)]
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The name of the plan.
    pub(super) fn name(&self) -> perf_core::Name {
        self.0.plan.name.clone()
    }

    /// Stops sending; answers on their way are still awaited for the plan's grace. A second call stops waiting.
    /// The report covers what was measured.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// How far the run has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let shared = &self.0;
        let elapsed = shared.offset(Instant::now());
        Progress {
            elapsed,
            length: shared.length,
            warming_up: elapsed < shared.plan.warmup,
            sent: shared.sent.get(),
            finished: shared.finished.get(),
            failed: shared.failed.get(),
            in_flight: u64::try_from(shared.in_flight.get()).unwrap_or(0),
        }
    }
}

/// How far a run has come, warm-up included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Time since the first planned instant.
    pub elapsed: Duration,
    /// How long the plan lasts.
    pub length: Duration,
    /// Whether the warm-up lasts still.
    pub warming_up: bool,
    /// Requests taken up.
    pub sent: u64,
    /// Requests that ended, well or not.
    pub finished: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Requests on their way.
    pub in_flight: u64,
}
