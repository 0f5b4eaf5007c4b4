//! What the tests of applying share: a shop's orders on a server of their own, advice for one page, and measurements.
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::shop;
use perf_dbopt::advise::{Advice, AdvisorConfig};
use perf_dbopt::postgres::{ApplyPolicy, IndexApplier, PostgresAdvisor, StatementsDelta, StatementsSnapshot};
use perf_dbopt::{Apply, Dialect, Workload};
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

/// The statement of the page that shows what a customer ordered.
pub(crate) const HISTORY: &str = "select id, day, total from orders where customer = $1";

/// Sends statements one by one.
pub(crate) async fn run(conn: &mut PgConnection, sql: &str) {
    for statement in perf_dbopt::statements(sql, Dialect::Postgres) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

/// A server with the shop's rows, HypoPG and statement statistics.
pub(crate) async fn shop() -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder()
        .preload("pg_stat_statements")
        .setting("autovacuum", "off")
        .setting("synchronous_commit", "on")
        .setting("max_prepared_transactions", "1")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, "create extension hypopg; create extension pg_stat_statements").await;
    run(&mut conn, shop::SCHEMA).await;
    run(&mut conn, shop::ROWS).await;
    (server, conn)
}

/// The one index proposed for a statement.
pub(crate) async fn advice(conn: &mut PgConnection, sql: &str) -> Advice {
    let mut config = AdvisorConfig::default();
    config.covering = false;
    let workload = Workload::new(Dialect::Postgres).with(sql, 100);
    let advice = PostgresAdvisor::new(config).unwrap().advise(conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 1, "{advice}");
    advice
}

/// Impatient with locks.
pub(crate) fn policy() -> ApplyPolicy {
    let mut policy = ApplyPolicy::default();
    policy.lock_timeout = Duration::from_millis(100);
    policy.attempts = 2;
    policy
}

pub(crate) fn applier() -> IndexApplier {
    IndexApplier::new(policy()).unwrap()
}

pub(crate) fn yes() -> Apply {
    Apply::confirmed_by("test")
}

pub(crate) async fn indexes(server: &PostgresServer) -> String {
    server
        .sql("select c.relname, i.indisvalid, regexp_replace(obj_description(c.oid), '[0-9]{4}-[0-9]{2}-[0-9]{2}$', 'DAY') from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname like 'perfidx%' order by 1")
        .await
        .unwrap()
}

/// What the statistics say of this many calls of the shop's page.
pub(crate) async fn measure(conn: &mut PgConnection, calls: usize, customer: i32) -> StatementsDelta {
    let before = StatementsSnapshot::take(conn).await.unwrap();
    for _ in 0..calls {
        let sql = format!("select sum(total) from orders where customer = {customer} and status = 'done'");
        run(conn, &sql).await;
    }
    StatementsSnapshot::take(conn).await.unwrap().since(&before)
}

/// Asks again and again until the answer is the one wanted.
pub(crate) async fn wait_for(server: &PostgresServer, sql: &str, wanted: &str) {
    for _ in 0..1000 {
        if server.sql(sql).await.unwrap() == wanted {
            return;
        }
    }
    assert_eq!(server.sql(sql).await.unwrap(), wanted, "{sql}");
}
