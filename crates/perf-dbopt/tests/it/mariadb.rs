//! What MariaDB tells (B9).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_dbopt::{Dialect, QueryStats, mysql};
use perf_testkit::MariaDbServer;
use sqlx::{Connection, Executor, MySqlConnection};

async fn connect(server: &MariaDbServer) -> MySqlConnection {
    let mut conn = MySqlConnection::connect(&server.url()).await.unwrap();
    conn.execute("create table `a``b` (id int primary key, x_y int, z int, key k1 (x_y), key k2 (x_y, z), key k3 (z), unique key k4 (z, id))").await.unwrap();
    conn
}

#[tokio::test]
async fn b9_statement_statistics_and_redundant_indexes_are_read() {
    let server = MariaDbServer::builder().setting("performance-schema", "ON").start().await.unwrap();
    let mut conn = connect(&server).await;
    for id in 0..5 {
        // Statements prepared in the binary protocol have no digest in MariaDB.
        let sql = format!("select z from `a``b` where x_y = {id}");
        conn.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let workload = mysql::workload(&mut conn).await.unwrap();
    let query = workload
        .queries
        .iter()
        .find(|query| query.text.contains("x_y = ?"))
        .unwrap_or_else(|| unreachable!("{workload:?}"));
    assert!(query.calls >= 5 && !query.total.is_zero(), "{query:?}");
    let findings = mysql::inspect(&mut conn).await.unwrap();
    let objects: Vec<_> = findings.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(objects, ["`a``b`.`k1`", "`a``b`.`k3`"]);
    conn.execute(sqlx::AssertSqlSafe(findings[0].action.clone().unwrap())).await.unwrap();
    assert_eq!(mysql::inspect(&mut conn).await.unwrap().len(), 1);
}

#[tokio::test]
async fn b9_statistics_that_are_off_are_named_and_queries_are_observed() {
    let server = MariaDbServer::start().await.unwrap();
    let mut conn = connect(&server).await;
    let error = mysql::workload(&mut conn).await.unwrap_err();
    assert!(error.to_string().contains("performance_schema = ON"), "{error}");
    let stats = QueryStats::new("maria", Dialect::MySql);
    sqlx::query("insert into `a``b` values (1, 2, 3), (2, 3, 4)")
        .execute(stats.observe(&mut conn))
        .await
        .unwrap();
    sqlx::query("insert into `a``b` values (1, 2, 3)").execute(stats.observe(&mut conn)).await.unwrap_err();
    sqlx::query("select * from `a``b`").fetch_all(stats.observe(&mut conn)).await.unwrap();
    assert_eq!((stats.stats().queries, stats.stats().rows, stats.stats().errors), (3, 4, 1));
    assert!(stats.errors().contains_key("23000"), "{:?}", stats.errors());
}
