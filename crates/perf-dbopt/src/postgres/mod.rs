//! PostgreSQL: plans of normalised statements, index advice through HypoPG, and applying it safely.

mod activity;
mod advisor;
mod apply;
mod catalog;
mod checks;
mod health;
mod heuristic;
mod hypopg;
mod inspect;
mod operands;
mod plan_findings;
mod planner;
mod repair;
mod rewrite;
mod size;
mod sources;
mod uses;
mod variants;

pub use activity::{ActivitySamples, Doings};
pub use advisor::{Posed, PostgresAdvisor, estimate_sizes};
pub use apply::{
    Applied, ApplyPolicy, AuditEntry, AuditSink, Baseline, IndexApplier, IndexOutcome, IndexVerdict,
    JsonLines, NoAudit, Refusal, Repaired, Reverted, StatementChange, Trial, TrialOutcome, TrialPolicy,
    Verdict, VerifyPolicy, judge,
};
pub use health::{Growth, Host, TableSizes, advise_settings, bloat};
pub use hypopg::HypoPg;
pub use inspect::{InspectPolicy, inspect, inspect_with, maintain};
pub use plan_findings::{PlanFinding, PlanFindingKind, analyze, plan_findings};
pub use planner::{Explained, Explainer};
pub use size::{ColumnSize, IndexSize};
pub use sources::{Capability, StatementDelta, StatementsDelta, StatementsSnapshot};
pub use uses::IndexUses;
