//! What the configurations of this crate check alike.

use perf_core::{InvalidConfig, duration};
use std::time::Duration;

/// Fields whose values lie between a least and a most.
pub(crate) fn sizes(fields: &[(&'static str, usize, usize, usize)]) -> Result<(), InvalidConfig> {
    for (field, value, least, most) in fields {
        if !(least..=most).contains(&value) {
            return Err(InvalidConfig::new(*field, value, format!("{least} to {most}")));
        }
    }
    Ok(())
}

/// Times that cannot be zero. Those that are not set are not looked at.
pub(crate) fn times(fields: &[(&'static str, Option<Duration>)]) -> Result<(), InvalidConfig> {
    for (field, value) in fields {
        if let Some(value) = value.filter(|value| *value < Duration::from_millis(1)) {
            return Err(InvalidConfig::new(*field, duration::format(value), "at least 1ms"));
        }
    }
    Ok(())
}

/// The longest wait between two attempts is not below the first one.
pub(crate) fn retries(base: Duration, cap: Duration) -> Result<(), InvalidConfig> {
    if cap < base {
        let allowed = format!("at least retry_base, {}", duration::format(base));
        return Err(InvalidConfig::new("retry_cap", duration::format(cap), allowed));
    }
    Ok(())
}
