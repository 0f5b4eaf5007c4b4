//! Index advice for PostgreSQL through HypoPG (B2, B3) on a shop.
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::shop;
use perf_dbopt::advise::{Advice, AdvisorConfig, Evidence, IndexDef, SkipReason, WhatIf};
use perf_dbopt::postgres::PostgresAdvisor;
use perf_dbopt::{Dialect, Workload};
use perf_testkit::PostgresServer;
use sqlx::{Connection, PgConnection};

async fn shop() -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder()
        .setting("autovacuum", "off")
        // Rows committed but not yet flushed are not marked visible to all by VACUUM.
        .setting("synchronous_commit", "on")
        .start()
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("create extension hypopg").execute(&mut conn).await.unwrap();
    sqlx::raw_sql(shop::SCHEMA).execute(&mut conn).await.unwrap();
    for statement in shop::ROWS.split(';').filter(|s| !s.trim().is_empty()) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    }
    (server, conn)
}

fn workload() -> Workload {
    Workload::new(Dialect::Postgres)
        .with("select id, day, total from orders where customer = $1 order by day desc limit 20", 1000)
        .with("select day, sum(total), count(*) from orders where day >= $1 and day < $2 group by day", 100)
        .with("select p.name, sum(i.quantity) from item i join product p on p.id = i.product where i.product = $1 group by p.name", 500)
        .with("select id from customer where lower(name) = $1", 50)
        .with("select id, customer from orders where deleted_at is not null and customer = $1", 50)
        .with("insert into orders (id, customer, status, day) values ($1, $2, $3, $4)", 200)
}

fn leads_with(advice: &Advice, table: &str, column: &str) -> bool {
    advice.create.iter().any(|a| a.index.table == table && a.index.columns().next() == Some(column))
}

#[tokio::test]
async fn b2_the_planner_chooses_what_is_advised_and_nothing_is_left_behind() {
    let (server, mut conn) = shop().await;
    let advice = PostgresAdvisor::default().advise(&mut conn, &workload()).await.unwrap();
    assert!(advice.skipped.is_empty() && advice.complete, "{advice}");
    for (table, column) in [("orders", "customer"), ("orders", "day"), ("item", "product")] {
        assert!(leads_with(&advice, table, column), "{table}.{column}: {advice}");
    }
    assert!(advice.create.iter().any(|a| a.ddl.contains("(lower(name))")), "{advice}");
    assert!(
        advice.create.iter().any(|a| !a.index.include.is_empty()),
        "covering indexes are searched: {advice}"
    );
    assert!(advice.relative_cost() < 0.2, "{advice}");
    assert!(advice.planner_calls <= 5000);
    let left: i64 = sqlx::query_scalar("select count(*) from hypopg()").fetch_one(&mut conn).await.unwrap();
    assert_eq!(left, 0);
    assert_eq!(
        server.sql("select count(*) from pg_indexes where indexname like 'perfidx%'").await.unwrap(),
        "0"
    );

    // Built for real, the planner does what it said it would.
    for index in &advice.create {
        server.sql(&index.ddl).await.unwrap();
    }
    server.sql("vacuum analyze").await.unwrap();
    let again = PostgresAdvisor::default().advise(&mut conn, &workload()).await.unwrap();
    assert!(again.cost_before < advice.cost_before * 0.25, "{} {}", again.cost_before, advice.cost_before);
}

#[tokio::test]
async fn b1_7_a_statement_is_also_planned_with_frequent_values_of_an_uneven_column() {
    let (_server, mut conn) = shop().await;
    // 99 of 100 orders are done. For an average value of two an index gains next to nothing, for the rare one nearly everything.
    let uneven = "select * from orders where status = $1 and total >= $2";
    let even = "select * from stock where place = $1";
    let workload = Workload::new(Dialect::Postgres).with(uneven, 1000).with(even, 1000);
    let mut posed = PostgresAdvisor::default().pose(&mut conn, &workload).await.unwrap();
    assert_eq!(posed.admitted, [0, 0, 0, 1], "unknown, done, open; the places are equally full");
    let weights = &posed.problem.weights;
    assert!((weights.iter().sum::<f64>() - 2000.0).abs() < 1.0, "{weights:?}");
    assert!(weights[1] > 980.0 && (5.0..15.0).contains(&weights[2]), "{weights:?}");
    let status =
        posed.definitions.iter().position(|def| def.columns().collect::<Vec<_>>() == ["status"]).unwrap();
    let unknown = posed.planner.plan(0, &[status]).await.unwrap();
    let rare = posed.planner.plan(2, &[status]).await.unwrap();
    let common = posed.planner.plan(1, &[status]).await.unwrap();
    assert!(common.used.is_empty() && rare.used == [status], "{common:?} {rare:?}");
    assert!(rare.cost * 10.0 < unknown.cost, "{unknown:?} {rare:?}");
    posed.planner.finish().await.unwrap();

    let advice = PostgresAdvisor::default().advise(&mut conn, &workload).await.unwrap();
    let index = advice.create.iter().find(|a| a.index.columns().next() == Some("status"));
    let index = index.unwrap_or_else(|| panic!("{advice}"));
    let served: Vec<_> = index.serves.iter().map(|served| served.fingerprint).collect();
    assert_eq!(served, [perf_dbopt::fingerprint(uneven, Dialect::Postgres)], "{advice}");
    assert!(index.serves[0].calls < 20, "only the calls that ask for the rare value gain: {advice}");
    let page = format!("{advice}");
    assert!(!page.contains("open") && !page.contains("done"), "values are not shown: {page}");
}

/// Nine of ten visits come from one country, seven of ten on one day.
const VISITS: &str = "create table visit (id int, country text, day date, pad text); \
    insert into visit select i, case when i % 10 > 0 then 'de' else 'c' || (i / 10) % 10 end, \
    case when i % 10 < 7 then date '2024-06-01' else date '2024-01-01' + (i / 10) % 300 end, repeat('x', 50) \
    from generate_series(1, 50000) i";

/// The weights of a statement's variants, unknown values first, and which of their plans read an index on this column.
async fn variants(conn: &mut PgConnection, sql: &str, column: &str) -> (Vec<f64>, Vec<bool>) {
    let workload = Workload::new(Dialect::Postgres).with(sql, 1000);
    let mut posed = PostgresAdvisor::default().pose(conn, &workload).await.unwrap();
    let weights = posed.problem.weights.clone();
    let key = |def: &IndexDef| def.columns().collect::<Vec<_>>() == [column];
    let index = posed.definitions.iter().position(key).unwrap();
    let mut reads = Vec::new();
    for number in 0..weights.len() {
        reads.push(!posed.planner.plan(number, &[index]).await.unwrap().used.is_empty());
    }
    posed.planner.finish().await.unwrap();
    (weights.iter().map(|weight| weight.round()).collect(), reads)
}

#[tokio::test]
async fn b1_7_lists_and_ranges_are_also_planned_with_likely_values() {
    let (server, mut conn) = shop().await;
    server.sql(VISITS).await.unwrap();
    server.sql("vacuum analyze visit").await.unwrap();
    let near = |weight: f64, expected: f64| (weight - expected).abs() <= 15.0;

    let (weights, reads) =
        variants(&mut conn, "select * from visit where country in ($1, $2)", "country").await;
    assert!(
        weights.len() == 4 && near(weights[1], 990.0) && weights[2] < 10.0,
        "one of two is it: {weights:?}"
    );
    assert!(!reads[1], "most of the table is read whole");

    for range in ["day between $1 and $2", "day >= $1 and day < $2", "day > $1 and day <= $2"] {
        let (weights, reads) =
            variants(&mut conn, &format!("select * from visit where {range}"), "day").await;
        assert!(weights.len() >= 2 && near(weights[1], 700.0), "{range}: {weights:?}");
        assert!(reads[0] && !reads[1], "{range}: a range is short, unless it holds the day: {reads:?}");
    }

    let (weights, reads) = variants(&mut conn, "select * from visit where id > $1", "id").await;
    assert!(weights.len() == 4 && weights[1..].iter().all(|weight| near(*weight, 333.0)), "{weights:?}");
    assert!(!reads[1] && reads[3], "from near the beginning, and from near the end: {reads:?}");
}

#[tokio::test]
async fn b1_8_a_plan_is_never_one_made_for_other_indexes() {
    let (_server, mut conn) = shop().await;
    let sql = "select id from orders where customer = $1 and day = $2";
    let workload = Workload::new(Dialect::Postgres).with(sql, 1);
    let mut posed = PostgresAdvisor::default().pose(&mut conn, &workload).await.unwrap();
    let alone = |column: &str| {
        posed.definitions.iter().position(|def| def.columns().collect::<Vec<_>>() == [column]).unwrap()
    };
    let (customer, day) = (alone("customer"), alone("day"));
    let bare = posed.planner.plan(0, &[]).await.unwrap();
    for wanted in [vec![customer], vec![], vec![day], vec![customer], vec![]] {
        let plan = posed.planner.plan(0, &wanted).await.unwrap();
        assert_eq!(plan.used, wanted);
        assert_eq!(plan.cost < bare.cost, !wanted.is_empty(), "{plan:?} {bare:?}");
    }
    posed.planner.finish().await.unwrap();
}

#[tokio::test]
async fn b2_no_more_hypothetical_indexes_are_there_at_once_than_a_session_bears() {
    /// All lists of `length` different columns.
    fn lists(columns: &[&'static str], length: usize) -> Vec<Vec<&'static str>> {
        if length == 0 {
            return vec![Vec::new()];
        }
        let shorter = lists(columns, length - 1);
        let longer = |list: &Vec<&'static str>, column: &&'static str| [list.as_slice(), &[*column]].concat();
        let pairs = shorter.iter().flat_map(|list| columns.iter().map(move |column| (list, column)));
        pairs
            .filter(|(list, column)| !list.contains(column))
            .map(|(list, column)| longer(list, column))
            .collect()
    }

    let (_server, mut conn) = shop().await;
    let workload = Workload::new(Dialect::Postgres)
        .with("select id from orders where customer = $1", 1)
        .with("select product from stock where amount = $1", 1);
    let mut posed = PostgresAdvisor::default().pose(&mut conn, &workload).await.unwrap();
    let mut defs = Vec::new();
    for list in lists(&["id", "customer", "status", "total", "day", "at", "deleted_at"], 4) {
        defs.push(IndexDef::on("orders", list));
    }
    let own = defs.len();
    for list in lists(&["product", "place", "amount", "cost", "updated"], 5) {
        for keys in [3, 4] {
            defs.push(IndexDef::on("stock", list[..keys].to_vec()).including(list[keys..].to_vec()));
        }
    }
    posed.planner.offer(&defs);
    let (orders, stock): (Vec<_>, Vec<_>) = (0..defs.len()).partition(|number| *number < own);
    assert!(
        own < 1000 && defs.len() > 1000,
        "more than are kept, though either table's are not: {}",
        defs.len()
    );
    let used = posed.planner.plan(0, &orders).await.unwrap().used;
    assert!(used.iter().all(|number| defs[*number].columns().next() == Some("customer")), "{used:?}");
    // Some samples of the table show a customer so frequent that its statement is there once more.
    let second = posed.admitted.iter().position(|number| *number == 1).unwrap();
    let used = posed.planner.plan(second, &stock).await.unwrap().used;
    let used: Vec<_> = used.iter().map(|number| &defs[*number]).collect();
    assert!(
        !used.is_empty() && used.iter().all(|index| index.columns().next() == Some("amount")),
        "{used:?}"
    );
    // Not given back, so they are still there.
    drop(posed);
    let there: i64 = sqlx::query_scalar("select count(*) from hypopg()").fetch_one(&mut conn).await.unwrap();
    assert_eq!(usize::try_from(there).unwrap(), stock.len());
}

#[tokio::test]
async fn b2_covering_indexes_come_with_a_warning_while_pages_are_not_known_to_be_visible() {
    let (server, mut conn) = shop().await;
    let sql = "select product, quantity, price from item where product between $1 and $2";
    let workload = Workload::new(Dialect::Postgres).with(sql, 1000);
    let advise = async |conn: &mut PgConnection| {
        let advice = PostgresAdvisor::default().advise(conn, &workload).await.unwrap();
        assert!(advice.create.iter().any(|index| !index.index.include.is_empty()), "{advice}");
        advice.warnings.iter().any(|warning| warning.contains("run VACUUM"))
    };
    assert!(!advise(&mut conn).await, "all pages are known to be");
    server.sql("update pg_class set relallvisible = relpages * 0.79 where relname = 'item'").await.unwrap();
    assert!(advise(&mut conn).await);
}

#[tokio::test]
async fn b3_the_size_model_is_close_to_what_is_built() {
    let (server, mut conn) = shop().await;
    let mut errors = Vec::new();
    let keys = [
        "orders (customer)",
        "orders (day)",
        "orders (status)",
        "orders (customer, day)",
        "orders (day, total)",
        "orders (at)",
        "orders (id) include (day, total)",
        "item (product)",
        "item (shipped)",
        "item (quantity)",
        "item (product, quantity)",
        "item (product) include (quantity, price)",
        "item (price)",
        "item (orders)",
        "item (shipped, received)",
        "customer (name)",
        "customer (nation)",
        "customer (segment)",
        "customer (balance)",
        "customer (since)",
        "product (name)",
        "product (brand)",
        "product (kind, size)",
        "product (price)",
        "product (added)",
        "stock (product)",
        "stock (place)",
        "stock (amount)",
        "stock (cost)",
        "stock (updated)",
        "stock (amount, place)",
        "item (line)",
        "item (discount)",
        "item (received)",
        "item (orders, product)",
        "orders (status, day)",
        "orders (total)",
        "item (quantity, discount)",
        "product (brand, kind)",
        "customer (nation, segment)",
        "item (shipped) include (price)",
    ];
    let sizes = perf_dbopt::postgres::estimate_sizes(&mut conn, &keys.map(def)).await.unwrap();
    for (index, (key, estimate)) in keys.iter().zip(sizes).enumerate() {
        server.sql(&format!("create index i{index} on {key}")).await.unwrap();
        let real: f64 =
            server.sql(&format!("select pg_relation_size('i{index}')")).await.unwrap().parse().unwrap();
        errors.push(((estimate as f64 / real - 1.0).abs(), *key, estimate, real));
    }
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = errors[errors.len() / 2].0;
    let worst = errors.last().unwrap();
    assert!(errors.len() >= 40 && median <= 0.05, "median {median}: {errors:?}");
    assert!(worst.0 <= 0.25, "{worst:?}");
}

fn def(text: &str) -> IndexDef {
    let (table, rest) = text.split_once(" (").unwrap();
    let (keys, include) = rest.split_once(") include (").unwrap_or((rest, ""));
    let list = |s: &str| {
        s.trim_end_matches(')').split(", ").filter(|c| !c.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    IndexDef::on(table, list(keys)).including(list(include))
}

#[tokio::test]
async fn budgets_in_bytes_hold_with_real_sizes() {
    let (_server, mut conn) = shop().await;
    let mut config = AdvisorConfig::default();
    config.max_bytes = Some(2_000_000);
    let advice = PostgresAdvisor::new(config).unwrap().advise(&mut conn, &workload()).await.unwrap();
    assert!(advice.bytes <= 2_000_000 && !advice.create.is_empty(), "{advice}");
}

#[tokio::test]
async fn b2_without_hypopg_there_is_an_estimate_that_says_so_and_names_the_fix() {
    let (server, mut conn) = shop().await;
    server.sql("drop extension hypopg").await.unwrap();
    let workload = Workload::new(Dialect::Postgres)
        .with("select id, total from orders where customer = $1 order by day desc limit 10", 1000)
        .with("select * from product where id = $1", 1000)
        .with("select * from nowhere where a = $1", 1);
    let advice = PostgresAdvisor::default().advise(&mut conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 1, "the key of product is there already: {advice}");
    assert_eq!(advice.create[0].index.columns().next(), Some("customer"));
    assert_eq!(advice.create[0].evidence, Evidence::Heuristic);
    assert!(advice.warnings.iter().any(|warning| warning.contains("CREATE EXTENSION hypopg")));
    assert_eq!((advice.skipped.len(), advice.planner_calls), (1, 0));
    let error = PostgresAdvisor::default().pose(&mut conn, &workload).await.unwrap_err();
    assert!(error.to_string().contains("CREATE EXTENSION hypopg"), "{error}");
}

#[tokio::test]
async fn a_log_in_the_order_of_its_time_gets_block_ranges_when_room_is_short() {
    let (server, mut conn) = shop().await;
    server
        .sql("create table log (at timestamp, kind int, body text); insert into log select timestamp '2024-01-01' + i * interval '1 minute', i % 7, repeat('x', 80) from generate_series(1, 200000) i; analyze log")
        .await
        .unwrap();
    let sql = "select count(*), max(body) from log where at >= timestamp '2024-02-01' and at < timestamp '2024-02-02'";
    let workload = Workload::new(Dialect::Postgres).with(sql, 100);
    let mut config = AdvisorConfig::default();
    config.max_bytes = Some(500_000);
    let advice = PostgresAdvisor::new(config.clone()).unwrap().advise(&mut conn, &workload).await.unwrap();
    assert_eq!(advice.create.len(), 1, "{advice}");
    assert!(advice.create[0].ddl.contains("USING brin (at)"), "{advice}");
    assert!(advice.relative_cost() < 0.7, "{advice}");
    server.sql(&advice.create[0].ddl).await.unwrap();
    let again = PostgresAdvisor::new(config).unwrap().advise(&mut conn, &workload).await.unwrap();
    assert!(again.create.is_empty(), "it is there already: {again}");
}

#[tokio::test]
async fn b1_4_foreign_temporary_and_system_tables_are_skipped() {
    let (server, mut conn) = shop().await;
    server.sql("create extension postgres_fdw; create server s foreign data wrapper postgres_fdw; create foreign table far (a int) server s").await.unwrap();
    server
        .sql("alter table stock rename to tracked; alter extension hypopg add table tracked")
        .await
        .unwrap();
    sqlx::raw_sql("create temp table basket (a int)").execute(&mut conn).await.unwrap();
    let workload = Workload::new(Dialect::Postgres)
        .with("select * from far where a = $1", 1)
        .with("select * from pg_class where relname = $1", 1)
        .with("select * from tracked where amount = $1", 1)
        .with("select * from hypopg_list_indexes where index_name = $1", 1)
        .with("select * from basket where a = $1", 1);
    let advice = PostgresAdvisor::default().advise(&mut conn, &workload).await.unwrap();
    let reasons: Vec<_> = advice.skipped.iter().map(|s| s.reason.clone()).collect();
    assert_eq!(
        reasons,
        [
            SkipReason::ForeignTable("far".to_owned()),
            SkipReason::SystemRelation,
            SkipReason::SystemRelation,
            SkipReason::SystemRelation,
            SkipReason::Unavailable("temporary table basket".to_owned()),
        ]
    );
    assert!(advice.create.is_empty(), "{advice}");
}
