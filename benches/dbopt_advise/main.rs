//! Index advice in PostgreSQL with HypoPG: ours beside Extend and DB2Advis, which are implemented here over the same planner,
//! sizes and (without INCLUDE) candidates.
//!
//! Three contests, `tpch`, `shop` and `optimum`; an argument chooses one. `PERF_DBOPT_SCALE` sets TPC-H's scale (0.1 unless said otherwise);
//! budgets are those of scale 1, times the scale. `PERF_DBOPT_URL` names a database to use instead of a private server; it is
//! loaded when it is empty. `PERF_DBOPT_WORKLOAD` names a folder to take schema, rows and statements from instead (see `files.rs`),
//! `PERF_DBOPT_BUDGETS` its budgets. Costs are the planner's, in per cent of the cost without new indexes; sizes are by the size model, in MB.

mod contest;
mod files;
mod optimum;
mod rivals;
mod shop;
mod tpch;
mod wall;

use contest::Effort;
use perf_dbopt::{Dialect, Workload};
use perf_testkit::PostgresServer;
use rivals::Memory;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

type AnyError = Box<dyn std::error::Error>;

/// A database of the benchmark's own; the server lives as long as this.
struct Database {
    conn: PgConnection,
    _server: Option<PostgresServer>,
}

async fn open() -> Result<Database, AnyError> {
    let (url, server) = match std::env::var("PERF_DBOPT_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let server = PostgresServer::builder()
                .preload("pg_stat_statements")
                .setting("autovacuum", "off")
                .setting("shared_buffers", "512MB")
                .setting("maintenance_work_mem", "256MB")
                .setting("max_wal_size", "4GB")
                .setting("max_parallel_workers_per_gather", "0")
                .start()
                .await?;
            (server.url(), Some(server))
        }
    };
    let mut conn = PgConnection::connect(&url).await?;
    run(&mut conn, "create extension if not exists hypopg").await?;
    Ok(Database { conn, _server: server })
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), AnyError> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await?;
    Ok(())
}

async fn is_there(conn: &mut PgConnection, table: &str) -> Result<bool, AnyError> {
    Ok(sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(conn).await?)
}

async fn tpch() -> Result<(), AnyError> {
    let scale: f64 = std::env::var("PERF_DBOPT_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(0.1);
    let mut database = open().await?;
    let conn = &mut database.conn;
    if !is_there(conn, "lineitem").await? {
        tpch::load(conn, scale).await?;
    }
    let workload = Workload::from_sql(tpch::QUERIES, Dialect::Postgres);
    let budgets = [50.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0].map(|mb| mb * scale);
    for (table, _) in tpch::KEYS {
        run(conn, &format!("alter table {table} drop constraint if exists {table}_pkey")).await?;
    }
    for budget in budgets {
        contest::compare(conn, "tpch-bare", &workload, budget, &Effort::USUAL, &mut Memory::new()).await?;
    }
    for (table, columns) in tpch::KEYS {
        run(conn, &format!("alter table {table} add constraint {table}_pkey primary key ({columns})"))
            .await?;
    }
    for budget in budgets {
        contest::compare(conn, "tpch-keys", &workload, budget, &Effort::USUAL, &mut Memory::new()).await?;
    }
    for budget in [250.0, 1000.0] {
        wall::race(conn, &workload, budget * scale).await?;
    }
    Ok(())
}

async fn shop() -> Result<(), AnyError> {
    let mut database = open().await?;
    let conn = &mut database.conn;
    if !is_there(conn, "order_item").await? {
        for statement in perf_dbopt::statements(shop::SCHEMA, Dialect::Postgres) {
            run(conn, statement).await?;
        }
        run(conn, "vacuum analyze").await?;
    }
    let workload = shop::workload();
    for budget in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0] {
        contest::compare(conn, "shop", &workload, budget, &Effort::USUAL, &mut Memory::new()).await?;
    }
    shop::load(conn, 40.0).await
}

async fn contests() -> Result<(), AnyError> {
    if let Ok(folder) = std::env::var("PERF_DBOPT_WORKLOAD") {
        return files::contest(std::path::Path::new(&folder), open().await?).await;
    }
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if chosen.as_deref().is_none_or(|chosen| chosen == "tpch") {
        tpch().await?;
    }
    if chosen.as_deref().is_none_or(|chosen| chosen == "shop") {
        shop().await?;
    }
    if chosen.as_deref().is_none_or(|chosen| chosen == "optimum") {
        optimum::contest().await?;
    }
    Ok(())
}

fn main() -> Result<(), AnyError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(contests())
}
