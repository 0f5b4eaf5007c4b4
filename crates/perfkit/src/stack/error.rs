use perf_core::{DuplicateComponent, InvalidConfig};
use perf_http::BindError;
use perf_http::manage::StartError;
use perf_metrics::{InvalidCheck, InvalidRule};
use perf_pool::balance::BuildError;

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
    /// The endpoints of a database cannot be put together.
    #[error("the endpoints of database `{database}` cannot be put together")]
    Endpoints {
        /// The database.
        database: String,
        /// What is wrong.
        source: BuildError,
    },
    /// The configuration has no shared rate of this name.
    #[cfg(feature = "redis")]
    #[error("there is no section `shared_rates.{rate}` in the configuration; there are: {known}")]
    NoSharedRate {
        /// The name asked for.
        rate: String,
        /// The shared rates there are.
        known: String,
    },
    /// The configuration has no backups of this name.
    #[cfg(feature = "snapshots")]
    #[error("there is no section `snapshots.{snapshots}` in the configuration; there are: {known}")]
    NoSnapshots {
        /// The name asked for.
        snapshots: String,
        /// The backups there are.
        known: String,
    },
    /// The file with the key of snapshots cannot be read.
    #[cfg(feature = "snapshots")]
    #[error("cannot read the key of snapshots in {}", path.display())]
    SnapshotKey {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration has no WebSocket pool of this name.
    #[cfg(feature = "websocket")]
    #[error("there is no section `websockets.{websocket}` in the configuration; there are: {known}")]
    NoWebSocket {
        /// The name asked for.
        websocket: String,
        /// The WebSocket pools there are.
        known: String,
    },
    /// The file of trusted authorities cannot be read.
    #[cfg(feature = "websocket")]
    #[error("cannot read the authorities in {}", path.display())]
    Authorities {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two components have one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateComponent),
    /// A health check that cannot be run.
    #[error(transparent)]
    Check(#[from] InvalidCheck),
    /// An alert that cannot be evaluated.
    #[error(transparent)]
    Alert(#[from] InvalidRule),
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
