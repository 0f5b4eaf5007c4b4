//! What an index is worth by statistics and rules alone, for a database whose planner cannot be asked "what if".

use super::costs::{Planned, WhatIf};
use super::index::IndexDef;
use super::schema::{Schema, Table};
use super::shape::{Roles, Shape};
use crate::Error;

/// The usual cost of a row read in order, of a page read anywhere, and of one step down a B-tree, in pages read in order.
const ROW: f64 = 0.01;
const RANDOM: f64 = 2.0;
const STEP: f64 = 0.5;
/// Rows on a page when nothing is known of their width.
const ROWS_PER_PAGE: f64 = 50.0;
/// What a range leaves of the rows when nothing is known of it.
const RANGE: f64 = 0.2;

/// An estimate in the place of a planner. Each table of a statement is read by the cheapest way there is; joins are taken to
/// look up one row of a table for each row of the one before.
pub(crate) struct Heuristic<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) shapes: Vec<&'a Shape>,
    pub(crate) defs: &'a [IndexDef],
}

impl Heuristic<'_> {
    /// The cost of reading one table without an index, or by one.
    fn read(table: &Table, roles: &Roles, def: Option<&IndexDef>, limited: bool) -> f64 {
        let rows = table.rows.max(1.0);
        let sort =
            |rows: f64| if roles.order.is_empty() { 0.0 } else { rows * rows.max(2.0).log2() * ROW * 0.1 };
        let selected = rows * Self::selectivity(table, roles);
        let Some(def) = def else {
            return rows / ROWS_PER_PAGE + rows * ROW + sort(selected);
        };
        let (share, keys) = Self::matched(table, roles, def);
        let ordered = Self::ordered(table, roles, def, keys);
        if keys == 0 && !ordered {
            return f64::INFINITY;
        }
        let covered = !roles.whole
            && roles.used.iter().all(|column| def.columns().any(|name| name == table.columns[*column].name));
        let mut found = rows * share;
        // Reading in order can stop early.
        if ordered && limited {
            found = found.min(100.0);
        }
        let each = if covered { ROW } else { RANDOM.min(rows / ROWS_PER_PAGE / found.max(1.0) + ROW) };
        STEP * rows.log2() + found * (each + ROW) + if ordered { 0.0 } else { sort(found.min(selected)) }
    }

    fn distinct(table: &Table, column: usize) -> f64 {
        table.columns[column].distinct.unwrap_or(table.rows / 10.0).max(1.0)
    }

    /// The share of the rows a statement asks for.
    fn selectivity(table: &Table, roles: &Roles) -> f64 {
        let equal: f64 = roles.equal.iter().map(|column| 1.0 / Self::distinct(table, *column)).product();
        equal * RANGE.powi(i32::try_from(roles.range.len()).unwrap_or(8))
    }

    /// The share of the rows an index narrows a statement to, and by how many keys.
    fn matched(table: &Table, roles: &Roles, def: &IndexDef) -> (f64, usize) {
        let (mut share, mut keys) = (1.0, 0);
        for key in &def.keys {
            let Some(name) = key.column_name() else {
                // An expression is as selective as PostgreSQL takes it to be without statistics.
                share *= 0.005;
                keys += 1;
                continue;
            };
            let Some(column) = table.columns.iter().position(|column| column.name == name) else { break };
            if roles.equal.contains(&column) || roles.join.contains(&column) {
                share /= Self::distinct(table, column);
                keys += 1;
            } else {
                if roles.range.contains(&column) {
                    share *= RANGE;
                    keys += 1;
                }
                break;
            }
        }
        (share.max(1.0 / table.rows.max(1.0)), keys)
    }

    /// Whether the index yields the rows in the order asked for, after keys compared for equality.
    fn ordered(table: &Table, roles: &Roles, def: &IndexDef, keys: usize) -> bool {
        let names = |order: &[(usize, bool)]| {
            order.iter().map(|(column, _)| table.columns[*column].name.clone()).collect::<Vec<_>>()
        };
        let held: Vec<&str> = def.keys.iter().filter_map(|key| key.column_name()).collect();
        roles.order.iter().map(|order| names(order)).any(|wanted| {
            (0..=keys).any(|skip| held.get(skip..skip + wanted.len()).is_some_and(|part| part == wanted))
        })
    }
}

impl WhatIf for Heuristic<'_> {
    async fn plan(&mut self, query: usize, indexes: &[usize]) -> Result<Planned, Error> {
        let shape = self.shapes[query];
        let mut planned = Planned::default();
        for (&place, roles) in &shape.tables {
            let table = &self.schema.tables()[place];
            let there = table.indexes.iter().map(|index| (None, &index.def));
            let offered = indexes
                .iter()
                .map(|number| (Some(*number), &self.defs[*number]))
                .filter(|(_, def)| def.table == table.name && def.schema == table.schema);
            let mut best = (Self::read(table, roles, None, shape.limited), None);
            for (number, def) in there.chain(offered).filter(|(_, def)| def.predicate.is_none()) {
                let cost = Self::read(table, roles, Some(def), shape.limited);
                if cost < best.0 {
                    best = (cost, number);
                }
            }
            planned.cost += best.0;
            planned.used.extend(best.1);
        }
        Ok(planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::advise::Column;

    #[tokio::test]
    async fn the_more_an_index_narrows_the_cheaper_and_one_that_does_not_fit_is_not_used() {
        let mut table = Table::new(None, "t");
        table.rows = 1e6;
        table.columns = ["a", "b", "c"].map(|name| Column::new(name, "int")).to_vec();
        table.columns[0].distinct = Some(1000.0);
        table.columns[1].distinct = Some(50.0);
        let schema = Schema::new(vec![table]);
        let shape = Shape::of("select c from t where a = 1 and b = 2", Dialect::Postgres, &schema);
        let defs = [vec!["c"], vec!["b"], vec!["a"], vec!["a", "b"]].map(|keys| IndexDef::on("t", keys));
        let mut planner = Heuristic { schema: &schema, shapes: vec![&shape], defs: &defs };
        let mut costs = vec![planner.plan(0, &[]).await.unwrap().cost];
        for index in 0..4 {
            let planned = planner.plan(0, &[index]).await.unwrap();
            assert_eq!(planned.used.is_empty(), index == 0, "{index}");
            costs.push(planned.cost);
        }
        assert!((costs[0] - costs[1]).abs() < 1e-9, "an index on a column nobody compares changes nothing");
        assert!(costs[1..].is_sorted_by(|a, b| a > b), "{costs:?}");
        assert_eq!(planner.plan(0, &[0, 1, 2, 3]).await.unwrap().used, [3]);
    }
}
