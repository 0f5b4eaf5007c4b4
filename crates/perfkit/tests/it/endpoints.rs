//! A database on several servers by configuration: real PostgreSQL, a primary and a standby.

use perf_core::Status;
use perf_core::time::{self, Duration};
use perf_testkit::PostgresServer;
use perfkit::pool::balance::Role;
use perfkit::{Config, Stack};

/// A server that stays in recovery until it is promoted, as a replica does.
async fn standby() -> PostgresServer {
    let server = PostgresServer::start().await.unwrap();
    server.sql("CREATE TABLE t (n int)").await.unwrap();
    server.stand_by().await.unwrap();
    server
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_database_with_replicas_reads_there_writes_to_the_writer_and_follows_it() {
    let (primary, replica) = tokio::join!(PostgresServer::start(), standby());
    let primary = primary.unwrap();
    primary.sql("CREATE TABLE t (n int)").await.unwrap();
    let config = Config::from_toml(&format!(
        "[databases.orders]\nurl = '{}'\nhealth_interval = '50ms'\n\
         pool = {{ max = 4, acquire_timeout = '5s', connect_timeout = '1s' }}\n\
         balance = {{ strategy = 'least_loaded', probe_interval = '100ms', probe_timeout = '500ms', rise = 1, fall = 2 }}\n\
         [[databases.orders.replicas]]\nname = 'standby'\nurl = '{}'\nweight = 2.0\n",
        primary.url(),
        replica.url()
    ));
    let stack = Stack::new(config.unwrap()).await.unwrap();
    let orders = stack.postgres("orders").unwrap();
    let serves = [("primary".to_owned(), Some(Role::Writer)), ("standby".to_owned(), Some(Role::Reader))];
    assert_eq!(orders.balanced().roles(), serves);
    let writer = orders.balanced().acquire_as(Role::Writer).await.unwrap();
    let mut reader = orders.balanced().acquire_as(Role::Reader).await.unwrap();
    assert_eq!(
        (writer.endpoint().unwrap(), reader.endpoint().unwrap()),
        ("primary".into(), "standby".into())
    );
    let recovering: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *reader).await.unwrap();
    assert!(recovering);
    drop((writer, reader));
    stack.health().ready();
    until("ready", async || stack.health().readiness().status == Status::Up).await;
    let page = stack.metrics().text();
    for series in [
        r#"perf_pool_acquired_total{name="orders"}"#,
        r#"perf_pool_acquired_total{name="orders/standby"} 1"#,
        r#"perf_pool_balance_endpoints{name="orders",state="available"} 2"#,
        r#"perf_pool_balance_writers{name="orders"} 1"#,
    ] {
        assert!(page.contains(series), "{series} in {page}");
    }

    // The writer dies: reads go on, and the service says that it is not well. Then the standby is promoted.
    primary.kill().await.unwrap();
    until("noticed", async || stack.health().readiness().status == Status::Degraded).await;
    replica.sql("SELECT pg_promote()").await.unwrap();
    until("writes go on", async || {
        let Ok(mut lease) = orders.balanced().acquire_as(Role::Writer).await else { return false };
        let inserted = sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *lease).await;
        inserted.inspect_err(|error| lease.failed_with(error)).is_ok()
    })
    .await;
    until("well again", async || stack.health().readiness().status == Status::Up).await;
    assert!(stack.close().await.is_clean());
    assert!(orders.balanced().endpoints().is_empty(), "nothing is probed for whoever still holds a handle");
    replica.stop().await.unwrap();
}
