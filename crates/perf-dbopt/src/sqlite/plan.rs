//! What `EXPLAIN QUERY PLAN` says, and what that costs.
//!
//! SQLite reports the cost of one run of each loop (the third column holds its logarithmic estimate); how often each loop
//! runs follows from the rows the loops around it yield, which is estimated from the statistics as any planner does.

use crate::advise::{Schema, Shape};
use std::collections::HashMap;

/// One line of a plan.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) id: i64,
    pub(super) parent: i64,
    /// Ten times the binary logarithm of the cost of one run.
    pub(super) log_cost: i64,
    pub(super) detail: String,
}

/// Rows a query with LIMIT is taken to want when the plan can stop early.
const LIMIT_ROWS: f64 = 50.0;
/// The share of rows one comparison by order keeps.
const RANGE_SHARE: f64 = 0.2;
/// The cost of one row pushed through a sort, in units of SQLite's planner, beside the logarithm.
const SORT_ROW: f64 = 3.0;

/// The cost of a plan in units of SQLite's planner, about one step through a B-tree.
pub(super) fn cost(lines: &[Line], shape: &Shape, schema: &Schema) -> f64 {
    let mut reading = Reading { lines, shape, schema, seen: Vec::new(), made: HashMap::new() };
    let (cost, rows) = reading.block(0);
    let sorts = lines.iter().any(|line| line.parent == 0 && line.detail.starts_with("USE TEMP B-TREE"));
    if shape.limited && !sorts && rows > LIMIT_ROWS {
        return (cost * LIMIT_ROWS / rows).max(1.0);
    }
    cost.max(1.0)
}

struct Reading<'a> {
    lines: &'a [Line],
    shape: &'a Shape,
    schema: &'a Schema,
    /// Tables of the loops around.
    seen: Vec<usize>,
    /// Rows of subqueries kept or streamed, by name.
    made: HashMap<String, f64>,
}

impl Reading<'_> {
    /// The cost of everything below a line, and the rows it yields.
    fn block(&mut self, parent: i64) -> (f64, f64) {
        let before = self.seen.len();
        let (mut cost, mut rows, mut per_row) = (0.0, 1.0, 0.0);
        for index in 0..self.lines.len() {
            let line = &self.lines[index];
            if line.parent != parent || line.id == parent {
                continue;
            }
            let detail = line.detail.as_str();
            if detail.starts_with("SCAN") || detail.starts_with("SEARCH") {
                let (run, out) = self.access(line, rows);
                cost += rows * run;
                rows = (rows * out).max(1e-6);
            } else if detail.starts_with("MULTI-INDEX OR") {
                let (inner, out) = self.block(line.id);
                cost += rows * inner;
                rows *= out.max(1.0);
            } else if detail.starts_with("USE TEMP B-TREE") {
                cost += rows * (SORT_ROW + rows.max(2.0).log2());
            } else if detail.starts_with("CORRELATED") {
                per_row += self.block(line.id).0;
            } else {
                let (inner, out) = self.block(line.id);
                cost += inner;
                for prefix in ["CO-ROUTINE ", "MATERIALIZE "] {
                    if let Some(name) = detail.strip_prefix(prefix) {
                        self.made.insert(name.to_ascii_lowercase(), out);
                    }
                }
                // The branches of a compound query yield their rows one after another.
                rows = rows.max(out);
            }
        }
        self.seen.truncate(before);
        (cost + per_row * rows, rows)
    }

    /// What one run of a loop costs, and how many rows it yields to the loops inside.
    fn access(&mut self, line: &Line, runs: f64) -> (f64, f64) {
        let name = line.detail.split(' ').nth(1).unwrap_or_default().to_ascii_lowercase();
        let mut run = if line.log_cost > 0 { 2_f64.powf(line.log_cost as f64 / 10.0) } else { 1.0 };
        if let Some(out) = self.made.get(&name) {
            return (run.max(1.0), *out);
        }
        let Some(table) = self.table(&name) else { return (run, 10.0) };
        let rows = self.schema.tables()[table].rows.max(1.0);
        if line.detail.contains("AUTOMATIC") {
            run += rows * rows.max(2.0).log2() / runs.max(1.0);
        }
        let out = rows * self.share(table);
        self.seen.push(table);
        (run, out)
    }

    fn table(&self, name: &str) -> Option<usize> {
        self.shape.aliases.iter().find(|(alias, _)| alias == name).map(|(_, table)| *table)
    }

    /// The share of a table's rows that pass the conditions on it, those included that join it to the tables seen.
    fn share(&self, table: usize) -> f64 {
        let Some(roles) = self.shape.tables.get(&table) else { return 1.0 };
        let columns = &self.schema.tables()[table].columns;
        let one_of = |column: usize| 1.0 / columns[column].distinct.unwrap_or(10.0).max(1.0);
        let mut share: f64 = roles.equal.iter().map(|column| one_of(*column)).product();
        share *= RANGE_SHARE.powi(roles.range.len().min(3) as i32);
        for (a, b) in &self.shape.joins {
            for (own, other) in [(a, b), (b, a)] {
                if own.0 == table && self.seen.contains(&other.0) {
                    share *= one_of(own.1);
                }
            }
        }
        share.max(1.0 / self.schema.tables()[table].rows.max(1.0))
    }
}
