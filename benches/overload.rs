//! What is left of a service that is asked for twice of what it can do? An open model: calls arrive whether or not others
//! have been answered, and are worthless after 100 ms. Real time, real tasks.
//!
//! A server of ten workers takes 10 ms a call, in order of arrival, and finishes what it has begun for whoever has left.
//! Each stack stands between it and its callers, who try three times.

use perf_core::time::{self, Duration, Instant};
use perf_core::{CallError, Rng};
use perf_resilience::adaptive::Adaptive;
use perf_resilience::{Pipeline, Retry};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::{Semaphore, oneshot};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{BoxError, ServiceBuilder, ServiceExt};

const WORKERS: usize = 10;
const TAKES: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_millis(100);
/// Calm, twice the capacity, calm again; in seconds.
const CALM: f64 = 2.0;
const LOADED: f64 = 5.0;
const AFTER: f64 = 3.0;

type Sent = Pin<Box<dyn Future<Output = bool> + Send>>;
type Stack = Arc<dyn Fn() -> Sent + Send + Sync>;
type Contender = (&'static str, fn(Server) -> Stack);

#[expect(clippy::panic, reason = "a benchmark that cannot be set up has nothing to show")]
fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

#[derive(Clone)]
struct Server(Arc<Semaphore>);

impl Server {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(WORKERS)))
    }

    async fn request(self) -> Result<(), BoxError> {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            if let Ok(_permit) = self.0.acquire().await {
                time::sleep(TAKES).await;
                // Nobody may be waiting any more.
                let _ = answer.send(());
            }
        });
        answered.await.map_err(Into::into)
    }
}

fn ours(server: Server, pipeline: Pipeline) -> Stack {
    Arc::new(move || {
        let (server, pipeline) = (server.clone(), pipeline.clone());
        Box::pin(async move {
            let call = |_| async { server.clone().request().await.map_err(CallError::Failed) };
            pipeline.run(call).await.is_ok()
        })
    })
}

/// The pipeline as it comes: a bound of 64, newest first when late, a budget of 10 %.
fn ours_default(server: Server) -> Stack {
    let pipeline =
        Pipeline::builder("default").deadline(PATIENCE).retry(Retry::builder("default")).idempotent();
    ours(server, made(pipeline.build()))
}

/// The same with a bound that finds itself.
fn ours_adaptive(server: Server) -> Stack {
    let limit = made(Adaptive::builder("adaptive").build());
    let pipeline = Pipeline::builder("adaptive").deadline(PATIENCE).gate(limit).unbounded();
    ours(server, made(pipeline.retry(Retry::builder("adaptive")).idempotent().build()))
}

/// Three attempts, as tower's documentation shows them.
#[derive(Clone)]
struct Thrice {
    left: u32,
    budget: Option<Arc<TpsBudget>>,
}

impl tower::retry::Policy<(), (), BoxError> for Thrice {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<(), BoxError>) -> Option<Self::Future> {
        if result.is_ok() {
            if let Some(budget) = &self.budget {
                budget.deposit();
            }
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        if self.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return None;
        }
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

fn boxed<S>(service: S) -> Stack
where
    S: tower::Service<()> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    Arc::new(move || {
        let service = service.clone();
        Box::pin(async move { matches!(time::timeout(PATIENCE, service.oneshot(())).await, Ok(Ok(_))) })
    })
}

fn tower_bare(server: Server) -> Stack {
    boxed(
        ServiceBuilder::new()
            .retry(Thrice { left: 2, budget: None })
            .timeout(PATIENCE / 3)
            .service(tower::service_fn(move |()| server.clone().request())),
    )
}

fn tower_shedding(server: Server) -> Stack {
    let budget = Some(Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.1)));
    boxed(
        ServiceBuilder::new()
            .retry(Thrice { left: 2, budget })
            .load_shed()
            .concurrency_limit(64)
            .timeout(PATIENCE)
            .service(tower::service_fn(move |()| server.clone().request())),
    )
}

fn tower_resilience(server: Server) -> Stack {
    let breaker = made(tower_resilience_circuitbreaker::CircuitBreakerLayer::builder().build());
    let bulkhead =
        tower_resilience_bulkhead::BulkheadLayer::builder().max_concurrent_calls(64).reject_when_full();
    let retry = tower_resilience_retry::RetryLayer::<(), (), BoxError>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(50))
        .build();
    let service = tower::service_fn(move |()| server.clone().request());
    let inner = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(made(bulkhead.build()))
        .map_err(BoxError::from)
        .service(breaker.layer_fn(ServiceBuilder::new().timeout(PATIENCE).service(service)));
    boxed(ServiceBuilder::new().layer(retry).service(inner))
}

/// Calls a second that the server does when ten callers ask it without a pause.
async fn capacity() -> f64 {
    let server = Server::new();
    let (start, done) = (time::now(), Arc::new(std::sync::atomic::AtomicU32::new(0)));
    let callers: Vec<_> = (0..WORKERS * 2)
        .map(|_| {
            let (server, done) = (server.clone(), done.clone());
            tokio::spawn(async move {
                while start.elapsed() < Duration::from_secs(1) {
                    if server.clone().request().await.is_ok() {
                        done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        made(caller.await);
    }
    f64::from(done.load(std::sync::atomic::Ordering::Relaxed)) / start.elapsed().as_secs_f64()
}

/// When a call came, after so many seconds, and after how many it was answered.
type Log = Arc<Mutex<Vec<(f64, Option<f64>)>>>;

async fn arrive(
    stack: &Stack,
    start: Instant,
    log: &Log,
    until: f64,
    rate: f64,
    rng: &mut Rng,
    at: &mut f64,
) {
    while *at < until {
        *at += rng.exponential(1.0 / rate);
        let came = start + Duration::from_secs_f64(*at);
        time::sleep_until(came).await;
        let (call, log, at) = (stack(), log.clone(), *at);
        tokio::spawn(async move {
            let good = call.await;
            let took = came.elapsed();
            let answered = (good && took <= PATIENCE).then_some(took.as_secs_f64());
            log.lock().unwrap_or_else(PoisonError::into_inner).push((at, answered));
        });
    }
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
async fn show(name: &str, stack: Stack, capacity: f64) {
    let (log, mut rng, mut at): (Log, _, _) = (Log::default(), Rng::seeded(5), 0.0);
    let start = time::now();
    for (until, share) in [(CALM, 0.7), (CALM + LOADED, 2.0), (CALM + LOADED + AFTER, 0.7)] {
        arrive(&stack, start, &log, until, capacity * share, &mut rng, &mut at).await;
    }
    time::sleep(PATIENCE * 5).await;
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let within = |from: f64, to: f64| log.iter().filter(move |(at, _)| (from..to).contains(at));
    let good = |from, to| within(from, to).filter(|(_, answered)| answered.is_some()).count() as f64;
    let (from, to) = (CALM + 1.0, CALM + LOADED);
    let goodput = good(from, to) / (to - from) / capacity;
    let p99 = |from, to| {
        let mut times: Vec<f64> = within(from, to).filter_map(|(_, answered)| *answered).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() * 99 / 100).map_or(f64::NAN, |seconds| seconds * 1e3)
    };
    // The first tenth of a second from which on half a second is good.
    let recovery = (0..25).map(|tenth| f64::from(tenth) / 10.0).find(|after| {
        let from = to + after;
        good(from, from + 0.5) >= 0.95 * within(from, from + 0.5).count() as f64
    });
    println!(
        "overload {name:<28} goodput={:.1}% of capacity p99={:.0}ms (calm {:.0}ms) recovery={}",
        goodput * 100.0,
        p99(from, to),
        p99(0.5, CALM),
        recovery.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1}s")),
    );
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() {
    let runtime = made(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build());
    let stacks: [Contender; 5] = [
        ("ours, default pipeline", ours_default),
        ("ours, adaptive limit", ours_adaptive),
        ("tower, retry and timeout", tower_bare),
        ("tower, limit, shed, budget", tower_shedding),
        ("tower-resilience", tower_resilience),
    ];
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    runtime.block_on(async {
        let capacity = capacity().await;
        println!("overload capacity={capacity:.0} calls/s, offered {:.0}", 2.0 * capacity);
        for (name, stack) in stacks {
            if words.iter().all(|word| name.contains(word.as_str())) {
                show(name, stack(Server::new()), capacity).await;
            }
        }
    });
}
