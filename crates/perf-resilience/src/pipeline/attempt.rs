use crate::bulkhead::Priority;
use perf_core::Deadline;

/// Which attempt of a call this is, and how long it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Counts from 1; hedges count as attempts.
    pub number: u32,
    /// Whether it runs beside an attempt that has not answered yet.
    pub hedge: bool,
    /// When the whole call must be over.
    pub deadline: Deadline,
    /// The endpoint the attempt before it met, if the judge named it, so that a balancer can avoid it.
    pub previous_endpoint: Option<u64>,
}

/// What is special about one call through a pipeline.
///
/// ```
/// use perf_resilience::{Call, Priority};
///
/// let call = Call::new().idempotent(true).priority(Priority::Low);
/// assert_eq!(call, Call::new().priority(Priority::Low).idempotent(true));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub(super) deadline: Deadline,
    pub(super) idempotent: Option<bool>,
    pub(super) priority: Priority,
}

impl Call {
    /// A call like any other.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Must be over by then, if the pipeline's own deadline is not earlier.
    #[must_use]
    pub const fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether doing it twice is as good as doing it once; without a word the pipeline's setting holds.
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// How much it matters when there is a queue.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}
