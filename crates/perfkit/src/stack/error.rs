use perf_core::{DuplicateComponent, InvalidConfig};
use perf_http::BindError;
use perf_http::manage::StartError;
use perf_metrics::InvalidCheck;

/// A configuration that is valid by itself, but cannot be made to run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// A value out of its range.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A database whose URL does not read.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    #[error("the URL of database `{database}` does not read")]
    Url {
        /// The database.
        database: String,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// A database of a kind that this build does not know.
    #[error("database `{database}` has a URL of the unknown kind `{scheme}`, allowed: {allowed}")]
    Scheme {
        /// The database.
        database: String,
        /// The part of the URL before the colon.
        scheme: String,
        /// The kinds that this build knows.
        allowed: String,
    },
    /// The configuration has no database of this name and kind.
    #[error("there is no {kind} database `{database}` in the configuration; there are: {known}")]
    NoDatabase {
        /// The name asked for.
        database: String,
        /// The kind asked for.
        kind: &'static str,
        /// The databases there are.
        known: String,
    },
    /// Two components have one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateComponent),
    /// A health check that cannot be run.
    #[error(transparent)]
    Check(#[from] InvalidCheck),
    /// The service's address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The management listener cannot start.
    #[error("the management listener cannot start")]
    Management(#[from] StartError),
    /// The operating system's signals cannot be watched.
    #[error("cannot watch for signals to end")]
    Signals(#[source] std::io::Error),
}
