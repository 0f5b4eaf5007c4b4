//! What one call may say differently from the cache's settings.

use crate::config::CancelPolicy;
use crate::tag::Tags;
use perf_core::Deadline;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) tags: Tags,
    pub(crate) fresh: Option<Duration>,
    pub(crate) deadline: Deadline,
    pub(crate) cancel: Option<CancelPolicy>,
}

impl LoadOptions {
    pub(crate) const NONE: Self =
        Self { tags: Tags::NONE, fresh: None, deadline: Deadline::NEVER, cancel: None };
}
