//! The statistics PostgreSQL keeps of statements (B6).

use crate::orders::{measure, run, shop};
use perf_dbopt::postgres::{Capability, StatementsSnapshot};
use perf_testkit::PostgresServer;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn b6_snapshots_are_compared_and_a_reset_reads_as_a_restart() {
    let (server, mut conn) = shop().await;
    let delta = measure(&mut conn, 7, 3).await;
    let statement = delta.statements.values().find(|s| s.query.contains("sum(total)")).unwrap();
    assert_eq!((statement.measured.calls, statement.rows, delta.restarted), (7, 7, false));
    assert!(statement.measured.blocks > 100.0 && statement.measured.mean_ms > 0.0);
    let earlier = StatementsSnapshot::take(&mut conn).await.unwrap();
    server.sql("select pg_stat_statements_reset()").await.unwrap();
    run(&mut conn, "select sum(total) from orders where customer = 5 and status = 'x'").await;
    let delta = StatementsSnapshot::take(&mut conn).await.unwrap().since(&earlier);
    let statement = delta.statements.values().find(|s| s.query.contains("sum(total)")).unwrap();
    assert_eq!((statement.measured.calls, delta.restarted), (1, true));
    // Lists of different length are one statement to us, and several to PostgreSQL before version 18.
    let earlier = StatementsSnapshot::take(&mut conn).await.unwrap();
    run(&mut conn, "select 1 from orders where id in (1, 2); select 1 from orders where id in (1, 2, 3)")
        .await;
    let delta = StatementsSnapshot::take(&mut conn).await.unwrap().since(&earlier);
    assert!(delta.statements.values().any(|s| s.measured.calls == 2), "{delta:?}");
    assert!(delta.workload().queries.len() >= 2);
}

#[tokio::test]
async fn b6_evicted_statements_make_the_difference_incomplete() {
    let server = PostgresServer::builder()
        .preload("pg_stat_statements")
        .setting("pg_stat_statements.max", "100")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    // Found wherever it was created.
    run(&mut conn, "create schema \"sta.ts\"; create extension pg_stat_statements schema \"sta.ts\"").await;
    let before = StatementsSnapshot::take(&mut conn).await.unwrap();
    assert!(!StatementsSnapshot::take(&mut conn).await.unwrap().since(&before).incomplete);
    for n in 0..150 {
        run(&mut conn, &format!("select 1 as column_{n}{}", ", 1".repeat(n))).await;
    }
    let delta = StatementsSnapshot::take(&mut conn).await.unwrap().since(&before);
    assert!(delta.incomplete && !delta.restarted, "{delta:?}");
    assert!(!Capability::missing(&mut conn).await.unwrap().contains(&Capability::StatementsNotPreloaded));
}

#[tokio::test]
async fn b6_each_missing_capability_names_its_fix() {
    let bare = PostgresServer::start().await.unwrap();
    let mut conn = PgConnection::connect(&bare.url()).await.unwrap();
    let missing = Capability::missing(&mut conn).await.unwrap();
    assert_eq!(missing, [Capability::StatementsMissing, Capability::IoTimingOff, Capability::HypoPgMissing]);
    run(
        &mut conn,
        "create extension pg_stat_statements; create role nobody; grant all on schema public to nobody",
    )
    .await;
    assert!(Capability::missing(&mut conn).await.unwrap().contains(&Capability::StatementsNotPreloaded));
    let (server, mut conn) = shop().await;
    run(&mut conn, "create role nobody; set pg_stat_statements.track = 'none'; set compute_query_id = off; set role nobody").await;
    let missing = Capability::missing(&mut conn).await.unwrap();
    for lacks in [Capability::TextsHidden, Capability::TrackNone, Capability::QueryIdOff] {
        assert!(missing.contains(&lacks) && !lacks.fix().is_empty(), "{missing:?}");
    }
    assert!(StatementsSnapshot::take(&mut conn).await.unwrap().hidden > 0);
    drop(server);
}
