use std::fmt;

/// A metric that cannot be registered as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is not one of the Prometheus data model.
    #[error("`{name}` is not a metric name, `{legal}` would be")]
    Name {
        /// The refused name.
        name: String,
        /// The nearest legal spelling.
        legal: String,
    },
    /// The label name is not one of the Prometheus data model.
    #[error("`{name}` is not a label name, `{legal}` would be")]
    LabelName {
        /// The refused name.
        name: String,
        /// The nearest legal spelling.
        legal: String,
    },
    /// The label belongs to the exposition formats (`le`, `quantile`, `__…`).
    #[error("the label `{0}` is reserved by the exposition formats")]
    ReservedLabel(String),
    /// One label twice.
    #[error("the label `{0}` is given twice")]
    DuplicateLabel(String),
    /// More labels than a series may have.
    #[error("{0} labels are more than the {limit} a series may have", limit = crate::MAX_LABELS)]
    TooManyLabels(usize),
    /// The help text is empty; Prometheus' rules for client libraries make it mandatory.
    #[error("`{0}` has no help text")]
    NoHelp(String),
    /// The level is read by another closure already.
    #[error("`{0}` is read by another closure already")]
    Exists(String),
    /// The family exists with another kind, unit or other label names.
    #[error("`{name}` is registered as {present}, not as {asked}")]
    Clash {
        /// The full name of the family.
        name: String,
        /// What it is registered as.
        present: Shape,
        /// What was asked for.
        asked: Shape,
    },
}

/// Kind and label names of a family, as printed in a clash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub(crate) kind: &'static str,
    pub(crate) keys: Vec<String>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} with labels {:?}", self.kind, self.keys)
    }
}
