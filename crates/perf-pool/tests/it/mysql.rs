//! The MySQL manager against a real MariaDB server that is killed and started again. Time is real here.

use perf_core::time::{self, Duration};
use perf_pool::balance::{MySqlRole, Probe, Role};
use perf_pool::{Error, Lease, Manager, MySql, Pool};
use perf_testkit::MariaDbServer;
use sqlx::Connection;

async fn answer(lease: &mut Lease<MySql>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT 42").fetch_one(&mut **lease).await
}

fn pool(manager: MySql, max: usize) -> Pool<MySql> {
    Pool::builder(manager)
        .max(max)
        .acquire_timeout(Duration::from_secs(10))
        .retry_cap(Duration::from_millis(500))
        .build()
        .unwrap()
}

#[tokio::test]
async fn leases_respect_statements_and_transactions_and_survive_a_restart() {
    let server = MariaDbServer::start().await.unwrap();
    server.sql("CREATE DATABASE app; CREATE TABLE app.t (n int) ENGINE=InnoDB").await.unwrap();
    let manager = MySql::new(&server.url_of("app")).unwrap().statement_cache(2);
    let pool = pool(manager, 3);

    // In steady use a lease costs no round trip, and its prepared statements stay.
    for _ in 0..50 {
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(answer(&mut lease).await.unwrap(), 42);
    }
    let lease = pool.acquire().await.unwrap();
    assert_eq!((lease.cached_statements_size(), pool.stats().checked, pool.stats().reset), (1, 0, 0));
    drop(lease);
    for n in 0..5 {
        let mut lease = pool.acquire().await.unwrap();
        let query = sqlx::AssertSqlSafe(format!("SELECT {n}"));
        let _: i64 = sqlx::query_scalar(query).fetch_one(&mut *lease).await.unwrap();
        assert!(lease.cached_statements_size() <= 2, "no more than the configured number");
    }

    // A transaction that was dropped is rolled back before the next user.
    let mut lease = pool.acquire().await.unwrap();
    let mut transaction = lease.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *lease).await.unwrap();
    assert_eq!((rows, pool.stats().reset), (0, 1));

    // A query dropped half-way is never answered to the next user.
    let cut = sqlx::query_scalar::<_, i64>("SELECT SLEEP(0.3)").fetch_one(&mut *lease);
    assert!(time::timeout(Duration::from_millis(50), cut).await.is_err());
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(answer(&mut lease).await.unwrap(), 42);

    // Roles are told by the server.
    let role = MySqlRole.probe(pool.manager(), &mut lease).await.unwrap();
    assert_eq!(role, Some(Role::Writer));
    server.sql("SET GLOBAL read_only = 1").await.unwrap();
    let role = MySqlRole.probe(pool.manager(), &mut lease).await.unwrap();
    assert_eq!(role, Some(Role::Reader));
    server.sql("SET GLOBAL read_only = 0").await.unwrap();

    // After a restart only what was in hand fails.
    let others = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(others);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert!(answer(&mut lease).await.is_err());
    drop(lease);
    assert_eq!(pool.stats().closed_broken, 1, "its death was noticed when it came back");
    for _ in 0..10 {
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(answer(&mut lease).await.expect("no dead connection is handed out"), 42);
    }
    assert_eq!(pool.close().await.unreturned, []);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_fail_within_one_attempt() {
    let server = MariaDbServer::start().await.unwrap();
    server.sql("CREATE USER app IDENTIFIED BY 'right'").await.unwrap();
    let right = MySql::new(&server.url()).unwrap();
    let wrong = right.options().clone().username("app").password("certainly wrong");
    let unknown = right.options().clone().database("nowhere");
    for options in [wrong, unknown] {
        let pool = pool(MySql::with_options(options), 2);
        let start = time::now();
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, Error::Connecting { attempts: 1, .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(pool.manager().connect().await.is_err());
    }
    assert!(MySql::new("mysql//nonsense").is_err());
    server.stop().await.unwrap();
}
