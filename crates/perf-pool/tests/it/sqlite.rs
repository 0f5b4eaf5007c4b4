//! The SQLite manager on real files.

use perf_pool::{Lease, Pool, Sqlite};
use sqlx::Connection;

async fn journal_mode(lease: &mut Lease<Sqlite>) -> String {
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut **lease).await.unwrap();
    mode
}

#[tokio::test]
async fn queries_run_on_the_lease_and_the_connection_is_reused() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Sqlite::file(folder.path().join("orders.db")).cache_kib(4096).statement_cache(50);
    let pool = Pool::builder(manager).max(2).build().unwrap();
    for number in 0..10_i64 {
        let mut lease = pool.acquire().await.unwrap();
        sqlx::query("CREATE TABLE IF NOT EXISTS t (n INTEGER)").execute(&mut *lease).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (?)").bind(number).execute(&mut *lease).await.unwrap();
    }
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(journal_mode(&mut lease).await, "wal");
    let (sum,): (i64,) = sqlx::query_as("SELECT sum(n) FROM t").fetch_one(&mut *lease).await.unwrap();
    assert_eq!(sum, 45);
    drop(lease);
    let stats = pool.stats();
    assert_eq!((stats.connected, stats.checked, stats.reset), (1, 0, 0), "{stats:?}");
    assert_eq!(pool.close().await.unreturned, []);
}

#[tokio::test]
async fn a_transaction_dropped_with_its_lease_is_rolled_back_before_the_next_user() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::builder(Sqlite::file(folder.path().join("orders.db"))).max(1).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    sqlx::query("CREATE TABLE t (n INTEGER)").execute(&mut *lease).await.unwrap();
    let mut transaction = lease.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM t").fetch_one(&mut *lease).await.unwrap();
    assert_eq!(rows, 0);
    assert!(!lease.is_in_transaction());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_fails_within_one_attempt() {
    let manager = Sqlite::new("sqlite:///nowhere/at/all.db").unwrap();
    let pool = Pool::builder(manager).build().unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, perf_pool::Error::Connecting { attempts: 1, .. }), "{error:?}");
    assert_eq!(pool.stats().connect_failed, 1);
}
