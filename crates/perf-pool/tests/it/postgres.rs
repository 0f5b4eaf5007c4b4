//! The PostgreSQL manager against a real server that is killed, stopped and started again. Time is real here.

use perf_core::time::{self, Duration};
use perf_pool::{Error, Lease, Pool, Postgres};
use perf_testkit::{Fault, FaultProxy, PostgresServer};
use sqlx::Connection;

async fn answer(lease: &mut Lease<Postgres>) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 42").fetch_one(&mut **lease).await
}

fn pool(server: &PostgresServer, max: usize) -> Pool<Postgres> {
    Pool::builder(Postgres::new(&server.url()).unwrap())
        .max(max)
        .acquire_timeout(Duration::from_secs(10))
        .retry_cap(Duration::from_millis(500))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_lease_in_steady_use_costs_no_extra_round_trip_and_leaves_no_transaction() {
    let server = PostgresServer::start().await.unwrap();
    let pool = pool(&server, 2);
    for _ in 0..50 {
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(answer(&mut lease).await.unwrap(), 42);
    }
    let stats = pool.stats();
    assert_eq!((stats.connected, stats.checked, stats.reset), (1, 0, 0));

    let mut lease = pool.acquire().await.unwrap();
    sqlx::query("CREATE TABLE t (n int)").execute(&mut *lease).await.unwrap();
    let mut transaction = lease.begin().await.unwrap();
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *lease).await.unwrap();
    assert_eq!((rows, pool.stats().reset), (0, 1));
    drop(lease);
    assert_eq!(pool.close().await.unreturned, []);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_query_dropped_half_way_is_never_answered_to_the_next_user() {
    let server = PostgresServer::start().await.unwrap();
    let pool = pool(&server, 1);
    let mut lease = pool.acquire().await.unwrap();
    let cut = time::timeout(
        Duration::from_millis(50),
        sqlx::query_scalar::<_, i32>("SELECT 1 FROM pg_sleep(0.2)").fetch_one(&mut *lease),
    );
    assert!(cut.await.is_err());
    drop(lease);
    assert_eq!(pool.stats().resetting, 1);
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(answer(&mut lease).await.unwrap(), 42);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_restart_only_what_was_in_hand_fails() {
    let server = PostgresServer::start().await.unwrap();
    let pool = pool(&server, 6);
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(pool.acquire().await.unwrap());
    }
    let mut in_hand = leases.remove(0);
    drop(leases);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert!(answer(&mut in_hand).await.is_err());
    drop(in_hand);
    assert_eq!(pool.stats().closed_broken, 1, "its death was noticed when it came back");
    for _ in 0..20 {
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(answer(&mut lease).await.expect("no dead connection is handed out"), 42);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_for_a_while_is_asked_seldom_and_found_again() {
    let server = PostgresServer::start().await.unwrap();
    let pool = pool(&server, 4);
    drop(pool.acquire().await.unwrap());
    server.kill().await.unwrap();
    pool.evict_all();
    let limit = perf_core::Deadline::within(Duration::from_secs(2));
    let error = pool.acquire_until(limit).await.unwrap_err();
    assert!(matches!(error, Error::Connecting { source: Some(_), .. }), "{error:?}");
    assert!(pool.stats().connect_failed <= 30, "{:?}", pool.stats());
    server.restart().await.unwrap();
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(answer(&mut lease).await.unwrap(), 42);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_stands_still_costs_a_check_timeout_not_the_callers_patience() {
    let server = PostgresServer::start().await.unwrap();
    let manager = Postgres::new(&server.url()).unwrap();
    let pool = Pool::builder(manager)
        .max(1)
        .check_after(Duration::ZERO)
        .check_timeout(Duration::from_millis(300))
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    drop(pool.acquire().await.unwrap());
    server.pause().await.unwrap();
    let limit = perf_core::Deadline::within(Duration::from_millis(1500));
    let error = pool.acquire_until(limit).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(pool.stats().closed_check_failed, 1);
    server.resume().await.unwrap();
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(answer(&mut lease).await.unwrap(), 42);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_fail_within_one_attempt() {
    let server = PostgresServer::builder().require_password().start().await.unwrap();
    let right = Postgres::new(&server.url()).unwrap();
    let wrong = right.options().clone().password("certainly wrong");
    let unknown = right.options().clone().database("nowhere");
    for options in [wrong, unknown] {
        let pool = Pool::builder(Postgres::with_options(options)).build().unwrap();
        let start = time::now();
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, Error::Connecting { attempts: 1, .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
    server.stop().await.unwrap();
}

/// Bad input: connections whose other end is gone without a word. Whoever has one in hand waits for the driver; of those
/// that rest, none reaches a user: each is given the time of one check and is replaced.
#[tokio::test]
async fn half_open_connections_that_rest_never_reach_a_user() {
    let server = PostgresServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let manager = Postgres::new(&proxy.url(&server.url())).unwrap();
    let pool = Pool::builder(manager)
        .max(3)
        .check_after(Duration::ZERO)
        .check_timeout(Duration::from_millis(200))
        .acquire_timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let leases =
        [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(leases);
    proxy.set(Fault::HalfOpen).await;
    proxy.clear().await;
    let start = time::now();
    for _ in 0..6 {
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(answer(&mut lease).await.expect("a live connection"), 42);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(pool.stats().closed_check_failed >= 1, "{:?}", pool.stats());
    server.stop().await.unwrap();
}

/// Bad input: a URL that is not one is an error when the manager is made, not when somebody waits.
#[test]
fn a_url_that_is_not_one_is_refused_at_once() {
    for url in ["", "postgres", "mysql://localhost/db", "postgres://user@localhost:notaport/db"] {
        assert!(Postgres::new(url).is_err(), "{url:?} was taken for a URL");
    }
}
