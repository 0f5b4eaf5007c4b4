use perf_core::InvalidConfig;

/// What can go wrong while talking to the database that is analysed. Refusals and skipped statements are not errors: they are
/// part of the answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database, or the way there, failed while doing what is named.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    #[error("could not {doing}")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// What sqlx reports.
        #[source]
        source: sqlx::Error,
    },
    /// The database answered something this version does not understand.
    #[error("unexpected answer from the database: {0}")]
    Unexpected(String),
    /// A configuration value cannot be used.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The time allowed for what is named ran out.
    #[error("{0} took longer than allowed")]
    TimedOut(&'static str),
    /// The audit trail could not be written, so nothing was changed.
    #[error("could not write the audit trail, nothing was changed")]
    Audit(#[source] std::io::Error),
}

impl Error {
    /// Whether the time allowed ran out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// The code the database gave the error (SQLSTATE for PostgreSQL).
    #[must_use]
    pub fn code(&self) -> Option<String> {
        match self {
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            Self::Database { source, .. } => {
                source.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned))
            }
            _ => None,
        }
    }
}

/// Says what was attempted when a call to the database fails.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Database { doing, source })
    }
}
