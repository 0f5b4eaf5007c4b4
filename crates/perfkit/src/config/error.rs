use perf_core::InvalidConfig;
use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The text is not TOML; says where.
    #[error("the configuration is not TOML: {0}")]
    Syntax(String),
    /// A field that does not exist, or a value of the wrong kind; says which.
    #[error("invalid configuration: {0}")]
    Field(String),
    /// An environment variable that names nothing that can be set.
    #[error("the environment variable {name} names nothing that can be set")]
    Variable {
        /// The variable.
        name: String,
    },
    /// A value out of its range.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}
