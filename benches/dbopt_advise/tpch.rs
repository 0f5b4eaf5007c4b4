//! TPC-H's schema and data, and queries of our own over it.

use crate::AnyError;
use sqlx::PgConnection;
use std::fmt::Display;

const SCHEMA: &str = "
create table region (r_regionkey int, r_name text, r_comment text);
create table nation (n_nationkey int, n_name text, n_regionkey int, n_comment text);
create table supplier (s_suppkey int, s_name text, s_address text, s_nationkey int, s_phone text, s_acctbal numeric, s_comment text);
create table part (p_partkey int, p_name text, p_mfgr text, p_brand text, p_type text, p_size int, p_container text, p_retailprice numeric, p_comment text);
create table partsupp (ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost numeric, ps_comment text);
create table customer (c_custkey int, c_name text, c_address text, c_nationkey int, c_phone text, c_acctbal numeric, c_mktsegment text, c_comment text);
create table orders (o_orderkey int, o_custkey int, o_orderstatus text, o_totalprice numeric, o_orderdate date, o_orderpriority text, o_clerk text, o_shippriority int, o_comment text);
create table lineitem (l_orderkey int, l_partkey int, l_suppkey int, l_linenumber int, l_quantity numeric, l_extendedprice numeric, l_discount numeric, l_tax numeric, l_returnflag text, l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text);
";

/// The keys TPC-H declares, added after loading.
pub(crate) const KEYS: [(&str, &str); 8] = [
    ("region", "r_regionkey"),
    ("nation", "n_nationkey"),
    ("supplier", "s_suppkey"),
    ("part", "p_partkey"),
    ("partsupp", "ps_partkey, ps_suppkey"),
    ("customer", "c_custkey"),
    ("orders", "o_orderkey"),
    ("lineitem", "l_orderkey, l_linenumber"),
];

/// Written for this benchmark; they share nothing but the schema with the queries TPC publishes.
pub(crate) const QUERIES: &str = "
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

/// The queries, one by one.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    perf_dbopt::statements(QUERIES, perf_dbopt::Dialect::Postgres)
}

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

pub(crate) async fn load(conn: &mut PgConnection, scale: f64) -> Result<(), AnyError> {
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
    sqlx::raw_sql("vacuum analyze").execute(&mut *conn).await?;
    Ok(())
}
