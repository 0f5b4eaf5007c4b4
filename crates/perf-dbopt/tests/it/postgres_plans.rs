//! Plans of normalised statements on PostgreSQL (B1), from the texts pg_stat_statements keeps.
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::shop;
use perf_dbopt::advise::SkipReason;
use perf_dbopt::postgres::Explainer;
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

async fn server() -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder().preload("pg_stat_statements").start().await.unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    for sql in ["create extension pg_stat_statements", shop::SCHEMA] {
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    }
    (server, conn)
}

async fn normalised(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select query from pg_stat_statements where query not like '%pg_stat_statements%' and query not like 'create %'")
        .fetch_all(conn)
        .await
        .unwrap()
}

#[tokio::test]
async fn b1_1_and_b1_3_every_normalised_statement_of_the_shop_is_explained() {
    let (_server, mut conn) = server().await;
    sqlx::raw_sql("select pg_stat_statements_reset()").execute(&mut conn).await.unwrap();
    for sql in shop::statements() {
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await {
            panic!("{sql}: {error}");
        }
    }
    let texts = normalised(&mut conn).await;
    assert!(texts.len() >= 60, "{}", texts.len());
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let (mut repaired, mut failed) = (0, Vec::new());
    for text in &texts {
        match explainer.explain(text).await.unwrap() {
            Ok(explained) => {
                assert!(explained.cost > 0.0 || text.contains("select $1"), "{text}");
                assert!(
                    !explained.plan.contains("One-Time Filter\": \"false"),
                    "B1.2, planned for NULL: {text}"
                );
                repaired += usize::from(explained.repaired);
            }
            Err(reason) => failed.push(format!("{reason}: {text}")),
        }
    }
    explainer.finish().await.unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), texts.len(), failed.join("\n"));
    assert!(repaired >= 15, "these statements are chosen to need repair: {repaired}");
}

#[tokio::test]
async fn b1_3_forms_of_decision_support_and_of_generated_sql_are_explained() {
    let (_server, mut conn) = server().await;
    sqlx::raw_sql("select pg_stat_statements_reset()").execute(&mut conn).await.unwrap();
    let mut invalid = Vec::new();
    for sql in shop::hard() {
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await {
            invalid.push(format!("{error}: {sql}"));
        }
    }
    assert!(invalid.is_empty(), "not SQL of this server:\n{}", invalid.join("\n"));
    let texts = normalised(&mut conn).await;
    assert!(texts.len() >= 60, "{}", texts.len());
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let mut failed = Vec::new();
    for text in &texts {
        if let Err(reason) = explainer.explain(text).await.unwrap() {
            failed.push(format!("{reason}: {text}"));
        }
    }
    explainer.finish().await.unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), texts.len(), failed.join("\n"));
}

#[tokio::test]
async fn b1_4_what_has_no_plan_is_skipped_with_its_reason() {
    let (server, mut conn) = server().await;
    server.sql("create role reader login; create table secret (a int)").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let mut reason = async |sql: &str| explainer.explain(sql).await.unwrap().unwrap_err();
    assert_eq!(reason("call f($1)").await, SkipReason::Utility);
    assert_eq!(reason("vacuum orders").await, SkipReason::Utility);
    assert_eq!(reason("select 1; drop table orders").await, SkipReason::MultipleStatements);
    assert_eq!(reason("select * from orders where id in ($1, $2").await, SkipReason::Truncated);
    assert!(matches!(reason("select * from nowhere where a = $1").await, SkipReason::Missing(_)));
    assert!(matches!(reason("selec 1").await, SkipReason::Utility));
    assert!(matches!(reason("select from from").await, SkipReason::NotPlannable(_)));
    explainer.finish().await.unwrap();
    let url = server.url().replace("postgres@", "reader@");
    let mut reader = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("set role reader").execute(&mut reader).await.unwrap();
    let mut explainer = Explainer::new(&mut reader).await.unwrap();
    let denied = explainer.explain("select * from secret where a = $1").await.unwrap().unwrap_err();
    assert!(matches!(denied, SkipReason::PermissionDenied(_)), "{denied:?}");
}

#[tokio::test]
async fn b1_6_explaining_a_write_changes_nothing() {
    let (server, mut conn) = server().await;
    server.sql("insert into stock values (1, 1, 1)").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for sql in
        ["delete from stock where product = $1", "with d as (delete from stock returning 1) select * from d"]
    {
        explainer.explain(sql).await.unwrap().unwrap();
    }
    assert_eq!(server.sql("select count(*) from stock").await.unwrap(), "1");
}

#[tokio::test]
async fn b1_8_and_b_7_planning_leaves_at_most_one_entry_per_number_of_parameters() {
    let (server, mut conn) = server().await;
    server
        .sql("create role plain login; grant select on all tables in schema public to plain")
        .await
        .unwrap();
    sqlx::raw_sql("set role plain").execute(&mut conn).await.unwrap();
    server.sql("select pg_stat_statements_reset()").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for column in ["id", "customer", "status", "total", "day", "at"] {
        for _ in 0..5 {
            explainer.explain(&format!("select * from orders where {column} = $1")).await.unwrap().unwrap();
        }
    }
    explainer.finish().await.unwrap();
    let entries =
        server.sql("select count(*) from pg_stat_statements where query ilike 'explain%'").await.unwrap();
    assert_eq!(entries, "1");
    let all: i32 = server.sql("select count(*) from pg_stat_statements").await.unwrap().parse().unwrap();
    assert!(all <= 16, "a constant number besides: {all}");
}

#[tokio::test]
async fn a_call_dropped_half_way_leaves_the_session_usable() {
    let (_server, mut conn) = server().await;
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for _ in 0..20 {
        let call = explainer.explain("select * from orders where id = $1");
        let _ = tokio::time::timeout(std::time::Duration::from_micros(400), call).await;
    }
    explainer.explain("select * from orders where id = $1").await.unwrap().unwrap();
}
