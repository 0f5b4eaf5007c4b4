//! What observing a query costs, and how fast a statement is recognised, beside a tokenizer and a fingerprinter.

use perf_dbopt::{Dialect, QueryStats, fingerprint, normalize};
use perfkit_benches::{Contest, CountingAllocator, allocations_during, bytes_kept_by};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::Tokenizer;
use sqlx::{Connection, SqliteConnection};
use std::hint::black_box;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// 70 bytes, as the issue asks.
const SHORT: &str = "SELECT id, name, price FROM product WHERE id = $1 AND shop = 'x' LIMIT";

/// About 600 bytes: a report.
const LONG: &str = "SELECT p.brand, p.kind, count(DISTINCT o.customer) AS buyers, sum(i.price * (1 - i.discount)) AS revenue \
    FROM item i JOIN product p ON p.id = i.product JOIN orders o ON o.id = i.orders JOIN customer c ON c.id = o.customer \
    WHERE o.day >= date '2021-01-01' AND o.day < date '2021-01-01' + interval '3 months' AND c.nation IN (1, 2, 3, 5, 8, 13) \
    AND p.brand <> 'brand 7' AND p.size BETWEEN 5 AND 45 AND i.quantity > 10 AND o.status = 'done' \
    AND NOT EXISTS (SELECT 1 FROM stock s WHERE s.product = p.id AND s.amount = 0) \
    GROUP BY p.brand, p.kind HAVING sum(i.quantity) > 300 ORDER BY revenue DESC, p.brand LIMIT 100";

fn recognise(name: &str, sql: &'static str) {
    Contest::new(name)
        .entry("ours", |n| {
            (0..n).for_each(|_| _ = black_box(fingerprint(black_box(sql), Dialect::Postgres)));
        })
        .entry("ours-normalize", |n| {
            (0..n).for_each(|_| drop(black_box(normalize(black_box(sql), Dialect::Postgres))));
        })
        .entry("sqlparser-tokenize", |n| {
            (0..n).for_each(|_| {
                drop(black_box(Tokenizer::new(&PostgreSqlDialect {}, black_box(sql)).tokenize()));
            });
        })
        .entry("sql-fingerprint", |n| {
            (0..n).for_each(|_| drop(black_box(sql_fingerprint::fingerprint_one(black_box(sql), None))));
        })
        .run();
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn record() {
    let stats = QueryStats::new("bench", Dialect::Postgres);
    let off = QueryStats::new("off", Dialect::Postgres);
    off.set_enabled(false);
    (0..10_000).for_each(|_| stats.start(black_box(SHORT)).done(1));
    // Between start and end nothing happens here, which takes less time than any query, and for such times no room is kept.
    (1..65).for_each(|nanos| stats.record(SHORT, Duration::from_nanos(nanos), 1));
    let allocations = allocations_during(|| {
        (0..1000).for_each(|_| stats.start(black_box(SHORT)).done(1));
        // Times nobody has seen yet, from 100 ns to 30 s: slow queries are remembered, and that too takes what is there.
        (0..200).for_each(|step| stats.record(SHORT, Duration::from_secs_f64(1e-7 * 1.1_f64.powi(step)), 1));
    });
    assert_eq!(allocations, 0, "a query whose text and thread were seen before");
    Contest::new("record")
        .entry("ours", |n| (0..n).for_each(|_| stats.start(black_box(SHORT)).done(1)))
        .entry("disabled", |n| (0..n).for_each(|_| off.start(black_box(SHORT)).done(1)))
        // What reading the clock twice costs, which every measurement of time pays.
        .entry("clock-twice", |n| {
            (0..n).for_each(|_| _ = black_box((perf_core::time::now(), perf_core::time::now())));
        })
        .run();
    let (_many, bytes) = bytes_kept_by(|| {
        let many = QueryStats::new("many", Dialect::Postgres);
        (0..1000).for_each(|n| {
            many.start(&format!("SELECT c{n} FROM product WHERE id = $1 AND shop = $2")).done(1);
        });
        many
    });
    println!("allocations record_1200={allocations} bytes_per_statement={}", bytes / 1000);
}

#[expect(clippy::expect_used, reason = "a benchmark without its database measures nothing")]
fn sqlite() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let conn =
        || runtime.block_on(SqliteConnection::connect("sqlite::memory:")).expect("a database in memory");
    let (mut bare, mut observed) = (conn(), conn());
    let stats = QueryStats::new("bench", Dialect::Sqlite);
    Contest::new("sqlite-select-1")
        .entry("observed", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    sqlx::query("select 1").fetch_one(stats.observe(&mut observed)).await.expect("an answer");
                }
            });
        })
        .entry("bare", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    sqlx::query("select 1").fetch_one(&mut bare).await.expect("an answer");
                }
            });
        })
        .run();
}

fn main() {
    recognise("fingerprint-70B", SHORT);
    recognise("fingerprint-600B", LONG);
    record();
    sqlite();
}
