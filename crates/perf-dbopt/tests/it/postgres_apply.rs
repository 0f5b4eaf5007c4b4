//! Creating indexes on a live PostgreSQL and taking them back (B5).

use crate::orders::{HISTORY, advice, applier, indexes, policy, run, shop, wait_for, yes};
use perf_dbopt::advise::Evidence;
use perf_dbopt::postgres::{ApplyPolicy, IndexApplier, IndexOutcome, JsonLines, PostgresAdvisor, Refusal};
use perf_dbopt::{Dialect, Workload};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

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
