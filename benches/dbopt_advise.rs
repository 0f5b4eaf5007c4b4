//! Index advice on a TPC-H database in PostgreSQL with HypoPG: ours beside Extend and DB2Advis, which are implemented here
//! over the same planner, sizes and (without INCLUDE) candidates.
//!
//! `PERF_DBOPT_SCALE` sets the scale (0.1 unless said otherwise). Costs are those of the planner, in per cent of the cost without new
//! indexes; budgets are in MB of real size as the size model has it.

use perf_core::time::{Duration, now};
use perf_dbopt::advise::{AdvisorConfig, IndexDef, Limits, Problem, WhatIf, search};
use perf_dbopt::postgres::{HypoPg, PostgresAdvisor};
use perf_dbopt::{Dialect, Workload};
use perf_testkit::PostgresServer;
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;

/// What the issue allows one run of the advisor.
const TIME: Duration = Duration::from_secs(2);

type AnyError = Box<dyn std::error::Error>;

const SCHEMA: &str = "
create table region (r_regionkey int primary key, r_name text, r_comment text);
create table nation (n_nationkey int primary key, n_name text, n_regionkey int, n_comment text);
create table supplier (s_suppkey int primary key, s_name text, s_address text, s_nationkey int, s_phone text, s_acctbal numeric, s_comment text);
create table part (p_partkey int primary key, p_name text, p_mfgr text, p_brand text, p_type text, p_size int, p_container text, p_retailprice numeric, p_comment text);
create table partsupp (ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost numeric, ps_comment text, primary key (ps_partkey, ps_suppkey));
create table customer (c_custkey int primary key, c_name text, c_address text, c_nationkey int, c_phone text, c_acctbal numeric, c_mktsegment text, c_comment text);
create table orders (o_orderkey int primary key, o_custkey int, o_orderstatus text, o_totalprice numeric, o_orderdate date, o_orderpriority text, o_clerk text, o_shippriority int, o_comment text);
create table lineitem (l_orderkey int, l_partkey int, l_suppkey int, l_linenumber int, l_quantity numeric, l_extendedprice numeric, l_discount numeric, l_tax numeric, l_returnflag text, l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text, primary key (l_orderkey, l_linenumber));
";

/// Written for this benchmark; they share nothing but the schema with the queries TPC publishes.
const QUERIES: &str = "
select o_orderkey, o_orderdate, o_totalprice from orders where o_custkey = 1234 order by o_orderdate desc limit 20;
select o_orderdate, count(*), sum(o_totalprice) from orders where o_orderdate >= '1995-03-01' and o_orderdate < '1995-04-01' group by o_orderdate;
select l_shipmode, count(*) from lineitem where l_receiptdate >= '1996-05-01' and l_receiptdate < '1996-05-15' and l_commitdate < l_receiptdate group by l_shipmode;
select sum(l_extendedprice * l_discount) from lineitem where l_shipdate >= '1997-02-01' and l_shipdate < '1997-03-01' and l_quantity < 10;
select p_brand, sum(l_quantity) from part join lineitem on l_partkey = p_partkey where p_type = 'PROMO PLATED TIN' group by p_brand;
select s_name, count(*) from supplier join lineitem on l_suppkey = s_suppkey where s_nationkey = 7 and l_shipdate > '1998-09-01' group by s_name;
select c_name, sum(o_totalprice) from customer join orders on o_custkey = c_custkey where c_nationkey = 3 and c_mktsegment = 'BUILDING' and o_orderdate > '1998-06-01' group by c_name order by 2 desc limit 50;
select l_partkey, l_quantity, l_extendedprice from lineitem where l_partkey = 155 and l_suppkey = 6;
select ps_partkey, ps_supplycost from partsupp where ps_suppkey = 77 order by ps_supplycost limit 10;
select p_partkey, p_name, p_retailprice from part where p_brand = 'Brand#23' and p_container = 'MED BOX' order by p_retailprice limit 20;
select p_partkey, p_name from part where p_size = 15 and p_type = 'ECONOMY ANODIZED STEEL';
select n_name, sum(l_extendedprice) from nation join supplier on s_nationkey = n_nationkey join lineitem on l_suppkey = s_suppkey join orders on o_orderkey = l_orderkey where o_orderdate >= '1996-01-01' and o_orderdate < '1996-02-01' group by n_name;
select c_custkey, c_name, c_acctbal from customer where c_acctbal > 9900 and c_mktsegment = 'MACHINERY' order by c_acctbal desc limit 100;
select o_orderpriority, count(*) from orders where o_orderdate >= '1993-07-01' and o_orderdate < '1993-07-08' and exists (select 1 from lineitem where l_orderkey = o_orderkey and l_commitdate < l_receiptdate) group by o_orderpriority;
select l_orderkey, sum(l_quantity) from lineitem where l_shipdate = '1995-06-17' group by l_orderkey;
select o_clerk, count(*) from orders where o_clerk = 'Clerk#000000042' and o_orderstatus = 'F' group by o_clerk;
select sum(l_extendedprice) from lineitem join part on p_partkey = l_partkey where p_brand = 'Brand#12' and p_container = 'SM CASE' and l_quantity between 1 and 11;
select c_phone, c_acctbal from customer where not exists (select 1 from orders where o_custkey = c_custkey) and c_acctbal > 5000;
select l_returnflag, l_linestatus, sum(l_quantity), avg(l_extendedprice) from lineitem where l_shipdate <= '1992-03-01' group by l_returnflag, l_linestatus;
select s_suppkey, s_name from supplier where s_acctbal < -900 order by s_acctbal;
";

async fn copy(
    conn: &mut PgConnection,
    table: &str,
    rows: impl Iterator<Item = impl Display>,
) -> Result<(), AnyError> {
    let mut sink =
        conn.copy_in_raw(&format!("copy {table} from stdin with (format csv, delimiter '|')")).await?;
    let mut buffer = String::new();
    for row in rows {
        let line = row.to_string();
        buffer.push_str(line.trim_end_matches('|'));
        buffer.push('\n');
        if buffer.len() > 1 << 20 {
            sink.send(std::mem::take(&mut buffer).into_bytes()).await?;
        }
    }
    sink.send(buffer.into_bytes()).await?;
    sink.finish().await?;
    Ok(())
}

async fn load(conn: &mut PgConnection, scale: f64) -> Result<(), AnyError> {
    use tpchgen::generators as g;
    sqlx::raw_sql(SCHEMA).execute(&mut *conn).await?;
    copy(conn, "region", g::RegionGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "nation", g::NationGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "supplier", g::SupplierGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "part", g::PartGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "partsupp", g::PartSuppGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "customer", g::CustomerGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "orders", g::OrderGenerator::new(scale, 1, 1).iter()).await?;
    copy(conn, "lineitem", g::LineItemGenerator::new(scale, 1, 1).iter()).await?;
    for statement in ["create extension hypopg", "vacuum analyze"] {
        sqlx::raw_sql(statement).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The planner with a memory of its own, for the baselines.
struct Costs<'a, 'c> {
    planner: &'a mut HypoPg<'c>,
    problem: &'a Problem,
    known: HashMap<(usize, BTreeSet<usize>), f64>,
    calls: usize,
}

impl Costs<'_, '_> {
    async fn query(&mut self, query: usize, set: &BTreeSet<usize>) -> Result<(f64, Vec<usize>), AnyError> {
        let offered: Vec<usize> =
            set.iter().copied().filter(|item| self.problem.relevant[query].contains(item)).collect();
        self.calls += 1;
        let planned = self.planner.plan(query, &offered).await?;
        self.known.insert((query, offered.into_iter().collect()), planned.cost);
        Ok((planned.cost, planned.used))
    }

    async fn total(&mut self, set: &BTreeSet<usize>) -> Result<f64, AnyError> {
        let mut sum = 0.0;
        for query in 0..self.problem.weights.len() {
            let relevant = &self.problem.relevant[query];
            let offered: BTreeSet<usize> =
                set.iter().copied().filter(|item| relevant.contains(item)).collect();
            let cost = match self.known.get(&(query, offered.clone())) {
                Some(cost) => *cost,
                None => self.query(query, &offered).await?.0,
            };
            sum += cost * self.problem.weights[query];
        }
        Ok(sum)
    }

    fn bytes(&self, set: &BTreeSet<usize>) -> f64 {
        set.iter().map(|item| self.problem.candidates[*item].bytes).sum()
    }
}

/// Extend (Schlosser, Kossmann and Boissier, ICDE 2019): add a single column or append one to an index, whichever gains most per byte.
async fn extend(
    costs: &mut Costs<'_, '_>,
    defs: &[IndexDef],
    width: usize,
    budget: f64,
) -> Result<f64, AnyError> {
    let mut set = BTreeSet::new();
    let mut total = costs.total(&set).await?;
    loop {
        let mut best: Option<(f64, BTreeSet<usize>, f64)> = None;
        for (number, def) in defs.iter().enumerate() {
            if set.contains(&number) || def.keys.len() > width {
                continue;
            }
            let mut next = set.clone();
            if def.keys.len() > 1 {
                let prefix = |item: &usize| {
                    let other = &defs[*item];
                    other.table == def.table
                        && other.keys.len() + 1 == def.keys.len()
                        && def.keys.starts_with(&other.keys)
                };
                let Some(shorter) = set.iter().copied().find(|item| prefix(item)) else { continue };
                next.remove(&shorter);
            }
            next.insert(number);
            if costs.bytes(&next) > budget {
                continue;
            }
            let cost = costs.total(&next).await?;
            let score = (total - cost) / (costs.bytes(&next) - costs.bytes(&set)).max(1.0);
            if cost < total && best.as_ref().is_none_or(|(other, _, _)| score > *other) {
                best = Some((score, next, cost));
            }
        }
        match best {
            Some((_, next, cost)) => (set, total) = (next, cost),
            None => return Ok(total),
        }
    }
}

/// DB2Advis (Valentin and others, ICDE 2000): every statement names its best set when all candidates exist; by benefit per byte
/// until the budget is full.
async fn db2advis(
    costs: &mut Costs<'_, '_>,
    defs: &[IndexDef],
    width: usize,
    budget: f64,
) -> Result<f64, AnyError> {
    let all: BTreeSet<usize> = (0..defs.len()).filter(|item| defs[*item].keys.len() <= width).collect();
    let mut benefit: HashMap<usize, f64> = HashMap::new();
    for query in 0..costs.problem.weights.len() {
        let (base, _) = costs.query(query, &BTreeSet::new()).await?;
        let (best, used) = costs.query(query, &all).await?;
        for item in &used {
            *benefit.entry(*item).or_default() +=
                (base - best) * costs.problem.weights[query] / used.len() as f64;
        }
    }
    let bytes = |item: usize| costs.problem.candidates[item].bytes.max(1.0);
    let mut order: Vec<(usize, f64)> =
        benefit.into_iter().map(|(item, gain)| (item, gain / bytes(item))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut set = BTreeSet::new();
    for (item, _) in order {
        let subsumed = set.iter().any(|other: &usize| defs[item].is_covered_by(&defs[*other]));
        if !subsumed && costs.bytes(&set) + bytes(item) <= budget {
            set.insert(item);
        }
    }
    costs.total(&set).await
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
async fn run() -> Result<(), AnyError> {
    let scale = std::env::var("PERF_DBOPT_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(0.1);
    let server = PostgresServer::builder()
        .setting("autovacuum", "off")
        .setting("synchronous_commit", "on")
        .setting("shared_buffers", "512MB")
        .setting("max_parallel_workers_per_gather", "0")
        .start()
        .await?;
    let mut conn = PgConnection::connect(&server.url()).await?;
    load(&mut conn, scale).await?;
    let workload = Workload::from_sql(QUERIES, Dialect::Postgres);
    let mut config = AdvisorConfig::default();
    config.max_indexes = 64;
    config.max_per_table = 20;
    config.min_saving = 0.0;
    let advisor = PostgresAdvisor::new(config)?;
    for full in [50.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0] {
        let budget = full * scale * 1e6;
        let mut posed = advisor.pose(&mut conn, &workload).await?;
        let start = now();
        posed.problem.limits = Limits {
            bytes: budget,
            per_table: 20,
            min_saving: 0.0,
            deadline: start.checked_add(TIME),
            ..Limits::default()
        };
        let ours = search(&posed.problem, &mut posed.planner).await?;
        let took = start.elapsed();
        let keys: Vec<usize> = (0..posed.definitions.len())
            .filter(|item| {
                let def = &posed.definitions[*item];
                def.include.is_empty()
                    && def.predicate.is_none()
                    && def.keys.iter().all(|key| key.column_name().is_some())
            })
            .collect();
        let defs: Vec<IndexDef> = keys.iter().map(|item| posed.definitions[*item].clone()).collect();
        let mut problem = posed.problem.clone();
        problem.candidates = keys.iter().map(|item| posed.problem.candidates[*item].clone()).collect();
        problem.relevant = posed
            .problem
            .relevant
            .iter()
            .map(|relevant| (0..keys.len()).filter(|place| relevant.contains(&keys[*place])).collect())
            .collect();
        posed.planner.offer(&defs);
        let mut costs =
            Costs { planner: &mut posed.planner, problem: &problem, known: HashMap::new(), calls: 0 };
        let base = costs.total(&BTreeSet::new()).await?;
        let mut rivals = Vec::new();
        for width in [2, 3] {
            let start = now();
            let before = costs.calls;
            let total = extend(&mut costs, &defs, width, budget).await?;
            rivals.push((format!("extend{width}"), total, start.elapsed(), costs.calls - before));
            let start = now();
            let before = costs.calls;
            let total = db2advis(&mut costs, &defs, width, budget).await?;
            rivals.push((format!("db2advis{width}"), total, start.elapsed(), costs.calls - before));
        }
        let mut line = format!(
            "ratio advise-{:.0}MB candidates={} ours={:.1} calls={} ms={}",
            full * scale,
            posed.definitions.len(),
            100.0 * ours.after / ours.before,
            ours.planner_calls,
            took.as_millis()
        );
        for (name, total, took, calls) in rivals {
            line += &format!(
                " {name}={:.1} {name}_calls={calls} {name}_ms={}",
                100.0 * total / base,
                took.as_millis()
            );
        }
        println!("{line}");
        posed.planner.finish().await?;
    }
    Ok(())
}

fn main() -> Result<(), AnyError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}
