//! Which indexes might help a statement. Generous on purpose: the planner decides.

use super::index::{IndexDef, Key, KeyPart, Method, quoted};
use super::schema::{Schema, Table};
use super::shape::{Roles, Shape};
use crate::Dialect;
use std::collections::BTreeSet;

/// Keys of one index at most: further ones rarely narrow anything, and only add to its size.
pub const MAX_KEYS: usize = 3;
/// Columns of one covering index at most.
pub const MAX_COLUMNS: usize = 8;
/// Candidates of one statement and table at most.
const MAX_PER_TABLE: usize = 48;

/// Below this many rows a block-range index narrows nothing worth the name.
const BRIN_ROWS: f64 = 50_000.0;
/// How well the rows must follow a column's order for block ranges to leave most of them out.
const BRIN_CORRELATION: f64 = 0.9;

/// What kinds of index may be proposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds {
    pub(crate) dialect: Dialect,
    /// Keep further columns beside the keys (PostgreSQL), or as further keys.
    pub(crate) include: bool,
    pub(crate) partial: bool,
    pub(crate) expressions: bool,
    pub(crate) covering: bool,
    /// Block-range indexes.
    pub(crate) brin: bool,
}

/// The candidates of one statement.
pub(crate) fn candidates(shape: &Shape, schema: &Schema, kinds: Kinds) -> BTreeSet<IndexDef> {
    let mut all = BTreeSet::new();
    for (&table, roles) in &shape.tables {
        let table = &schema.tables()[table];
        let keys = key_lists(roles, table);
        let mut own = BTreeSet::new();
        for keys in keys.iter().take(MAX_PER_TABLE) {
            add_variants(&mut own, keys, roles, table, kinds);
        }
        if kinds.expressions {
            add_expressions(&mut own, roles, table, kinds);
        }
        if kinds.brin && table.rows >= BRIN_ROWS {
            add_block_ranges(&mut own, roles, table);
        }
        own.retain(|def| !is_there(def, table));
        all.extend(own);
    }
    all
}

/// Lists of keys, the most promising first, without repetitions.
fn key_lists(roles: &Roles, table: &Table) -> Vec<Vec<(usize, bool)>> {
    let distinct = |c: &usize| table.columns[*c].distinct.unwrap_or(table.rows / 10.0);
    let by_distinct = |columns: &BTreeSet<usize>| {
        let mut sorted: Vec<usize> = columns.iter().copied().collect();
        sorted.sort_by(|a, b| distinct(b).total_cmp(&distinct(a)).then(a.cmp(b)));
        sorted
    };
    let (equal, join, range) =
        (by_distinct(&roles.equal), by_distinct(&roles.join), by_distinct(&roles.range));
    let mut heads: Vec<Vec<usize>> = vec![Vec::new()];
    heads.push(equal.clone());
    let points: Vec<usize> = equal.iter().chain(&join).copied().collect();
    for &a in &points {
        heads.push(vec![a]);
        for &b in &points {
            if a != b {
                heads.push(vec![a, b]);
            }
        }
    }
    for &j in &join {
        let mut with_join = equal.clone();
        with_join.push(j);
        heads.push(with_join);
        let mut join_first = vec![j];
        join_first.extend(&equal);
        heads.push(join_first);
    }
    let tails = tails(roles, &range);
    let mut lists = Vec::new();
    for head in &heads {
        for tail in &tails {
            let mut keys: Vec<(usize, bool)> = Vec::new();
            for key in head.iter().map(|c| (*c, false)).chain(tail.iter().copied()) {
                if keys.len() < MAX_KEYS && !keys.iter().any(|(c, _)| *c == key.0) {
                    keys.push(key);
                }
            }
            if !keys.is_empty() && !lists.contains(&keys) {
                lists.push(keys);
            }
        }
    }
    lists.sort_by_key(Vec::len);
    lists
}

/// What can follow the columns compared for equality: nothing, a range, an order, a grouping, a range then a join column.
fn tails(roles: &Roles, range: &[usize]) -> Vec<Vec<(usize, bool)>> {
    let mut tails: Vec<Vec<(usize, bool)>> = vec![Vec::new()];
    tails.extend(range.iter().map(|c| vec![(*c, false)]));
    for order in &roles.order {
        // An index is read in both directions, so only a mixture of directions needs descending keys.
        let mixed = order.iter().any(|(_, d)| *d != order[0].1);
        tails.push(order.iter().map(|(c, d)| (*c, *d && mixed)).collect());
    }
    tails.extend(roles.group.iter().map(|group| group.iter().map(|c| (*c, false)).collect()));
    tails
}

fn add_variants(
    all: &mut BTreeSet<IndexDef>,
    keys: &[(usize, bool)],
    roles: &Roles,
    table: &Table,
    kinds: Kinds,
) {
    let def = plain(keys, table);
    let rest: Vec<usize> = roles
        .used
        .iter()
        .copied()
        .filter(|c| {
            !keys.iter().any(|(k, _)| k == c) && table.rowid.as_ref() != Some(&table.columns[*c].name)
        })
        .collect();
    if kinds.covering && !roles.whole && !rest.is_empty() && keys.len() + rest.len() <= MAX_COLUMNS {
        all.insert(covering(&def, &rest, table, kinds));
    }
    if kinds.partial {
        for &(column, null) in &roles.nulls {
            let test = if null { "IS NULL" } else { "IS NOT NULL" };
            let name = quoted(&table.columns[column].name, kinds.dialect);
            let mut partial = def.clone().where_(format!("{name} {test}"));
            partial.keys.retain(|key| !null || key.column_name() != Some(&table.columns[column].name));
            if !partial.keys.is_empty() {
                all.insert(partial);
            }
        }
    }
    // The row's own number needs no index.
    let only_rowid = def.keys.len() == 1 && def.keys[0].column_name() == table.rowid.as_deref();
    if !only_rowid {
        all.insert(def);
    }
}

fn plain(keys: &[(usize, bool)], table: &Table) -> IndexDef {
    let mut def = IndexDef::on(table.name.clone(), Vec::<String>::new());
    def.schema.clone_from(&table.schema);
    def.keys = keys
        .iter()
        .map(|(c, descending)| Key {
            part: KeyPart::Column(table.columns[*c].name.clone()),
            descending: *descending,
        })
        .collect();
    def
}

fn covering(def: &IndexDef, rest: &[usize], table: &Table, kinds: Kinds) -> IndexDef {
    let names = rest.iter().map(|c| table.columns[*c].name.clone());
    if kinds.include {
        return def.clone().including(names);
    }
    let mut wide = def.clone();
    wide.keys.extend(names.map(Key::column));
    wide
}

/// Block ranges on single columns whose order the rows follow: they cost next to nothing.
fn add_block_ranges(all: &mut BTreeSet<IndexDef>, roles: &Roles, table: &Table) {
    for &column in roles.range.union(&roles.equal) {
        let follows = table.columns[column].correlation.is_some_and(|it| it.abs() >= BRIN_CORRELATION);
        if follows {
            let mut def = plain(&[(column, false)], table);
            def.method = Method::Brin;
            all.insert(def);
        }
    }
}

fn add_expressions(all: &mut BTreeSet<IndexDef>, roles: &Roles, table: &Table, kinds: Kinds) {
    for (function, column) in &roles.functions {
        let name = quoted(&table.columns[*column].name, kinds.dialect);
        let mut def = plain(&[], table);
        def.keys.push(Key { part: KeyPart::Expression(format!("{function}({name})")), descending: false });
        all.insert(def);
    }
}

/// Whether an index that is there, or the row's own number, already does what this one would.
fn is_there(def: &IndexDef, table: &Table) -> bool {
    let leads_with_rowid = table.rowid.is_some() && def.keys[0].column_name() == table.rowid.as_deref();
    leads_with_rowid && def.include.is_empty() && def.keys.len() == 1
        || table.indexes.iter().any(|index| def.is_covered_by(&index.def))
}
