//! Orders that wait are written together: one transaction, and one statement for each table however many orders there are.
//!
//! The rows of a statement travel as one JSON array of arrays, which SQLite and PostgreSQL unfold alike.

use crate::queries::{Postgres, Sqlite};
use crate::shop::{NewOrder, Page, Placed, ShopError, TODAY};
use perfkit::dbopt::QueryStats;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;

/// Several orders placed in one transaction that the caller begins and commits.
pub trait PlaceTogether: crate::queries::Backend {
    /// Begins a transaction that is going to write.
    const WRITING: &'static str;

    /// Places the orders: what became of each, in their order.
    fn place_together(
        connection: &mut Self::Connection,
        stats: &QueryStats,
        orders: &[NewOrder],
    ) -> impl Future<Output = Result<Vec<Result<Placed, ShopError>>, ShopError>> + Send;
}

/// What is known of a product when orders are weighed: its price, and its suppliers' stock, the cheapest first.
#[derive(Default)]
struct Shelf {
    price_cents: i64,
    stock: Vec<(i64, i64)>,
}

/// Orders that can be filled, with what each takes.
#[derive(Default)]
struct Plan {
    filled: Vec<Filled>,
    /// Pieces taken, by product and supplier.
    taken: BTreeMap<(i64, i64), i64>,
    /// Products of which some supplier has nothing left now.
    emptied: HashSet<i64>,
}

struct Filled {
    /// Its place among the orders asked for.
    nth: usize,
    supplier: i64,
    total_cents: i64,
}

impl Plan {
    /// Gives each order to the cheapest supplier that can fill it, first come first served. What cannot be filled is
    /// answered in `ends`.
    fn new(
        orders: &[NewOrder],
        customers: &HashSet<i64>,
        shelves: &mut HashMap<i64, Shelf>,
        ends: &mut [Option<Result<Placed, ShopError>>],
    ) -> Self {
        let mut plan = Self::default();
        for (nth, order) in orders.iter().enumerate() {
            if let Err(refused) = plan.fill(nth, order, customers, shelves) {
                ends[nth] = Some(Err(refused));
            }
        }
        plan
    }

    fn fill(
        &mut self,
        nth: usize,
        order: &NewOrder,
        customers: &HashSet<i64>,
        shelves: &mut HashMap<i64, Shelf>,
    ) -> Result<(), ShopError> {
        order.validate()?;
        if !customers.contains(&order.customer) {
            return Err(ShopError::NotFound("customer"));
        }
        let shelf = shelves.get_mut(&order.part).ok_or(ShopError::NotFound("product"))?;
        let offer = shelf.stock.iter_mut().find(|(_, left)| *left >= order.quantity);
        let (supplier, left) = offer.ok_or(ShopError::SoldOut(order.part))?;
        *left -= order.quantity;
        if *left == 0 {
            self.emptied.insert(order.part);
        }
        *self.taken.entry((order.part, *supplier)).or_default() += order.quantity;
        let total_cents = shelf.price_cents * order.quantity;
        self.filled.push(Filled { nth, supplier: *supplier, total_cents });
        Ok(())
    }

    /// What an order changed. The product page says whether a supplier has stock, not how much: it changes with the last piece.
    fn scopes(&self, order: &NewOrder) -> Vec<String> {
        let mut scopes =
            vec![Page::History(order.customer).scope(), Page::Revenue(TODAY[..7].to_owned()).scope()];
        if self.emptied.contains(&order.part) {
            scopes.push(Page::Product(order.part).scope());
        }
        scopes
    }
}

fn json(rows: &impl serde::Serialize) -> Result<String, ShopError> {
    serde_json::to_string(rows).map_err(|error| ShopError::Unavailable(error.to_string()))
}

/// sqlx's executors are bound to one driver, so the same bodies are written out for each.
macro_rules! together {
    ($name:ident, $connection:ty, $begin:literal, $rows:literal, $cast:literal) => {
        const _: () = {
            const CUSTOMERS: &str = concat!(
                "SELECT c_custkey FROM customer WHERE c_custkey IN (SELECT (value->>0)",
                $cast,
                " FROM ",
                $rows,
                ")"
            );
            const SHELVES: &str = concat!(
                "SELECT p_partkey, p_retailprice, ps_suppkey, ps_availqty FROM part \
                 LEFT JOIN partsupp ON ps_partkey = p_partkey AND ps_availqty > 0 \
                 WHERE p_partkey IN (SELECT (value->>0)",
                $cast,
                " FROM ",
                $rows,
                ") ORDER BY p_partkey, ps_supplycost, ps_suppkey"
            );
            const TAKE: &str = concat!(
                "UPDATE partsupp SET ps_availqty = ps_availqty - taken.quantity FROM (SELECT (value->>0)",
                $cast,
                " AS part, (value->>1)",
                $cast,
                " AS supplier, (value->>2)",
                $cast,
                " AS quantity FROM ",
                $rows,
                ") AS taken WHERE ps_partkey = taken.part AND ps_suppkey = taken.supplier \
                 AND ps_availqty >= taken.quantity"
            );
            const ADD_ORDERS: &str = concat!(
                "INSERT INTO orders (o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority, o_clerk, \
                 o_shippriority, o_comment) SELECT (value->>0)",
                $cast,
                ", 'O', (value->>1)",
                $cast,
                ", $2, '3-MEDIUM', 'Clerk#000000001', 0, 'storefront' FROM ",
                $rows,
                " RETURNING o_orderkey, o_custkey, o_totalprice"
            );
            const ADD_LINES: &str = concat!(
                "INSERT INTO lineitem (l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, \
                 l_discount, l_tax, l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, \
                 l_shipmode, l_comment) SELECT (value->>0)",
                $cast,
                ", (value->>1)",
                $cast,
                ", (value->>2)",
                $cast,
                ", 1, (value->>3)",
                $cast,
                ", (value->>4)",
                $cast,
                ", 0, 0, 'N', 'O', $2, $2, $2, 'NONE', 'MAIL', 'storefront' FROM ",
                $rows
            );
            const RAISE: &str = concat!(
                "INSERT INTO versions (scope, version) SELECT value->>0, 1 FROM ",
                $rows,
                " WHERE true ON CONFLICT (scope) DO UPDATE SET version = versions.version + 1 RETURNING scope, version"
            );

            impl PlaceTogether for $name {
                const WRITING: &'static str = $begin;

                async fn place_together(
                    db: &mut $connection,
                    stats: &QueryStats,
                    orders: &[NewOrder],
                ) -> Result<Vec<Result<Placed, ShopError>>, ShopError> {
                    let mut ends: Vec<Option<Result<Placed, ShopError>>> = orders.iter().map(|_| None).collect();
                    let customers = customers(db, stats, orders).await?;
                    let mut shelves = shelves(db, stats, orders).await?;
                    let plan = Plan::new(orders, &customers, &mut shelves, &mut ends);
                    if !plan.filled.is_empty() {
                        write(db, stats, orders, &plan, &mut ends).await?;
                    }
                    let lost = || Err(ShopError::Unavailable("an order was lost".to_owned()));
                    Ok(ends.into_iter().map(|end| end.unwrap_or_else(lost)).collect())
                }
            }

            async fn customers(
                db: &mut $connection,
                stats: &QueryStats,
                orders: &[NewOrder],
            ) -> Result<HashSet<i64>, ShopError> {
                let asked: BTreeSet<[i64; 1]> = orders.iter().map(|order| [order.customer]).collect();
                let known: Vec<i64> = sqlx::query_scalar(CUSTOMERS)
                    .bind(json(&asked)?)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                Ok(known.into_iter().collect())
            }

            async fn shelves(
                db: &mut $connection,
                stats: &QueryStats,
                orders: &[NewOrder],
            ) -> Result<HashMap<i64, Shelf>, ShopError> {
                let asked: BTreeSet<[i64; 1]> = orders.iter().map(|order| [order.part]).collect();
                let rows: Vec<(i64, i64, Option<i64>, Option<i64>)> = sqlx::query_as(SHELVES)
                    .bind(json(&asked)?)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                let mut shelves: HashMap<i64, Shelf> = HashMap::new();
                for (part, price_cents, supplier, left) in rows {
                    let shelf = shelves.entry(part).or_default();
                    shelf.price_cents = price_cents;
                    shelf.stock.extend(supplier.zip(left));
                }
                Ok(shelves)
            }

            async fn write(
                db: &mut $connection,
                stats: &QueryStats,
                orders: &[NewOrder],
                plan: &Plan,
                ends: &mut [Option<Result<Placed, ShopError>>],
            ) -> Result<(), ShopError> {
                let taken: Vec<[i64; 3]> = plan
                    .taken
                    .iter()
                    .map(|((part, supplier), quantity)| [*part, *supplier, *quantity])
                    .collect();
                let done =
                    sqlx::query(TAKE).bind(json(&taken)?).execute(stats.observe(&mut *db)).await?;
                if done.rows_affected() != taken.len() as u64 {
                    // Only where several processes write: nothing of this group is kept.
                    return Err(ShopError::Unavailable("the stock changed meanwhile".to_owned()));
                }

                let rows: Vec<[i64; 2]> = plan
                    .filled
                    .iter()
                    .map(|filled| [orders[filled.nth].customer, filled.total_cents])
                    .collect();
                let keys: Vec<(i64, i64, i64)> = sqlx::query_as(ADD_ORDERS)
                    .bind(json(&rows)?)
                    .bind(TODAY)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                // Rows may come back in any order; orders of one customer and one total are alike until they have lines.
                let mut free: HashMap<(i64, i64), Vec<i64>> = HashMap::new();
                for (key, customer, total) in keys {
                    free.entry((customer, total)).or_default().push(key);
                }
                let mut lines: Vec<[i64; 5]> = Vec::with_capacity(plan.filled.len());
                for filled in &plan.filled {
                    let order = &orders[filled.nth];
                    let key = free.get_mut(&(order.customer, filled.total_cents)).and_then(Vec::pop);
                    let key = key.ok_or_else(|| ShopError::Unavailable("an order has no key".to_owned()))?;
                    lines.push([key, order.part, filled.supplier, order.quantity, filled.total_cents]);
                }
                sqlx::query(ADD_LINES)
                    .bind(json(&lines)?)
                    .bind(TODAY)
                    .execute(stats.observe(&mut *db))
                    .await?;

                // In one order everywhere, so that two writers cannot wait for each other.
                let scopes: BTreeSet<[String; 1]> = plan
                    .filled
                    .iter()
                    .flat_map(|filled| plan.scopes(&orders[filled.nth]))
                    .map(|scope| [scope])
                    .collect();
                let raised: Vec<(String, i64)> = sqlx::query_as(RAISE)
                    .bind(json(&scopes)?)
                    .fetch_all(stats.observe(&mut *db))
                    .await?;
                let versions: HashMap<String, i64> = raised.into_iter().collect();
                for (filled, line) in plan.filled.iter().zip(&lines) {
                    let order = &orders[filled.nth];
                    let version = |scope: String| versions.get(&scope).map(|version| (scope, *version));
                    ends[filled.nth] = Some(Ok(Placed {
                        order: line[0],
                        customer: order.customer,
                        total_cents: filled.total_cents,
                        versions: plan.scopes(order).into_iter().filter_map(version).collect(),
                    }));
                }
                Ok(())
            }
        };
    };
}

// The write lock is taken at once: a transaction that starts reading and then wants to write can only fail.
together!(Sqlite, sqlx::SqliteConnection, "BEGIN IMMEDIATE", "json_each($1)", "");
together!(Postgres, sqlx::PgConnection, "BEGIN", "json_array_elements($1::json)", "::bigint");
