use super::index::IndexDef;
use crate::Fingerprint;
use std::fmt;
use std::sync::Arc;

/// What an advisor proposes, and everything it decided against.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Advice {
    /// The indexes to create, those that save most first.
    pub create: Vec<IndexAdvice>,
    /// Statements that were left out, and why.
    pub skipped: Vec<Skipped>,
    /// Indexes that would help something but are not proposed, and why.
    pub rejected: Vec<RejectedIndex>,
    /// The planner's cost of the whole workload as it is, weighted by calls.
    pub cost_before: f64,
    /// The same with all proposed indexes, what they cost to keep up included.
    pub cost_after: f64,
    /// Bytes all proposed indexes would take.
    pub bytes: u64,
    /// How often the planner was asked.
    pub planner_calls: usize,
    /// Whether the search came to its end, rather than to its limit of time or calls.
    pub complete: bool,
    /// What limits how far this advice can be trusted, in words for people.
    pub warnings: Vec<String>,
}

/// How it is known that an index would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Evidence {
    /// The planner chose it when it was offered.
    WhatIf,
    /// The planner chose it, without statistics on what it holds: the true benefit is at least this.
    LowerBound,
    /// From statistics and rules alone; no planner could be asked.
    Heuristic,
}

/// One proposed index.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IndexAdvice {
    /// The name it would get.
    pub name: String,
    /// Its definition.
    pub index: IndexDef,
    /// The statement that creates it.
    pub ddl: String,
    /// The statements it serves, those that gain most first.
    pub serves: Vec<Served>,
    /// The bytes it would take.
    pub bytes: u64,
    /// What writes pay for it, as a share of the workload's cost.
    pub upkeep: f64,
    /// How its benefit is known.
    pub evidence: Evidence,
}

/// What an index does for one statement.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Served {
    /// The statement.
    pub fingerprint: Fingerprint,
    /// Its normal form.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub text: Arc<str>,
    /// How often it ran.
    pub calls: u64,
    /// The planner's cost of one call as it is.
    pub cost_before: f64,
    /// The planner's cost of one call with all proposed indexes.
    pub cost_after: f64,
    /// How it is executed as it is, when the planner says so in words.
    pub plan_before: Vec<String>,
    /// How it would be executed.
    pub plan_after: Vec<String>,
}

/// A statement the advisor did not look at.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Skipped {
    /// The statement.
    pub fingerprint: Fingerprint,
    /// Its normal form.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub text: Arc<str>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a statement was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case", tag = "reason", content = "detail")
)]
#[non_exhaustive]
pub enum SkipReason {
    /// It is not a query: it has no plan.
    Utility,
    /// The text is not complete.
    Truncated,
    /// The text is hidden from this role.
    InsufficientPrivilege,
    /// It is more than one statement.
    MultipleStatements,
    /// A table or column it names is not there.
    Missing(String),
    /// This role may not read what it reads.
    PermissionDenied(String),
    /// It reads only what belongs to the system or to an extension.
    SystemRelation,
    /// It reads a foreign table, whose indexes are elsewhere.
    ForeignTable(String),
    /// It uses a function, collation or virtual table this planner does not have.
    Unavailable(String),
    /// The planner refused it.
    NotPlannable(String),
    /// No table it reads could gain from an index.
    NothingToIndex,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utility => f.write_str("not a query"),
            Self::Truncated => f.write_str("the text is cut off"),
            Self::InsufficientPrivilege => f.write_str("the text is hidden: grant pg_read_all_stats"),
            Self::MultipleStatements => f.write_str("more than one statement"),
            Self::Missing(what) => write!(f, "missing: {what}"),
            Self::PermissionDenied(what) => write!(f, "permission denied: {what}"),
            Self::SystemRelation => f.write_str("reads system tables only"),
            Self::ForeignTable(name) => write!(f, "foreign table {name}"),
            Self::Unavailable(what) => write!(f, "not available to the planner: {what}"),
            Self::NotPlannable(why) => write!(f, "cannot be planned: {why}"),
            Self::NothingToIndex => f.write_str("no column to index"),
        }
    }
}

/// An index that was considered and not proposed.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RejectedIndex {
    /// Its definition.
    pub index: IndexDef,
    /// Why it is not proposed.
    pub reason: RejectReason,
}

/// Why an index is not proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case", tag = "reason", content = "detail")
)]
#[non_exhaustive]
pub enum RejectReason {
    /// It does not fit what is left of the bytes, the number of indexes or the table's share of them.
    OverBudget,
    /// With the proposed indexes in place it would save too little.
    TooLittle,
    /// A proposed index does the same and more.
    CoveredBy(String),
    /// The planner's cost was lower while it existed, but with all proposed indexes in place no plan reads it.
    Unused,
}

impl Advice {
    /// The workload's cost with the proposed indexes as a share of what it is; 1 when there is nothing to gain.
    #[must_use]
    pub fn relative_cost(&self) -> f64 {
        if self.cost_before > 0.0 { self.cost_after / self.cost_before } else { 1.0 }
    }
}

impl fmt::Display for Advice {
    /// A report for people: each index, what it serves and how the plans change, then what was left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} indexes, {} bytes, estimated cost {:.1} % of the present",
            self.create.len(),
            self.bytes,
            self.relative_cost() * 100.0
        )?;
        for advice in &self.create {
            writeln!(f, "{};", advice.ddl)?;
            for served in &advice.serves {
                let gain = served.cost_before / served.cost_after.max(f64::MIN_POSITIVE);
                writeln!(f, "  {} calls, {gain:.1}× cheaper: {}", served.calls, served.text)?;
            }
        }
        for rejected in &self.rejected {
            writeln!(f, "not proposed ({:?}): {:?}", rejected.reason, rejected.index.name())?;
        }
        for skipped in &self.skipped {
            writeln!(f, "skipped ({}): {}", skipped.reason, skipped.text)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "note: {warning}"))
    }
}
