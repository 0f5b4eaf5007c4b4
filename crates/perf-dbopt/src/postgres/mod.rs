//! PostgreSQL: plans of normalised statements, index advice through HypoPG, and applying it safely.

mod advisor;
mod apply;
mod catalog;
mod inspect;
mod planner;
mod repair;
mod size;
mod sources;

pub use advisor::{HypoPg, Posed, PostgresAdvisor, estimate_sizes};
pub use apply::{
    Applied, ApplyPolicy, AuditEntry, AuditSink, Baseline, IndexApplier, IndexOutcome, IndexVerdict,
    JsonLines, NoAudit, Refusal, Repaired, Reverted, StatementChange, Trial, TrialOutcome, TrialPolicy,
    Verdict, VerifyPolicy, judge,
};
pub use inspect::{inspect, maintain};
pub use planner::{Explained, Explainer};
pub use size::{ColumnSize, IndexSize};
pub use sources::{Capability, StatementDelta, StatementsDelta, StatementsSnapshot};
