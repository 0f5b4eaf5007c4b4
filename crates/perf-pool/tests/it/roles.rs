//! Fail-over between a PostgreSQL primary and a standby: real servers, real time.

use perf_core::time::{self, Duration};
use perf_pool::balance::{BalanceConfig, BalancedPool, Endpoint, PostgresRole, Role};
use perf_pool::{Pool, Postgres};
use perf_testkit::PostgresServer;

/// A server that stays in recovery until it is promoted, as a replica does.
async fn standby() -> PostgresServer {
    let server = PostgresServer::start().await.unwrap();
    server.sql("CREATE TABLE t (n int)").await.unwrap();
    server.stand_by().await.unwrap();
    server
}

fn over(servers: &[&PostgresServer]) -> BalancedPool<Postgres> {
    let mut config = BalanceConfig::default();
    (config.probe_interval, config.probe_timeout) = (Duration::from_millis(100), Duration::from_millis(500));
    (config.rise, config.fall) = (1, 2);
    BalancedPool::builder("orders", |endpoint: &Endpoint| {
        let pool = Pool::builder(Postgres::new(endpoint.name())?).max(4);
        Ok(pool.acquire_timeout(Duration::from_secs(5)).connect_timeout(Duration::from_secs(1)).build()?)
    })
    .endpoints(servers.iter().map(|server| Endpoint::new(server.url())))
    .probe(PostgresRole)
    .config(config)
    .build()
    .unwrap()
}

async fn roles(pool: &BalancedPool<Postgres>, wanted: &[Role]) {
    let wanted: Vec<_> = wanted.iter().map(|role| Some(*role)).collect();
    for _ in 0..400 {
        if pool.roles().iter().map(|(_, role)| *role).collect::<Vec<_>>() == wanted {
            return;
        }
        time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?} never became {wanted:?}", pool.roles());
}

async fn write(pool: &BalancedPool<Postgres>) -> Result<(), Box<dyn std::error::Error>> {
    let mut lease = pool.acquire_as(Role::Writer).await?;
    match sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *lease).await {
        Ok(_) => Ok(()),
        Err(error) => {
            lease.failed_with(&error);
            Err(error.into())
        }
    }
}

#[tokio::test]
async fn s3_writes_follow_the_writer_and_reads_the_readers() {
    let (primary, replica) = tokio::join!(PostgresServer::start(), standby());
    let primary = primary.unwrap();
    primary.sql("CREATE TABLE t (n int)").await.unwrap();
    let pool = over(&[&primary, &replica]);
    roles(&pool, &[Role::Writer, Role::Reader]).await;
    for _ in 0..5 {
        write(&pool).await.unwrap();
        let mut lease = pool.acquire_as(Role::Reader).await.unwrap();
        assert_eq!(lease.endpoint(), Some(replica.url()));
        let recovering: bool =
            sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *lease).await.unwrap();
        assert!(recovering);
    }

    // The primary dies and the standby is promoted: writes go on there.
    primary.kill().await.unwrap();
    replica.sql("SELECT pg_promote()").await.unwrap();
    let begun = time::now();
    while write(&pool).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "writes never went on: {:?}", pool.roles());
        time::sleep(Duration::from_millis(50)).await;
    }
    // Until the probes have given up the dead one, it may be asked for reads too.
    let mut left = None;
    while left != Some(replica.url()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "reads go to whoever is left");
        left = pool.acquire_as(Role::Reader).await.ok().and_then(|lease| lease.endpoint());
        // A lease that is at hand and goes unused never waits: the probes need the turn.
        time::sleep(Duration::from_millis(5)).await;
    }
    replica.stop().await.unwrap();
}

#[tokio::test]
async fn s3_a_writer_that_turns_read_only_is_left_with_the_first_error() {
    let (first, second) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    let (first, second) = (first.unwrap(), second.unwrap());
    for server in [&first, &second] {
        server.sql("CREATE TABLE t (n int)").await.unwrap();
    }
    second.sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    second.sql("SELECT pg_reload_conf()").await.unwrap();
    let pool = over(&[&first, &second]);
    roles(&pool, &[Role::Writer, Role::Reader]).await;
    write(&pool).await.unwrap();
    let old = pool.pools()[0].stats();
    assert_eq!((old.idle, old.closed_evicted), (1, 0));
    first.sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    first.sql("SELECT pg_reload_conf()").await.unwrap();
    let mut errors = 0;
    while write(&pool).await.is_ok() && errors < 200 {
        errors += 1;
        time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        pool.roles()[0].1,
        Some(Role::Reader),
        "said by SQLSTATE 25006, or by the probe if that was sooner"
    );
    assert!(pool.pools()[0].stats().closed_evicted >= 1, "none of its old connections is used again");
    let refused = pool.acquire_as(Role::Writer).await.unwrap_err();
    assert!(refused.rejected().is_some(), "nobody takes writes: {refused}");
    second.sql("ALTER SYSTEM SET default_transaction_read_only = off").await.unwrap();
    second.sql("SELECT pg_reload_conf()").await.unwrap();
    roles(&pool, &[Role::Reader, Role::Writer]).await;
    write(&pool).await.unwrap();
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}
