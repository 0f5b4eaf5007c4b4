//! What does it cost to take a connection and give it back? Ours beside deadpool, bb8, mobc, fast_pool and sqlx's pool.
//!
//! `uncontended`: one task, an idle connection. `contended`: 64 tasks on 8 connections and 2 workers, the connection held
//! over one yield. `fairness`: the same for a fixed time; turns per task (Jain's index) and the waits of single callers.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints and may fail"
)]

use perf_core::time::{self, Duration};
use perfkit_benches::{Contest, CountingAllocator, allocations_during};
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A manager that costs nothing, in the words of each pool.
#[derive(Debug)]
struct Null;

impl perf_pool::Manager for Null {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn check(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }
}

impl deadpool::managed::Manager for Null {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Null {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

#[async_trait::async_trait]
impl mobc::Manager for Null {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn check(&self, connection: u64) -> Result<u64, Infallible> {
        Ok(connection)
    }
}

impl fast_pool::Manager for Null {
    type Connection = u64;
    type Error = String;

    async fn connect(&self) -> Result<u64, String> {
        Ok(7)
    }

    async fn check(&self, _: &mut u64) -> Result<(), String> {
        Ok(())
    }
}

/// One pool of each kind, with the given size.
struct Pools {
    ours: perf_pool::Pool<Null>,
    deadpool: deadpool::managed::Pool<Null>,
    bb8: bb8::Pool<Null>,
    mobc: mobc::Pool<Null>,
    fast_pool: fast_pool::Pool<Null>,
    sqlx: sqlx::SqlitePool,
}

impl Pools {
    async fn new(size: usize) -> Self {
        let small = u32::try_from(size).expect("a small size");
        let fast_pool = fast_pool::Pool::new(Null);
        fast_pool.set_max_open(size as u64);
        fast_pool.set_max_idle_conns(size as u64);
        Self {
            ours: perf_pool::Pool::builder(Null)
                .max(size)
                .min_idle(size)
                .build()
                .expect("a valid configuration"),
            deadpool: deadpool::managed::Pool::builder(Null).max_size(size).build().expect("a valid size"),
            bb8: bb8::Pool::builder()
                .max_size(small)
                .test_on_check_out(false)
                .build(Null)
                .await
                .expect("a pool"),
            mobc: mobc::Pool::builder().max_open(size as u64).max_idle(size as u64).build(Null),
            fast_pool,
            sqlx: sqlx::sqlite::SqlitePoolOptions::new()
                .max_connections(small)
                .connect("sqlite::memory:")
                .await
                .expect("a pool in memory"),
        }
    }
}

/// Takes and gives back `n` times in one task.
fn repeat<'a, F, Fut>(runtime: &'a Runtime, take: F) -> impl FnMut(u64) + 'a
where
    F: Fn() -> Fut + 'a,
    Fut: Future<Output = ()>,
{
    move |n| {
        runtime.block_on(async {
            for _ in 0..n {
                take().await;
            }
        });
    }
}

/// Takes and gives back `n` times altogether in `tasks` tasks.
fn spread<F, Fut>(runtime: &Runtime, tasks: u64, take: F) -> impl FnMut(u64)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    move |n| {
        runtime.block_on(async {
            let each = n.div_ceil(tasks);
            let running: Vec<_> = (0..tasks)
                .map(|_| {
                    let take = take.clone();
                    tokio::spawn(async move {
                        for _ in 0..each {
                            take().await;
                        }
                    })
                })
                .collect();
            for task in running {
                task.await.expect("a task of a benchmark ends");
            }
        });
    }
}

macro_rules! take {
    ($pool:expr, $get:ident) => {{
        let pool = $pool.clone();
        move || {
            let pool = pool.clone();
            async move {
                black_box(&*pool.$get().await.unwrap());
            }
        }
    }};
    ($pool:expr, $get:ident, yielding) => {{
        let pool = Arc::new($pool.clone());
        move || {
            let pool = Arc::clone(&pool);
            async move {
                let lease = pool.$get().await.unwrap();
                tokio::task::yield_now().await;
                black_box(&*lease);
            }
        }
    }};
    ($pool:expr, $get:ident, borrowed) => {{
        let pool = &$pool;
        move || async move {
            black_box(&*pool.$get().await.unwrap());
        }
    }};
}

fn uncontended(runtime: &Runtime, size: usize) {
    let pools = runtime.block_on(Pools::new(size));
    runtime.block_on(pools.ours.warm_up()).expect("connections");
    let mut ours = repeat(runtime, take!(pools.ours, acquire, borrowed));
    // A histogram gets a page for each octave the first time a value falls there; after that nothing is allocated.
    let allocations = (0..5).map(|_| allocations_during(|| ours(100_000))).min().unwrap_or(u64::MAX);
    println!("allocations in 100,000 checkouts: {allocations}");
    assert_eq!(allocations, 0, "a checkout must not allocate");
    Contest::new(format!("pool_checkout/uncontended/{size}"))
        .entry("ours", ours)
        .entry("deadpool", repeat(runtime, take!(pools.deadpool, get, borrowed)))
        .entry("bb8", repeat(runtime, take!(pools.bb8, get, borrowed)))
        .entry("mobc", repeat(runtime, take!(pools.mobc, get, borrowed)))
        .entry("fast_pool", repeat(runtime, take!(pools.fast_pool, get, borrowed)))
        .entry("sqlx", repeat(runtime, take!(pools.sqlx, acquire, borrowed)))
        .run();
}

fn contended(runtime: &Runtime, tasks: u64, size: usize) {
    let pools = runtime.block_on(Pools::new(size));
    runtime.block_on(pools.ours.warm_up()).expect("connections");
    Contest::new(format!("pool_checkout/contended/{tasks}on{size}"))
        .round_time(Duration::from_millis(40))
        .entry("ours", spread(runtime, tasks, take!(pools.ours, acquire, yielding)))
        .entry("deadpool", spread(runtime, tasks, take!(pools.deadpool, get, yielding)))
        .entry("bb8", spread(runtime, tasks, take!(pools.bb8, get, yielding)))
        .entry("mobc", spread(runtime, tasks, take!(pools.mobc, get, yielding)))
        .entry("fast_pool", spread(runtime, tasks, take!(pools.fast_pool, get, yielding)))
        .run();
}

/// How evenly turns are dealt and how long single callers wait.
struct Fairness {
    jain: f64,
    p999: Duration,
    cycles: usize,
}

fn fairness<F, Fut>(runtime: &Runtime, tasks: usize, take: F) -> Fairness
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Duration> + Send,
{
    runtime.block_on(async {
        let end = time::now() + Duration::from_secs(2);
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let take = take.clone();
                tokio::spawn(async move {
                    let mut waits = Vec::with_capacity(1 << 16);
                    while time::now() < end {
                        waits.push(take().await);
                    }
                    waits
                })
            })
            .collect();
        let mut turns = Vec::new();
        let mut waits = Vec::new();
        for task in running {
            let own = task.await.expect("a task of a benchmark ends");
            turns.push(own.len() as f64);
            waits.extend(own);
        }
        waits.sort_unstable();
        let (sum, squares) = (turns.iter().sum::<f64>(), turns.iter().map(|t| t * t).sum::<f64>());
        let p999 = waits[waits.len() * 999 / 1000];
        Fairness { jain: sum * sum / (turns.len() as f64 * squares), p999, cycles: waits.len() }
    })
}

macro_rules! timed {
    ($pool:expr, $get:ident) => {{
        let pool = Arc::new($pool.clone());
        move || {
            let pool = Arc::clone(&pool);
            async move {
                let start = time::now();
                let lease = pool.$get().await.unwrap();
                let waited = start.elapsed();
                tokio::task::yield_now().await;
                black_box(&*lease);
                waited
            }
        }
    }};
}

fn compare_fairness(runtime: &Runtime, tasks: usize, size: usize) {
    let pools = runtime.block_on(Pools::new(size));
    runtime.block_on(pools.ours.warm_up()).expect("connections");
    let rows = [
        ("ours", fairness(runtime, tasks, timed!(pools.ours, acquire))),
        ("deadpool", fairness(runtime, tasks, timed!(pools.deadpool, get))),
        ("bb8", fairness(runtime, tasks, timed!(pools.bb8, get))),
    ];
    for (name, Fairness { jain, p999, cycles }) in &rows {
        println!("fairness {tasks}on{size} {name}: jain={jain:.5} p99.9={p999:?} cycles={cycles}");
    }
    let (ours, deadpool) = (rows[0].1.p999.as_secs_f64() * 1e6, rows[1].1.p999.as_secs_f64() * 1e6);
    println!(
        "ratio pool_checkout/p99.9_wait_us/{tasks}on{size} ours={ours:.1} deadpool={deadpool:.1} ours/deadpool={:.2}",
        ours / deadpool
    );
}

fn main() {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    uncontended(&one, 1);
    uncontended(&one, 64);
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    contended(&two, 64, 8);
    contended(&two, 8, 8);
    compare_fairness(&two, 64, 8);
    compare_fairness(&two, 1000, 50);
}
