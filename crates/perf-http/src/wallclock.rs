//! The wall clock, for what people read: identifiers that sort by date, and times on the page. No decision reads it.

use std::time::Duration;

/// Time since 1970, as the system says; zero for a system that says it is earlier.
#[expect(clippy::disallowed_types, reason = "a date is shown to people; no decision depends on it")]
pub(crate) fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn unix_millis() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
