use crate::redact::Redacted;
use std::fmt;

/// What an endpoint may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Role {
    /// It takes writes, and reads.
    Writer,
    /// It takes reads only.
    Reader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
        })
    }
}

/// One of several places that serve the same, as a list or a discovery names it.
///
/// ```
/// use perf_pool::balance::{Endpoint, Role};
///
/// let endpoint = Endpoint::new("db-2.example:5432").weight(2.0).priority(1).role(Role::Reader);
/// assert_eq!((endpoint.name(), endpoint.share()), ("db-2.example:5432", 2.0));
/// ```
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(super) priority: u32,
    pub(super) role: Option<Role>,
}

impl Endpoint {
    /// An endpoint by the name that tells it from the others: its address.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), weight: 1.0, priority: 0, role: None }
    }

    /// Its share of the traffic, compared with the others; 1 unless said otherwise, and never less than 0.001.
    #[must_use]
    pub const fn weight(mut self, weight: f64) -> Self {
        self.weight = if weight > 0.001 { weight } else { 0.001 };
        self
    }

    /// Its group: endpoints of a higher number are used only as those of lower numbers fail. 0 unless said otherwise.
    #[must_use]
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// What it may be used for, until a probe knows better.
    #[must_use]
    pub const fn role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.weight
    }
}

/// The name may be a URL with a password: it is shown without.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, weight, priority, role } = self;
        f.debug_struct("Endpoint")
            .field("name", &Redacted(name))
            .field("weight", weight)
            .field("priority", priority)
            .field("role", role)
            .finish()
    }
}
