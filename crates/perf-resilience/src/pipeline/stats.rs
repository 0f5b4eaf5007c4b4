use crate::stats::stats;

stats! {
    /// What a pipeline has seen since it was made. Every call is counted exactly once.
    PipelineStats from Counters {
        /// Calls that succeeded, or ended in a way that says nothing against the dependency.
        succeeded,
        /// Calls that failed for good.
        failed,
        /// Calls refused without being made.
        refused,
        /// Calls given up before they ended.
        cancelled,
    }
}
