//! The one error for a configuration value that cannot be used.

use std::fmt::Display;

/// A configuration value outside what is allowed: names the field, the value and the range.
///
/// Every `XConfig::validate` of the workspace returns it, and every `XBuilder::build` passes it on.
///
/// ```
/// use perf_core::InvalidConfig;
///
/// let error = InvalidConfig::new("pool.max", 0, "1 to 10000");
/// assert_eq!(error.to_string(), "invalid configuration: pool.max = 0, allowed: 1 to 10000");
/// assert_eq!(error.within("orders").field(), "orders.pool.max");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {field} = {value}, allowed: {allowed}")]
pub struct InvalidConfig {
    field: String,
    value: String,
    allowed: String,
}

impl InvalidConfig {
    /// Names the `field`, the `value` found there and what is `allowed`.
    pub fn new(field: impl Into<String>, value: impl Display, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// The same error seen from the section that contains it: `max` in `pool` becomes `pool.max`.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.field = format!("{section}.{}", self.field);
        self
    }

    /// The path of the field, from the outermost section inwards.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The refused value as text.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would be accepted.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}
