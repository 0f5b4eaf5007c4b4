//! A statement with likely values where parameters are compared with a column (B1.7).
//!
//! A generic plan takes every value for an average one, and a range for a fixed share of the rows. Where one value fills most of a
//! table and others are rare, no value is average; and most ranges are longer or shorter. So the statement is also planned with up to
//! three values from the statistics, each weighed by how many calls are likely to ask for it: values are taken to be asked for as
//! often as they occur.
//!
//! - `= $1` and `IN ($1, …)`: the most common values, where the column is filled unevenly. A list counts for its most frequent value.
//! - `BETWEEN $1 AND $2`, `>= $1` with `< $2`: ranges that hold just one of those.
//! - `> $1` and the like: from there, or from the middle of each third of the other values.

mod compared;
mod values;

use super::rewrite::{parameters, renumber};
use crate::advise::{Schema, Shape};
use crate::{Dialect, Error};
use compared::{Bound, Comparison, How, Place, compared};
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use values::{Values, neighbours, read};

/// Values tried per statement: the first few tell the rule from the exceptions.
const MAX_VALUES: usize = 3;
/// How far a value's share must be from that of an average value, as a factor, for the column to count as uneven.
const UNEVEN: f64 = 3.0;
/// Longer values are no keys that anyone looks up by their frequency.
const MAX_LENGTH: usize = 200;
/// Steps of a histogram that make a third of it worth the name.
const MIN_BOUNDS: usize = 7;

/// A statement for one value, and the share of the calls that ask for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) sql: String,
    pub(super) share: f64,
}

/// Values for parameters, and the share of the calls that have them.
type Assignment = (Vec<(u32, String)>, f64);

/// The values of the columns asked for so far, by table and column.
#[derive(Debug, Default)]
pub(super) struct CommonValues(HashMap<Place, Values>);

impl CommonValues {
    /// The variants of a statement: for one of its comparisons, the first kind there is of those above, and of equal kinds the one
    /// whose likeliest value is the most likely.
    pub(super) async fn variants(
        &mut self,
        conn: &mut PgConnection,
        sql: &str,
        shape: &Shape,
        schema: &Schema,
    ) -> Result<Vec<Variant>, Error> {
        let mut best: Option<((u8, f64), Vec<Assignment>)> = None;
        for comparison in compared(sql, shape, schema) {
            let values = self.of(conn, schema, comparison.column).await?;
            let assignments = assignments(conn, schema, &comparison, values).await?;
            let Some(top) = assignments.iter().map(|(_, share)| *share).max_by(f64::total_cmp) else {
                continue;
            };
            let rank = match comparison.how {
                How::OneOf { .. } => 2,
                How::Within { .. } => 1,
                How::Beyond(_) => 0,
            };
            if best.as_ref().is_none_or(|(known, _)| (rank, top) > *known) {
                best = Some(((rank, top), assignments));
            }
        }
        let with = |(values, share): Assignment| Variant { sql: insert(sql, &values), share };
        Ok(best.map(|(_, assignments)| assignments.into_iter().map(with).collect()).unwrap_or_default())
    }

    async fn of(&mut self, conn: &mut PgConnection, schema: &Schema, place: Place) -> Result<&Values, Error> {
        Ok(match self.0.entry(place) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(read(conn, schema, place).await?),
        })
    }
}

/// The values a comparison is planned with.
async fn assignments(
    conn: &mut PgConnection,
    schema: &Schema,
    comparison: &Comparison,
    values: &Values,
) -> Result<Vec<Assignment>, Error> {
    let frequent = frequent(&values.common, values.average);
    match comparison.how {
        How::OneOf { first, many } => {
            let shares = in_list(&frequent.iter().map(|(_, share)| *share).collect::<Vec<_>>(), many);
            Ok(frequent
                .into_iter()
                .zip(shares)
                .map(|((value, _), share)| (vec![(first, value)], share))
                .collect())
        }
        How::Within { low, high } => {
            let mut found = Vec::new();
            for (value, share) in frequent {
                let (below, above) = match (low.inclusive, high.inclusive) {
                    (true, true) => (None, None),
                    _ => neighbours(conn, schema, comparison.column, values, &value).await?,
                };
                let end = |bound: Bound, beside: Option<String>| {
                    let value = if bound.inclusive { Some(value.clone()) } else { beside };
                    value.map(|value| (bound.parameter, value))
                };
                if let (Some(low), Some(high)) = (end(low, below), end(high, above)) {
                    found.push((vec![low, high], share));
                }
            }
            Ok(found)
        }
        How::Beyond(parameter) => {
            let mut all = frequent;
            all.extend(thirds(values));
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all.truncate(MAX_VALUES);
            Ok(all.into_iter().map(|(value, share)| (vec![(parameter, value)], share)).collect())
        }
    }
}

/// The first values, when any of all is far from average.
fn frequent(common: &[(String, f64)], average: f64) -> Vec<(String, f64)> {
    let far = |share: f64| share > average * UNEVEN || share < average / UNEVEN;
    if !common.iter().any(|(_, share)| far(*share)) {
        return Vec::new();
    }
    common.iter().filter(|(value, _)| value.len() <= MAX_LENGTH).take(MAX_VALUES).cloned().collect()
}

/// The middle of each third of the values that are not common, with the share of rows in that third.
fn thirds(values: &Values) -> Vec<(String, f64)> {
    let steps = values.bounds.len();
    if steps < MIN_BOUNDS {
        return Vec::new();
    }
    [1, 3, 5]
        .map(|sixth| (values.bounds[sixth * (steps - 1) / 6].clone(), values.spread / 3.0))
        .into_iter()
        .filter(|(value, _)| value.len() <= MAX_LENGTH)
        .collect()
}

/// For values of falling shares, the share of lists of `many` values of which each is the most frequent.
fn in_list(shares: &[f64], many: i32) -> Vec<f64> {
    let mut rest = 1.0_f64;
    let without = |rest: f64| rest.max(0.0).powi(many);
    shares
        .iter()
        .map(|share| {
            let before = without(rest);
            rest -= share;
            before - without(rest)
        })
        .collect()
}

/// The statement with values in the place of parameters; those after them move up.
fn insert(sql: &str, values: &[(u32, String)]) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut copied = 0;
    for (number, token) in parameters(sql) {
        if let Some((_, value)) = values.iter().find(|(own, _)| *own == number) {
            text.push_str(&sql[copied..token.start]);
            text.push_str(&Dialect::Postgres.literal(value));
            copied = token.end;
        }
    }
    text.push_str(&sql[copied..]);
    renumber(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(shares: &[f64]) -> Vec<(String, f64)> {
        shares.iter().map(|share| (share.to_string(), *share)).collect()
    }

    #[test]
    fn values_take_their_parameters_places_and_the_others_move_up() {
        let sql = "select * from orders where id > $2 and status = $1 or $1 = $3";
        let text = insert(sql, &[(1, "it's".to_owned())]);
        assert_eq!(text, "select * from orders where id > $1 and status = 'it''s' or 'it''s' = $2");
        let sql = "select * from orders where id between $1 and $2 and status = $3";
        let text = insert(sql, &[(1, "5".to_owned()), (2, "9".to_owned())]);
        assert_eq!(text, "select * from orders where id between '5' and '9' and status = $1");
    }

    #[test]
    fn even_columns_have_no_frequent_values() {
        assert!(frequent(&values(&[0.3, 0.25, 0.25, 0.2]), 0.25).is_empty());
        assert_eq!(frequent(&values(&[0.99, 0.01]), 0.5).len(), 2);
        assert_eq!(frequent(&values(&[0.3, 0.01, 0.01, 0.01]), 0.001).len(), MAX_VALUES);
    }

    #[test]
    fn the_longer_a_list_the_likelier_it_holds_the_most_frequent_value() {
        let one = in_list(&[0.9, 0.05], 1);
        assert!((one[0] - 0.9).abs() < 1e-9 && (one[1] - 0.05).abs() < 1e-9, "{one:?}");
        let three = in_list(&[0.5, 0.25], 3);
        assert!((three[0] - 0.875).abs() < 1e-9, "at least one of three: {three:?}");
        assert!(
            (three[1] - (0.125 - 0.015_625)).abs() < 1e-9,
            "none of the first, one of the second: {three:?}"
        );
        assert!(in_list(&[0.6, 0.6], 2).iter().sum::<f64>() <= 1.0, "shares that are rounded up stay shares");
    }

    #[test]
    fn a_histogram_is_cut_in_thirds_by_its_steps() {
        let bounds: Vec<String> = (0..=60).map(|bound| bound.to_string()).collect();
        let found = thirds(&Values { bounds, spread: 0.6, ..Values::default() });
        let places: Vec<&str> = found.iter().map(|(value, _)| value.as_str()).collect();
        assert_eq!(places, ["10", "30", "50"]);
        assert!(found.iter().all(|(_, share)| (share - 0.2).abs() < 1e-9));
        assert!(thirds(&Values { bounds: vec!["1".to_owned(); 3], ..Values::default() }).is_empty());
    }
}
