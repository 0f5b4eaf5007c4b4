//! A primary and its standby: what is only read there, and what it says about the primary's indexes (B2, B4, B5.2, B7).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_dbopt::advise::{Advice, Evidence};
use perf_dbopt::postgres::{
    ApplyPolicy, IndexApplier, IndexOutcome, IndexUses, InspectPolicy, PostgresAdvisor, Refusal, inspect,
    inspect_with,
};
use perf_dbopt::{Apply, Dialect, FindingKind, Workload};
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

const TABLES: &str = "create extension hypopg; \
    create table orders (id int primary key, customer int, day date, note text); \
    insert into orders select i, i % 5000, date '2020-01-01' + i % 900, repeat('x', 40) from generate_series(1, 40000) i; \
    create index by_day on orders (day); create index by_note on orders (note); \
    create sequence ending maxvalue 100; select setval('ending', 95); \
    create unlogged sequence forgotten maxvalue 100; select setval('forgotten', 99); vacuum analyze";

async fn run(conn: &mut PgConnection, sql: &str) {
    for statement in perf_dbopt::statements(sql, Dialect::Postgres) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

/// A primary with a table, and a standby that streams from it.
async fn pair() -> [(PostgresServer, PgConnection); 2] {
    let primary = PostgresServer::builder().setting("autovacuum", "off").start().await.unwrap();
    let mut conn = PgConnection::connect(&primary.url()).await.unwrap();
    run(&mut conn, TABLES).await;
    let standby = PostgresServer::builder()
        .standby_of(&primary)
        .setting("wal_receiver_status_interval", "1s")
        .start()
        .await
        .unwrap();
    let reader = PgConnection::connect(&standby.url()).await.unwrap();
    [(primary, conn), (standby, reader)]
}

async fn advice(conn: &mut PgConnection) -> Advice {
    let sql = "select id, day from orders where customer = $1";
    let workload = Workload::new(Dialect::Postgres).with(sql, 100);
    let advice = PostgresAdvisor::default().advise(conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 1, "{advice}");
    advice
}

fn yes() -> Apply {
    Apply::confirmed_by("test")
}

#[tokio::test]
async fn b2_and_b5_2_a_standby_gives_advice_and_refuses_to_build() {
    let [_, (standby, mut conn)] = pair().await;
    assert_eq!(standby.sql("select pg_is_in_recovery()").await.unwrap(), "t");
    let advice = advice(&mut conn).await;
    assert_eq!(advice.create[0].index.columns().next(), Some("customer"));
    assert_eq!(advice.create[0].evidence, Evidence::WhatIf, "HypoPG works where nothing can be written");
    let applier = IndexApplier::new(ApplyPolicy::default()).unwrap();
    for applied in [
        applier.dry_run(&mut conn, &advice).await.unwrap(),
        applier.apply(&mut conn, &advice, &yes()).await.unwrap(),
    ] {
        assert!(
            matches!(applied.outcomes[0], IndexOutcome::Refused { refusal: Refusal::Standby, .. }),
            "{applied:?}"
        );
    }
}

#[tokio::test]
async fn b7_a_standby_is_inspected_and_what_cannot_be_read_there_is_left_out() {
    let [(_primary, mut writer), (_standby, mut conn)] = pair().await;
    let sequences = async |conn: &mut PgConnection| {
        let found = inspect(conn).await.unwrap().into_iter().filter(|f| f.kind == FindingKind::SequenceEnd);
        found.map(|finding| finding.object).collect::<Vec<_>>()
    };
    assert_eq!(sequences(&mut writer).await, ["public.ending", "public.forgotten"]);
    assert_eq!(sequences(&mut conn).await, ["public.ending"], "what is not logged is not on the standby");
}

#[tokio::test]
async fn b4_what_any_declared_replica_uses_is_not_unused() {
    let [(_primary, mut conn), (_standby, mut reader)] = pair().await;
    run(&mut reader, "set enable_seqscan = off; select count(*) from orders where day = '2020-02-02'").await;
    // What a session did is seen a second later, unless it is told to say so at once.
    run(&mut reader, "select pg_stat_force_next_flush()").await;
    let uses = IndexUses::take(&mut reader).await.unwrap();
    assert_eq!(uses.used.iter().map(String::as_str).collect::<Vec<_>>(), ["public.by_day"]);
    let mut policy = InspectPolicy::default();
    policy.unused_bytes = 0;
    let unused = async |conn: &mut PgConnection, policy: &InspectPolicy, replicas: &[IndexUses]| {
        let found = inspect_with(conn, policy, replicas).await.unwrap();
        let found = found.into_iter().filter(|f| f.kind == FindingKind::UnusedIndex);
        found.map(|finding| finding.object).collect::<Vec<_>>()
    };
    assert!(unused(&mut conn, &policy, &[]).await.is_empty(), "statistics of a minute show nothing");
    policy.unused_for = Duration::ZERO;
    assert_eq!(unused(&mut conn, &policy, &[]).await, ["by_day", "by_note"]);
    assert_eq!(unused(&mut conn, &policy, std::slice::from_ref(&uses)).await, ["by_note"]);
    // What a replica did not use yet may be used there next week.
    let mut settled = uses.clone();
    settled.age = Duration::from_secs(90 * 24 * 3600);
    policy.unused_for = Duration::from_nanos(1);
    assert_eq!(unused(&mut conn, &policy, &[settled.clone()]).await, ["by_note"]);
    policy.unused_for = settled.age;
    assert!(unused(&mut conn, &policy, &[settled]).await.is_empty(), "the primary's own are younger");
    policy.unused_for = uses.age + Duration::from_micros(1);
    assert!(unused(&mut conn, &policy, &[uses]).await.is_empty(), "the replica's are younger");
}

#[tokio::test]
async fn b5_2_a_replica_that_lags_is_a_refusal() {
    let [(_primary, mut conn), (_standby, mut reader)] = pair().await;
    let advice = advice(&mut conn).await;
    let mut policy = ApplyPolicy::default();
    policy.max_replica_lag = Duration::from_secs(20);
    let patient = IndexApplier::new(policy.clone()).unwrap();
    run(&mut reader, "select pg_wal_replay_pause()").await;
    run(&mut conn, "insert into orders values (0)").await;
    policy.max_replica_lag = Duration::ZERO;
    let strict = IndexApplier::new(policy).unwrap();
    let refused = async |conn: &mut PgConnection, applier: &IndexApplier| {
        let dry = applier.dry_run(conn, &advice).await.unwrap();
        matches!(dry.outcomes[0], IndexOutcome::Refused { refusal: Refusal::ReplicaLag { .. }, .. })
    };
    let mut looks = 0;
    while !refused(&mut conn, &strict).await {
        looks += 1;
        assert!(looks < 5000, "the standby reports what it has not replayed");
    }
    assert!(!refused(&mut conn, &patient).await, "a moment is allowed");
}
