//! The one place where this crate reads the wall clock: for dates in what is sent to others, never for a decision.

use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "receivers of alerts and traces want dates")]
use std::time::SystemTime;

/// The time since 1970; zero when the clock stands before that.
#[expect(clippy::disallowed_types, reason = "receivers of alerts and traces want dates")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
