//! Query results of sqlx, cached.

use super::key::QueryKeyBuilder;
use super::{Dialect, QueryKey, Statement};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::hit::Hit;
use crate::key::CacheKey;
use crate::tag::Tag;
use crate::{Collector, Invalidating};
use sqlx::{
    Arguments, Database, Encode, Executor, FromRow, IntoArguments, Pool, SqlSafeStr, SqlStr, Transaction,
    Type,
};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rows of type `R`, cached by the query that gave them. Cheap to clone; clones share everything.
///
/// The key is the statement in normal form with role, search path and bound values; the tags are the tables that the
/// statement names ([`table_tag`](super::table_tag)), so that [`Collector::sql`] ends exactly the results that a write may
/// have changed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_cache::{CacheSpace, Dialect, QueryCache};
/// use sqlx::sqlite::{Sqlite, SqlitePoolOptions};
///
/// let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// sqlx::query("create table users (id integer primary key, name text)").execute(&pool).await?;
/// sqlx::query("insert into users values (7, 'Ada')").execute(&pool).await?;
///
/// let space = CacheSpace::in_process("shop");
/// let names: QueryCache<Sqlite, (String,)> = QueryCache::new(space.cache("names").build()?);
/// let by_id = "select name from users where id = ?";
/// let rows = names.query(by_id).bind(7_i64).fetch_all(&pool).await?;
/// assert_eq!(rows[0].0, "Ada");
///
/// let rename = "update users set name = 'Grace' where id = 7";
/// let mut tx = pool.begin().await?;
/// sqlx::query(rename).execute(&mut *tx).await?;
/// space.collector().sql(rename, Dialect::Sqlite).commit(tx).await?;
/// assert_eq!(names.query(by_id).bind(7_i64).fetch_all(&pool).await?[0].0, "Grace");
/// # Ok(()) }
/// ```
pub struct QueryCache<DB, R> {
    cache: Cache<QueryKey, Vec<R>>,
    statements: Arc<Mutex<Statements>>,
    role: Arc<str>,
    search_path: Arc<str>,
    database: PhantomData<fn() -> DB>,
}

/// Statements that have been looked at, by their text: a program has few of them and asks them often.
type Statements = HashMap<Box<str>, Arc<Statement>, foldhash::fast::RandomState>;

/// Beyond so many statements they are made up as the program runs, and looking at them anew is cheaper than keeping them.
const KEPT: usize = 1024;

/// Why a cached query gave no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Its result must not be cached.
    #[error("the statement cannot be cached, because {reason}: {statement}")]
    NotCacheable {
        /// Why not.
        reason: &'static str,
        /// The statement, in normal form.
        statement: String,
    },
    /// A value could not be bound.
    #[error("a value could not be bound: {0}")]
    Bind(Arc<str>),
    /// The query failed, or was refused.
    #[error("the query gave no rows: {0}")]
    Load(#[source] LoadError<sqlx::Error>),
}

impl<DB: Database, R: Send + Sync + 'static> QueryCache<DB, R> {
    /// Caches queries in this cache.
    #[must_use]
    pub fn new(cache: Cache<QueryKey, Vec<R>>) -> Self {
        Self {
            cache,
            statements: Arc::default(),
            role: "".into(),
            search_path: "".into(),
            database: PhantomData,
        }
    }

    /// The role that queries are asked as, where row-level security or grants make answers depend on it.
    #[must_use]
    pub fn role(mut self, role: impl Into<Arc<str>>) -> Self {
        self.role = role.into();
        self
    }

    /// Where names without a schema are looked up, where several tenants share tables' names.
    #[must_use]
    pub fn search_path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.search_path = path.into();
        self
    }

    /// A query: values are bound next, in order.
    pub fn query(&self, sql: impl SqlSafeStr) -> CachedQuery<'_, DB, R> {
        let sql = sql.into_sql_str();
        let statement = self.statement(sql.as_str());
        let key = QueryKeyBuilder::new(statement)
            .role(Arc::clone(&self.role))
            .search_path(Arc::clone(&self.search_path));
        CachedQuery {
            cache: &self.cache,
            sql,
            key,
            arguments: Ok(DB::Arguments::default()),
            tags: Vec::new(),
            fresh: None,
            volatile: false,
            rows: PhantomData,
        }
    }

    fn statement(&self, sql: &str) -> Arc<Statement> {
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = statements.get(sql) {
            return Arc::clone(statement);
        }
        let statement = Arc::new(Statement::new(sql, dialect::<DB>()));
        if statements.len() < KEPT {
            statements.insert(sql.into(), Arc::clone(&statement));
        }
        statement
    }

    /// The cache behind it.
    #[must_use]
    pub const fn cache(&self) -> &Cache<QueryKey, Vec<R>> {
        &self.cache
    }
}

fn dialect<DB: Database>() -> Dialect {
    match DB::NAME {
        "MySQL" => Dialect::MySql,
        "SQLite" => Dialect::Sqlite,
        // `Any` hides what it speaks to; the strictest reading of comments and strings is this one.
        _ => Dialect::Postgres,
    }
}

impl<DB, R> Clone for QueryCache<DB, R> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            statements: Arc::clone(&self.statements),
            role: Arc::clone(&self.role),
            search_path: Arc::clone(&self.search_path),
            database: PhantomData,
        }
    }
}

impl<DB, R> fmt::Debug for QueryCache<DB, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// One query, not yet asked.
#[must_use = "nothing is asked until `fetch_all`"]
pub struct CachedQuery<'c, DB: Database, R> {
    cache: &'c Cache<QueryKey, Vec<R>>,
    sql: SqlStr,
    key: QueryKeyBuilder,
    arguments: Result<DB::Arguments, Arc<str>>,
    tags: Vec<Tag>,
    fresh: Option<Duration>,
    volatile: bool,
    rows: PhantomData<R>,
}

impl<DB: Database, R: Send + Sync + 'static> CachedQuery<'_, DB, R> {
    /// Binds the next value.
    pub fn bind<'q, T>(self, value: T) -> Self
    where
        T: CacheKey + Encode<'q, DB> + Type<DB>,
    {
        let key = value.key_bytes();
        self.bind_as(value, &key)
    }

    /// Binds the next value, of a type that is no [`CacheKey`]; `key` tells it from all others of its type.
    pub fn bind_as<'q, T>(mut self, value: T, key: &(impl CacheKey + ?Sized)) -> Self
    where
        T: Encode<'q, DB> + Type<DB>,
    {
        let info = value.produces().unwrap_or_else(T::type_info);
        self.key = self.key.bind(&info.to_string(), key);
        if let Ok(arguments) = &mut self.arguments
            && let Err(error) = arguments.add(value)
        {
            self.arguments = Err(error.to_string().into());
        }
        self
    }

    /// The role that this query is asked as, instead of the cache's.
    pub fn role(mut self, role: impl Into<Arc<str>>) -> Self {
        self.key = self.key.role(role);
        self
    }

    /// Where this query's names without a schema are looked up, instead of the cache's.
    pub fn search_path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.key = self.key.search_path(path);
        self
    }

    /// Further tags, beside those of the tables that the statement names: for tables behind views and functions.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.tags.extend(tags);
        self
    }

    /// The life of the result, instead of the configured one.
    pub const fn fresh(mut self, life: Duration) -> Self {
        self.fresh = Some(life);
        self
    }

    /// Caches the result although the statement asks for the time or the like: it is then as of the load.
    pub const fn accept_volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// The rows, from the cache, or else from the database.
    ///
    /// # Errors
    /// [`QueryError`]: the statement writes, locks or is volatile, a value could not be bound, or the query failed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a query that has started goes on, and its rows are stored.
    pub async fn fetch_all(self, pool: &Pool<DB>) -> Result<Hit<QueryKey, Vec<R>>, QueryError>
    where
        R: for<'r> FromRow<'r, DB::Row> + Unpin,
        DB::Arguments: IntoArguments<DB>,
        for<'e> &'e mut DB::Connection: Executor<'e, Database = DB>,
    {
        let pool = pool.clone();
        self.fetch_with(move |sql, arguments| async move {
            sqlx::query_as_with(sql, arguments).fetch_all(&pool).await
        })
        .await
    }

    /// The rows, from the cache, or else from `fetch`, which asks a pool or connection of another kind.
    ///
    /// # Errors
    /// As for [`CachedQuery::fetch_all`].
    ///
    /// # Cancel safety
    /// As for [`CachedQuery::fetch_all`].
    pub async fn fetch_with<F, Fut>(self, fetch: F) -> Result<Hit<QueryKey, Vec<R>>, QueryError>
    where
        F: FnOnce(SqlStr, DB::Arguments) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<R>, sqlx::Error>> + Send + 'static,
    {
        let statement = Arc::clone(&self.key.statement);
        let volatile = (statement.is_volatile() && !self.volatile)
            .then_some("its answer is another one each time (`accept_volatile` takes the one of the load)");
        if let Some(reason) = statement.why_not_cacheable().or(volatile) {
            return Err(QueryError::NotCacheable { reason, statement: statement.normal().to_owned() });
        }
        let (key, sql) = (self.key.build(), self.sql);
        let arguments = self.arguments.map_err(QueryError::Bind)?;
        let call = self
            .cache
            .get_or_load(&key, move || fetch(sql, arguments))
            .tags(statement.tags())
            .tags(self.tags);
        let call = match self.fresh {
            Some(life) => call.fresh(life),
            None => call,
        };
        call.await.map_err(QueryError::Load)
    }
}

impl<DB: Database, R> fmt::Debug for CachedQuery<'_, DB, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedQuery").field("statement", &self.key.statement.normal()).finish_non_exhaustive()
    }
}

impl Collector {
    /// Commits a transaction and publishes what was collected for it. When the commit fails, its outcome may be unknown (the
    /// connection broke while it ran), and everything is invalidated all the same: that costs loads and is never wrong.
    ///
    /// # Errors
    /// What the database says of the commit.
    ///
    /// # Cancel safety
    /// Dropping the future while the commit runs publishes what was collected.
    pub async fn commit<DB: Database>(
        self,
        transaction: Transaction<'_, DB>,
    ) -> Result<crate::Receipt, sqlx::Error> {
        let mut publication = Publication(Some(self));
        let committed = transaction.commit().await;
        let receipt = match publication.publish() {
            Some(published) => published.await,
            None => crate::Receipt { acked: true },
        };
        committed.map(|()| receipt)
    }
}

/// What is to be published whatever becomes of the commit.
struct Publication(Option<Collector>);

impl Publication {
    fn publish(&mut self) -> Option<Invalidating> {
        self.0.take().map(Collector::publish)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if let Some(published) = self.publish() {
            published.detach();
        }
    }
}
