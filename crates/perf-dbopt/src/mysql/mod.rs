//! MySQL and MariaDB, as far as they allow: statement statistics and what is wrong with the indexes. They cannot be asked "what if", so
//! there is no index advice beyond what their own statistics say.

use crate::advise::WorkloadQuery;
use crate::{Dialect, Error, Finding, FindingKind, Severity, Workload, fingerprint, normalize};
use sqlx::{MySqlConnection, Row};
use std::time::Duration;

/// What the server counted per statement since its start, for the database in use. Times are whole totals; subtracting an earlier reading
/// gives a stretch of time. Needs `performance_schema = ON`, which MariaDB leaves off by default.
///
/// # Errors
/// [`Error::Unexpected`] names the setting when the server keeps no such statistics, and [`Error`] when it cannot be asked.
pub async fn workload(conn: &mut MySqlConnection) -> Result<Workload, Error> {
    let on: i64 = scalar(conn, "select cast(@@performance_schema as signed)").await?;
    if on == 0 {
        let fix = "the server keeps no statement statistics: set performance_schema = ON and restart";
        return Err(Error::Unexpected(fix.to_owned()));
    }
    let sql = "select digest_text, cast(count_star as signed), cast(sum_timer_wait / 1000 as signed), \
               cast(sum_rows_sent + sum_rows_affected as signed) from performance_schema.events_statements_summary_by_digest \
               where schema_name = database() and digest_text is not null";
    let rows = sqlx::query(sql).persistent(false).fetch_all(conn).await;
    let mut workload = Workload::new(Dialect::MySql);
    for row in rows.map_err(|source| Error::Database { doing: "read the statement statistics", source })? {
        let text: String = row.get(0);
        let number = |place| u64::try_from(row.get::<i64, _>(place)).unwrap_or_default();
        workload.add(WorkloadQuery {
            fingerprint: fingerprint(&text, Dialect::MySql),
            text: normalize(&text, Dialect::MySql).into(),
            sql: text.into(),
            calls: number(1),
            total: Duration::from_nanos(number(2)),
            rows: number(3),
        });
    }
    Ok(workload)
}

async fn scalar(conn: &mut MySqlConnection, sql: &'static str) -> Result<i64, Error> {
    sqlx::query_scalar(sql)
        .persistent(false)
        .fetch_one(conn)
        .await
        .map_err(|source| Error::Database { doing: "read a setting", source })
}

/// Indexes of the database in use that begin another one, from the catalogue alone. Unique ones are never named.
const REDUNDANT: &str = "select a.table_name, a.index_name, b.index_name from \
    (select table_name, index_name, max(non_unique) as non_unique, group_concat(column_name, ':', coalesce(sub_part, ''), collation \
       order by seq_in_index) as keys_ from information_schema.statistics where table_schema = database() and index_type = 'BTREE' \
       group by table_name, index_name) a join \
    (select table_name, index_name, group_concat(column_name, ':', coalesce(sub_part, ''), collation order by seq_in_index) as keys_ \
       from information_schema.statistics where table_schema = database() and index_type = 'BTREE' group by table_name, index_name) b \
    on a.table_name = b.table_name and a.index_name <> b.index_name and a.non_unique = 1 \
    and (concat(b.keys_, ',') like concat(replace(replace(a.keys_, '\\\\', '\\\\\\\\'), '_', '\\_'), ',%')) \
    and (a.keys_ <> b.keys_ or a.index_name > b.index_name or b.index_name = 'PRIMARY') order by 1, 2, 3";

/// Redundant and duplicate indexes of the database in use.
///
/// # Errors
/// [`Error`] when the catalogue cannot be read.
pub async fn inspect(conn: &mut MySqlConnection) -> Result<Vec<Finding>, Error> {
    let rows = sqlx::query(REDUNDANT).persistent(false).fetch_all(conn).await;
    let rows = rows.map_err(|source| Error::Database { doing: "inspect the catalogue", source })?;
    let quote = |name: &str| Dialect::MySql.quote(name);
    Ok(rows
        .iter()
        .map(|row| {
            let (table, index, wider): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            Finding {
                kind: FindingKind::RedundantIndex,
                severity: Severity::Info,
                object: format!("{}.{}", quote(&table), quote(&index)),
                message: format!("the beginning of {wider}"),
                action: Some(format!("ALTER TABLE {} DROP INDEX {}", quote(&table), quote(&index))),
            }
        })
        .collect())
}
