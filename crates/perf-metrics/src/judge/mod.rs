//! Judgement: findings that can be followed back to evidence, a score whose every deduction is listed, and a cycle that
//! asks tuners for proposals and keeps a record of everything.

mod cycle;
mod diagnosis;
mod examiners;

pub use cycle::{
    AuditRecord, Cycle, CycleBuilder, CycleTask, DEFAULT_CYCLE, MAX_RECORDS, Proposal, Tuner, TuningOutcome,
};
pub use diagnosis::{Deduction, Diagnosis, Examination, Examiner, Finding, diagnose};
pub use examiners::{AlertsExaminer, ComponentsExaminer, EndpointsExaminer, LeakExaminer};
