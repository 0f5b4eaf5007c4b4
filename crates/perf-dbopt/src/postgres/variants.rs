//! A statement with frequent values where a parameter is compared with an unevenly filled column (B1.7).
//!
//! A generic plan takes every value for an average one. Where one value fills most of a table and others are rare, no value
//! is: so the statement is also planned with up to three of the column's most common values, each weighed by its share.

use super::rewrite::{parameters, renumber};
use crate::advise::{Schema, Shape};
use crate::error::Doing;
use crate::{Dialect, Error, Lexer, Token, TokenKind};
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Values tried per statement: the first few tell the rule from the exceptions.
const MAX_VALUES: usize = 3;
/// How far a value's share must be from that of an average value, as a factor, for the column to count as uneven.
const UNEVEN: f64 = 3.0;
/// Longer values are no keys that anyone looks up by their frequency.
const MAX_LENGTH: usize = 200;

/// A statement for one value, and the share of the calls that ask for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) sql: String,
    pub(super) share: f64,
}

/// The most common values of a column and their shares; nothing for a column that is filled evenly.
type Values = Vec<(String, f64)>;

/// The values of the columns asked for so far, by table and column.
#[derive(Debug, Default)]
pub(super) struct CommonValues(HashMap<(usize, usize), Values>);

impl CommonValues {
    /// The variants of a statement: for the one of its parameters whose column is filled most unevenly.
    pub(super) async fn variants(
        &mut self,
        conn: &mut PgConnection,
        sql: &str,
        shape: &Shape,
        schema: &Schema,
    ) -> Result<Vec<Variant>, Error> {
        let mut best: Option<(f64, u32, Values)> = None;
        for (parameter, place) in compared(sql, shape, schema) {
            let values = self.of(conn, schema, place).await?;
            let Some(top) = values.first().map(|(_, share)| *share) else { continue };
            if best.as_ref().is_none_or(|(most, ..)| top > *most) {
                best = Some((top, parameter, values.clone()));
            }
        }
        let Some((_, parameter, values)) = best else { return Ok(Vec::new()) };
        let with = |(value, share)| Variant { sql: insert(sql, parameter, value), share };
        Ok(values.iter().map(|(value, share)| (value.as_str(), *share)).map(with).collect())
    }

    async fn of(
        &mut self,
        conn: &mut PgConnection,
        schema: &Schema,
        place: (usize, usize),
    ) -> Result<&Values, Error> {
        Ok(match self.0.entry(place) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(read(conn, schema, place).await?),
        })
    }
}

async fn read(conn: &mut PgConnection, schema: &Schema, place: (usize, usize)) -> Result<Values, Error> {
    const SQL: &str = "select most_common_vals::text::text[], most_common_freqs::float8[] from pg_stats \
        where schemaname = $1 and tablename = $2 and attname = $3 and most_common_vals is not null \
        order by inherited desc limit 1";
    let table = &schema.tables()[place.0];
    let column = &table.columns[place.1];
    let row = sqlx::query(SQL)
        .bind(table.schema.as_deref().unwrap_or("public"))
        .bind(&table.name)
        .bind(&column.name)
        .persistent(false)
        .fetch_optional(conn)
        .await
        .doing("read the most common values")?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let values: Vec<Option<String>> = row.try_get(0).doing("read the most common values")?;
    let shares: Vec<f64> = row.try_get(1).doing("read the most common values")?;
    let average = 1.0 / column.distinct.unwrap_or(1.0).max(1.0);
    let known = values.into_iter().zip(shares).filter_map(|(value, share)| Some((value?, share)));
    Ok(frequent(known.collect(), average))
}

/// The first values, when any of all is far from average.
fn frequent(mut values: Values, average: f64) -> Values {
    let far = |share: f64| share > average * UNEVEN || share < average / UNEVEN;
    if !values.iter().any(|(_, share)| far(*share)) {
        return Vec::new();
    }
    values.retain(|(value, _)| value.len() <= MAX_LENGTH);
    values.truncate(MAX_VALUES);
    values
}

/// Parameters compared with a column by `=` in a condition, and the column's table and place in it.
fn compared(sql: &str, shape: &Shape, schema: &Schema) -> Vec<(u32, (usize, usize))> {
    let tokens: Vec<Token> = Lexer::new(sql, Dialect::Postgres).collect();
    let mut found = Vec::new();
    let mut condition = false;
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == TokenKind::Word {
            match &*token.text(sql).to_ascii_lowercase() {
                "where" | "on" | "having" => condition = true,
                "set" | "select" | "from" | "values" | "group" | "order" | "returning" | "limit" => {
                    condition = false;
                }
                _ => {}
            }
        }
        if !condition || token.kind != TokenKind::Operator || token.text(sql) != "=" || at == 0 {
            continue;
        }
        let Some(parameter) = tokens.get(at + 1).filter(|t| t.kind == TokenKind::Parameter) else { continue };
        let number = parameter.text(sql).strip_prefix('$').and_then(|number| number.parse().ok());
        // `a + b = $1` says nothing of b's values.
        let owner = (at >= 3 && tokens[at - 2].kind == TokenKind::Dot).then(|| at - 3);
        let before = owner.unwrap_or(at - 1).checked_sub(1).map(|place| &tokens[place]);
        let alone = before.is_none_or(|t| {
            t.kind == TokenKind::Open
                || matches!(
                    &*t.text(sql).to_ascii_lowercase(),
                    "where" | "and" | "or" | "on" | "having" | "not"
                )
        });
        let owner = owner.map(|place| name(&tokens[place], sql));
        let column = resolve(owner.as_deref(), &name(&tokens[at - 1], sql), shape, schema);
        if let (true, Some(number), Some(column)) = (alone, number, column) {
            found.push((number, column));
        }
    }
    found
}

/// A name as the catalogue has it.
fn name(token: &Token, sql: &str) -> String {
    let text = token.text(sql);
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => text.to_ascii_lowercase(),
    }
}

/// The column of that name, when exactly one of the statement's tables has it.
fn resolve(owner: Option<&str>, column: &str, shape: &Shape, schema: &Schema) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    for (alias, table) in &shape.aliases {
        if owner.is_some_and(|owner| !owner.eq_ignore_ascii_case(alias)) {
            continue;
        }
        let Some(place) = schema.tables()[*table].columns.iter().position(|c| c.name == column) else {
            continue;
        };
        if found.is_some_and(|known| known != (*table, place)) {
            return None;
        }
        found = Some((*table, place));
    }
    found
}

/// The statement with a value in a parameter's place; those after it move up.
fn insert(sql: &str, parameter: u32, value: &str) -> String {
    let literal = Dialect::Postgres.literal(value);
    let mut text = String::with_capacity(sql.len() + literal.len());
    let mut copied = 0;
    for (_, token) in parameters(sql).into_iter().filter(|(number, _)| *number == parameter) {
        text.push_str(&sql[copied..token.start]);
        text.push_str(&literal);
        copied = token.end;
    }
    text.push_str(&sql[copied..]);
    renumber(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::{Column, Table};

    fn schema() -> Schema {
        let mut orders = Table::new(None, "orders");
        orders.columns = ["id", "status", "Odd"].map(|name| Column::new(name, "text")).to_vec();
        let mut item = Table::new(None, "item");
        item.columns = ["id", "kind"].map(|name| Column::new(name, "text")).to_vec();
        Schema::new(vec![orders, item])
    }

    fn found(sql: &str) -> Vec<(u32, (usize, usize))> {
        let schema = schema();
        compared(sql, &Shape::of(sql, Dialect::Postgres, &schema), &schema)
    }

    #[test]
    fn parameters_are_matched_with_the_columns_they_are_compared_with() {
        assert_eq!(found("select * from orders where status = $1 and id = $2"), [(1, (0, 1)), (2, (0, 0))]);
        assert_eq!(
            found("select * from orders o join item i on i.id = o.id where i.kind = $3"),
            [(3, (1, 1))]
        );
        assert_eq!(found("select * from orders where (\"Odd\" = $1)"), [(1, (0, 2))]);
    }

    #[test]
    fn what_is_assigned_calculated_or_ambiguous_is_not_compared() {
        assert_eq!(found("update orders set status = $1 where id = $2"), [(2, (0, 0))]);
        assert!(found("select * from orders where id || status = $1").is_empty());
        assert!(found("select * from orders, item where id = $1").is_empty());
        assert!(found("select status = $1 from orders").is_empty());
        assert!(found("select * from orders where status <> $1 and id > $2").is_empty());
    }

    #[test]
    fn a_value_takes_its_parameters_place_and_the_others_move_up() {
        let sql = "select * from orders where id > $2 and status = $1 or $1 = $3";
        let text = insert(sql, 1, "it's");
        assert_eq!(text, "select * from orders where id > $1 and status = 'it''s' or 'it''s' = $2");
    }

    #[test]
    fn even_columns_have_no_variants() {
        let values = |shares: &[f64]| shares.iter().map(|share| (share.to_string(), *share)).collect();
        assert!(frequent(values(&[0.3, 0.25, 0.25, 0.2]), 0.25).is_empty());
        assert_eq!(frequent(values(&[0.99, 0.01]), 0.5).len(), 2);
        assert_eq!(frequent(values(&[0.3, 0.01, 0.01, 0.01]), 0.001).len(), MAX_VALUES);
    }
}
