//! How many queries a second pass through a pool to a real PostgreSQL on loopback? `SELECT 1` once per checkout, 32 tasks on
//! 8 connections, beside sqlx's pool with its defaults and without its test before each acquire.
//!
//! Then the server is killed for ten seconds while the tasks go on asking: what do callers see, how often is the server
//! asked whether it is back, and how soon is it found again?

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark prints and may fail")]

use perf_core::time::{self, Duration};
use perf_pool::{Pool, Postgres};
use perf_testkit::PostgresServer;
use perfkit_benches::Contest;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const TASKS: u64 = 32;
const CONNECTIONS: u32 = 8;

/// Asks `n` times altogether, in 32 tasks.
fn ask<F, Fut>(runtime: &Runtime, query: F) -> impl FnMut(u64)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = i32> + Send,
{
    move |n| {
        runtime.block_on(async {
            let each = n.div_ceil(TASKS);
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let query = query.clone();
                    tokio::spawn(async move {
                        for _ in 0..each {
                            assert_eq!(query().await, 1);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a task of a benchmark ends");
            }
        });
    }
}

fn ours(
    pool: &Pool<Postgres>,
) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = i32> + Send>> + Clone + use<> {
    let pool = pool.clone();
    move || {
        let pool = pool.clone();
        Box::pin(async move {
            let mut lease = pool.acquire().await.expect("a connection");
            sqlx::query_scalar("SELECT 1").fetch_one(&mut *lease).await.expect("an answer")
        })
    }
}

fn theirs(pool: &PgPool) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = i32> + Send>> + Clone + use<> {
    let pool = pool.clone();
    move || {
        let pool = pool.clone();
        Box::pin(async move {
            let mut connection = pool.acquire().await.expect("a connection");
            sqlx::query_scalar("SELECT 1").fetch_one(&mut *connection).await.expect("an answer")
        })
    }
}

/// What the tasks saw of an outage.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU64,
    /// Queries that failed on a connection that was in use when the server died.
    failed: AtomicU64,
    /// Callers who got no connection.
    refused: AtomicU64,
}

/// Asks in 32 tasks until told to stop. `query` says whether it was the connection or the query that failed.
fn keep_asking<F, Fut>(seen: &Arc<Seen>, stop: &Arc<AtomicBool>, query: F) -> Vec<JoinHandle<()>>
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Option<bool>> + Send,
{
    (0..TASKS)
        .map(|_| {
            let (seen, stop, query) = (Arc::clone(seen), Arc::clone(stop), query.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let counter = match query().await {
                        None => &seen.refused,
                        Some(false) => &seen.failed,
                        Some(true) => &seen.answered,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect()
}

/// Kills the server for ten seconds and reports. `attempts` counts attempts to connect so far, where that is known.
async fn outage<F, Fut>(name: &str, server: &PostgresServer, attempts: impl Fn() -> Option<u64>, query: F)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Option<bool>> + Send,
{
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let tasks = keep_asking(&seen, &stop, query);
    time::sleep(Duration::from_millis(500)).await;
    let before = attempts();
    server.kill().await.expect("the server can be killed");
    time::sleep(Duration::from_secs(10)).await;
    let during = attempts();
    server.restart().await.expect("the server comes back");
    let (back, answered) = (time::now(), seen.answered.load(Ordering::Relaxed));
    while seen.answered.load(Ordering::Relaxed) == answered && back.elapsed() < Duration::from_secs(40) {
        time::sleep(Duration::from_millis(1)).await;
    }
    let found = back.elapsed();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a task of a benchmark ends");
    }
    let connects = before.zip(during).map_or_else(|| "unknown".to_owned(), |(a, b)| (b - a).to_string());
    println!(
        "outage {name}: {} queries failed on {CONNECTIONS} connections, {} callers got none, {connects} attempts to \
         connect in 10 s, first answer {} ms after the restart",
        seen.failed.load(Ordering::Relaxed),
        seen.refused.load(Ordering::Relaxed),
        found.as_millis()
    );
}

async fn outages(server: &PostgresServer, own: &Pool<Postgres>, tested: &PgPool) {
    let counted = own.clone();
    let attempts = move || {
        let stats = counted.stats();
        Some(stats.connected + stats.connect_failed)
    };
    let pool = own.clone();
    outage("ours", server, attempts, move || {
        let pool = pool.clone();
        async move {
            let mut lease = pool.acquire().await.ok()?;
            Some(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut *lease).await.is_ok())
        }
    })
    .await;
    let pool = tested.clone();
    outage(
        "sqlx",
        server,
        || None,
        move || {
            let pool = pool.clone();
            async move {
                let mut connection = pool.acquire().await.ok()?;
                Some(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut *connection).await.is_ok())
            }
        },
    )
    .await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(PostgresServer::start()).expect("a PostgreSQL server");
    let options = || PgPoolOptions::new().min_connections(CONNECTIONS).max_connections(CONNECTIONS);
    let own = {
        let _inside = runtime.enter();
        let manager = Postgres::new(&server.url()).expect("a URL");
        Pool::builder(manager)
            .max(CONNECTIONS as usize)
            .min_idle(CONNECTIONS as usize)
            .build()
            .expect("a pool")
    };
    runtime.block_on(own.warm_up()).expect("connections");
    let tested = runtime.block_on(options().connect(&server.url())).expect("a pool");
    let untested =
        runtime.block_on(options().test_before_acquire(false).connect(&server.url())).expect("a pool");
    Contest::new("pool_postgres/select_1_ns")
        .round_time(Duration::from_millis(200))
        .entry("ours", ask(&runtime, ours(&own)))
        .entry("sqlx", ask(&runtime, theirs(&tested)))
        .entry("sqlx_untested", ask(&runtime, theirs(&untested)))
        .run();
    runtime.block_on(async {
        outages(&server, &own, &tested).await;
        own.close().await;
        tested.close().await;
        untested.close().await;
        server.stop().await.expect("the server stops");
    });
}
