//! The only place that knows sqlx's execution traits.

use super::event::QueryEnd;
use super::recording::Recording;
use super::stats::QueryStats;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::{Database, Either, Error, Execute, Executor, SqlStr};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An sqlx executor whose queries are recorded. Made by [`QueryStats::observe`]; used like the executor inside.
///
/// Rows are counted as they are read, and a stream or future that is dropped before its end counts as cancelled. Binds,
/// statement caching and `query!` behave as without it.
#[derive(Debug)]
pub struct Observed<E> {
    inner: E,
    stats: QueryStats,
}

impl<E> Observed<E> {
    /// The executor inside.
    pub fn into_inner(self) -> E {
        self.inner
    }
}

impl QueryStats {
    /// Records what is sent through `executor`: a pool, or a connection, also one leased or in a transaction.
    ///
    /// ```no_run
    /// # async fn example(pool: sqlx::SqlitePool, stats: perf_dbopt::QueryStats) -> Result<(), sqlx::Error> {
    /// sqlx::query("select 1").execute(stats.observe(&pool)).await?;
    /// let mut tx = pool.begin().await?;
    /// sqlx::query("select 2").execute(stats.observe(&mut *tx)).await?;
    /// # Ok(()) }
    /// ```
    pub fn observe<E>(&self, executor: E) -> Observed<E> {
        Observed { inner: executor, stats: self.clone() }
    }
}

/// How many rows a statement changed, as each driver says it.
pub trait RowsAffected {
    /// The number of rows changed.
    fn rows_affected_by(&self) -> u64;
}

#[cfg(feature = "sqlite")]
impl RowsAffected for sqlx::sqlite::SqliteQueryResult {
    fn rows_affected_by(&self) -> u64 {
        self.rows_affected()
    }
}

#[cfg(feature = "postgres")]
impl RowsAffected for sqlx::postgres::PgQueryResult {
    fn rows_affected_by(&self) -> u64 {
        self.rows_affected()
    }
}

#[cfg(feature = "mysql")]
impl RowsAffected for sqlx::mysql::MySqlQueryResult {
    fn rows_affected_by(&self) -> u64 {
        self.rows_affected()
    }
}

/// A query taken apart, so that its text can be read, and put together again.
pub(super) struct Parts<DB: Database> {
    pub(super) sql: SqlStr,
    statement: Option<DB::Statement>,
    pub(super) arguments: Result<Option<DB::Arguments>, BoxDynError>,
    persistent: bool,
}

impl<DB: Database> Parts<DB> {
    /// In this order: the text is taken last because that consumes the query.
    pub(super) fn of<'q>(mut query: impl Execute<'q, DB>) -> Self {
        let statement = query.statement().cloned();
        let arguments = query.take_arguments();
        let persistent = query.persistent();
        Self { sql: query.sql(), statement, arguments, persistent }
    }
}

impl<DB: Database> Parts<DB> {
    /// A query that is sent once, and not kept by the connection.
    pub(super) fn once(sql: SqlStr, arguments: Option<DB::Arguments>) -> Self {
        Self { sql, statement: None, arguments: Ok(arguments), persistent: false }
    }
}

impl<DB: Database> Execute<'_, DB> for Parts<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        std::mem::replace(&mut self.arguments, Ok(None))
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

impl<'c, E> Executor<'c> for Observed<E>
where
    E: Executor<'c>,
    <E::Database as Database>::QueryResult: RowsAffected,
{
    type Database = E::Database;

    fn fetch_many<'e, 'q: 'e, Q>(
        self,
        query: Q,
    ) -> BoxStream<
        'e,
        Result<Either<<E::Database as Database>::QueryResult, <E::Database as Database>::Row>, Error>,
    >
    where
        'c: 'e,
        Q: 'q + Execute<'q, E::Database>,
    {
        if !self.stats.is_enabled() {
            return self.inner.fetch_many(query);
        }
        let parts = Parts::of(query);
        let recording = Recording::start(&self.stats, parts.sql.as_str());
        Box::pin(Counted { inner: self.inner.fetch_many(parts), recording })
    }

    fn fetch_optional<'e, 'q: 'e, Q>(
        self,
        query: Q,
    ) -> BoxFuture<'e, Result<Option<<E::Database as Database>::Row>, Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, E::Database>,
    {
        if !self.stats.is_enabled() {
            return self.inner.fetch_optional(query);
        }
        let parts = Parts::of(query);
        let mut recording = Recording::start(&self.stats, parts.sql.as_str());
        let answer = self.inner.fetch_optional(parts);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(row) => {
                    if row.is_some() {
                        recording.row();
                    }
                    recording.end(QueryEnd::Done);
                }
                Err(error) => fail(&mut recording, error),
            }
            answer
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [<E::Database as Database>::TypeInfo],
    ) -> BoxFuture<'e, Result<<E::Database as Database>::Statement, Error>>
    where
        'c: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }
}

fn fail(recording: &mut Recording, error: &Error) {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    recording.fail(code.as_deref());
}

/// A stream of answers that is counted as it is read.
struct Counted<'e, R, W> {
    inner: BoxStream<'e, Result<Either<R, W>, Error>>,
    recording: Recording,
}

/// Nothing in it is pinned in place: the inner stream is boxed.
impl<R, W> Unpin for Counted<'_, R, W> {}

impl<R: RowsAffected, W> Stream for Counted<'_, R, W> {
    type Item = Result<Either<R, W>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.inner.as_mut().poll_next(context));
        match &next {
            Some(Ok(Either::Left(result))) => self.recording.changed(result.rows_affected_by()),
            Some(Ok(Either::Right(_))) => self.recording.row(),
            Some(Err(error)) => fail(&mut self.recording, error),
            None => self.recording.end(QueryEnd::Done),
        }
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
