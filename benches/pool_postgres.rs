//! How many queries a second pass through a pool to a real PostgreSQL on loopback? `SELECT 1` once per checkout, 32 tasks on
//! 8 connections, beside sqlx's pool with its defaults and without its test before each acquire.

#![expect(clippy::expect_used, reason = "a benchmark may fail")]

use perf_core::time::Duration;
use perf_pool::{Pool, Postgres};
use perf_testkit::PostgresServer;
use perfkit_benches::Contest;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::future::Future;
use tokio::runtime::Runtime;

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
        own.close().await;
        tested.close().await;
        untested.close().await;
        server.stop().await.expect("the server stops");
    });
}
