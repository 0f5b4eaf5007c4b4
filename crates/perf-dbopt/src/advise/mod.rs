//! Index advice: which indexes a workload asks for, whatever the database.
//!
//! The parts: a [`Workload`] says what is asked and how often; a [`Schema`] what is there; candidates come from the columns
//! each statement compares, sorts and reads; a planner that answers "what if" ([`WhatIf`]) judges them; [`search()`] chooses
//! within a budget; [`Advice`] says what to create, why, and why not the rest.

mod advice;
mod candidates;
mod config;
mod costs;
#[cfg(feature = "postgres")]
mod heuristic;
mod index;
mod propose;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod report;
mod schema;
mod search;
mod set;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod settle;
mod shape;
mod workload;

pub use advice::{Advice, Evidence, IndexAdvice, RejectReason, RejectedIndex, Served, SkipReason, Skipped};
pub use candidates::{MAX_COLUMNS, MAX_KEYS};
pub use config::{
    AdvisorConfig, DEFAULT_MAX_INDEXES, DEFAULT_MAX_PER_TABLE, DEFAULT_MIN_SAVING, DEFAULT_PLANNER_CALLS,
    DEFAULT_TIME,
};
pub use costs::{Planned, WhatIf};
pub use index::{IndexDef, Key, KeyPart, Method};
pub use propose::{WriteCost, candidates_for, problem_for};
pub use schema::{Column, ExistingIndex, Schema, Table};
pub use search::{Candidate, Choice, Limits, Problem, search};
pub use workload::{Workload, WorkloadQuery};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use candidates::Kinds;
#[cfg(feature = "postgres")]
pub(crate) use heuristic::Heuristic;
#[cfg(feature = "postgres")]
pub(crate) use index::quoted;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use propose::{pose, propose};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use report::{Planning, report};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use settle::settle;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use shape::Shape;
