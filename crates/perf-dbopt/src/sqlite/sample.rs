//! Statistics from a sample: how many rows, how many different values, how wide.

use super::catalog::run;
use crate::advise::Table;
use crate::error::Doing;
use crate::{Dialect, Error};
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Places looked at in a table, evenly spread over its row numbers; at each, the row there and the next one.
const PLACES: i64 = 2500;

/// What a sample says of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) rows: f64,
    /// Hashes of the values, by sampled row and column.
    values: Vec<Vec<u64>>,
    /// Which sampled rows directly follow the one before them in the table.
    follows: Vec<bool>,
}

/// Takes a sample and notes rows, distinct values, widths and NULLs in the table.
pub(super) async fn take(conn: &mut SqliteConnection, table: &mut Table) -> Result<Sample, Error> {
    let name = Dialect::Sqlite.quote(&table.name);
    let span = sqlx::query(sqlx::AssertSqlSafe(format!("select min(rowid), max(rowid) from {name}")))
        .fetch_one(&mut *conn)
        .await;
    let Ok(span) = span else { return without_rowid(conn, table, &name).await };
    let (Some(low), Some(high)) = (span.get::<Option<i64>, _>(0), span.get::<Option<i64>, _>(1)) else {
        return Ok(Sample::default());
    };
    let width = i128::from(high) - i128::from(low) + 1;
    let step = i64::try_from((width / i128::from(PLACES)).max(2)).unwrap_or(i64::MAX);
    let sql = format!(
        "with recursive probe(i) as (values({low}) union all select i + {step} from probe where i <= {high} - {step}) \
         select t.rowid, {} from probe cross join {name} t on t.rowid in (probe.i, probe.i + 1) limit {}",
        columns(table),
        2 * PLACES + 10
    );
    let rows = run(conn, sql, "sample a table").await?;
    // Of the places looked at, the share that held a row is the share of the numbers in use.
    let places = (width as f64 / step as f64).ceil() * 2.0;
    let share = (rows.len() as f64 / places).min(1.0);
    let exact = step == 2 && width <= i128::from(PLACES) * 2;
    let count = if exact || share < 0.05 { count(conn, &name).await? } else { width as f64 * share };
    Ok(collect(table, &rows, count))
}

/// Tables without row numbers are counted, and their first rows are the sample.
async fn without_rowid(conn: &mut SqliteConnection, table: &mut Table, name: &str) -> Result<Sample, Error> {
    let sql = format!("select 0, {} from {name} t limit {}", columns(table), 2 * PLACES);
    let rows = run(conn, sql, "sample a table").await?;
    let count = count(conn, name).await?;
    Ok(collect(table, &rows, count))
}

async fn count(conn: &mut SqliteConnection, name: &str) -> Result<f64, Error> {
    let sql = format!("select count(*) from {name}");
    let count: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(conn).await.doing("count a table's rows")?;
    Ok(count as f64)
}

/// Every column as text, long values cut: only equality and width matter.
fn columns(table: &Table) -> String {
    let quote = |column: &crate::advise::Column| {
        let name = Dialect::Sqlite.quote(&column.name);
        format!("substr(quote(t.{name}), 1, 200)")
    };
    table.columns.iter().map(quote).collect::<Vec<_>>().join(", ")
}

fn collect(table: &mut Table, rows: &[sqlx::sqlite::SqliteRow], count: f64) -> Sample {
    let mut sample = Sample { rows: count, ..Sample::default() };
    let mut widths = vec![0_usize; table.columns.len()];
    let mut nulls = vec![0_usize; table.columns.len()];
    let mut before = None;
    for row in rows {
        let number: i64 = row.get(0);
        sample.follows.push(before.is_some_and(|b: i64| b.checked_add(1) == Some(number)));
        before = Some(number);
        let mut values = Vec::with_capacity(table.columns.len());
        for column in 0..table.columns.len() {
            let text: &str = row.get(column + 1);
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            values.push(hasher.finish());
            widths[column] += text.len();
            nulls[column] += usize::from(text == "NULL");
        }
        sample.values.push(values);
    }
    table.rows = count;
    let sampled = rows.len().max(1) as f64;
    for (index, column) in table.columns.iter_mut().enumerate() {
        column.distinct = Some(sample.distinct(&[index]));
        column.width = widths[index] as f64 / sampled;
        column.nulls = nulls[index] as f64 / sampled;
    }
    sample
}

impl Sample {
    /// How many different values these columns have together in the whole table.
    ///
    /// Haas and Stokes' estimator "Duj1", as in PostgreSQL, and never more than the number of times the value changes from
    /// one row to the next, which a column in the order of the rows shows exactly.
    pub(super) fn distinct(&self, columns: &[usize]) -> f64 {
        let mut counts: HashMap<Vec<u64>, u32> = HashMap::new();
        let (mut pairs, mut changes) = (0_u32, 0_u32);
        let whole = self.rows <= self.values.len() as f64;
        let key = |row: &Vec<u64>| columns.iter().map(|c| row[*c]).collect::<Vec<_>>();
        for (index, row) in self.values.iter().enumerate() {
            // Neighbours say how often the value changes; only the first of each pair was drawn independently.
            if self.follows[index] {
                pairs += 1;
                changes += u32::from(key(row) != key(&self.values[index - 1]));
            }
            if !self.follows[index] || whole {
                *counts.entry(key(row)).or_default() += 1;
            }
        }
        let (sampled, seen) = (counts.values().sum::<u32>(), counts.len() as f64);
        if whole || sampled == 0 {
            return seen.max(1.0);
        }
        let sampled = f64::from(sampled);
        let once = counts.values().filter(|count| **count == 1).count() as f64;
        let estimate = sampled * seen / (sampled - once + once * sampled / self.rows).max(1.0);
        let runs =
            if pairs > 0 { self.rows * f64::from(changes.max(1)) / f64::from(pairs) } else { self.rows };
        estimate.min(runs).clamp(seen.min(self.rows), self.rows).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: f64, values: impl Iterator<Item = u64>) -> Sample {
        let values: Vec<_> = values.map(|value| vec![value]).collect();
        let follows = (0..values.len()).map(|index| index % 2 == 1).collect();
        Sample { rows, values, follows }
    }

    #[test]
    fn few_values_many_values_and_clustered_values_are_told_apart() {
        let few = sample(1e6, (0..5000).map(|i| i % 7));
        assert!((few.distinct(&[0]) - 7.0).abs() < 1.0);
        let unique = sample(1e6, 0..5000);
        assert!(unique.distinct(&[0]) > 9e5);
        // Pairs of neighbours share a value three times of four: runs of four rows.
        let clustered = sample(1e6, (0..5000).map(|i| if i % 2 == 1 && i % 8 != 1 { i - 1 } else { i }));
        let distinct = clustered.distinct(&[0]);
        assert!((2e5..3e5).contains(&distinct), "{distinct}");
    }
}
