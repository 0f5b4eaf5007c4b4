//! What is wrong in a PostgreSQL database (B4, B7).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_core::time::now;
use perf_dbopt::postgres::{inspect, maintain};
use perf_dbopt::{Apply, Dialect, Finding, FindingKind, MaintenancePolicy, Severity};
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

async fn database(script: &str) -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder().setting("autovacuum", "off").start().await.unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, script).await;
    (server, conn)
}

async fn run(conn: &mut PgConnection, script: &str) {
    for statement in perf_dbopt::statements(script, Dialect::Postgres) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

async fn found(conn: &mut PgConnection, kind: FindingKind) -> Vec<Finding> {
    inspect(conn).await.unwrap().into_iter().filter(|finding| finding.kind == kind).collect()
}

fn objects(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.object.as_str()).collect()
}

#[tokio::test]
async fn b4_only_indexes_equal_in_every_attribute_are_duplicates() {
    let (_server, mut conn) = database(
        "create table t (a int, b int, c text);
         create index base on t (a, b); create index same on t (a, b);
         create index descending on t (a desc, b); create index nulls on t (a nulls first, b); create index part on t (a, b) where a > 1;
         create index incl on t (a, b) include (c); create index expr on t (a, (b + 1)); create index collated on t (c collate \"C\");
         create index plain on t (c); create index opclass on t (c text_pattern_ops); create unique index uniq on t (a, b);
         create unique index distinct_nulls on t (a, b) nulls not distinct; create index hashed on t using hash (a)",
    )
    .await;
    let duplicates = found(&mut conn, FindingKind::DuplicateIndex).await;
    // A unique index does all a plain one does, so both plain ones are superfluous beside it; it is never named itself.
    assert_eq!(objects(&duplicates), ["base", "same"]);
    assert_eq!(duplicates[0].action.as_deref(), Some("DROP INDEX CONCURRENTLY base"));
}

#[tokio::test]
async fn b4_the_beginning_of_another_index_is_redundant_unless_something_rests_on_it() {
    let (_server, mut conn) = database(
        "create table t (a int, b int, c int, constraint k unique (c)); create index wide on t (a, b, c); create index narrow on t (a);
         create index second on t (b); create index part on t (a) where b > 1; create index back on t (a desc); create index \"Odd.\"\"Name\" on t (a, b);
         create index on t (c, a); create unique index own on t (a, c); create index own_wide on t (a, c, b)",
    )
    .await;
    let redundant = found(&mut conn, FindingKind::RedundantIndex).await;
    let mut names = objects(&redundant);
    names.dedup();
    assert_eq!(names, ["\"Odd.\"\"Name\"", "narrow"]);
    run(&mut conn, redundant[0].action.as_deref().unwrap()).await;
}

#[tokio::test]
async fn b4_a_foreign_key_needs_its_columns_to_lead_a_valid_whole_index_in_any_order() {
    let (_server, mut conn) = database(
        "create table parent (x int, y int, primary key (x, y));
         create table good (x int, y int, foreign key (x, y) references parent); create index on good (y, x);
         create table bad (x int, y int, z int, foreign key (x, y) references parent); create index on bad (z, x, y); create index on bad (x, y) where z > 0;
         insert into parent values (1, 2); delete from parent",
    )
    .await;
    let missing = found(&mut conn, FindingKind::MissingForeignKeyIndex).await;
    assert_eq!(objects(&missing), ["bad"]);
    run(&mut conn, missing[0].action.as_deref().unwrap()).await;
    assert!(found(&mut conn, FindingKind::MissingForeignKeyIndex).await.is_empty());
}

#[tokio::test]
async fn b7_invalid_indexes_constraints_and_ending_sequences_are_found() {
    let (_server, mut conn) = database(
        "create table t (id serial, small smallserial, n int); insert into t (n) values (1); create index broken on t (n);
         update pg_index set indisvalid = false where indexrelid = 'broken'::regclass;
         alter table t add constraint positive check (n > 0) not valid;
         select setval('t_id_seq', 2000000000); select setval('t_small_seq', 25000);
         create sequence down increment -1 minvalue -100 maxvalue -1; select setval('down', -80); create sequence round maxvalue 10 cycle; select setval('round', 10)",
    )
    .await;
    assert_eq!(objects(&found(&mut conn, FindingKind::InvalidIndex).await), ["broken"]);
    assert_eq!(objects(&found(&mut conn, FindingKind::InvalidConstraint).await), ["t.positive"]);
    let sequences = found(&mut conn, FindingKind::SequenceEnd).await;
    assert_eq!(objects(&sequences), ["public.t_id_seq", "public.down", "public.t_small_seq"]);
    assert_eq!(sequences[0].severity, Severity::Critical);
    let all = inspect(&mut conn).await.unwrap();
    assert!(all.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
}

#[tokio::test]
async fn b7_tables_that_need_it_are_vacuumed_and_analysed_on_request() {
    let (server, mut conn) = database(
        "create table \"odd.Name\" (a int); insert into \"odd.Name\" select generate_series(1, 5000); delete from \"odd.Name\" where a > 1000",
    )
    .await;
    sqlx::raw_sql("select pg_stat_force_next_flush()").execute(&mut conn).await.unwrap();
    let findings = inspect(&mut conn).await.unwrap();
    assert!(
        findings.iter().any(|f| f.kind == FindingKind::NeedsVacuum && f.object == "\"odd.Name\""),
        "{findings:?}"
    );
    let done = maintain(&mut conn, &findings, &MaintenancePolicy::default(), &Apply::confirmed_by("test"))
        .await
        .unwrap()
        .done;
    assert_eq!(done, ["VACUUM (SKIP_LOCKED) \"odd.Name\"", "ANALYZE (SKIP_LOCKED) \"odd.Name\""]);
    sqlx::raw_sql("select pg_stat_force_next_flush()").execute(&mut conn).await.unwrap();
    assert!(found(&mut conn, FindingKind::NeedsVacuum).await.is_empty());
    assert_eq!(
        server.sql("select reltuples from pg_class where relname = 'odd.Name'").await.unwrap(),
        "1000"
    );
}

#[tokio::test]
async fn b_9_ten_thousand_tables_and_fifty_thousand_indexes_are_inspected_in_seconds() {
    // A thousand tables per transaction: each table and index holds a lock until its end.
    let server = PostgresServer::builder()
        .setting("autovacuum", "off")
        .setting("max_locks_per_transaction", "1024")
        .preload("pg_stat_statements")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    for thousand in 0..10 {
        let script = format!(
            "do $$ begin for i in {}..{} loop execute format('create table t%s (a int, b int, c int, d int)', i);
               execute format('create index on t%s (a); create index on t%s (a, b); create index on t%s (b); create index on t%s (c); create index on t%s (d)', i, i, i, i, i);
             end loop; end $$",
            thousand * 1000 + 1,
            (thousand + 1) * 1000
        );
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut conn).await.unwrap();
    }
    run(&mut conn, "create extension pg_stat_statements; select pg_stat_statements_reset()").await;
    let start = now();
    let findings = inspect(&mut conn).await.unwrap();
    let taken = start.elapsed();
    assert_eq!(findings.iter().filter(|f| f.kind == FindingKind::RedundantIndex).count(), 10_000);
    // 2.4 s in a debug build on an idle machine; the limit is for a busy one.
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    let queries = "select sum(calls) from pg_stat_statements where query not like '%pg_stat_statements%'";
    let queries: i64 = server.sql(queries).await.unwrap().parse().unwrap();
    assert!(
        (1..=20).contains(&queries),
        "one query per kind of finding, whatever the number of tables: {queries}"
    );
}
