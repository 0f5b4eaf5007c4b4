//! From statements to a problem the search can solve: candidates, what each weighs, what writes pay for it.

use super::candidates::{Kinds, candidates};
use super::index::{IndexDef, Key};
use super::schema::{Schema, Table};
use super::search::{Candidate, Problem};
use super::shape::{Roles, Shape, Write};
use super::workload::{Workload, WorkloadQuery};
use crate::Dialect;
use std::collections::BTreeSet;

/// A statement and what it does with which columns.
pub(crate) type Read<'w> = (&'w WorkloadQuery, Shape);

/// The indexes that might help a workload, before any planner was asked: generous, and in a fixed order.
///
/// ```
/// use perf_dbopt::advise::{Column, Schema, Table, candidates_for};
/// use perf_dbopt::{Dialect, Workload};
///
/// let mut table = Table::new(None, "t");
/// table.columns = vec![Column::new("a", "int"), Column::new("b", "int")];
/// table.rows = 1e6;
/// let workload = Workload::from_sql("select b from t where a = 1", Dialect::Sqlite);
/// let found = candidates_for(&workload, &Schema::new(vec![table]));
/// assert_eq!(found.len(), 2); // on (a), and on (a, b), which covers the query
/// ```
#[must_use]
pub fn candidates_for(workload: &Workload, schema: &Schema) -> Vec<IndexDef> {
    let dialect = workload.dialect;
    let kinds = Kinds {
        dialect,
        include: dialect == Dialect::Postgres,
        partial: dialect != Dialect::MySql,
        expressions: dialect != Dialect::MySql,
        covering: true,
        brin: dialect == Dialect::Postgres,
    };
    propose(&read(workload, schema), schema, kinds, 0.0)
}

pub(crate) fn propose(queries: &[Read<'_>], schema: &Schema, kinds: Kinds, min_rows: f64) -> Vec<IndexDef> {
    let mut all: BTreeSet<IndexDef> = BTreeSet::new();
    for (_, shape) in queries {
        all.extend(candidates(shape, schema, kinds));
    }
    all.retain(|def| table_of(schema, def).is_some_and(|table| schema.tables()[table].rows >= min_rows));
    all.into_iter().collect()
}

/// What one index entry costs to write, in the planner's unit: a constant, and a part for each doubling of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteCost {
    /// The constant.
    pub entry: f64,
    /// The part for each doubling of the table's rows.
    pub per_doubling: f64,
}

/// The problem of choosing among `defs` for a workload, without limits; `size` says the bytes of each on its table, which is given by
/// its number in the schema.
pub fn problem_for(
    workload: &Workload,
    schema: &Schema,
    defs: &[IndexDef],
    size: impl Fn(&IndexDef, usize) -> f64,
    cost: WriteCost,
) -> Problem {
    pose(&read(workload, schema), schema, defs, size, cost)
}

fn read<'w>(workload: &'w Workload, schema: &Schema) -> Vec<Read<'w>> {
    workload.queries.iter().map(|query| (query, Shape::of(&query.sql, workload.dialect, schema))).collect()
}

/// The problem of choosing among `defs`; `size` says the bytes of each on its table.
pub(crate) fn pose(
    queries: &[Read<'_>],
    schema: &Schema,
    defs: &[IndexDef],
    size: impl Fn(&IndexDef, usize) -> f64,
    cost: WriteCost,
) -> Problem {
    let mut problem = Problem::default();
    for def in defs {
        let table = table_of(schema, def).unwrap_or_default();
        problem.candidates.push(Candidate {
            table,
            bytes: size(def, table),
            upkeep: upkeep(def, schema, table, queries, cost),
            narrower: (0..defs.len()).filter(|n| defs[*n] != *def && defs[*n].is_covered_by(def)).collect(),
        });
    }
    for (query, shape) in queries {
        problem.weights.push(query.calls as f64);
        let matters = |number: &usize| {
            let table = problem.candidates[*number].table;
            shape
                .tables
                .get(&table)
                .is_some_and(|roles| can_serve(&defs[*number], roles, &schema.tables()[table]))
        };
        let relevant: Vec<usize> = (0..defs.len()).filter(matters).collect();
        let suits = |number: &usize| {
            let table = problem.candidates[*number].table;
            let own = &schema.tables()[table];
            shape.tables.get(&table).is_some_and(|roles| is_made_for(&defs[*number], roles, own))
        };
        problem.proposed.push(relevant.iter().copied().filter(suits).collect());
        problem.relevant.push(relevant);
    }
    problem
}

/// Whether a plan of the statement could use an index at all: the statement mentions the first key, or an expression or
/// condition is involved, or the index holds everything the statement reads of the table.
fn can_serve(def: &IndexDef, roles: &Roles, table: &Table) -> bool {
    let mentioned = |name: &str| {
        table
            .columns
            .iter()
            .position(|column| column.name == name)
            .is_none_or(|place| roles.used.contains(&place))
    };
    let first = def.keys.first().and_then(Key::column_name);
    let holds = |column: &usize| def.columns().any(|name| name == table.columns[*column].name);
    first.is_none_or(mentioned) || def.predicate.is_some() || (!roles.whole && roles.used.iter().all(holds))
}

/// Whether an index is as if made for a statement: the statement looks for its keys, and reads either everything beside them
/// from it or nothing.
fn is_made_for(def: &IndexDef, roles: &Roles, table: &Table) -> bool {
    let place = |name: &str| table.columns.iter().position(|column| column.name == name);
    let looked_for = |key: &Key| key.column_name().and_then(place).is_none_or(|place| roles.looks_for(place));
    let read = |name: &String| place(name).is_some_and(|place| roles.used.contains(&place));
    let holds = |column: &usize| def.columns().any(|name| name == table.columns[*column].name);
    let covers = !roles.whole && roles.used.iter().all(holds);
    let keys = def.keys.iter().filter(|key| !looked_for(key)).count();
    (keys == 0 || (covers && def.keys.first().is_some_and(looked_for)))
        && def.include.iter().all(read)
        && (def.include.is_empty() || covers)
}

fn table_of(schema: &Schema, def: &IndexDef) -> Option<usize> {
    schema.find(def.schema.as_deref(), &def.table)
}

/// What the workload's writes pay for an index.
fn upkeep(def: &IndexDef, schema: &Schema, table: usize, queries: &[Read<'_>], cost: WriteCost) -> f64 {
    let columns = &schema.tables()[table].columns;
    let entry = cost.entry + cost.per_doubling * schema.tables()[table].rows.max(2.0).log2();
    let entries = |shape: &Shape| match shape.writes {
        Some((written, Write::Insert | Write::Delete)) if written == table => 1.0,
        Some((written, Write::Update)) if written == table => {
            let assigned = shape.tables.get(&table).map(|roles| &roles.assigned);
            let touched = assigned.is_some_and(|assigned| {
                assigned.iter().any(|column| def.columns().any(|name| name == columns[*column].name))
            });
            // An update takes the old entry out and puts a new one in.
            if touched { 2.0 } else { 0.0 }
        }
        _ => 0.0,
    };
    let rows = |query: &WorkloadQuery| (query.rows.max(query.calls)) as f64;
    queries.iter().map(|(query, shape)| rows(query) * entries(shape) * entry).sum()
}
