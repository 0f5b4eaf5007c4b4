//! What PostgreSQL's statistics say of the values of a column.

use super::compared::Place;
use crate::Error;
use crate::advise::Schema;
use crate::error::Doing;
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// The most common values of a column and their shares, and the spread of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    /// The most common first.
    pub(super) common: Vec<(String, f64)>,
    /// The ends of equally full steps through the other values, in order.
    pub(super) bounds: Vec<String>,
    /// The share of rows with one of those.
    pub(super) spread: f64,
    /// The share of an average value.
    pub(super) average: f64,
    /// The column's type, as SQL has it.
    pub(super) kind: String,
}

pub(super) async fn read(conn: &mut PgConnection, schema: &Schema, place: Place) -> Result<Values, Error> {
    const SQL: &str = "select most_common_vals::text::text[], most_common_freqs::float8[], histogram_bounds::text::text[], \
        null_frac::float8, (select format_type(a.atttypid, null) from pg_attribute a join pg_class c on c.oid = a.attrelid \
        join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2 and a.attname = $3) \
        from pg_stats where schemaname = $1 and tablename = $2 and attname = $3 order by inherited desc limit 1";
    const DOING: &str = "read the most common values";
    let (table, column) = named(schema, place);
    let row = sqlx::query(SQL)
        .bind(table.schema.as_deref().unwrap_or("public"))
        .bind(&table.name)
        .bind(&column.name)
        .persistent(false)
        .fetch_optional(conn)
        .await
        .doing(DOING)?;
    let Some(row) = row else { return Ok(Values::default()) };
    let values: Option<Vec<Option<String>>> = row.try_get(0).doing(DOING)?;
    let shares: Option<Vec<f64>> = row.try_get(1).doing(DOING)?;
    let bounds: Option<Vec<Option<String>>> = row.try_get(2).doing(DOING)?;
    let nulls: f64 = row.try_get(3).doing(DOING)?;
    let shares = shares.unwrap_or_default();
    let described = shares.iter().sum::<f64>() + nulls;
    let bounds: Vec<String> = bounds.unwrap_or_default().into_iter().flatten().collect();
    Ok(Values {
        common: values
            .unwrap_or_default()
            .into_iter()
            .zip(shares)
            .filter_map(|(value, share)| Some((value?, share)))
            .collect(),
        spread: if bounds.is_empty() { 0.0 } else { (1.0 - described).clamp(0.0, 1.0) },
        bounds,
        average: 1.0 / column.distinct.unwrap_or(1.0).max(1.0),
        kind: row.try_get::<Option<String>, _>(4).doing(DOING)?.unwrap_or_default(),
    })
}

fn named(schema: &Schema, place: Place) -> (&crate::advise::Table, &crate::advise::Column) {
    let table = &schema.tables()[place.0];
    (table, &table.columns[place.1])
}

/// The known values just below and just above one.
pub(super) async fn neighbours(
    conn: &mut PgConnection,
    schema: &Schema,
    place: Place,
    values: &Values,
    value: &str,
) -> Result<(Option<String>, Option<String>), Error> {
    const DOING: &str = "read the values beside a common one";
    let kind = &values.kind;
    let sql = format!(
        "with stats as (select * from pg_stats where schemaname = $1 and tablename = $2 and attname = $3 \
           order by inherited desc limit 1), \
         known(v) as (select unnest(most_common_vals::text::{kind}[]) from stats \
           union all select unnest(histogram_bounds::text::{kind}[]) from stats) \
         select (select v::text from known where v < $4::text::{kind} order by v desc limit 1), \
                (select v::text from known where v > $4::text::{kind} order by v limit 1)"
    );
    let (table, column) = named(schema, place);
    // The type's name is the server's own, quoted where it must be.
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(table.schema.as_deref().unwrap_or("public"))
        .bind(&table.name)
        .bind(&column.name)
        .bind(value)
        .persistent(false)
        .fetch_one(conn)
        .await
        .doing(DOING)?;
    Ok((row.try_get(0).doing(DOING)?, row.try_get(1).doing(DOING)?))
}
