//! What a plan says about itself, typed: from the JSON of EXPLAIN, better with ANALYZE (pgMustard and pev2 look for the same).

use super::planner::text;
use crate::advise::SkipReason;
use crate::error::Doing;
use crate::{Dialect, Error, Lexer, TokenKind};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::fmt;
use std::time::Duration;

/// An estimate is off when it is wrong by this factor: below, the planner seldom chooses another plan.
const MISESTIMATE: f64 = 10.0;
/// Rows below which nothing is worth a word.
const FEW_ROWS: f64 = 1000.0;
/// A filter discards when it keeps less than a tenth.
const DISCARDS: f64 = 0.9;
/// A node run this often is a loop worth looking at.
const MANY_LOOPS: f64 = 1000.0;
/// Sorting this many rows shows, even in memory.
const MANY_SORTED: f64 = 100_000.0;
/// Visits to the table by an index-only scan, as a share of its rows.
const HEAP_FETCHES: f64 = 0.1;
/// Compilation as a share of the whole time.
const JIT_SHARE: f64 = 0.25;

/// What one node of a plan shows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case", tag = "kind"))]
#[non_exhaustive]
pub enum PlanFindingKind {
    /// The planner expected another number of rows: its statistics are old, or the columns depend on each other.
    Misestimate {
        /// Rows expected per loop.
        expected: f64,
        /// Rows there were per loop.
        actual: f64,
    },
    /// Most rows were read only to be thrown away: an index could have left them out.
    FilterDiscards {
        /// Rows kept.
        kept: f64,
        /// Rows thrown away.
        discarded: f64,
    },
    /// A sort did not fit into `work_mem` and went to disk.
    SortSpill {
        /// Kilobytes written.
        kilobytes: f64,
    },
    /// A hash did not fit into `work_mem` and was split.
    HashSpill {
        /// Into how many parts.
        batches: f64,
    },
    /// Many rows are sorted: an index in this order would save that.
    LargeSort {
        /// Rows sorted.
        rows: f64,
    },
    /// A node ran very often: a join in a loop over many rows.
    Loops {
        /// How often.
        loops: f64,
    },
    /// An index-only scan visited the table all the same: VACUUM is due.
    HeapFetches {
        /// Visits.
        fetches: f64,
    },
    /// A bitmap forgot single rows and kept whole pages: `work_mem` is small.
    LossyBitmap {
        /// Pages kept whole.
        pages: f64,
    },
    /// Compiling took a good part of the time.
    Jit {
        /// Its share, 0 to 1.
        share: f64,
    },
}

/// Something a plan shows, and where.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlanFinding {
    /// The node, as EXPLAIN names it: `Seq Scan on orders`.
    pub node: String,
    /// What it shows.
    pub kind: PlanFindingKind,
}

impl PlanFinding {
    /// What could be done about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self.kind {
            PlanFindingKind::Misestimate { .. } => {
                "ANALYZE the table; for columns that depend on each other, CREATE STATISTICS"
            }
            PlanFindingKind::FilterDiscards { .. } => "an index on the columns of the filter",
            PlanFindingKind::SortSpill { .. }
            | PlanFindingKind::HashSpill { .. }
            | PlanFindingKind::LossyBitmap { .. } => "a larger work_mem for this statement, or fewer rows",
            PlanFindingKind::LargeSort { .. } => "an index in this order, or a LIMIT",
            PlanFindingKind::Loops { .. } => {
                "an index on the inner side, or statistics that make the planner choose a hash join"
            }
            PlanFindingKind::HeapFetches { .. } => {
                "VACUUM the table, so that its pages are known to be visible"
            }
            PlanFindingKind::Jit { .. } => "SET jit = off for this statement, or a higher jit_above_cost",
        }
    }
}

impl fmt::Display for PlanFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        match self.kind {
            PlanFindingKind::Misestimate { expected, actual } => {
                write!(f, "{expected:.0} rows expected, {actual:.0} came")
            }
            PlanFindingKind::FilterDiscards { kept, discarded } => {
                write!(f, "{discarded:.0} rows read and thrown away, {kept:.0} kept")
            }
            PlanFindingKind::SortSpill { kilobytes } => write!(f, "sorted on disk, {kilobytes:.0} kB"),
            PlanFindingKind::HashSpill { batches } => write!(f, "hashed in {batches:.0} parts"),
            PlanFindingKind::LargeSort { rows } => write!(f, "{rows:.0} rows sorted"),
            PlanFindingKind::Loops { loops } => write!(f, "run {loops:.0} times"),
            PlanFindingKind::HeapFetches { fetches } => write!(f, "{fetches:.0} visits to the table"),
            PlanFindingKind::LossyBitmap { pages } => write!(f, "{pages:.0} pages read whole"),
            PlanFindingKind::Jit { share } => {
                write!(f, "{:.0} % of the time went into compiling", share * 100.0)
            }
        }?;
        write!(f, " ({})", self.advice())
    }
}

/// Reads what a plan shows, from the text of `EXPLAIN (FORMAT JSON)`; most of it needs `ANALYZE` as well. Outer nodes come first.
///
/// # Errors
/// [`Error::Unexpected`] when the text is no such plan, or nested deeper than 128 levels.
pub fn plan_findings(json: &str) -> Result<Vec<PlanFinding>, Error> {
    let unexpected =
        |error: serde_json::Error| Error::Unexpected(format!("a plan that does not read: {error}"));
    let value: Value = serde_json::from_str(json).map_err(unexpected)?;
    let top = value.get(0).unwrap_or(&value);
    let plan = top.get("Plan").ok_or_else(|| Error::Unexpected("a plan without a node".to_owned()))?;
    let mut findings = Vec::new();
    let total = number(top, "Execution Time");
    let compiling = top.pointer("/JIT/Timing/Total").and_then(Value::as_f64).unwrap_or_default();
    if total > 0.0 && compiling / total >= JIT_SHARE {
        let kind = PlanFindingKind::Jit { share: compiling / total };
        findings.push(PlanFinding { node: name(plan), kind });
    }
    // Nodes wait here rather than on the stack.
    let mut open = vec![plan];
    while let Some(node) = open.pop() {
        let name = name(node);
        findings.extend(kinds(node).into_iter().map(|kind| PlanFinding { node: name.clone(), kind }));
        let inner = node.get("Plans").and_then(Value::as_array);
        open.extend(inner.into_iter().flatten().rev());
    }
    Ok(findings)
}

fn number(node: &Value, key: &str) -> f64 {
    node.get(key).and_then(Value::as_f64).unwrap_or_default()
}

fn name(node: &Value) -> String {
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let mut name = text("Node Type").unwrap_or("node").to_owned();
    for (key, joint) in [("Index Name", " using "), ("Relation Name", " on ")] {
        if let Some(value) = text(key) {
            name = name + joint + value;
        }
    }
    name
}

fn kinds(node: &Value) -> Vec<PlanFindingKind> {
    let mut kinds = Vec::new();
    let kind = node.get("Node Type").and_then(Value::as_str).unwrap_or_default();
    let (expected, loops) = (number(node, "Plan Rows"), number(node, "Actual Loops"));
    let analysed = node.get("Actual Rows").is_some() && loops > 0.0;
    let actual = if analysed { number(node, "Actual Rows") } else { expected };
    let off = (expected.max(1.0) / actual.max(1.0)).max(actual.max(1.0) / expected.max(1.0));
    if analysed && off >= MISESTIMATE && (expected.max(actual) * loops) >= FEW_ROWS {
        kinds.push(PlanFindingKind::Misestimate { expected, actual });
    }
    let removed = number(node, "Rows Removed by Filter") + number(node, "Rows Removed by Join Filter");
    let (kept, discarded) = (actual * loops, removed * loops);
    if discarded >= FEW_ROWS && discarded / (kept + discarded) >= DISCARDS {
        kinds.push(PlanFindingKind::FilterDiscards { kept, discarded });
    }
    let on_disk = node.get("Sort Space Type").and_then(Value::as_str) == Some("Disk");
    if on_disk {
        kinds.push(PlanFindingKind::SortSpill { kilobytes: number(node, "Sort Space Used") });
    } else if kind == "Sort" && actual >= MANY_SORTED {
        kinds.push(PlanFindingKind::LargeSort { rows: actual });
    }
    let batches = number(node, "Hash Batches").max(number(node, "HashAgg Batches"));
    if batches > 1.0 {
        kinds.push(PlanFindingKind::HashSpill { batches });
    }
    if loops >= MANY_LOOPS {
        kinds.push(PlanFindingKind::Loops { loops });
    }
    let fetches = number(node, "Heap Fetches");
    if fetches >= FEW_ROWS && fetches >= HEAP_FETCHES * kept {
        kinds.push(PlanFindingKind::HeapFetches { fetches });
    }
    let pages = number(node, "Lossy Heap Blocks");
    if pages > 0.0 {
        kinds.push(PlanFindingKind::LossyBitmap { pages });
    }
    kinds
}

/// Executes a SELECT to see what its plan really does, and returns EXPLAIN's JSON for [`plan_findings`]. Only on demand: it takes
/// as long as the statement, at most `limit`, in a transaction that cannot write.
///
/// What writes, locks rows or calls a volatile function is refused with its reason instead.
///
/// # Errors
/// [`Error`] when the database cannot be asked or the time runs out.
///
/// # Cancel safety
/// The transaction is rolled back with the next use of the connection.
pub async fn analyze(
    conn: &mut PgConnection,
    sql: &str,
    limit: Duration,
) -> Result<Result<String, SkipReason>, Error> {
    if let Some(reason) = super::repair::refuse(sql) {
        return Ok(Err(reason));
    }
    let not = |why: &str| Ok(Err(SkipReason::NotPlannable(why.to_owned())));
    let tokens: Vec<_> = Lexer::new(sql, Dialect::Postgres).collect();
    let word = |place: usize| tokens[place].text(sql).to_ascii_lowercase();
    let words: Vec<String> = (0..tokens.len()).map(word).collect();
    if words.iter().any(|word| matches!(&**word, "insert" | "update" | "delete" | "merge" | "into" | "share"))
    {
        return not("it writes or locks rows");
    }
    let called: Vec<String> = (1..tokens.len())
        .filter(|place| tokens[*place].kind == TokenKind::Open)
        .map(|place| words[place - 1].trim_matches('"').to_owned())
        .collect();
    let volatile: Option<String> = sqlx::query_scalar(
        "select proname::text from pg_proc where provolatile = 'v' and proname = any ($1) limit 1",
    )
    .persistent(false)
    .bind(called)
    .fetch_optional(&mut *conn)
    .await
    .doing("look at the functions")?;
    if let Some(function) = volatile {
        return not(&format!("{function} may change something"));
    }
    let mut transaction = conn.begin().await.doing("begin")?;
    let setup = format!(
        "set transaction read only; set local statement_timeout = '{}ms'; explain (analyze, buffers, format json) {}",
        limit.as_millis().max(1),
        sql.trim().trim_end_matches(';')
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(setup)).fetch_one(&mut *transaction).await;
    let plan = match rows.doing("analyse a statement") {
        Ok(row) => text(&row)?,
        Err(error) if error.code().as_deref() == Some("57014") => {
            return Err(Error::TimedOut("analysing a statement"));
        }
        Err(error) => return Err(error),
    };
    transaction.rollback().await.doing("roll back")?;
    Ok(Ok(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(node: &str) -> Vec<PlanFindingKind> {
        let json =
            format!("[{{\"Plan\": {{\"Node Type\": \"Seq Scan\", \"Relation Name\": \"t\", {node}}}}}]");
        plan_findings(&json).unwrap().into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn each_kind_has_its_evidence() {
        assert_eq!(
            found(r#""Plan Rows": 10, "Actual Rows": 5000, "Actual Loops": 1"#),
            [PlanFindingKind::Misestimate { expected: 10.0, actual: 5000.0 }]
        );
        assert_eq!(
            found(r#""Plan Rows": 9, "Actual Rows": 10, "Actual Loops": 1, "Rows Removed by Filter": 9990"#),
            [PlanFindingKind::FilterDiscards { kept: 10.0, discarded: 9990.0 }]
        );
        assert_eq!(
            found(r#""Sort Space Type": "Disk", "Sort Space Used": 900"#),
            [PlanFindingKind::SortSpill { kilobytes: 900.0 }]
        );
        assert_eq!(found(r#""Hash Batches": 4"#), [PlanFindingKind::HashSpill { batches: 4.0 }]);
        assert_eq!(
            found(r#""Plan Rows": 1, "Actual Rows": 1, "Actual Loops": 5000"#),
            [PlanFindingKind::Loops { loops: 5000.0 }]
        );
        assert_eq!(
            found(r#""Plan Rows": 9000, "Actual Rows": 9000, "Actual Loops": 1, "Heap Fetches": 5000"#),
            [PlanFindingKind::HeapFetches { fetches: 5000.0 }]
        );
        assert_eq!(found(r#""Lossy Heap Blocks": 7"#), [PlanFindingKind::LossyBitmap { pages: 7.0 }]);
        assert!(
            found(r#""Plan Rows": 5, "Actual Rows": 7, "Actual Loops": 2, "Heap Fetches": 1"#).is_empty()
        );
    }

    #[test]
    fn what_is_no_plan_is_an_error_and_never_a_panic() {
        for text in ["", "[]", "{}", "[{\"Plan\": 5}]", "null"] {
            let read = plan_findings(text);
            assert!(read.is_err() || read.is_ok_and(|found| found.is_empty()), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(plan_findings(&deep).is_err());
    }
}
