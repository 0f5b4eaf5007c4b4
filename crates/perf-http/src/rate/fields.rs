//! The header fields of draft-ietf-httpapi-ratelimit-headers, written as structured fields (RFC 9651).

use super::{Decision, Quota};
use crate::problem::whole_seconds;
use http::HeaderValue;
use perf_core::InvalidConfig;
use std::fmt::Write;
use std::time::Duration;

/// `RateLimit-Policy`: what applies to everybody. `q` is what may be used at once and `w` the seconds in which it comes back.
pub(super) fn policy_field(quotas: &[Quota]) -> Result<HeaderValue, InvalidConfig> {
    let items = quotas.iter().map(|quota| {
        let window = whole_seconds(Duration::from_nanos(quota.nanos_to_fill())).max(1);
        format!("\"{}\";q={};w={window}", quota.name, quota.burst)
    });
    let text = items.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(&text).map_err(|_| InvalidConfig::new("quotas", &text, "names of visible ASCII"))
}

/// `RateLimit`: what is left of the most restrictive quota, and the seconds until there is more.
pub(super) fn limit_field(quota: &Quota, decision: &Decision) -> Option<HeaderValue> {
    let mut text = String::with_capacity(quota.name.len() + 24);
    let seconds = whole_seconds(decision.wait()).max(1);
    write!(text, "\"{}\";r={};t={seconds}", quota.name, decision.remaining()).ok()?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_as_the_draft_writes_them() {
        let quotas = [Quota::per_second(50).burst(100).named("burst"), Quota::per_hour(1000).named("hour")];
        assert_eq!(policy_field(&quotas).unwrap(), "\"burst\";q=100;w=2, \"hour\";q=1000;w=3600");
        let decision =
            Decision { allowed: true, quota: 0, remaining: 50, wait: Duration::from_millis(29_001) };
        assert_eq!(limit_field(&quotas[0], &decision).unwrap(), "\"burst\";r=50;t=30");
    }
}
