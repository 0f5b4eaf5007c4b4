use perf_core::time::{self, Duration};
use perf_core::{Component, ComponentId, Desc, Health, Histogram, Name, Sink, Unit};
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::task::JoinHandle;

/// Time between two canaries: ten a second cost nothing and see any stall a user would.
pub const DEFAULT_CANARY: Duration = Duration::from_millis(100);

/// A canary this late means that the workers were blocked.
const STALL: Duration = Duration::from_millis(100);

const WORKERS: Desc = Desc::gauge("perf_metrics_runtime_workers", "Worker threads", Unit::Count);
const TASKS: Desc = Desc::gauge("perf_metrics_runtime_tasks", "Tasks that are alive", Unit::Count);
const QUEUE: Desc = Desc::gauge("perf_metrics_runtime_queue", "Tasks in the global queue", Unit::Count);
const BUSY: Desc =
    Desc::counter("perf_metrics_runtime_busy_seconds_total", "Time workers were busy", Unit::Seconds);
const PARKS: Desc =
    Desc::counter("perf_metrics_runtime_parks_total", "Times a worker went to sleep", Unit::Count);
const RUNNING: Desc = Desc::gauge("perf_metrics_runtime_running", "Workers that are awake", Unit::Count);
const LAG: Desc = Desc::histogram(
    "perf_metrics_runtime_lag_seconds",
    "How late a timer fires: time a ready task waits for a worker",
    Unit::Seconds,
);
const STALLS: Desc = Desc::counter(
    "perf_metrics_runtime_stalls_total",
    "Timers that fired more than 100 ms late",
    Unit::Count,
);

/// Watches a tokio runtime without its unstable features: what it counts itself, and a canary that measures how late
/// timers fire. Dropping it stops the canary.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let watch = perf_metrics::RuntimeWatch::start("main");
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// metrics.register(watch.component()).unwrap().keep();
/// assert!(metrics.text().contains("perf_metrics_runtime_workers{name=\"main\"} 1"));
/// # });
/// ```
#[derive(Debug)]
pub struct RuntimeWatch {
    numbers: Arc<Numbers>,
    canary: JoinHandle<()>,
}

#[derive(Debug)]
struct Numbers {
    name: Name,
    runtime: RuntimeMetrics,
    lag: Histogram,
    stalls: perf_core::Counter,
}

impl RuntimeWatch {
    /// Watches the runtime this is called on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(name: impl Into<Name>) -> Self {
        let runtime = Handle::current().metrics();
        let (lag, stalls) = (Histogram::new(), perf_core::Counter::new());
        let numbers = Arc::new(Numbers { name: name.into(), runtime, lag, stalls });
        let canary = tokio::spawn(fly(Arc::clone(&numbers)));
        Self { numbers, canary }
    }

    /// Its numbers, to be registered with [`Metrics`](crate::Metrics).
    #[must_use]
    pub fn component(&self) -> Arc<dyn Component> {
        Arc::clone(&self.numbers) as Arc<dyn Component>
    }

    /// Tasks that are alive: what a task leak is looked for in.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.numbers.runtime.num_alive_tasks()
    }
}

impl Drop for RuntimeWatch {
    fn drop(&mut self) {
        self.canary.abort();
    }
}

async fn fly(numbers: Arc<Numbers>) {
    loop {
        let due = time::now() + DEFAULT_CANARY;
        time::sleep_until(due).await;
        let late = time::now().saturating_duration_since(due);
        numbers.lag.record_duration(late);
        if late > STALL {
            numbers.stalls.increment();
        }
    }
}

impl Numbers {
    fn workers(&self) -> impl Iterator<Item = usize> {
        0..self.runtime.num_workers()
    }
}

impl Component for Numbers {
    fn id(&self) -> ComponentId {
        ComponentId::new("runtime", self.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let runtime = &self.runtime;
        sink.gauge(&WORKERS, &[], runtime.num_workers() as f64);
        sink.gauge(&TASKS, &[], runtime.num_alive_tasks() as f64);
        sink.gauge(&QUEUE, &[], runtime.global_queue_depth() as f64);
        sink.seconds(
            &BUSY,
            &[],
            self.workers().map(|worker| runtime.worker_total_busy_duration(worker)).sum(),
        );
        sink.counter(&PARKS, &[], self.workers().map(|worker| runtime.worker_park_count(worker)).sum());
        // The count goes up when a worker parks and when it wakes: an even one means it is awake.
        let awake =
            self.workers().filter(|worker| runtime.worker_park_unpark_count(*worker).is_multiple_of(2));
        sink.gauge(&RUNNING, &[], awake.count() as f64);
        sink.histogram(&LAG, &[], &self.lag);
        sink.counter(&STALLS, &[], self.stalls.get());
    }

    fn health(&self) -> Health {
        match self.lag.snapshot().quantile(0.99) {
            Some(lag) if lag.count >= 100 && lag.value > STALL.as_secs_f64() => {
                Health::degraded(format!("one timer in a hundred fires {:.0} ms late", lag.value * 1e3))
            }
            _ => Health::up(),
        }
    }
}
