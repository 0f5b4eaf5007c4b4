//! Cached query results: keys from SQL and what is bound to it, tags from the tables it names.

mod key;
mod lexer;
#[cfg(feature = "sqlx")]
mod sqlx;
mod statement;

pub use key::{QueryKey, QueryKeyBuilder};
#[cfg(feature = "sqlx")]
pub use sqlx::{CachedQuery, QueryCache, QueryError};
pub use statement::{Statement, table_tag};

/// How a database writes strings, comments and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL, and databases that speak its language.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    /// SQLite.
    Sqlite,
}

impl crate::Collector {
    /// Adds the tables that a statement changes, so that cached queries that name one of them end. When that cannot be told
    /// from the statement, as for a procedure call, all cached queries end.
    ///
    /// Tables that only a trigger or a cascading key changes are not named in the statement: add them as
    /// [`table_tag`]s.
    pub fn sql(self, statement: &str, dialect: Dialect) -> Self {
        self.tags(Statement::new(statement, dialect).invalidates())
    }
}
