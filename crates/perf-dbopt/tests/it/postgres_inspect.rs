//! What is wrong in a PostgreSQL database (B4, B7).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_core::time::now;
use perf_dbopt::postgres::{InspectPolicy, TableSizes, bloat, inspect, inspect_with, maintain};
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
         create index on t (c, a); create unique index own on t (a, c); create index own_wide on t (a, c, b);
         create table told (a int not null, b int); create unique index told_by on told (a); create index told_wide on told (a, b); alter table told replica identity using index told_by;
         create table sorted (a int, b int); create index sorted_by on sorted (a); create index sorted_wide on sorted (a, b); cluster sorted using sorted_by;
         create table apart (a int4range, b int, exclude using gist (a with &&));
         create table parted (a int, b int) partition by list (a); create table part_1 partition of parted for values in (1); create index on parted (a); create index part_wide on part_1 (a, b);
         create table large (a int, b text); insert into large select i % 10, repeat(md5(i::text), 20) from generate_series(1, 3000) i; create index slim on large (a); create index heavy on large (a, b)",
    )
    .await;
    let redundant = found(&mut conn, FindingKind::RedundantIndex).await;
    let mut names = objects(&redundant);
    names.dedup();
    assert_eq!(names, ["\"Odd.\"\"Name\"", "narrow", "slim"]);
    let slim = redundant.last().unwrap();
    assert!(slim.action.is_none() && slim.message.contains("more than four times as large"), "{slim}");
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
         create sequence called; create table feeds (n int default nextval('called')); select setval('called', 2100000000);
         create table kept (n smallint generated always as identity); select setval('kept_n_seq', 30000);
         create sequence down increment -1 minvalue -100 maxvalue -1; select setval('down', -80); create sequence round maxvalue 10 cycle; select setval('round', 10)",
    )
    .await;
    assert_eq!(objects(&found(&mut conn, FindingKind::InvalidIndex).await), ["broken"]);
    assert_eq!(objects(&found(&mut conn, FindingKind::InvalidConstraint).await), ["t.positive"]);
    let sequences = found(&mut conn, FindingKind::SequenceEnd).await;
    assert_eq!(
        objects(&sequences),
        ["public.called", "public.kept_n_seq", "public.t_id_seq", "public.down", "public.t_small_seq"]
    );
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
async fn b4_what_something_rests_on_is_never_called_unused() {
    let (_server, mut conn) = database(
        "create table parent (id int primary key, k int unique); create table t (a int, b int not null, c int references parent, r int4range, d int);
         create index plain on t (a); create index for_key on t (c, a); create unique index one on t (b); alter table t replica identity using index one;
         alter table t add exclude using gist (r with &&); create index ordered on t (d); cluster t using ordered",
    )
    .await;
    let mut policy = InspectPolicy::default();
    (policy.unused_bytes, policy.unused_for) = (0, Duration::ZERO);
    let unused = inspect_with(&mut conn, &policy, &[]).await.unwrap();
    let unused: Vec<_> = unused.into_iter().filter(|f| f.kind == FindingKind::UnusedIndex).collect();
    assert_eq!(objects(&unused), ["plain"]);
    assert_eq!(unused[0].action.as_deref(), Some("DROP INDEX CONCURRENTLY plain"));
    policy.unused_bytes = 10 << 20;
    let small = inspect_with(&mut conn, &policy, &[]).await.unwrap();
    assert!(small.iter().all(|finding| finding.kind != FindingKind::UnusedIndex), "{small:?}");
    policy.large_rows = 0;
    assert!(inspect_with(&mut conn, &policy, &[]).await.unwrap_err().to_string().contains("large_rows"));
}

#[tokio::test]
async fn b7_vacuum_and_analyze_are_due_when_the_table_s_own_settings_say_so() {
    let (server, mut conn) = database(
        "create table eager (a int) with (autovacuum_vacuum_threshold = 5, autovacuum_analyze_threshold = 5); insert into eager select generate_series(1, 30); select pg_stat_force_next_flush(); vacuum analyze eager; delete from eager where a < 20;
         create table lazy (a int) with (autovacuum_vacuum_threshold = 9000, autovacuum_analyze_threshold = 9000); insert into lazy select generate_series(1, 1500); select pg_stat_force_next_flush(); vacuum analyze lazy; delete from lazy where a < 1000;
         create table grown (a int); vacuum analyze grown; insert into grown select generate_series(1, 1200);
         create table still (a int) with (autovacuum_vacuum_insert_threshold = -1); vacuum analyze still; insert into still select generate_series(1, 1200)",
    )
    .await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut other, "create temp table own (a int); insert into own select generate_series(1, 5000); delete from own; select pg_stat_force_next_flush()").await;
    run(&mut conn, "select pg_stat_force_next_flush()").await;
    let vacuum = found(&mut conn, FindingKind::NeedsVacuum).await;
    assert_eq!(objects(&vacuum), ["eager", "grown"]);
    assert_eq!(
        (&*vacuum[0].message, &*vacuum[1].message),
        ("19 dead rows of 30", "1200 rows came since the last one")
    );
    assert_eq!(objects(&found(&mut conn, FindingKind::NeedsAnalyze).await), ["eager", "grown", "still"]);
}

#[tokio::test]
async fn b7_a_large_table_gets_a_smaller_share_of_its_own() {
    let (_server, mut conn) = database(
        "create table large (a int); create table larger (a int); create table small (a int); create table told (a int) with (autovacuum_vacuum_scale_factor = 0.05);
         update pg_class set reltuples = case relname when 'larger' then 2e8 when 'small' then 9e6 else 2e7 end where relname in ('large', 'larger', 'small', 'told')",
    )
    .await;
    let settings = found(&mut conn, FindingKind::Setting).await;
    let actions: Vec<_> = settings.iter().map(|finding| finding.action.as_deref().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "ALTER TABLE large SET (autovacuum_vacuum_scale_factor = 0.02)",
            "ALTER TABLE larger SET (autovacuum_vacuum_scale_factor = 0.01)",
        ]
    );
    run(&mut conn, actions[0]).await;
    assert_eq!(objects(&found(&mut conn, FindingKind::Setting).await), ["larger"]);
}

#[tokio::test]
async fn b7_old_transaction_numbers_are_found_with_those_who_hold_them() {
    let server = PostgresServer::builder()
        .setting("autovacuum", "off")
        .setting("autovacuum_freeze_max_age", "100000")
        .setting("max_prepared_transactions", "2")
        .setting("wal_level", "logical")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, "create table old (a int); create table shared (a int); create table stored (a int, b text); create table young (a int)").await;
    let aged = |table: &str, column: &str, age: u32| {
        format!(
            "update pg_class set {column} = ((txid_current() + 4294967296 - {age}) % 4294967296)::text::xid where oid = ({table})"
        )
    };
    run(&mut conn, &aged("'old'::regclass::oid", "relfrozenxid", 1_300_000_000)).await;
    run(
        &mut conn,
        &aged("select reltoastrelid from pg_class where relname = 'stored'", "relfrozenxid", 95_000),
    )
    .await;
    run(
        &mut conn,
        "update pg_class set relminmxid = (4294967297 - 380000000)::text::xid where relname = 'shared'",
    )
    .await;
    let frozen = found(&mut conn, FindingKind::FreezeAge).await;
    assert_eq!(objects(&frozen), ["old", "shared", "stored"], "{frozen:?}");
    assert_eq!([frozen[0].severity, frozen[1].severity], [Severity::Critical, Severity::Warning]);
    assert!(frozen[1].message.contains("shared locks old"), "{frozen:?}");
    assert_eq!(frozen[0].action.as_deref(), Some("VACUUM (FREEZE) old"));

    // Before anything is prepared: it waits for the end of every transaction.
    run(&mut conn, "select pg_create_logical_replication_slot('unread', 'test_decoding')").await;
    let mut idle = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut idle, "begin isolation level repeatable read; select * from young").await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut idle).await.unwrap();
    run(&mut conn, "begin; insert into young values (1); prepare transaction 'it''s left'").await;
    assert!(found(&mut conn, FindingKind::VacuumHeldBack).await.is_empty(), "nothing is old yet");
    // Each block with a handler that changes something takes a transaction number.
    run(&mut conn, "do $$ begin for i in 1..6000 loop begin insert into young values (i); exception when division_by_zero then null; end; end loop; end $$").await;
    let held = found(&mut conn, FindingKind::VacuumHeldBack).await;
    assert_eq!(
        objects(&held),
        ["prepared transaction 'it''s left'", &format!("session {pid}"), "slot unread"]
    );
    run(&mut conn, held[0].action.as_deref().unwrap()).await;
    assert_eq!(found(&mut conn, FindingKind::VacuumHeldBack).await.len(), 2);
    assert_eq!(objects(&found(&mut conn, FindingKind::InactiveSlot).await), ["unread"]);
    let mut policy = InspectPolicy::default();
    assert!(found(&mut conn, FindingKind::IdleInTransaction).await.is_empty(), "a second is no long time");
    policy.idle_in_transaction = Duration::ZERO;
    let idle = inspect_with(&mut conn, &policy, &[]).await.unwrap();
    let idle: Vec<_> = idle.into_iter().filter(|f| f.kind == FindingKind::IdleInTransaction).collect();
    assert_eq!(objects(&idle), [format!("session {pid}")]);
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
    // In a process of its own, whose memory is its own.
    let inspects = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["postgres_inspect::child_process_that_inspects", "--exact", "--nocapture"])
        .env("PERF_DBOPT_INSPECT_URL", server.url())
        .output()
        .unwrap();
    assert!(inspects.status.success(), "{}", String::from_utf8_lossy(&inspects.stderr));
    let queries = "select sum(calls) from pg_stat_statements where query not like '%pg_stat_statements%'";
    let queries: i64 = server.sql(queries).await.unwrap().parse().unwrap();
    assert!(
        (1..=20).contains(&queries),
        "one query per kind of finding, whatever the number of tables: {queries}"
    );
}

/// What a process takes at present and took at most, in bytes.
fn memory() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Some((kilobytes("VmRSS:")? * 1024, kilobytes("VmHWM:")? * 1024))
}

/// Everything an inspection of the whole database reads. As a plain test it does nothing.
#[tokio::test]
async fn child_process_that_inspects() {
    let Ok(url) = std::env::var("PERF_DBOPT_INSPECT_URL") else { return };
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let before = memory();
    let start = now();
    let findings = inspect(&mut conn).await.unwrap();
    assert!(bloat(&mut conn).await.unwrap().is_empty());
    assert_eq!(TableSizes::take(&mut conn).await.unwrap().bytes.len(), 10_000);
    let taken = start.elapsed();
    assert_eq!(findings.iter().filter(|f| f.kind == FindingKind::RedundantIndex).count(), 10_000);
    // 2.4 s in a debug build on an idle machine; the limit is for a busy one.
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    if let (Some((before, _)), Some((_, most))) = (before, memory()) {
        let grown = most.saturating_sub(before) >> 20;
        eprintln!("inspected in {taken:?} with {grown} MB");
        assert!(grown < 100, "{grown} MB");
    }
}
