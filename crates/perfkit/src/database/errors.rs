#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sqlx_errors {
    use perf_core::{Classify, Outcome, Rejected};
    use std::error::Error;

    /// Tells errors of the database from errors of the application, however deep in the chain of sources they are.
    ///
    /// | the first known error in the chain | means |
    /// |---|---|
    /// | none of those below | [`Outcome::Ignored`]: the application's own business |
    /// | a missing row, a violated constraint, a value that does not decode | [`Outcome::Ignored`] |
    /// | too many connections, out of resources, a locked SQLite file | [`Outcome::Overload`] |
    /// | any other error of `sqlx` | [`Outcome::Failure`] |
    /// | the pool had no connection in time, or refused | [`Outcome::Overload`] |
    /// | the pool could not connect or check | [`Outcome::Failure`] |
    /// | a refusal of another policy | [`Outcome::Ignored`]: that policy counted it |
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DatabaseErrors;

    impl<T, E: Error + 'static> Classify<T, E> for DatabaseErrors {
        fn classify(&self, result: Result<&T, &E>) -> Outcome {
            match result {
                Ok(_) => Outcome::Success,
                Err(error) => of_chain(error),
            }
        }
    }

    fn of_chain(error: &(dyn Error + 'static)) -> Outcome {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<sqlx::Error>() {
                return of_sqlx(error);
            }
            if let Some(error) = error.downcast_ref::<perf_pool::Error>() {
                return of_pool(error);
            }
            if error.is::<Rejected>() {
                return Outcome::Ignored;
            }
            next = error.source();
        }
        Outcome::Ignored
    }

    fn of_pool(error: &perf_pool::Error) -> Outcome {
        match error {
            // Of several endpoints, what the last said decides: overload ends the search.
            perf_pool::Error::Exhausted(all) => {
                all.tried.last().map_or(Outcome::Failure, |last| of_pool(&last.error))
            }
            perf_pool::Error::Rejected(_) | perf_pool::Error::Saturated(_) => Outcome::Overload,
            perf_pool::Error::Paused { .. } => Outcome::Ignored,
            _ => Outcome::Failure,
        }
    }

    fn of_sqlx(error: &sqlx::Error) -> Outcome {
        use sqlx::Error as E;
        match error {
            E::RowNotFound
            | E::ColumnNotFound(_)
            | E::ColumnDecode { .. }
            | E::ColumnIndexOutOfBounds { .. }
            | E::Decode(_)
            | E::Encode(_)
            | E::TypeNotFound { .. } => Outcome::Ignored,
            E::PoolTimedOut => Outcome::Overload,
            E::Database(error) => of_server(&**error),
            _ => Outcome::Failure,
        }
    }

    /// What the server itself said, by SQLSTATE (PostgreSQL, MySQL) or SQLite's primary result code.
    fn of_server(error: &dyn sqlx::error::DatabaseError) -> Outcome {
        if error.is_unique_violation() || error.is_foreign_key_violation() || error.is_check_violation() {
            return Outcome::Ignored;
        }
        let code = error.code().unwrap_or_default();
        match &*code {
            // insufficient_resources; SQLITE_BUSY and SQLITE_LOCKED
            code if code.starts_with("53") || code == "5" || code == "6" => Outcome::Overload,
            // data exceptions, integrity constraints, syntax or access rules: the statement is wrong, not the server
            code if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => Outcome::Ignored,
            _ => Outcome::Failure,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use perf_core::Reason;

        #[derive(Debug, thiserror::Error)]
        #[error("shop")]
        struct Wrapped(#[source] sqlx::Error);

        fn outcome(error: impl Error + 'static) -> Outcome {
            DatabaseErrors.classify(Err::<&(), _>(&error))
        }

        #[test]
        fn a_missing_row_says_nothing_about_the_database() {
            assert_eq!(outcome(Wrapped(sqlx::Error::RowNotFound)), Outcome::Ignored);
        }

        #[test]
        fn a_cut_connection_speaks_against_the_database_however_deep_it_is_wrapped() {
            let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            assert_eq!(outcome(Wrapped(sqlx::Error::Io(cut))), Outcome::Failure);
        }

        #[test]
        fn the_applications_own_errors_and_inner_refusals_are_ignored() {
            assert_eq!(outcome(std::fmt::Error), Outcome::Ignored);
            assert_eq!(outcome(Rejected::new(Reason::Open, "inner")), Outcome::Ignored);
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sqlx_errors::DatabaseErrors;
