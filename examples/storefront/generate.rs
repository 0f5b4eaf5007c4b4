//! Generates the TPC-H data into an empty database.

use crate::progress::Progress;
use crate::schema::{self, Column, Dialect, TABLES, Table};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::path::Path;
use std::str::FromStr;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// Rows in one INSERT: wide enough to hide the cost of a statement, below SQLite's limit of 32,766 parameters.
const BATCH: usize = 500;

/// Why the data could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("the database refused the data")]
    Database(#[from] sqlx::Error),
    #[error("the generator wrote an unexpected row: {0}")]
    Row(String),
}

/// The rows of a table as TPC-H's generator writes them: fields that each end in `|`.
fn rows(table: &str, scale: f64) -> Box<dyn Iterator<Item = String> + Send> {
    match table {
        "region" => Box::new(RegionGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "nation" => Box::new(NationGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "part" => Box::new(PartGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "supplier" => Box::new(SupplierGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "partsupp" => Box::new(PartSuppGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "customer" => Box::new(CustomerGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        "orders" => Box::new(OrderGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
        _ => Box::new(LineItemGenerator::new(scale, 1, 1).iter().map(|row| row.to_string())),
    }
}

/// About how many rows all tables have, for the progress bar.
fn expected(scale: f64) -> u64 {
    (8_661_245.0 * scale) as u64
}

/// Creates and fills a SQLite database at `path`, which must not exist.
pub async fn sqlite(path: &Path, scale: f64) -> Result<(), GenerateError> {
    // Nothing reads the file before it is complete, so it need not survive a crash while it is written.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    for statement in schema::create(Dialect::Sqlite) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    let mut progress = Progress::new("generating TPC-H rows", expected(scale));
    for table in &TABLES {
        let mut transaction = connection.begin().await?;
        let mut rows = rows(table.name, scale);
        loop {
            let batch: Vec<String> = rows.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            insert(&mut transaction, table, &batch).await?;
            progress.advance(batch.len() as u64);
        }
        transaction.commit().await?;
    }
    // Both runs read while they write: the journal mode is a property of the file.
    sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
    connection.close().await?;
    progress.finish();
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &[String],
) -> Result<(), GenerateError> {
    let one = format!("({})", vec!["?"; table.columns.len()].join(", "));
    let sql = format!("INSERT INTO {} VALUES {}", table.name, vec![one; rows.len()].join(", "));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for row in rows {
        for (field, (_, column)) in fields(row, table)?.into_iter().zip(table.columns) {
            query = match column {
                Column::Text => query.bind(field.to_owned()),
                Column::Integer | Column::Hundredths => query.bind(number(field, *column)?),
            };
        }
    }
    query.execute(connection).await?;
    Ok(())
}

/// Creates and fills the schema `name` of a PostgreSQL database, replacing what was there under that name.
pub async fn postgres(url: &str, name: &str, scale: f64) -> Result<(), GenerateError> {
    let options = sqlx::postgres::PgConnectOptions::from_str(url)?.options([("search_path", name)]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let fresh = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(fresh)).execute(&mut connection).await?;
    for statement in schema::create(Dialect::Postgres) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    let mut progress = Progress::new(&format!("generating TPC-H rows into {name}"), expected(scale));
    for table in &TABLES {
        let mut copy = connection.copy_in_raw(&format!("COPY {} FROM STDIN", table.name)).await?;
        let mut rows = rows(table.name, scale);
        loop {
            let batch: Vec<String> = rows.by_ref().take(BATCH * 10).collect();
            if batch.is_empty() {
                break;
            }
            copy.send(tab_separated(&batch, table)?.into_bytes()).await?;
            progress.advance(batch.len() as u64);
        }
        copy.finish().await?;
    }
    let finish =
        "SELECT setval(pg_get_serial_sequence('orders', 'o_orderkey'), (SELECT MAX(o_orderkey) FROM orders))";
    sqlx::raw_sql(finish).execute(&mut connection).await?;
    // What autovacuum would have done by the time anybody looks.
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await?;
    connection.close().await?;
    progress.finish();
    Ok(())
}

fn tab_separated(rows: &[String], table: &Table) -> Result<String, GenerateError> {
    let mut text = String::new();
    for row in rows {
        let mut separator = "";
        for (field, (_, column)) in fields(row, table)?.into_iter().zip(table.columns) {
            text += separator;
            separator = "\t";
            match column {
                Column::Text => text += &field.replace('\\', "\\\\"),
                Column::Integer | Column::Hundredths => text += &number(field, *column)?.to_string(),
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn fields<'r>(row: &'r str, table: &Table) -> Result<Vec<&'r str>, GenerateError> {
    let fields: Vec<&str> = row.strip_suffix('|').unwrap_or(row).split('|').collect();
    if fields.len() == table.columns.len() { Ok(fields) } else { Err(GenerateError::Row(row.to_owned())) }
}

fn number(field: &str, column: Column) -> Result<i64, GenerateError> {
    schema::stored(field, column).map_err(GenerateError::Row)
}
