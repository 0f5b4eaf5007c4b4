//! Plan findings, activity, bloat, growth, settings, maintenance and plans of slow queries on PostgreSQL (scope 3, 4 and 7).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_dbopt::advise::SkipReason;
use perf_dbopt::postgres::{
    ActivitySamples, Host, PlanFindingKind, TableSizes, advise_settings, analyze, bloat, inspect, maintain,
    plan_findings,
};
use perf_dbopt::{Apply, Dialect, Error, FindingKind, MaintenancePolicy, ObserverConfig, QueryStats};
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

async fn run(conn: &mut PgConnection, sql: &str) {
    for statement in perf_dbopt::statements(sql, Dialect::Postgres) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

async fn database(setup: &str) -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder().setting("autovacuum", "off").start().await.unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, setup).await;
    (server, conn)
}

const ROWS: &str = "create table t (id int, kind text, n int); \
    insert into t select i, 'kind ' || i % 1000, i from generate_series(1, 50000) i; analyze t";
const PATIENT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn plans_show_discarding_filters_spills_and_wrong_estimates() {
    let (_server, mut conn) = database(ROWS).await;
    let kinds = async |conn: &mut PgConnection, sql: &str| {
        let plan = analyze(conn, sql, PATIENT).await.unwrap().unwrap();
        let found = plan_findings(&plan).unwrap();
        assert!(
            found.iter().all(|finding| !finding.advice().is_empty() && finding.to_string().contains('('))
        );
        found.into_iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    let discards = kinds(&mut conn, "select * from t where kind = 'kind 7'").await;
    assert!(
        discards.contains(&PlanFindingKind::FilterDiscards { kept: 50.0, discarded: 49950.0 }),
        "{discards:?}"
    );
    run(&mut conn, "set work_mem = '64kB'").await;
    let spills = kinds(&mut conn, "select * from t order by kind desc").await;
    assert!(spills.iter().any(|kind| matches!(kind, PlanFindingKind::SortSpill { .. })), "{spills:?}");
    let wrong = kinds(&mut conn, "select * from t where n % 2 = 0 and n + 1 > 0").await;
    assert!(wrong.iter().any(|kind| matches!(kind, PlanFindingKind::Misestimate { .. })), "{wrong:?}");
}

#[tokio::test]
async fn b1_6_what_could_change_something_is_not_executed_and_the_rest_is_bounded() {
    let (server, mut conn) = database(ROWS).await;
    for sql in [
        "delete from t",
        "with gone as (delete from t returning 1) select * from gone",
        "select * from t for update",
        "select * into copy from t",
        "select pg_sleep(1)",
        "select nextval('s')",
    ] {
        let refused = analyze(&mut conn, sql, PATIENT).await.unwrap();
        assert!(matches!(refused, Err(SkipReason::NotPlannable(_))), "{sql}: {refused:?}");
    }
    assert_eq!(analyze(&mut conn, "truncate t", PATIENT).await.unwrap(), Err(SkipReason::Utility));
    let slow = "select count(*) from t a, t b, t c";
    let ended = analyze(&mut conn, slow, Duration::from_millis(50)).await;
    assert!(ended.is_err_and(|error| error.is_timeout()));
    analyze(&mut conn, "select 1", PATIENT).await.unwrap().unwrap();
    assert_eq!(server.sql("select count(*) from t").await.unwrap(), "50000");
}

#[tokio::test]
async fn sessions_are_sampled_by_what_they_wait_for() {
    let (server, mut conn) = database("create table t (a int)").await;
    let mut holder = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut holder, "begin; lock table t").await;
    let mut waiter = PgConnection::connect(&server.url()).await.unwrap();
    let waiting = tokio::spawn(async move { run(&mut waiter, "select * from t").await });
    let mut samples = ActivitySamples::default();
    while samples.waits().is_empty() {
        samples = ActivitySamples::default();
        samples.take(&mut conn).await.unwrap();
    }
    samples.take(&mut conn).await.unwrap();
    assert_eq!(samples.samples, 2);
    assert_eq!(samples.waits(), [("Lock: relation".to_owned(), 1.0)]);
    assert_eq!((samples.mean("active"), samples.mean("idle in transaction")), (1.0, 1.0));
    assert!(samples.longest_transaction > 0.0);
    run(&mut holder, "rollback").await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn b7_empty_space_is_estimated_and_rebuilding_gets_it_back() {
    let (server, mut conn) = database(
        "create table big (id int, pad text); insert into big select i, repeat('x', 60) from generate_series(1, 400000) i; \
         create index big_pad on big (pad, id); create table full_one as select * from big; \
         delete from big where id % 4 <> 0; vacuum analyze; analyze",
    )
    .await;
    let findings = bloat(&mut conn).await.unwrap();
    let seen: Vec<_> = findings.iter().map(|f| (f.kind, f.object.as_str())).collect();
    assert_eq!(
        seen,
        [
            (FindingKind::TableBloat, "\"public\".\"big\""),
            (FindingKind::IndexBloat, "\"public\".\"big_pad\""),
        ]
    );
    // Three quarters of the rows went, and as much of the space.
    let share =
        |text: &str| text.split_once("about ").unwrap().1.split_once(' ').unwrap().0.parse::<f64>().unwrap();
    assert!(findings.iter().all(|f| (65.0..=85.0).contains(&share(&f.message))), "{findings:?}");
    // Only on request, and then measured.
    let mut policy = MaintenancePolicy::default();
    let consent = Apply::confirmed_by("test");
    assert!(maintain(&mut conn, &findings, &policy, &consent).await.unwrap().done.is_empty());
    policy.indexes = true;
    let size = "select pg_relation_size('big_pad')";
    let before: f64 = server.sql(size).await.unwrap().parse().unwrap();
    let done = maintain(&mut conn, &findings, &policy, &consent).await.unwrap().done;
    assert_eq!(done, ["REINDEX INDEX CONCURRENTLY \"public\".\"big_pad\""]);
    let after: f64 = server.sql(size).await.unwrap().parse().unwrap();
    let freed = 100.0 * (1.0 - after / before);
    assert!((freed - share(&findings[1].message)).abs() < 6.0, "freed {freed}: {findings:?}");
}

#[tokio::test]
async fn b7_growth_is_measured_between_two_moments() {
    let (_server, mut conn) = database(ROWS).await;
    let before = TableSizes::take(&mut conn).await.unwrap();
    run(&mut conn, "insert into t select * from t; create table later (a int)").await;
    let growth = TableSizes::take(&mut conn).await.unwrap().since(&before);
    assert_eq!(growth.len(), 1);
    assert!(growth[0].table == "public.t" && growth[0].per_day > 0.0);
}

#[tokio::test]
async fn b8_the_settings_of_a_fresh_server_are_small_for_a_large_machine() {
    let (_server, mut conn) = database("").await;
    let host = Host { memory: 64 << 30, cores: 16, ssd: true };
    let findings = advise_settings(&mut conn, &host).await.unwrap();
    let names: Vec<_> = findings.iter().map(|f| f.object.as_str()).collect();
    for name in ["shared_buffers", "random_page_cost", "autovacuum"] {
        assert!(names.contains(&name), "{findings:?}");
    }
    assert!(findings.iter().all(|f| f.action.as_ref().unwrap().starts_with("ALTER SYSTEM SET ")));
}

#[tokio::test]
async fn b7_maintenance_keeps_to_its_window_and_passes_over_what_is_locked() {
    let (server, mut conn) = database(&format!("{ROWS}; create table u (a int); insert into u select generate_series(1, 9000); delete from t where id > 100; delete from u where a > 10")).await;
    run(&mut conn, "create index t_ccnew on t (n); update pg_index set indisvalid = false where indexrelid = 't_ccnew'::regclass; select pg_stat_force_next_flush()").await;
    let findings = inspect(&mut conn).await.unwrap();
    let left = findings.iter().find(|f| f.kind == FindingKind::InvalidIndex).unwrap();
    assert!(left.message.contains("REINDEX"), "{left}");
    let consent = Apply::confirmed_by("test");
    let mut outside = 0;
    for window in ["00:00-12:00", "12:00-00:00"] {
        let mut policy = MaintenancePolicy::default();
        policy.window = Some(window.parse().unwrap());
        // No budget: what is inside its window begins nothing either.
        policy.budget = Duration::from_nanos(1);
        let maintained = maintain(&mut conn, &findings, &policy, &consent).await.unwrap();
        assert!(maintained.done.is_empty() && maintained.left.len() >= 3, "{maintained:?}");
        outside += usize::from(maintained.outside_window);
    }
    assert_eq!(outside, 1);
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut other, "begin; lock table t").await;
    let maintained = maintain(&mut conn, &findings, &MaintenancePolicy::default(), &consent).await.unwrap();
    assert!(maintained.failed.is_empty() && maintained.left.is_empty(), "{maintained:?}");
    let vacuumed = "select string_agg(relname, ',') from pg_stat_user_tables where last_vacuum is not null";
    assert_eq!(server.sql(vacuumed).await.unwrap(), "u");
}

#[tokio::test]
async fn a_slow_query_is_explained_with_its_own_values_which_are_masked() {
    let (server, mut conn) = database(ROWS).await;
    let config = {
        let mut config = ObserverConfig::default();
        config.slow = Duration::from_nanos(1);
        config
    };
    let stats = QueryStats::builder("main", Dialect::Postgres).config(config).build().unwrap();
    let (requests, mut plans) = stats.plans::<sqlx::Postgres>();
    let sql = "select count(*) from t where kind = $1 and n < $2 and id <> 31337";
    for _ in 0..3 {
        let query = sqlx::query(sql).bind("kind 7 secret").bind(4242);
        query.fetch_one(stats.observe_with_plans(&mut conn, &requests)).await.unwrap();
    }
    drop(requests);
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    assert!(plans.explain_next(&mut other).await.unwrap());
    assert!(!plans.explain_next(&mut other).await.unwrap(), "one plan is enough for a while");
    let slow = stats.slow_queries();
    let plan = slow.iter().find_map(|slow| slow.plan.as_ref()).unwrap();
    assert!(plan.contains("Seq Scan") && plan.contains("kind = ?"), "{plan}");
    assert!(!plan.contains("secret") && !plan.contains("4242") && !plan.contains("31337"), "{plan}");
    assert!(
        !plan_findings(plan).unwrap().iter().any(|f| matches!(f.kind, PlanFindingKind::SortSpill { .. }))
    );
}

#[tokio::test]
async fn a_plan_that_does_not_come_is_an_error_and_the_next_goes_on() {
    let (server, mut conn) = database(ROWS).await;
    let config = {
        let mut config = ObserverConfig::default();
        config.slow = Duration::from_nanos(1);
        config
    };
    let stats = QueryStats::builder("main", Dialect::Postgres).config(config).build().unwrap();
    let (requests, plans) = stats.plans::<sqlx::Postgres>();
    let mut plans = plans.timeout(Duration::from_millis(100));
    for sql in ["select count(*) from t", "select sum(n) from t"] {
        for _ in 0..2 {
            sqlx::query(sql).fetch_one(stats.observe_with_plans(&mut conn, &requests)).await.unwrap();
        }
    }
    run(&mut conn, "begin; lock table t").await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let stuck = plans.explain_next(&mut other).await;
    assert!(matches!(stuck, Err(Error::TimedOut(_))), "{stuck:?}");
    run(&mut conn, "rollback").await;
    let mut fresh = PgConnection::connect(&server.url()).await.unwrap();
    assert!(plans.explain_next(&mut fresh).await.unwrap());
}
