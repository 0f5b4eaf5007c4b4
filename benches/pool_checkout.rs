//! What does it cost to take a connection and give it back? Ours beside deadpool, bb8, mobc, fast_pool and sqlx's pool.
//!
//! `uncontended`: one task, an idle connection. `contended`: 64 tasks on 8 connections and 2 workers, the connection held
//! over one yield. `fairness`: the same in rounds of a fixed time, the pools taking turns; turns per task (Jain's index) and
//! the waits of single callers, of which the median over the rounds is reported: a wait of one in a thousand is as long as
//! what the machine was doing at that moment, which is not the same from one round to the next.
//!
//! An argument chooses one of `uncontended`, `contention` and `fairness`.

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
    let list =
        vec![pools.ours.clone(), perf_pool::Pool::builder(Null).build().expect("a valid configuration")];
    let balanced = perf_pool::balance::BalancedPool::new("balanced", list);
    let mut of_several = repeat(runtime, take!(balanced, acquire, borrowed));
    let allocations = (0..5).map(|_| allocations_during(|| of_several(10_000))).min().unwrap_or(u64::MAX);
    println!("allocations in 10,000 checkouts from one of two endpoints: {allocations}");
    assert_eq!(allocations, 0, "neither must choosing an endpoint");
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

/// How evenly turns are dealt and how long single callers wait, in one round of one pool.
#[derive(Clone, Copy)]
struct Fairness {
    jain: f64,
    /// Half of the waits, 99 % and 99.9 % of them, and all, in microseconds.
    p50: f64,
    p99: f64,
    p999: f64,
    most: f64,
    cycles: f64,
    /// How often the system took the processor away from a thread that was running.
    preempted: f64,
}

/// One round takes this long, so that a pause of the machine spoils some rounds and not the figure.
const ROUND: Duration = Duration::from_millis(200);

/// Rounds of each pool, in turn; the median of them is reported.
const ROUNDS: usize = 31;

fn fairness<F, Fut>(runtime: &Runtime, tasks: usize, take: F) -> Fairness
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Duration> + Send,
{
    let preempted = preemptions();
    let (mut turns, mut waits) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let end = time::now() + ROUND;
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let take = take.clone();
                tokio::spawn(async move {
                    let mut waits = Vec::with_capacity(1 << 14);
                    while time::now() < end {
                        waits.push(take().await);
                    }
                    waits
                })
            })
            .collect();
        for task in running {
            let own = task.await.expect("a task of a benchmark ends");
            turns.push(own.len() as f64);
            waits.extend(own);
        }
    });
    let preempted = preemptions().saturating_sub(preempted) as f64;
    waits.sort_unstable();
    let (sum, squares) = (turns.iter().sum::<f64>(), turns.iter().map(|t| t * t).sum::<f64>());
    let share = |of_thousand: usize| waits[(waits.len() - 1) * of_thousand / 1000].as_secs_f64() * 1e6;
    Fairness {
        jain: sum * sum / (turns.len() as f64 * squares),
        p50: share(500),
        p99: share(990),
        p999: share(999),
        most: share(1000),
        cycles: waits.len() as f64,
        preempted,
    }
}

/// Times that a thread of this process lost its processor while it had work, as far as the system counts them.
fn preemptions() -> u64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let of = |status: String| {
        let line = status.lines().find(|line| line.starts_with("nonvoluntary_ctxt_switches"))?;
        line.split_whitespace().last()?.parse::<u64>().ok()
    };
    threads
        .flatten()
        .filter_map(|thread| of(std::fs::read_to_string(thread.path().join("status")).ok()?))
        .sum()
}

fn median(rounds: &[Fairness], figure: impl Fn(&Fairness) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
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
    let mut rounds = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let fair = match which {
                0 => fairness(runtime, tasks, timed!(pools.ours, acquire)),
                1 => fairness(runtime, tasks, timed!(pools.deadpool, get)),
                _ => fairness(runtime, tasks, timed!(pools.bb8, get)),
            };
            // The first round is for warming up.
            if round > 0 {
                rounds[which].push(fair);
            }
        }
    }
    for (name, rounds) in ["ours", "deadpool", "bb8"].iter().zip(&rounds) {
        let extreme =
            |pick: fn(f64, f64) -> f64| rounds.iter().map(|fair| fair.p999).reduce(pick).unwrap_or(0.0);
        println!(
            "fairness {tasks}on{size} {name}: jain={:.5} p50={:.1}us p99={:.1}us p99.9={:.1}us ({:.1} to {:.1}) \
             most={:.0}us cycles={:.0} preempted={:.0}",
            median(rounds, |fair| fair.jain),
            median(rounds, |fair| fair.p50),
            median(rounds, |fair| fair.p99),
            median(rounds, |fair| fair.p999),
            extreme(f64::min),
            extreme(f64::max),
            median(rounds, |fair| fair.most),
            median(rounds, |fair| fair.cycles),
            median(rounds, |fair| fair.preempted),
        );
    }
    let [ours, deadpool, bb8] = [0, 1, 2].map(|which| median(&rounds[which], |fair| fair.p999));
    println!(
        "ratio pool_checkout/p99.9_wait_us/{tasks}on{size} ours={ours:.1} deadpool={deadpool:.1} bb8={bb8:.1} \
         ours/deadpool={:.2} ours/bb8={:.2}",
        ours / deadpool,
        ours / bb8
    );
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let asked = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if asked("uncontended") {
        uncontended(&one, 1);
        uncontended(&one, 64);
    }
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if asked("contention") {
        contended(&two, 64, 8);
        contended(&two, 8, 8);
    }
    if asked("fairness") {
        compare_fairness(&two, 64, 8);
        compare_fairness(&two, 1000, 50);
    }
}
