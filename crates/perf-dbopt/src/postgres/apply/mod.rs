//! Creating indexes on a busy PostgreSQL, measuring what came of it, and taking back what did not help (B5).

mod audit;
mod check;
mod create;
mod server;
mod trial;
mod verify;

pub use audit::{AuditEntry, AuditSink, JsonLines, NoAudit, Reverted};
pub use check::{ApplyPolicy, Refusal};
pub use create::{Applied, IndexApplier, IndexOutcome, Repaired};
pub use trial::{IndexVerdict, Trial, TrialOutcome, TrialPolicy};
pub use verify::{Baseline, StatementChange, Verdict, VerifyPolicy, judge};
