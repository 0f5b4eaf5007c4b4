//! The key of a cached query: its normal form, what it is bound to, and on whose behalf it is asked.

use super::{Dialect, Statement};
use crate::key::CacheKey;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a query is asked with: statement, role, search path and bound values. Two queries have the same key only when all
/// of these are the same: the whole of them is kept, not a hash, so that nobody can make one query answer for another.
///
/// ```
/// use perf_cache::{Dialect, QueryKey};
///
/// let key = |sql, id: i64| QueryKey::builder(sql, Dialect::Postgres).role("app").bind("INT8", &id).build();
/// assert_eq!(key("SELECT * FROM users WHERE id = $1", 7), key("select * from users  where id=$1", 7));
/// assert_ne!(key("select * from users where id = $1", 7), key("select * from users where id = $1", 8));
/// ```
#[derive(Clone)]
pub struct QueryKey {
    statement: Arc<Statement>,
    /// Role, search path and bound values, each with its length.
    rest: Arc<[u8]>,
}

impl QueryKey {
    /// A key of this statement, to be bound.
    pub fn builder(sql: &str, dialect: Dialect) -> QueryKeyBuilder {
        QueryKeyBuilder::new(Arc::new(Statement::new(sql, dialect)))
    }

    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }
}

impl PartialEq for QueryKey {
    fn eq(&self, other: &Self) -> bool {
        let same_text = Arc::ptr_eq(&self.statement, &other.statement)
            || self.statement.normal() == other.statement.normal();
        same_text && self.rest == other.rest
    }
}

impl Eq for QueryKey {}

impl Hash for QueryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.statement.normal().hash(state);
        self.rest.hash(state);
    }
}

impl CacheKey for QueryKey {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.statement.normal().write_key(out);
        self.rest.len().write_key(out);
        out.extend_from_slice(&self.rest);
    }
}

/// Shows the statement and no bound value, which may be anything.
impl fmt::Debug for QueryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryKey").field("statement", &self.statement.normal()).finish_non_exhaustive()
    }
}

/// Builds a [`QueryKey`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct QueryKeyBuilder {
    pub(super) statement: Arc<Statement>,
    role: Arc<str>,
    search_path: Arc<str>,
    binds: Vec<u8>,
}

impl QueryKeyBuilder {
    pub(super) fn new(statement: Arc<Statement>) -> Self {
        Self { statement, role: "".into(), search_path: "".into(), binds: Vec::new() }
    }

    /// On whose behalf the query is asked: row-level security and grants make the answer depend on it.
    pub fn role(mut self, role: impl Into<Arc<str>>) -> Self {
        self.role = role.into();
        self
    }

    /// Where names without a schema are looked up.
    pub fn search_path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.search_path = path.into();
        self
    }

    /// Binds the next value; `type_name` is its type in the database, so that the number 1 is not the text 1.
    pub fn bind<T: CacheKey + ?Sized>(mut self, type_name: &str, value: &T) -> Self {
        type_name.write_key(&mut self.binds);
        let bytes = value.key_bytes();
        bytes.len().write_key(&mut self.binds);
        self.binds.extend_from_slice(&bytes);
        self
    }

    /// The key.
    #[must_use]
    pub fn build(self) -> QueryKey {
        let mut rest = Vec::with_capacity(self.binds.len() + self.role.len() + self.search_path.len() + 16);
        self.role.write_key(&mut rest);
        self.search_path.write_key(&mut rest);
        rest.extend_from_slice(&self.binds);
        QueryKey { statement: self.statement, rest: rest.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn builder() -> QueryKeyBuilder {
        QueryKey::builder("select * from t where a = $1", Dialect::Postgres)
    }

    #[test]
    fn role_search_path_types_and_values_all_tell_keys_apart() {
        let keys = [
            builder().build(),
            builder().role("a").build(),
            builder().search_path("a").build(),
            builder().bind("INT4", &1_i32).build(),
            builder().bind("TEXT", &1_i32).build(),
            builder().bind("INT4", &1_i32).bind("INT4", &1_i32).build(),
            builder().bind("INT4", &None::<i32>).build(),
            builder().bind("INT4", &Some(0_i32)).build(),
        ];
        for (at, one) in keys.iter().enumerate() {
            for (other_at, other) in keys.iter().enumerate() {
                assert_eq!(one == other, at == other_at);
                assert_eq!(one.key_bytes() == other.key_bytes(), at == other_at);
            }
        }
    }

    #[test]
    fn bound_values_are_not_shown() {
        let key = builder().bind("TEXT", "a secret").build();
        assert!(!format!("{key:?}").contains("secret"));
    }

    proptest! {
        /// Whatever is bound, values never run into each other.
        #[test]
        fn different_values_have_different_keys(
            a in prop::collection::vec(any::<String>(), 0..4),
            b in prop::collection::vec(any::<String>(), 0..4),
            role in "[ab]{0,2}",
            other in "[ab]{0,2}",
        ) {
            let key = |role: &str, binds: &[String]| {
                binds.iter().fold(builder().role(role), |key, bind| key.bind("TEXT", bind)).build()
            };
            prop_assert_eq!(a == b && role == other, key(&role, &a) == key(&other, &b));
        }
    }
}
