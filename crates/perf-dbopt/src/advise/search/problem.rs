//! The choice to be made, and the one that was made.

use perf_core::time::Instant;

/// A choice to be made: statements with weights, candidates with costs of their own, and limits.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// How much each statement counts, usually its calls.
    pub weights: Vec<f64>,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// Which candidates can matter to each statement.
    pub relevant: Vec<Vec<usize>>,
    /// Those of them that are made for each statement: keys it looks for, and columns it reads beside them all or not at all.
    /// They stand for the others where there are too many to offer at once. May be empty.
    pub proposed: Vec<Vec<usize>>,
    /// Limits on what may be built.
    pub limits: Limits,
}

/// What the search needs to know of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its table, by any number.
    pub table: usize,
    /// The bytes it would take.
    pub bytes: f64,
    /// What keeping it up costs, in the unit of weighted costs.
    pub upkeep: f64,
    /// Candidates that do a part of what it does and are smaller, by number.
    pub narrower: Vec<usize>,
}

/// Limits on what may be built and on the effort of finding it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of all new indexes together.
    pub bytes: f64,
    /// New indexes.
    pub count: usize,
    /// New indexes on one table.
    pub per_table: usize,
    /// The least an index must save, as a share of the cost of the whole workload.
    pub min_saving: f64,
    /// The most the cost of any single statement may rise, as a share of its cost without new indexes.
    pub max_regression: f64,
    /// How often the planner may be asked.
    pub planner_calls: usize,
    /// When to stop looking.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: f64::INFINITY,
            count: 64,
            per_table: 10,
            min_saving: 0.001,
            max_regression: 0.1,
            planner_calls: 5000,
            deadline: None,
        }
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The candidates to build, in rising order.
    pub chosen: Vec<usize>,
    /// The weighted cost without any of them.
    pub before: f64,
    /// The weighted cost with all of them, their upkeep included.
    pub after: f64,
    /// How often the planner was asked.
    pub planner_calls: usize,
    /// How often an answer followed from earlier ones.
    pub derived: usize,
    /// Whether the search came to its end, rather than to a limit of effort.
    pub complete: bool,
    /// Candidates that helped some statement but were not chosen.
    pub considered: Vec<usize>,
    /// Candidates that were chosen at first and that no plan uses; the search itself names none.
    pub unused: Vec<usize>,
}
