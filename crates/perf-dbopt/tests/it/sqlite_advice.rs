//! Index advice for SQLite (B9), on a shop with TPC-H's schema and on small tables that each ask one question.
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_dbopt::advise::{Advice, AdvisorConfig, IndexDef, RejectReason, SkipReason};
use perf_dbopt::sqlite::{SqliteAdvisor, SqliteStep};
use perf_dbopt::{Apply, Dialect, QueryStats, Workload};
use sqlx::{Connection, Executor, SqliteConnection};

const SHOP: &str = "
create table region (r_regionkey integer primary key, r_name text not null);
create table nation (n_nationkey integer primary key, n_name text not null, n_regionkey integer not null);
create table supplier (s_suppkey integer primary key, s_name text, s_address text, s_nationkey integer, s_phone text, s_acctbal real, s_comment text);
create table part (p_partkey integer primary key, p_name text, p_mfgr text, p_brand text, p_type text, p_size integer, p_container text, p_retailprice real, p_comment text);
create table partsupp (ps_partkey integer, ps_suppkey integer, ps_availqty integer, ps_supplycost real, ps_comment text, primary key (ps_partkey, ps_suppkey));
create table customer (c_custkey integer primary key, c_name text, c_address text, c_nationkey integer, c_phone text, c_acctbal real, c_mktsegment text, c_comment text);
create table orders (o_orderkey integer primary key, o_custkey integer, o_orderstatus text, o_totalprice real, o_orderdate text, o_orderpriority text, o_clerk text, o_shippriority integer, o_comment text);
create table lineitem (l_orderkey integer, l_partkey integer, l_suppkey integer, l_linenumber integer, l_quantity real, l_extendedprice real, l_discount real, l_tax real, l_returnflag text, l_linestatus text, l_shipdate text, l_commitdate text, l_receiptdate text, l_shipinstruct text, l_shipmode text, l_comment text, primary key (l_orderkey, l_linenumber));
create temp table n as with recursive n(i) as (values(0) union all select i + 1 from n where i < 40000) select i from n;
insert into region select i, 'region ' || i from n where i < 5;
insert into nation select i, 'nation ' || i, i % 5 from n where i < 25;
insert into supplier select i + 1, 'supplier ' || i, 'street ' || i, i % 25, '0' || i, i * 1.5, hex(i * 7919) from n where i < 100;
insert into part select i + 1, 'part ' || (i * 7919 % 2000) || ' red', 'maker ' || i % 5, 'brand ' || i % 25, 'type ' || i % 150, i % 50, 'box ' || i % 40, 900 + i % 1000, hex(i * 31) from n where i < 2000;
insert into partsupp select i / 4 + 1, (i / 4 + i % 4 * 25) % 100 + 1, i % 9999, i % 1000, hex(i * 7919) || hex(i) from n where i < 8000;
insert into customer select i + 1, 'customer ' || i, 'street ' || i, i * 31 % 25, '0' || i, i, 'segment ' || i % 5, hex(i * 7919) from n where i < 1500;
insert into orders select i + 1, i * 7919 % 1000 + 1, 'O', i * 3.5, date('1992-01-01', (i * 7919 % 2400) || ' days'), i % 5 || '-prio', 'clerk ' || i % 100, 0, hex(i * 7919) || hex(i) from n where i < 15000;
insert into lineitem select i / 3 + 1, i * 7919 % 2000 + 1, i * 31 % 100 + 1, i % 3 + 1, i % 50, i % 90000, i % 10 / 100.0, i % 8 / 100.0, 'N', 'O', date('1992-01-01', (i * 7919 % 2500) || ' days'), date('1992-01-01', (i * 31 % 2500) || ' days'), date('1992-01-01', (i * 17 % 2500) || ' days'), 'none', 'air', hex(i * 7919) from n where i < 40000;
drop table n;
";

const PRODUCT: &str = "select p.p_partkey, p.p_name, p.p_retailprice, s.s_name, ps.ps_supplycost, ps.ps_availqty from part p join partsupp ps on ps.ps_partkey = p.p_partkey join supplier s on s.s_suppkey = ps.ps_suppkey where p.p_partkey = ? order by ps.ps_supplycost";
const SEARCH: &str =
    "select p_partkey, p_name, p_retailprice from part where p_name like ? order by p_name limit ? offset ?";
const HISTORY: &str = "select o_orderkey, o_orderdate, o_totalprice, o_orderstatus from orders where o_custkey = ? order by o_orderdate desc limit 20";
const DETAIL: &str = "select l.l_linenumber, p.p_name, l.l_quantity, l.l_extendedprice from lineitem l join part p on p.p_partkey = l.l_partkey where l.l_orderkey = ? order by l.l_linenumber";
const BEST: &str = "select p.p_partkey, p.p_name, sum(l.l_quantity) as sold from customer c join orders o on o.o_custkey = c.c_custkey join lineitem l on l.l_orderkey = o.o_orderkey join part p on p.p_partkey = l.l_partkey where c.c_nationkey = ? group by p.p_partkey, p.p_name order by sold desc limit 10";
const REVENUE: &str = "select o_orderdate, sum(o_totalprice), count(*) from orders where o_orderdate >= ? and o_orderdate < ? group by o_orderdate order by o_orderdate";
const ORDER: &str = "insert into orders (o_orderkey, o_custkey, o_orderstatus, o_totalprice, o_orderdate) values (?, ?, 'O', ?, ?)";

async fn database(script: &str) -> SqliteConnection {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(script.to_owned())).execute(&mut conn).await.unwrap();
    conn
}

/// One that is not hurried, however busy the machine.
fn advisor() -> SqliteAdvisor {
    let mut config = AdvisorConfig::default();
    config.time = std::time::Duration::from_secs(60);
    SqliteAdvisor::new(config).unwrap()
}

fn leads_with(advice: &Advice, table: &str, column: &str) -> bool {
    advice.create.iter().any(|a| a.index.table == table && a.index.columns().next() == Some(column))
}

async fn plan(conn: &mut SqliteConnection, sql: &str) -> String {
    let sql = format!("explain query plan {sql}");
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await.unwrap();
    use sqlx::Row;
    rows.iter().map(|row| row.get::<String, _>(3)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn b9_the_storefront_gets_the_indexes_its_pages_need_and_uses_them() {
    let mut conn = database(SHOP).await;
    let stats = QueryStats::new("shop", Dialect::Sqlite);
    for _ in 0..3 {
        sqlx::query(PRODUCT).bind(17).fetch_all(stats.observe(&mut conn)).await.unwrap();
        sqlx::query(SEARCH).bind("%red%").bind(20).bind(0).fetch_all(stats.observe(&mut conn)).await.unwrap();
        sqlx::query(HISTORY).bind(7).fetch_all(stats.observe(&mut conn)).await.unwrap();
        sqlx::query(DETAIL).bind(99).fetch_all(stats.observe(&mut conn)).await.unwrap();
        sqlx::query(BEST).bind(3).fetch_all(stats.observe(&mut conn)).await.unwrap();
        sqlx::query(REVENUE)
            .bind("1995-01-01")
            .bind("1995-02-01")
            .fetch_all(stats.observe(&mut conn))
            .await
            .unwrap();
    }
    let insert = sqlx::query(ORDER).bind(99_999).bind(7).bind(12.5).bind("1998-01-01");
    insert.execute(stats.observe(&mut conn)).await.unwrap();
    let advice = advisor().advise(&mut conn, &stats.workload()).await.unwrap();
    assert!(leads_with(&advice, "orders", "o_custkey"), "{advice}");
    assert!(leads_with(&advice, "orders", "o_orderdate"), "{advice}");
    assert!(leads_with(&advice, "customer", "c_nationkey"), "{advice}");
    assert!(
        !advice.create.iter().any(|a| ["region", "nation", "supplier"].contains(&&*a.index.table)),
        "{advice}"
    );
    assert!(advice.create.iter().all(|a| !a.serves.is_empty()), "every index says whom it serves: {advice}");
    assert!(advice.relative_cost() < 0.2, "{advice}");
    assert!(advice.complete && advice.skipped.is_empty());

    assert!(plan(&mut conn, HISTORY).await.contains("SCAN orders"));
    let applied = advisor().apply(&mut conn, &advice, &Apply::confirmed_by("test")).await.unwrap();
    assert_eq!(applied.created().count(), advice.create.len());
    let history = plan(&mut conn, HISTORY).await;
    assert!(history.contains("SEARCH orders USING INDEX perfidx_"), "{history}");
    let again = advisor().apply(&mut conn, &advice, &Apply::confirmed_by("test")).await.unwrap();
    assert!(again.steps.iter().all(|step| matches!(step, SqliteStep::Present { .. })));
    let more = advisor().advise(&mut conn, &stats.workload()).await.unwrap();
    assert!(more.relative_cost() > 0.8, "little is left to gain: {more}");

    let dropped = advisor().revert(&mut conn, &applied, &Apply::confirmed_by("test")).await.unwrap();
    assert_eq!(dropped, advice.create.len());
    assert!(plan(&mut conn, HISTORY).await.contains("SCAN orders"));
}

/// The pages of the storefront example, with how often each is asked for.
const PAGES: [(u64, &str); 8] = [
    (
        4000,
        "select p_name, p_brand, p_type, p_size, p_container, p_retailprice from part where p_partkey = ?",
    ),
    (
        4000,
        "select s_suppkey, s_name, n_name, ps_supplycost, ps_availqty > 0 from partsupp join supplier on s_suppkey = ps_suppkey join nation on n_nationkey = s_nationkey where ps_partkey = ? order by ps_supplycost, s_suppkey",
    ),
    (
        900,
        "select p_partkey, p_name, p_brand, p_retailprice from part where p_name like ? order by p_retailprice, p_partkey limit ? offset ?",
    ),
    (900, "select count(*) from part where p_name like ?"),
    (
        1500,
        "select o_orderkey, o_orderdate, o_orderstatus, o_totalprice from orders where o_custkey = ? order by o_orderdate desc, o_orderkey desc limit ?",
    ),
    (
        1500,
        "select l_linenumber, l_partkey, p_name, l_quantity, l_extendedprice, l_discount from lineitem join part on p_partkey = l_partkey where l_orderkey = ? order by l_linenumber",
    ),
    (
        200,
        "select l_partkey, p_name, cast(sum(l_quantity) as bigint) as sold from customer join orders on o_custkey = c_custkey join lineitem on l_orderkey = o_orderkey join part on p_partkey = l_partkey where c_nationkey = ? and o_orderdate >= ? and o_orderdate < ? group by l_partkey, p_name order by sold desc, l_partkey limit 10",
    ),
    (
        200,
        "select o_orderdate, count(distinct o_orderkey), cast(sum(l_extendedprice * (100 - l_discount)) / 100 as bigint) from orders join lineitem on l_orderkey = o_orderkey where o_orderdate >= ? and o_orderdate < ? group by o_orderdate order by o_orderdate",
    ),
];

#[tokio::test]
async fn b9_what_no_final_plan_reads_is_not_proposed() {
    let mut conn = database(SHOP).await;
    let pages = PAGES.iter().fold(Workload::new(Dialect::Sqlite), |all, (calls, sql)| all.with(sql, *calls));
    let advice = advisor().advise(&mut conn, &pages).await.unwrap();
    assert!(!advice.create.is_empty() && advice.create.iter().all(|a| !a.serves.is_empty()), "{advice}");
    assert!(advice.rejected.iter().any(|r| r.reason == RejectReason::Unused), "{advice}");
}

const EVENTS: &str = "
create table events (id integer primary key, account integer, kind text, at text, done_at text, body text, email text);
insert into events (account, kind, at, done_at, body, email) with recursive n(i) as (values(0) union all select i + 1 from n where i < 20000)
  select i * 7919 % 500, 'kind ' || i % 7, datetime('2026-01-01', i || ' minutes'), case when i % 50 = 0 then null else 'x' end, hex(randomblob(40)), 'Mail' || i || '@x' from n;
";

async fn advice_for(sql: &str) -> Advice {
    let mut conn = database(EVENTS).await;
    advisor().advise(&mut conn, &Workload::new(Dialect::Sqlite).with(sql, 100)).await.unwrap()
}

fn only(advice: &Advice) -> &IndexDef {
    assert_eq!(advice.create.len(), 1, "{advice}");
    &advice.create[0].index
}

#[tokio::test]
async fn equality_comes_before_range_and_order() {
    let advice = advice_for("select * from events where account = ? and at > ? order by at").await;
    assert_eq!(only(&advice).columns().take(2).collect::<Vec<_>>(), ["account", "at"]);
    let served = &advice.create[0].serves[0];
    assert!(served.plan_before.iter().any(|line| line.starts_with("SCAN")));
    assert!(
        served.plan_after.iter().any(|line| line.contains(&advice.create[0].name)),
        "{:?}",
        served.plan_after
    );
}

#[tokio::test]
async fn mixed_directions_get_descending_keys() {
    let advice = advice_for("select * from events order by account asc, at desc limit 10").await;
    let keys: Vec<_> =
        only(&advice).keys.iter().map(|key| (key.column_name().unwrap(), key.descending)).collect();
    assert_eq!(keys, [("account", false), ("at", true)]);
}

#[tokio::test]
async fn b9_expressions_and_rare_nulls_are_served() {
    let expression = advice_for("select body from events where lower(email) = ?").await;
    assert!(expression.create[0].ddl.contains("(lower(email))"), "{expression}");
    let partial = advice_for("select id, body from events where done_at is null").await;
    let ddl = &partial.create[0].ddl;
    assert!(ddl.contains("done_at"), "{ddl}");
}

#[tokio::test]
async fn b9_a_large_table_is_only_indexed_when_that_is_said() {
    let mut conn = database(EVENTS).await;
    let workload = Workload::new(Dialect::Sqlite).with("select * from events where account = ?", 100);
    let careful = advisor().max_rows(20_000);
    let advice = careful.advise(&mut conn, &workload).await.unwrap();
    let name = only(&advice).name();
    let refused = careful.apply(&mut conn, &advice, &Apply::confirmed_by("test")).await.unwrap();
    assert_eq!(refused.steps, [SqliteStep::TooLarge { name, rows: 20_001 }]);
    let consent = Apply::confirmed_by("test").even_if_large();
    assert_eq!(careful.apply(&mut conn, &advice, &consent).await.unwrap().created().count(), 1);
}

#[tokio::test]
async fn what_reads_everything_or_little_gets_no_index() {
    for sql in [
        "select * from events",
        "select * from events where id = ?",
        "select * from events where kind <> 'x'",
    ] {
        let advice = advice_for(sql).await;
        assert!(advice.create.is_empty(), "{sql}: {advice}");
    }
}

#[tokio::test]
async fn b9_what_the_shadow_lacks_is_skipped_with_its_reason() {
    let mut conn = database(&format!("{EVENTS} create virtual table notes using fts5(text);")).await;
    let workload = Workload::new(Dialect::Sqlite)
        .with("select * from missing where a = 1", 1)
        .with("select not_there(account) from events", 1)
        .with("select * from events where kind = ? collate klingon", 1)
        .with("select * from notes where notes match ?", 1)
        .with("vacuum", 1)
        .with("select 1", 1)
        .with("select * from sqlite_schema", 1)
        .with("select * from events where account = 'open", 1);
    let advice = advisor().advise(&mut conn, &workload).await.unwrap();
    let reason = |needle: &str| &advice.skipped.iter().find(|s| s.text.contains(needle)).unwrap().reason;
    assert!(matches!(reason("missing"), SkipReason::Missing(_)));
    assert!(matches!(reason("not_there"), SkipReason::Unavailable(_)));
    assert!(matches!(reason("klingon"), SkipReason::Unavailable(_)));
    assert!(matches!(reason("notes"), SkipReason::Unavailable(_)));
    assert_eq!(reason("vacuum"), &SkipReason::Utility);
    assert_eq!(reason("select ?"), &SkipReason::NothingToIndex);
    assert_eq!(reason("sqlite_schema"), &SkipReason::SystemRelation);
    assert!(matches!(reason("account ="), SkipReason::NotPlannable(_)));
    assert!(advice.create.is_empty());
}

#[tokio::test]
async fn budgets_hold_and_what_they_exclude_is_named() {
    let mut conn = database(SHOP).await;
    let workload = Workload::new(Dialect::Sqlite).with(HISTORY, 100).with(REVENUE, 10).with(BEST, 10);
    let free = advisor().advise(&mut conn, &workload).await.unwrap();
    let mut config = AdvisorConfig::default();
    config.max_indexes = 1;
    let one = SqliteAdvisor::new(config.clone()).unwrap().advise(&mut conn, &workload).await.unwrap();
    assert!(free.create.len() > 1 && one.create.len() == 1);
    assert!(one.rejected.iter().any(|r| r.reason == RejectReason::OverBudget), "{one}");
    config.max_indexes = 10;
    config.max_bytes = Some(free.bytes / 2);
    let half = SqliteAdvisor::new(config.clone()).unwrap().advise(&mut conn, &workload).await.unwrap();
    assert!(half.bytes <= free.bytes / 2 && half.cost_after >= free.cost_after);
    config.min_saving = 7.0;
    assert!(SqliteAdvisor::new(config).is_err());
}

#[tokio::test]
async fn writes_speak_against_an_index() {
    let mut conn = database(EVENTS).await;
    let read = "select body from events where email = ?";
    let write = "insert into events (account, email) values (?, ?)";
    let reads = Workload::new(Dialect::Sqlite).with(read, 1000).with(write, 10);
    assert_eq!(advisor().advise(&mut conn, &reads).await.unwrap().create.len(), 1);
    let writes = Workload::new(Dialect::Sqlite).with(read, 1).with(write, 1_000_000);
    assert!(advisor().advise(&mut conn, &writes).await.unwrap().create.is_empty());
}

#[tokio::test]
async fn hostile_names_are_read_sampled_indexed_and_dropped() {
    let mut conn = database(
        "create table \"a\"\"b; drop table t; --\" (\"select\" integer, \"x.y\nz\" text, \"ключ\" text);
         insert into \"a\"\"b; drop table t; --\" with recursive n(i) as (values(0) union all select i + 1 from n where i < 3000) select i, 'v' || i, 'w' || i from n;",
    )
    .await;
    let workload = Workload::new(Dialect::Sqlite)
        .with("select \"ключ\" from \"a\"\"b; drop table t; --\" where \"x.y\nz\" = ?", 10)
        .with("select * from \"a\"\"b; drop table t; --\" where \"select\" = ?", 10);
    let advice = advisor().advise(&mut conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 2, "{advice}");
    let applied = advisor().apply(&mut conn, &advice, &Apply::confirmed_by("test")).await.unwrap();
    assert_eq!(applied.created().count(), 2);
    assert_eq!(advisor().revert(&mut conn, &applied, &Apply::confirmed_by("test")).await.unwrap(), 2);
}

#[tokio::test]
async fn the_advised_database_is_only_read() {
    let mut conn = database(EVENTS).await;
    conn.execute("pragma query_only = on").await.unwrap();
    let workload = Workload::new(Dialect::Sqlite).with("select * from events where account = ?", 5);
    assert_eq!(advisor().advise(&mut conn, &workload).await.unwrap().create.len(), 1);
}
