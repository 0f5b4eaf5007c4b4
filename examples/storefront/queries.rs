//! The SQL of the shop, the same for both runs. It is our own, over TPC-H's schema.
//!
//! A page first reads the version of its scope and then its content, so the content is at least as new as the version.

use crate::shop::{
    Answer, BestSeller, Content, Day, Found, Line, NewOrder, Order, OrderLine, PAGE_SIZE, Page, Product,
    Receipt, Search, ShopError, Supplier, TODAY, month_range,
};
use perfkit::dbopt::{Dialect, QueryStats};
use sqlx::Connection;
use std::future::Future;

const VERSION: &str = "SELECT version FROM versions WHERE scope = $1";
const PRODUCT: &str =
    "SELECT p_name, p_brand, p_type, p_size, p_container, p_retailprice FROM part WHERE p_partkey = $1";
const SUPPLIERS: &str = "SELECT s_suppkey, s_name, n_name, ps_supplycost, ps_availqty > 0 FROM partsupp \
     JOIN supplier ON s_suppkey = ps_suppkey JOIN nation ON n_nationkey = s_nationkey \
     WHERE ps_partkey = $1 ORDER BY ps_supplycost, s_suppkey";
const SEARCH: &str = "SELECT p_partkey, p_name, p_brand, p_retailprice FROM part WHERE p_name LIKE $1 \
     ORDER BY p_retailprice, p_partkey LIMIT $2 OFFSET $3";
const SEARCH_TOTAL: &str = "SELECT COUNT(*) FROM part WHERE p_name LIKE $1";
const HISTORY: &str = "SELECT o_orderkey, o_orderdate, o_orderstatus, o_totalprice FROM orders WHERE o_custkey = $1 \
     ORDER BY o_orderdate DESC, o_orderkey DESC LIMIT $2";
const ORDER: &str =
    "SELECT o_custkey, o_orderdate, o_orderstatus, o_totalprice FROM orders WHERE o_orderkey = $1";
const LINES: &str = "SELECT l_linenumber, l_partkey, p_name, l_quantity, l_extendedprice, l_discount FROM lineitem \
     JOIN part ON p_partkey = l_partkey WHERE l_orderkey = $1 ORDER BY l_linenumber";
const BEST_SELLERS: &str = "SELECT l_partkey, p_name, CAST(SUM(l_quantity) AS BIGINT) AS sold FROM customer \
     JOIN orders ON o_custkey = c_custkey JOIN lineitem ON l_orderkey = o_orderkey JOIN part ON p_partkey = l_partkey \
     WHERE c_nationkey = $1 AND o_orderdate >= $2 AND o_orderdate < $3 \
     GROUP BY l_partkey, p_name ORDER BY sold DESC, l_partkey LIMIT 10";
const REVENUE: &str = "SELECT o_orderdate, COUNT(DISTINCT o_orderkey), \
     CAST(SUM(l_extendedprice * (100 - l_discount)) / 100 AS BIGINT) FROM orders JOIN lineitem ON l_orderkey = o_orderkey \
     WHERE o_orderdate >= $1 AND o_orderdate < $2 GROUP BY o_orderdate ORDER BY o_orderdate";
const PRICE: &str = "SELECT p_retailprice FROM part WHERE p_partkey = $1";
const CUSTOMER: &str = "SELECT 1 FROM customer WHERE c_custkey = $1";
const OFFER: &str = "SELECT ps_suppkey FROM partsupp WHERE ps_partkey = $1 AND ps_availqty >= $2 \
     ORDER BY ps_supplycost, ps_suppkey LIMIT 1";
const TAKE: &str = "UPDATE partsupp SET ps_availqty = ps_availqty - $1 WHERE ps_partkey = $2 AND ps_suppkey = $3 \
     AND ps_availqty >= $1 RETURNING ps_availqty";
const ADD_ORDER: &str = "INSERT INTO orders (o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority, o_clerk, \
     o_shippriority, o_comment) VALUES ($1, 'O', $2, $3, '3-MEDIUM', 'Clerk#000000001', 0, 'storefront') RETURNING o_orderkey";
const ADD_LINE: &str = "INSERT INTO lineitem (l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, \
     l_discount, l_tax, l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment) \
     VALUES ($1, $2, $3, 1, $4, $5, 0, 0, 'N', 'O', $6, $6, $6, 'NONE', 'MAIL', 'storefront')";
const RAISE: &str = "INSERT INTO versions (scope, version) VALUES ($1, 1) \
     ON CONFLICT (scope) DO UPDATE SET version = versions.version + 1 RETURNING version";

/// A database the shop can run on.
pub trait Backend: Send + Sync + 'static {
    /// sqlx's driver.
    type Db: sqlx::Database<Connection = Self::Connection>;
    /// A raw connection.
    type Connection: sqlx::Connection<Database = Self::Db> + Send + 'static;

    /// Whose SQL the database speaks.
    const DIALECT: Dialect;

    /// Begins a transaction that sees one state of the database throughout.
    const SNAPSHOT: &'static str;

    /// Reads the version of a page's scope.
    fn version(
        connection: &mut Self::Connection,
        stats: &QueryStats,
        page: &Page,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// Reads a page.
    fn page(
        connection: &mut Self::Connection,
        stats: &QueryStats,
        page: &Page,
    ) -> impl Future<Output = Result<Answer, ShopError>> + Send;

    /// Places an order in one transaction.
    fn place(
        connection: &mut Self::Connection,
        stats: &QueryStats,
        order: &NewOrder,
    ) -> impl Future<Output = Result<Receipt, ShopError>> + Send;
}

/// sqlx's executors are bound to one driver, so the same bodies are written out for each.
macro_rules! backend {
    ($name:ident, $db:ty, $connection:ty, $begin:expr, $snapshot:expr) => {
        pub struct $name;

        impl Backend for $name {
            type Db = $db;
            type Connection = $connection;

            const DIALECT: Dialect = Dialect::$name;

            const SNAPSHOT: &'static str = $snapshot;

            async fn version(
                connection: &mut $connection,
                stats: &QueryStats,
                page: &Page,
            ) -> Result<i64, sqlx::Error> {
                let query = sqlx::query_scalar(VERSION).bind(page.scope());
                Ok(query.fetch_optional(stats.observe(connection)).await?.unwrap_or(0))
            }

            async fn page(
                connection: &mut $connection,
                stats: &QueryStats,
                page: &Page,
            ) -> Result<Answer, ShopError> {
                let version = Self::version(connection, stats, page).await?;
                let content = match page {
                    Page::Product(part) => Content::Product(Self::product(connection, stats, *part).await?),
                    Page::Search { word, page } => {
                        Content::Search(Self::search(connection, stats, word, *page).await?)
                    }
                    Page::History(customer) => {
                        Content::History(Self::history(connection, stats, *customer).await?)
                    }
                    Page::Order(order) => Content::Order(Self::order(connection, stats, *order).await?),
                    Page::BestSellers { nation, year } => {
                        Content::BestSellers(Self::best_sellers(connection, stats, *nation, *year).await?)
                    }
                    Page::Revenue(month) => Content::Revenue(Self::revenue(connection, stats, month).await?),
                };
                Ok(Answer { version, content })
            }

            async fn place(
                connection: &mut $connection,
                stats: &QueryStats,
                order: &NewOrder,
            ) -> Result<Receipt, ShopError> {
                order.validate()?;
                // The write lock is taken at once: a transaction that starts reading and then wants to write can only fail.
                let mut transaction = connection.begin_with($begin).await?;
                let placed = Self::place_in(&mut transaction, stats, order).await;
                match placed {
                    Ok(receipt) => {
                        transaction.commit().await?;
                        Ok(receipt)
                    }
                    Err(error) => {
                        transaction.rollback().await?;
                        Err(error)
                    }
                }
            }
        }

        impl $name {
            async fn product(
                db: &mut $connection,
                stats: &QueryStats,
                part: i64,
            ) -> Result<Product, ShopError> {
                type Row = (String, String, String, i64, String, i64);
                let row: Option<Row> =
                    sqlx::query_as(PRODUCT).bind(part).fetch_optional(stats.observe(&mut *db)).await?;
                let (name, brand, kind, size, container, price_cents) =
                    row.ok_or(ShopError::NotFound("product"))?;
                let rows: Vec<(i64, String, String, i64, bool)> =
                    sqlx::query_as(SUPPLIERS).bind(part).fetch_all(stats.observe(&mut *db)).await?;
                let suppliers = rows
                    .into_iter()
                    .map(|(supplier, name, nation, cost_cents, in_stock)| Supplier {
                        supplier,
                        name,
                        nation,
                        cost_cents,
                        in_stock,
                    })
                    .collect();
                Ok(Product { part, name, brand, kind, size, container, price_cents, suppliers })
            }

            async fn search(
                db: &mut $connection,
                stats: &QueryStats,
                word: &str,
                page: u32,
            ) -> Result<Search, ShopError> {
                let pattern = format!("%{word}%");
                let total = sqlx::query_scalar(SEARCH_TOTAL)
                    .bind(&pattern)
                    .fetch_one(stats.observe(&mut *db))
                    .await?;
                let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(SEARCH)
                    .bind(&pattern)
                    .bind(PAGE_SIZE)
                    .bind(i64::from(page) * PAGE_SIZE)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                let products = rows
                    .into_iter()
                    .map(|(part, name, brand, price_cents)| Found { part, name, brand, price_cents })
                    .collect();
                Ok(Search { total, products })
            }

            async fn history(
                db: &mut $connection,
                stats: &QueryStats,
                customer: i64,
            ) -> Result<Vec<OrderLine>, ShopError> {
                let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(HISTORY)
                    .bind(customer)
                    .bind(PAGE_SIZE)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                let line =
                    |(order, date, status, total_cents)| OrderLine { order, date, status, total_cents };
                Ok(rows.into_iter().map(line).collect())
            }

            async fn order(db: &mut $connection, stats: &QueryStats, order: i64) -> Result<Order, ShopError> {
                let row: Option<(i64, String, String, i64)> =
                    sqlx::query_as(ORDER).bind(order).fetch_optional(stats.observe(&mut *db)).await?;
                let (customer, date, status, total_cents) = row.ok_or(ShopError::NotFound("order"))?;
                let rows: Vec<(i64, i64, String, i64, i64, i64)> =
                    sqlx::query_as(LINES).bind(order).fetch_all(stats.observe(&mut *db)).await?;
                let lines = rows
                    .into_iter()
                    .map(|(number, part, name, quantity, price_cents, discount_percent)| Line {
                        number,
                        part,
                        name,
                        quantity,
                        price_cents,
                        discount_percent,
                    })
                    .collect();
                Ok(Order { order, customer, date, status, total_cents, lines })
            }

            async fn best_sellers(
                db: &mut $connection,
                stats: &QueryStats,
                nation: i64,
                year: i32,
            ) -> Result<Vec<BestSeller>, ShopError> {
                let rows: Vec<(i64, String, i64)> = sqlx::query_as(BEST_SELLERS)
                    .bind(nation)
                    .bind(format!("{year}-01-01"))
                    .bind(format!("{}-01-01", year + 1))
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                Ok(rows.into_iter().map(|(part, name, sold)| BestSeller { part, name, sold }).collect())
            }

            async fn revenue(
                db: &mut $connection,
                stats: &QueryStats,
                month: &str,
            ) -> Result<Vec<Day>, ShopError> {
                let (from, until) = month_range(month)?;
                let rows: Vec<(String, i64, i64)> =
                    sqlx::query_as(REVENUE).bind(from).bind(until).fetch_all(stats.observe(&mut *db)).await?;
                Ok(rows
                    .into_iter()
                    .map(|(date, orders, revenue_cents)| Day { date, orders, revenue_cents })
                    .collect())
            }

            async fn place_in(
                db: &mut $connection,
                stats: &QueryStats,
                new: &NewOrder,
            ) -> Result<Receipt, ShopError> {
                let known: Option<i32> = sqlx::query_scalar(CUSTOMER)
                    .bind(new.customer)
                    .fetch_optional(stats.observe(&mut *db))
                    .await?;
                known.ok_or(ShopError::NotFound("customer"))?;
                let price: Option<i64> =
                    sqlx::query_scalar(PRICE).bind(new.part).fetch_optional(stats.observe(&mut *db)).await?;
                let total = price.ok_or(ShopError::NotFound("product"))? * new.quantity;
                let offer: Option<i64> = sqlx::query_scalar(OFFER)
                    .bind(new.part)
                    .bind(new.quantity)
                    .fetch_optional(stats.observe(&mut *db))
                    .await?;
                let supplier = offer.ok_or(ShopError::SoldOut(new.part))?;
                let left: Option<i64> = sqlx::query_scalar(TAKE)
                    .bind(new.quantity)
                    .bind(new.part)
                    .bind(supplier)
                    .fetch_optional(stats.observe(&mut *db))
                    .await?;
                let left = left.ok_or(ShopError::SoldOut(new.part))?;
                let order: i64 = sqlx::query_scalar(ADD_ORDER)
                    .bind(new.customer)
                    .bind(total)
                    .bind(TODAY)
                    .fetch_one(stats.observe(&mut *db))
                    .await?;
                sqlx::query(ADD_LINE)
                    .bind(order)
                    .bind(new.part)
                    .bind(supplier)
                    .bind(new.quantity)
                    .bind(total)
                    .bind(TODAY)
                    .execute(stats.observe(&mut *db))
                    .await?;
                // The product page says whether a supplier has stock, not how much: it changes with the last piece.
                let changed = if left == 0 { 3 } else { 2 };
                let mut versions = Vec::with_capacity(changed);
                for scope in new.scopes().into_iter().take(changed) {
                    let version: i64 =
                        sqlx::query_scalar(RAISE).bind(&scope).fetch_one(stats.observe(&mut *db)).await?;
                    versions.push((scope, version));
                }
                Ok(Receipt { order, versions })
            }
        }
    };
}

backend!(Sqlite, sqlx::Sqlite, sqlx::SqliteConnection, "BEGIN IMMEDIATE", "BEGIN");
backend!(
    Postgres,
    sqlx::Postgres,
    sqlx::PgConnection,
    "BEGIN",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
);
