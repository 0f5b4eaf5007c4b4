//! Creating indexes on a live PostgreSQL, verifying and taking them back (B5), with the statistics it keeps (B6).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::shop;
use perf_dbopt::advise::{Advice, AdvisorConfig, Evidence};
use perf_dbopt::postgres::{
    ApplyPolicy, Capability, IndexApplier, IndexOutcome, JsonLines, PostgresAdvisor, Refusal,
    StatementsSnapshot, Trial, TrialOutcome, TrialPolicy, Verdict, VerifyPolicy, judge,
};
use perf_dbopt::{Apply, Dialect, Workload};
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

const HISTORY: &str = "select id, day, total from orders where customer = $1";

async fn run(conn: &mut PgConnection, sql: &str) {
    for statement in perf_dbopt::statements(sql, Dialect::Postgres) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

async fn shop() -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder()
        .preload("pg_stat_statements")
        .setting("autovacuum", "off")
        .setting("synchronous_commit", "on")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, "create extension hypopg; create extension pg_stat_statements").await;
    run(&mut conn, shop::SCHEMA).await;
    run(&mut conn, shop::ROWS).await;
    (server, conn)
}

async fn advice(conn: &mut PgConnection, sql: &str) -> Advice {
    let mut config = AdvisorConfig::default();
    config.covering = false;
    let workload = Workload::new(Dialect::Postgres).with(sql, 100);
    let advice = PostgresAdvisor::new(config).unwrap().advise(conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 1, "{advice}");
    advice
}

fn policy() -> ApplyPolicy {
    let mut policy = ApplyPolicy::default();
    policy.lock_timeout = Duration::from_millis(100);
    policy.attempts = 2;
    policy
}

fn applier() -> IndexApplier {
    IndexApplier::new(policy()).unwrap()
}

fn yes() -> Apply {
    Apply::confirmed_by("test")
}

async fn indexes(server: &PostgresServer) -> String {
    server
        .sql("select c.relname, i.indisvalid, regexp_replace(obj_description(c.oid), '[0-9]{4}-[0-9]{2}-[0-9]{2}$', 'DAY') from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname like 'perfidx%' order by 1")
        .await
        .unwrap()
}

#[tokio::test]
async fn b5_dry_run_create_present_revert() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let name = advice.create[0].name.clone();
    let dry = applier().dry_run(&mut conn, &advice).await.unwrap();
    assert!(
        matches!(&dry.outcomes[0], IndexOutcome::DryRun { statement } if statement.starts_with("CREATE INDEX CONCURRENTLY perfidx_"))
    );
    assert_eq!(indexes(&server).await, "");
    let directory = std::env::temp_dir().join(format!("perf-dbopt-audit-{}", std::process::id()));
    let audited = applier().audit(JsonLines::new(&directory));
    let applied = audited.apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(applied.created().collect::<Vec<_>>(), [name.as_str()]);
    assert_eq!(indexes(&server).await, format!("{name}|t|perfkit: {name} created for test on DAY"));
    let again = audited.apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(again.outcomes, [IndexOutcome::Present { name: name.clone() }]);
    assert_eq!(audited.revert(&mut conn, &applied, &yes()).await.unwrap(), [name]);
    assert_eq!(indexes(&server).await, "");
    // B5.7: every statement stands in the trail twice, before and after.
    let trail = std::fs::read_to_string(&directory).unwrap();
    std::fs::remove_file(&directory).unwrap();
    for what in ["CREATE INDEX CONCURRENTLY", "COMMENT ON INDEX", "DROP INDEX CONCURRENTLY"] {
        assert_eq!(trail.matches(what).count(), 2, "{what}: {trail}");
    }
}

#[tokio::test]
async fn b5_7_nothing_is_changed_when_the_trail_cannot_be_written() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let blind = applier().audit(JsonLines::new("/nowhere/audit.jsonl"));
    let error = blind.apply(&mut conn, &advice, &yes()).await.unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(indexes(&server).await, "");
}

#[tokio::test]
async fn b5_1_and_b5_2_each_precondition_is_a_refusal_of_its_own() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let refusal = async |conn: &mut PgConnection, policy: ApplyPolicy| {
        let applied = IndexApplier::new(policy).unwrap().apply(conn, &advice, &yes()).await.unwrap();
        match applied.outcomes.into_iter().next().unwrap() {
            IndexOutcome::Refused { refusal, .. } => refusal,
            other => panic!("{other:?}"),
        }
    };
    let mut denied = policy();
    denied.deny = vec!["public.orders".to_owned()];
    assert_eq!(refusal(&mut conn, denied).await, Refusal::Denied);
    let mut few = policy();
    few.max_per_table = 1;
    assert_eq!(refusal(&mut conn, few).await, Refusal::TooManyIndexes { there: 1 });
    // Two windows that share the day: one of them is closed now.
    let shut = async |conn: &mut PgConnection, window: &str| {
        let mut timed = policy();
        timed.window = Some(window.parse().unwrap());
        let dry = IndexApplier::new(timed).unwrap().dry_run(conn, &advice).await.unwrap();
        matches!(dry.outcomes[0], IndexOutcome::Refused { refusal: Refusal::OutsideWindow { .. }, .. })
    };
    assert_ne!(shut(&mut conn, "00:00-12:00").await, shut(&mut conn, "12:00-00:00").await);
    let mut small = policy();
    small.max_bytes = Some(advice.create[0].bytes - 1);
    assert_eq!(refusal(&mut conn, small).await, Refusal::OverBudget { there: 0 });
    let mut busy = policy();
    busy.max_active = Some(0);
    let mut worker = PgConnection::connect(&server.url()).await.unwrap();
    let work = tokio::spawn(async move { run(&mut worker, "select pg_sleep(30)").await });
    wait_for(
        &server,
        "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'",
        "1",
    )
    .await;
    assert_eq!(refusal(&mut conn, busy).await, Refusal::Load { active: 1 });
    run(
        &mut conn,
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'",
    )
    .await;
    assert!(work.await.is_err(), "its connection was cut");

    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut other, "begin; select 1").await;
    let mut young = policy();
    young.max_transaction_age = Duration::ZERO;
    assert!(matches!(refusal(&mut conn, young).await, Refusal::OldTransaction { .. }));
    run(&mut other, "rollback").await;

    // Another index takes its time: each row asks for it.
    run(&mut conn, "create function slow(int) returns int language plpgsql immutable as 'begin perform pg_sleep(1); return $1; end'").await;
    let mut builder = PgConnection::connect(&server.url()).await.unwrap();
    let building = tokio::spawn(async move { run(&mut builder, "create index on orders (slow(id))").await });
    wait_for(&server, "select count(*) from pg_stat_progress_create_index", "1").await;
    assert_eq!(refusal(&mut conn, policy()).await, Refusal::BeingRebuilt);
    run(&mut conn, "select pg_terminate_backend(pid) from pg_stat_progress_create_index").await;
    assert!(building.await.is_err(), "its connection was cut");

    // What a session that saves a table from wraparound says it does; the words of a failed statement stay there as well.
    let mut saver = PgConnection::connect(&server.url()).await.unwrap();
    for (words, refused) in [
        ("autovacuum: VACUUM public.old_orders (to prevent wraparound)", false),
        ("autovacuum: VACUUM ANALYZE public.orders (to prevent wraparound)", true),
    ] {
        sqlx::raw_sql(words).execute(&mut saver).await.unwrap_err();
        let dry = applier().dry_run(&mut conn, &advice).await.unwrap();
        let wraparound =
            matches!(dry.outcomes[0], IndexOutcome::Refused { refusal: Refusal::Wraparound, .. });
        assert_eq!(wraparound, refused, "{words}: {dry:?}");
    }
    drop(saver);
    wait_for(&server, "select count(*) from pg_stat_activity where query like 'autovacuum%'", "0").await;

    let oid: i32 =
        sqlx::query_scalar("select 'orders'::regclass::oid::int4").fetch_one(&mut other).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut other).await.unwrap();
    sqlx::query("select pg_advisory_lock(1885696614, $1)").bind(oid).execute(&mut other).await.unwrap();
    assert_eq!(refusal(&mut conn, policy()).await, Refusal::Busy { holder: Some(pid) });
    drop(other);

    run(&mut conn, "create role guest; set role guest").await;
    assert_eq!(refusal(&mut conn, policy()).await, Refusal::NotOwner);
    run(&mut conn, "reset role; alter table orders rename to former").await;
    assert_eq!(refusal(&mut conn, policy()).await, Refusal::MissingTable);
    assert_eq!(indexes(&server).await, "");
}

#[tokio::test]
async fn b5_4_a_lock_held_by_someone_leaves_nothing_behind() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut other, "begin; lock table orders in share row exclusive mode").await;
    let blocked = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert!(
        matches!(&blocked.outcomes[0], IndexOutcome::Failed { error, .. } if error.contains("lock timeout")),
        "{blocked:?}"
    );
    assert_eq!(indexes(&server).await, "");
    run(&mut other, "rollback").await;

    // Blocked later, waiting for an old snapshot, PostgreSQL itself leaves an invalid index.
    run(&mut other, "begin isolation level repeatable read; select count(*) from customer").await;
    let waiting = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert!(
        matches!(&waiting.outcomes[0], IndexOutcome::Failed { .. } | IndexOutcome::NeedsCleanup { .. }),
        "{waiting:?}"
    );
    run(&mut other, "rollback").await;
    applier().repair(&mut conn, &yes()).await.unwrap();
    assert_eq!(indexes(&server).await, "");
    let free = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(free.created().count(), 1);
}

#[tokio::test]
async fn b5_4_an_invalid_index_of_ours_is_not_taken_for_success() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let name = &advice.create[0].name;
    run(&mut conn, &format!("create index {name} on orders (customer); update pg_index set indisvalid = false where indexrelid = '{name}'::regclass")).await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(applied.created().count(), 1);
    assert!(indexes(&server).await.contains("|t|"));
    // Nor is one that somebody else says is his.
    run(&mut conn, &format!("comment on index {name} is 'mine'; update pg_index set indisvalid = false where indexrelid = '{name}'::regclass")).await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert!(
        matches!(&applied.outcomes[0], IndexOutcome::Failed { error, .. } if error.contains("not ours")),
        "{applied:?}"
    );
    assert_eq!(indexes(&server).await, format!("{name}|f|mine"));
}

#[tokio::test]
async fn b5_3_hostile_names_are_advised_built_and_dropped() {
    let (server, mut conn) = shop().await;
    let long = "länge".repeat(20);
    let schema = r#""sel ""ect.x""#;
    let table = format!(r#"{schema}."; drop table orders; --""#);
    let column = r#""ключ"QQ"#.replace("QQ", r#""""#);
    run(
        &mut conn,
        &format!(
            "create schema {schema}; create table {table} (\"from\" int, \"a.b\nc\" text, \"{long}\" text, {column} text); \
             insert into {table} select i % 4000, 'v' || i % 3000, 'w' || i, 'x' from generate_series(1, 20000) i; analyze"
        ),
    )
    .await;
    let cut: String = sqlx::query_scalar("select attname::text from pg_attribute where attname like 'läng%'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(cut.len() <= 63 && cut != long, "the server cuts names: {cut}");
    let workload = Workload::new(Dialect::Postgres)
        .with(&format!("select {column} from {table} where \"from\" = $1"), 10)
        .with(&format!("select \"from\" from {table} where \"a.b\nc\" = $1 and \"{cut}\" = $2"), 10);
    let advice = PostgresAdvisor::default().advise(&mut conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 2, "{advice}");
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(applied.created().count(), 2, "{applied:?}");
    let again = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert!(again.outcomes.iter().all(|it| matches!(it, IndexOutcome::Present { .. })), "{again:?}");
    assert_eq!(applier().revert(&mut conn, &applied, &yes()).await.unwrap().len(), 2);
    assert_eq!(indexes(&server).await, "");
    assert_eq!(server.sql("select count(*) from orders").await.unwrap(), "50000");
}

#[tokio::test]
async fn b5_6_an_expression_index_gets_statistics_and_every_index_says_whose_it_is() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, "select id from customer where lower(name) = $1").await;
    let name = &advice.create[0].name;
    assert_eq!(
        advice.create[0].evidence,
        Evidence::LowerBound,
        "the planner knows nothing of its values yet"
    );
    applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    let today = server.sql("select (now() at time zone 'utc')::date").await.unwrap();
    let comment = server.sql(&format!("select obj_description('{name}'::regclass)")).await.unwrap();
    assert_eq!(comment, format!("perfkit: {name} created for test on {today}"));
    let known = format!("select n_distinct from pg_stats where tablename = '{name}'");
    assert_eq!(server.sql(&known).await.unwrap(), "-1", "every name is another");
}

#[tokio::test]
async fn b5_5_a_partitioned_table_is_indexed_leaf_by_leaf_and_resumed() {
    let (server, mut conn) = shop().await;
    run(&mut conn, "create table event (id int, account int, day date) partition by range (day)").await;
    for year in 2020..2024 {
        run(&mut conn, &format!("create table event_{year} partition of event for values from ('{year}-01-01') to ('{}-01-01')", year + 1)).await;
    }
    run(&mut conn, "insert into event select i, i % 5000, date '2020-01-01' + i % 1400 from generate_series(1, 40000) i; analyze event").await;
    let advice = advice(&mut conn, "select * from event where account = $1").await;
    let index = &advice.create[0];
    // An earlier run was killed after the first leaf.
    let mut leaf = index.index.clone();
    leaf.schema = Some("public".to_owned());
    leaf.table = "event_2020".to_owned();
    run(&mut conn, &leaf.create(Dialect::Postgres, &leaf.name())).await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert_eq!(applied.created().count(), 1, "{applied:?}");
    let valid = server.sql("select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and indisvalid").await.unwrap();
    assert_eq!(valid, "5");
    assert_eq!(applier().revert(&mut conn, &applied, &yes()).await.unwrap().len(), 1);
    assert_eq!(indexes(&server).await, "");
}

/// The process that is killed: it applies the advice for the statement in its environment. As a plain test it does nothing.
#[tokio::test]
async fn child_process_of_the_kill_journey() {
    let Ok(url) = std::env::var("PERF_DBOPT_CHILD_URL") else { return };
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let advice = advice(&mut conn, HISTORY).await;
    let mut patient = policy();
    patient.lock_timeout = Duration::from_secs(2);
    patient.attempts = 1;
    let applier = IndexApplier::new(patient).unwrap();
    let applied = applier.apply(&mut conn, &advice, &yes()).await.unwrap();
    if std::env::var_os("PERF_DBOPT_CHILD_REVERTS").is_some() {
        applier.revert(&mut conn, &applied, &yes()).await.unwrap();
    }
}

/// Starts the process that is killed.
fn child(server: &PostgresServer) -> std::process::Command {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["postgres_apply::child_process_of_the_kill_journey", "--exact"])
        .env("PERF_DBOPT_CHILD_URL", server.url())
        .stdout(std::process::Stdio::null());
    child
}

#[tokio::test]
async fn b5_7_killed_while_it_takes_an_index_back_the_next_run_drops_it() {
    let (server, mut conn) = shop().await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    // The index is built first, so the old snapshot must come between building and dropping.
    let name = advice(&mut conn, HISTORY).await.create[0].name.clone();
    run(
        &mut conn,
        "create or replace function wait() returns event_trigger language plpgsql as \
        $$ begin if tg_tag = 'DROP INDEX' then perform pg_sleep(0.3); end if; end $$; \
        create event trigger slow on ddl_command_start execute function wait()",
    )
    .await;
    let mut process = child(&server).env("PERF_DBOPT_CHILD_REVERTS", "1").spawn().unwrap();
    wait_for(
        &server,
        "select count(*) from pg_stat_activity where query like 'DROP INDEX CONC%' and state = 'active'",
        "1",
    )
    .await;
    run(&mut other, "begin isolation level repeatable read; select count(*) from orders").await;
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    wait_for(&server, invalid, "1").await;
    process.kill().unwrap();
    process.wait().unwrap();
    drop(other);
    wait_for(
        &server,
        "select count(*) from pg_stat_activity where query like 'DROP INDEX CONC%' and state = 'active'",
        "0",
    )
    .await;
    run(&mut conn, "drop event trigger slow").await;
    let repaired = applier().repair(&mut conn, &yes()).await.unwrap();
    // The orphaned server process may have come to the end by itself.
    assert!(repaired.dropped == [name] || repaired.dropped.is_empty(), "{repaired:?}");
    assert_eq!(indexes(&server).await, "");
}

async fn wait_for(server: &PostgresServer, sql: &str, wanted: &str) {
    for _ in 0..1000 {
        if server.sql(sql).await.unwrap() == wanted {
            return;
        }
    }
    assert_eq!(server.sql(sql).await.unwrap(), wanted, "{sql}");
}

#[tokio::test]
async fn b5_7_killed_at_any_step_the_next_run_completes_or_cleans() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let waiting_lock = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'CREATE INDEX CONC%'";
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    let blockers = [
        // Before anything exists, and while an old snapshot keeps the half-built index invalid.
        ("begin; lock table orders in share row exclusive mode", waiting_lock),
        ("begin isolation level repeatable read; select count(*) from customer", invalid),
    ];
    for (blocker, step) in blockers {
        let mut other = PgConnection::connect(&server.url()).await.unwrap();
        run(&mut other, blocker).await;
        let mut child = child(&server).spawn().unwrap();
        wait_for(&server, step, "1").await;
        child.kill().unwrap();
        child.wait().unwrap();
        drop(other);
        // The server ends the orphaned build by itself: it completes, or runs into its lock timeout.
        wait_for(&server, "select count(*) from pg_stat_activity where query like 'CREATE INDEX CONC%' and state = 'active' and pid <> pg_backend_pid()", "0").await;
        applier().repair(&mut conn, &yes()).await.unwrap();
        let left = indexes(&server).await;
        assert!(
            left.is_empty() || left.ends_with(" found by test on DAY") && left.contains("|t|perfkit: "),
            "{left}"
        );
        let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
        assert!(
            matches!(&applied.outcomes[0], IndexOutcome::Created { .. } | IndexOutcome::Present { .. }),
            "{applied:?}"
        );
        assert_eq!(server.sql(invalid).await.unwrap(), "0");
        run(&mut conn, &format!("drop index {}", advice.create[0].name)).await;
    }
    // After the build, before the comment: adopted.
    run(&mut conn, &advice.create[0].ddl).await;
    let repaired = applier().repair(&mut conn, &yes()).await.unwrap();
    assert_eq!(repaired.adopted, [advice.create[0].name.clone()]);
    // Of other origin: never touched.
    run(
        &mut conn,
        "create index perfidx_0000abcd on orders (total); comment on index perfidx_0000abcd is 'mine'",
    )
    .await;
    run(&mut conn, "update pg_index set indisvalid = false where indexrelid = 'perfidx_0000abcd'::regclass")
        .await;
    assert_eq!(applier().repair(&mut conn, &yes()).await.unwrap(), perf_dbopt::postgres::Repaired::default());
}

async fn measure(
    conn: &mut PgConnection,
    calls: usize,
    customer: i32,
) -> perf_dbopt::postgres::StatementsDelta {
    let before = StatementsSnapshot::take(conn).await.unwrap();
    for _ in 0..calls {
        let sql = format!("select sum(total) from orders where customer = {customer} and status = 'done'");
        run(conn, &sql).await;
    }
    StatementsSnapshot::take(conn).await.unwrap().since(&before)
}

#[tokio::test]
async fn b5_8_an_improvement_is_kept_and_a_planted_regression_is_taken_back() {
    let (server, mut conn) = shop().await;
    let before = measure(&mut conn, 40, 17).await;
    let advice = advice(&mut conn, "select sum(total) from orders where customer = $1 and status = $2").await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    let after = measure(&mut conn, 40, 17).await;
    let scans: u64 = server
        .sql(&format!(
            "select coalesce(sum(idx_scan), 0) from pg_stat_user_indexes where indexrelname = '{}'",
            advice.create[0].name
        ))
        .await
        .unwrap()
        .parse()
        .unwrap();
    let verdict = judge(&before.baselines(), &after.baselines(), scans.max(1), VerifyPolicy::default());
    assert!(matches!(&verdict, Verdict::Improved(changes) if changes[0].ratio < 0.3), "{verdict:?}");

    // Now nearly all rows belong to one customer, but the planner does not know it yet and keeps the index.
    run(&mut conn, "update orders set customer = 17; set enable_seqscan = off; set enable_bitmapscan = off")
        .await;
    let skewed = measure(&mut conn, 40, 17).await;
    let verdict = judge(&before.baselines(), &skewed.baselines(), 40, VerifyPolicy::default());
    assert!(matches!(verdict, Verdict::Regressed(_)), "{verdict:?}");
    assert!(verdict.calls_for_revert());
    assert_eq!(applier().revert(&mut conn, &applied, &yes()).await.unwrap().len(), 1);
    assert_eq!(indexes(&server).await, "");
}

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

/// Calls of the shop's page, seen by the statistics at once.
async fn work(conn: &mut PgConnection, calls: usize) {
    for _ in 0..calls {
        run(conn, "select sum(total) from orders where customer = 17 and status = 'done'").await;
    }
    run(conn, "select pg_stat_force_next_flush()").await;
}

fn soon() -> TrialPolicy {
    let mut policy = TrialPolicy::default();
    policy.min_time = Duration::ZERO;
    policy.interval = Duration::from_millis(5);
    policy
}

/// The index of the shop's page on trial, after it was created and before anything was measured.
async fn on_trial(conn: &mut PgConnection, applier: &IndexApplier) -> (Advice, Trial) {
    let start = StatementsSnapshot::take(conn).await.unwrap();
    work(conn, 40).await;
    let before = StatementsSnapshot::take(conn).await.unwrap().since(&start);
    let advice = advice(conn, "select sum(total) from orders where customer = $1 and status = $2").await;
    let (applied, trial) = applier.begin(conn, &advice, &before, &yes()).await.unwrap();
    assert_eq!(trial.pending().collect::<Vec<_>>(), applied.created().collect::<Vec<_>>());
    assert_eq!(applied.created().count(), 1);
    (advice, trial)
}

#[tokio::test]
async fn b5_8_an_index_that_helps_ends_its_trial_and_stays() {
    let (server, mut conn) = shop().await;
    let applier = applier();
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(
        (verdicts[0].outcome, trial.is_over()),
        (None, false),
        "nothing was measured yet: {verdicts:?}"
    );
    work(&mut conn, 40).await;
    // The process was restarted: the trial goes on from what was kept of it.
    #[cfg(feature = "serde")]
    let mut trial: Trial = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
    let verdicts = applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].outcome, Some(TrialOutcome::Kept), "{verdicts:?}");
    assert!(matches!(verdicts[0].verdict, Verdict::Improved(_)));
    assert!(indexes(&server).await.starts_with(&advice.create[0].name));
}

#[tokio::test]
async fn b5_8_and_b5_9_a_planted_regression_is_found_reverted_and_not_built_again() {
    let (server, mut conn) = shop().await;
    let trail = std::env::temp_dir().join(format!("perf-dbopt-trial-{}", std::process::id()));
    let applier = applier().audit(JsonLines::new(&trail));
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    // Nearly all rows now belong to one customer, and the planner's statistics are from before.
    run(&mut conn, "update orders set customer = 17; set enable_seqscan = off; set enable_bitmapscan = off")
        .await;
    work(&mut conn, 40).await;
    let verdicts = applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].outcome, Some(TrialOutcome::Reverted), "{verdicts:?}");
    assert!(matches!(verdicts[0].verdict, Verdict::Regressed(_)));
    assert_eq!(indexes(&server).await, "");
    // B5.9: neither this process nor the next builds it again, until the time is over.
    let next = self::applier().audit(JsonLines::new(&trail));
    for applier in [&applier, &next] {
        let again = applier.apply(&mut conn, &advice, &yes()).await.unwrap();
        assert!(
            matches!(
                again.outcomes[0],
                IndexOutcome::Refused { refusal: Refusal::Suppressed { hours: 720 }, .. }
            ),
            "{again:?}"
        );
    }
    let mut forgetful = policy();
    forgetful.suppress = Duration::ZERO;
    let forgetful = IndexApplier::new(forgetful).unwrap().audit(JsonLines::new(&trail));
    assert_eq!(forgetful.apply(&mut conn, &advice, &yes()).await.unwrap().created().count(), 1);
    std::fs::remove_file(&trail).unwrap();
}

#[tokio::test]
async fn b5_8_a_reset_of_the_statistics_begins_the_measuring_anew() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (_, mut trial) = on_trial(&mut conn, &applier).await;
    work(&mut conn, 40).await;
    run(&mut conn, "select pg_stat_statements_reset()").await;
    work(&mut conn, 10).await;
    applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert!(!trial.is_over(), "ten calls since the reset are no measurement");
    work(&mut conn, 40).await;
    assert_eq!(applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn b5_8_another_index_on_the_table_begins_the_measuring_anew() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (_, mut trial) = on_trial(&mut conn, &applier).await;
    work(&mut conn, 40).await;
    run(&mut conn, "create index by_status on orders (status)").await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].verdict, Verdict::Undecided, "those calls had other plans to choose from");
    let mut senseless = soon();
    senseless.verify.min_calls = 0;
    let refused = applier.verify(&mut conn, &mut trial, &senseless, &yes()).await.unwrap_err();
    assert!(refused.to_string().contains("verify.min_calls = 0"), "{refused}");
    work(&mut conn, 40).await;
    assert_eq!(applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn b5_8_an_index_somebody_else_dropped_is_gone() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    run(&mut conn, &format!("drop index {}", advice.create[0].name)).await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!((verdicts[0].outcome, trial.is_over()), (Some(TrialOutcome::Gone), true));
}

#[tokio::test]
async fn b5_1_two_hosts_at_once_build_an_index_once() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let (ours, theirs) = (applier(), applier());
    let (yes_here, yes_there) = (yes(), yes());
    let (one, two) = tokio::join!(
        ours.apply(&mut conn, &advice, &yes_here),
        theirs.apply(&mut other, &advice, &yes_there)
    );
    let outcomes = [one.unwrap().outcomes.remove(0), two.unwrap().outcomes.remove(0)];
    let built = outcomes.iter().filter(|it| matches!(it, IndexOutcome::Created { .. })).count();
    let others = outcomes.iter().filter(|it| {
        matches!(it, IndexOutcome::Present { .. })
            || matches!(
                it,
                IndexOutcome::Refused { refusal: Refusal::Busy { .. } | Refusal::BeingRebuilt, .. }
            )
    });
    assert_eq!((built, others.count()), (1, 1), "{outcomes:?}");
    assert_eq!(indexes(&server).await.lines().count(), 1);
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_is_an_error_and_the_next_run_completes() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut other, "begin isolation level repeatable read; select count(*) from customer").await;
    let mut patient = policy();
    patient.lock_timeout = Duration::from_secs(30);
    let applier = IndexApplier::new(patient).unwrap();
    let running =
        tokio::spawn(async move { applier.apply(&mut conn, &advice, &yes()).await.map(|_| advice) });
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    wait_for(&server, invalid, "1").await;
    server.restart().await.unwrap();
    assert!(running.await.unwrap().is_err(), "the connection was cut");
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    let repaired = self::applier().repair(&mut conn, &yes()).await.unwrap();
    assert_eq!(repaired.dropped.len(), 1);
    let advice = self::advice(&mut conn, HISTORY).await;
    assert_eq!(self::applier().apply(&mut conn, &advice, &yes()).await.unwrap().created().count(), 1);
}

#[tokio::test]
async fn a_session_that_may_only_read_gets_advice_and_a_refusal() {
    let (server, mut conn) = shop().await;
    run(&mut conn, "set default_transaction_read_only = on").await;
    let advice = advice(&mut conn, HISTORY).await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    assert!(
        matches!(applied.outcomes[0], IndexOutcome::Refused { refusal: Refusal::Standby, .. }),
        "{applied:?}"
    );
    assert_eq!(indexes(&server).await, "");
}
