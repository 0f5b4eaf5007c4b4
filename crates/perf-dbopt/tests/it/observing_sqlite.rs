//! The observer around sqlx on SQLite (design page (f), route 2).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use futures_util::{StreamExt, TryStreamExt};
use perf_dbopt::{Dialect, ObserverConfig, QueryEnd, QueryEvent, QueryStats, batch};
use sqlx::{Connection, Executor, Row, SqliteConnection, SqlitePool};
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn database() -> SqliteConnection {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    conn.execute("create table t (id integer primary key, a text not null)").await.unwrap();
    conn.execute("insert into t select value, 'row ' || value from json_each('[1,2,3,4,5]')").await.unwrap();
    conn
}

fn stats() -> QueryStats {
    QueryStats::new("main", Dialect::Sqlite)
}

#[tokio::test]
async fn calls_rows_and_changes_are_counted_per_statement() {
    let (mut conn, stats) = (database().await, stats());
    for limit in [2_i64, 3] {
        let rows = sqlx::query("select * from t limit ?")
            .bind(limit)
            .fetch_all(stats.observe(&mut conn))
            .await
            .unwrap();
        assert_eq!(rows.len(), limit as usize);
    }
    let row = sqlx::query("select a from t where id = ?")
        .bind(3)
        .fetch_one(stats.observe(&mut conn))
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "row 3");
    sqlx::query("update t set a = 'x' where id > ?").bind(2).execute(stats.observe(&mut conn)).await.unwrap();
    let by_text = |text: &str| stats.statements().into_iter().find(|s| &*s.text == text).unwrap();
    let list = by_text("select * from t limit ?");
    assert_eq!((list.calls(), list.rows, list.first_rows), (2, 5, 2));
    assert!(list.first_row_total <= list.total());
    assert_eq!(by_text("select a from t where id = ?").rows, 1);
    assert_eq!(by_text("update t set a = ? where id > ?").rows, 3);
    assert_eq!((stats.stats().queries, stats.stats().rows), (4, 9));
}

#[tokio::test]
async fn reads_after_a_change_do_not_count_its_rows_again() {
    let (mut conn, stats) = (database().await, stats());
    sqlx::query("delete from t where id < 4").execute(stats.observe(&mut conn)).await.unwrap();
    let none =
        sqlx::query("select * from t where id = 99").fetch_all(stats.observe(&mut conn)).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(stats.stats().rows, 3);
}

#[tokio::test]
async fn errors_are_counted_by_code_and_a_missing_row_is_none() {
    let (mut conn, stats) = (database().await, stats());
    sqlx::query("insert into t values (1, 'twice')").execute(stats.observe(&mut conn)).await.unwrap_err();
    let missing =
        sqlx::query("select 1 from t where id = 77").fetch_one(stats.observe(&mut conn)).await.unwrap_err();
    assert!(matches!(missing, sqlx::Error::RowNotFound));
    assert_eq!(stats.errors().into_iter().collect::<Vec<_>>(), [("1555".to_owned(), 1)]);
    assert_eq!((stats.stats().queries, stats.stats().errors), (2, 1));
}

#[tokio::test]
async fn a_stream_dropped_before_its_end_counts_as_cancelled() {
    let (mut conn, stats) = (database().await, stats());
    let mut rows = sqlx::query("select * from t").fetch(stats.observe(&mut conn));
    rows.try_next().await.unwrap().unwrap();
    drop(rows);
    drop(stats.observe(&mut conn).fetch_optional(sqlx::query("select a from t")));
    assert_eq!((stats.stats().queries, stats.stats().cancelled, stats.stats().rows), (2, 2, 1));
}

#[tokio::test]
async fn pools_transactions_and_leases_are_observed_alike() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let stats = stats();
    sqlx::query("select 1").execute(stats.observe(&pool)).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("select 1").execute(stats.observe(&mut *tx)).await.unwrap();
    tx.commit().await.unwrap();
    let mut lease = pool.acquire().await.unwrap();
    let mut many = sqlx::raw_sql("select 1; select 2").fetch_many(stats.observe(&mut *lease));
    while many.next().await.transpose().unwrap().is_some() {}
    drop(many);
    assert_eq!(stats.stats().queries, 3);
    assert_eq!(stats.top(1)[0].calls(), 2);
}

#[tokio::test]
async fn prepared_statements_and_binds_pass_through_unchanged() {
    let (mut conn, stats) = (database().await, stats());
    use sqlx::{SqlSafeStr, Statement};
    let statement =
        stats.observe(&mut conn).prepare("select a from t where id = ?".into_sql_str()).await.unwrap();
    let row = statement.query().bind(2).fetch_one(stats.observe(&mut conn)).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "row 2");
}

#[tokio::test]
async fn nothing_is_recorded_while_it_is_switched_off() {
    let (mut conn, stats) = (database().await, stats());
    stats.set_enabled(false);
    sqlx::query("select * from t").fetch_all(stats.observe(&mut conn)).await.unwrap();
    assert!(stats.statements().is_empty());
    stats.set_enabled(true);
    sqlx::query("select * from t").fetch_all(stats.observe(&mut conn)).await.unwrap();
    assert_eq!(stats.stats().queries, 1);
}

#[tokio::test]
async fn slow_queries_are_logged_without_values_and_reported() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let stats = QueryStats::builder("main", Dialect::Sqlite)
        .slow(Duration::ZERO)
        .slow_log(2)
        .on_event(move |event| sink.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    let mut conn = database().await;
    for _ in 0..3 {
        let sql = "select a from t where a = 'secret'";
        sqlx::query(sql).fetch_all(stats.observe(&mut conn)).await.unwrap();
    }
    let slow = stats.slow_queries();
    assert_eq!((slow.len(), stats.stats().slow), (2, 3));
    assert_eq!((&*slow[0].text, slow[0].end), ("select a from t where a = ?", QueryEnd::Done));
    assert!(!format!("{:?}", seen.lock().unwrap()).contains("secret"));
    assert!(stats.claim_explain(slow[0].fingerprint, slow[0].elapsed));
    assert!(
        !stats.claim_explain(slow[0].fingerprint, slow[0].elapsed),
        "one plan per statement and interval"
    );
}

#[tokio::test]
async fn a_loop_of_single_row_queries_in_one_request_is_found() {
    let seen = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&seen);
    let stats = QueryStats::builder("main", Dialect::Sqlite)
        .n_plus_one(5)
        .on_event(move |event| {
            if matches!(event, QueryEvent::NPlusOne(_)) {
                *sink.lock().unwrap() += 1;
            }
        })
        .build()
        .unwrap();
    let mut conn = database().await;
    let request = async {
        for id in 1..=5_i64 {
            sqlx::query("select a from t where id = ?")
                .bind(id)
                .fetch_one(stats.observe(&mut conn))
                .await
                .unwrap();
        }
    };
    stats.in_scope("GET /list", request).await;
    let found = stats.repetitions();
    assert_eq!((found.len(), found[0].calls, &*found[0].route), (1, 5, "GET /list"));
    assert!(found[0].suggestion.contains("json_each"), "{}", found[0].suggestion);
    let meant = batch(async {
        for id in 1..=5_i64 {
            sqlx::query("select a from t where id = ?")
                .bind(id)
                .fetch_one(stats.observe(&mut conn))
                .await
                .unwrap();
        }
    });
    stats.in_scope("GET /export", meant).await;
    assert_eq!((stats.repetitions().len(), *seen.lock().unwrap()), (1, 1));
    let routes = stats.routes();
    assert_eq!(routes.iter().map(|r| (r.requests, r.queries)).collect::<Vec<_>>(), [(1, 5), (1, 5)]);
}

#[test]
fn a_configuration_outside_its_range_is_refused_by_name() {
    let refused = QueryStats::builder("main", Dialect::Sqlite).n_plus_one(1).build().unwrap_err();
    assert_eq!(refused.to_string(), "invalid configuration: n_plus_one = 1, allowed: at least 2");
    let config = ObserverConfig::default();
    assert!(config.validate().is_ok());
}
