use super::advisor::SqliteAdvisor;
use crate::advise::{Advice, IndexAdvice};
use crate::error::Doing;
use crate::{Apply, Dialect, Error};
use perf_core::time::now;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use std::time::Duration;

/// Rows of a table up to which an index is built without [`Apply::even_if_large`], unless
/// [`SqliteAdvisor::max_rows`] says otherwise: SQLite has one writer, who waits for the
/// build, and five million rows take about five seconds.
pub const DEFAULT_MAX_ROWS: u64 = 5_000_000;

/// What became of one proposed index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SqliteStep {
    /// It was created, in this time.
    Created {
        /// Its name.
        name: String,
        /// How long that took, statistics included.
        #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
        took: Duration,
    },
    /// It was there already.
    Present {
        /// Its name.
        name: String,
    },
    /// The table has more than [`SqliteAdvisor::max_rows`]: building it would stop writers for long, see
    /// [`Apply::even_if_large`].
    TooLarge {
        /// Its name.
        name: String,
        /// The rows counted: one more than allowed.
        rows: u64,
    },
    /// Another object has its name.
    NameTaken {
        /// The name.
        name: String,
    },
}

/// What was done to a database, by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SqliteApplied {
    /// Who asked for it.
    pub actor: String,
    /// One step per proposed index, in order.
    pub steps: Vec<SqliteStep>,
}

impl SqliteApplied {
    /// The names of the indexes that were created, which [`SqliteAdvisor::revert`] drops again.
    pub fn created(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            SqliteStep::Created { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

impl SqliteAdvisor {
    /// Creates the proposed indexes, one transaction each, and takes statistics of their tables.
    ///
    /// # Errors
    /// [`Error`] when the database fails. Indexes created before that stay, and the next run finds them present.
    ///
    /// # Cancel safety
    /// Each index is created whole or not at all.
    pub async fn apply(
        &self,
        conn: &mut SqliteConnection,
        advice: &Advice,
        consent: &Apply,
    ) -> Result<SqliteApplied, Error> {
        let mut applied = SqliteApplied { actor: consent.actor().to_owned(), steps: Vec::new() };
        for index in &advice.create {
            applied.steps.push(create(conn, index, self.max_rows, consent).await?);
        }
        Ok(applied)
    }

    /// Drops the indexes that [`SqliteAdvisor::apply`] created, and no others.
    ///
    /// # Errors
    /// [`Error`] when the database fails; a second call continues.
    ///
    /// # Cancel safety
    /// Each index is dropped whole or not at all.
    pub async fn revert(
        &self,
        conn: &mut SqliteConnection,
        applied: &SqliteApplied,
        consent: &Apply,
    ) -> Result<usize, Error> {
        let mut dropped = 0;
        for name in applied.created() {
            let sql = format!("DROP INDEX IF EXISTS {}", Dialect::Sqlite.quote(name));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await.doing("drop an index")?;
            dropped += 1;
        }
        let _ = consent;
        Ok(dropped)
    }
}

async fn create(
    conn: &mut SqliteConnection,
    index: &IndexAdvice,
    max_rows: u64,
    consent: &Apply,
) -> Result<SqliteStep, Error> {
    let name = index.name.clone();
    let known = sqlx::query("select sql from sqlite_schema where name = ?")
        .bind(&name)
        .fetch_optional(&mut *conn)
        .await
        .doing("look for an index")?;
    if let Some(row) = known {
        let same = row.get::<Option<String>, _>(0).is_some_and(|sql| sql == index.ddl);
        return Ok(if same { SqliteStep::Present { name } } else { SqliteStep::NameTaken { name } });
    }
    let table = Dialect::Sqlite.quote(&index.index.table);
    if !consent.is_forced() {
        let sql =
            format!("select count(*) from (select 1 from {table} limit {})", max_rows.saturating_add(1));
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.doing("count rows")?;
        let rows = u64::try_from(rows).unwrap_or_default();
        if rows > max_rows {
            return Ok(SqliteStep::TooLarge { name, rows });
        }
    }
    let start = now();
    sqlx::raw_sql(AssertSqlSafe(index.ddl.clone())).execute(&mut *conn).await.doing("create an index")?;
    // Without statistics SQLite takes every index for equally good. A thousand rows per index are quick and enough.
    let sql = format!("PRAGMA analysis_limit = 1000; ANALYZE {table}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await.doing("take statistics")?;
    Ok(SqliteStep::Created { name, took: start.elapsed() })
}
