//! Plans of slow queries, with the values they were really sent with. The values go to the database they came from and nowhere else.

use super::executor::{Observed, Parts, RowsAffected};
use super::stats::QueryStats;
use crate::{Dialect, Error, Lexer, TokenKind, fingerprint};
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use perf_core::time::{Instant, now, timeout};
use sqlx::{AssertSqlSafe, Database, Either, Execute, Executor, Row, SqlSafeStr, SqlStr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a plan may take unless said otherwise: planning takes a millisecond, and a planner that hangs must not hold up.
pub const DEFAULT_PLAN_TIMEOUT: Duration = Duration::from_millis(200);
/// Slow queries that wait for their plan at most; further ones go without.
const WAITING: usize = 16;

type Arguments<DB> = <DB as Database>::Arguments;

/// A slow query whose plan is wanted.
struct Request<DB: Database> {
    sql: SqlStr,
    arguments: Option<Arguments<DB>>,
}

impl<DB: Database> std::fmt::Debug for Request<DB> {
    /// Without the values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("values", &self.arguments.is_some()).finish_non_exhaustive()
    }
}

/// Where slow queries ask for their plans. Cheap to clone. Made by [`QueryStats::plans`].
pub struct PlanRequests<DB: Database> {
    sender: mpsc::Sender<Request<DB>>,
}

impl<DB: Database> Clone for PlanRequests<DB> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<DB: Database> std::fmt::Debug for PlanRequests<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanRequests").finish_non_exhaustive()
    }
}

/// Explains slow queries on a connection of its own and attaches the plans to the slow-query log, with every value masked. The
/// host drives it: a task that calls [`explain_next`](SlowPlans::explain_next) in a loop.
pub struct SlowPlans<DB: Database> {
    stats: QueryStats,
    receiver: mpsc::Receiver<Request<DB>>,
    limit: Duration,
}

impl<DB: Database> std::fmt::Debug for SlowPlans<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowPlans").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl QueryStats {
    /// The two ends of a queue of at most 16 slow queries: [`observe_with_plans`](QueryStats::observe_with_plans) puts in, a task
    /// of the host takes out. A statement is explained at most once per [`ObserverConfig::explain_every`](crate::ObserverConfig).
    #[must_use]
    pub fn plans<DB: Database>(&self) -> (PlanRequests<DB>, SlowPlans<DB>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let plans = SlowPlans { stats: self.clone(), receiver, limit: DEFAULT_PLAN_TIMEOUT };
        (PlanRequests { sender }, plans)
    }

    /// As [`observe`](QueryStats::observe), and asks for the plan of a query that turns out slow. The values are copied only for a
    /// statement that was slow before and whose plan was not taken lately.
    pub fn observe_with_plans<E, DB: Database>(
        &self,
        executor: E,
        plans: &PlanRequests<DB>,
    ) -> ObservedWithPlans<E, DB> {
        ObservedWithPlans { inner: self.observe(executor), stats: self.clone(), plans: plans.clone() }
    }
}

/// An observed executor whose slow queries are explained. Made by [`QueryStats::observe_with_plans`].
#[derive(Debug)]
pub struct ObservedWithPlans<E, DB: Database> {
    inner: Observed<E>,
    stats: QueryStats,
    plans: PlanRequests<DB>,
}

/// A query that may turn out slow.
struct Watch<DB: Database> {
    stats: QueryStats,
    plans: PlanRequests<DB>,
    request: Option<Request<DB>>,
    start: Instant,
}

impl<DB: Database> Watch<DB>
where
    Arguments<DB>: Clone,
{
    /// Takes a copy of the values when this statement's plan is wanted.
    fn begin(stats: QueryStats, plans: PlanRequests<DB>, parts: &Parts<DB>) -> Self {
        let wanted =
            stats.is_enabled() && stats.wants_plan(parts.sql.as_str()) && plans.sender.capacity() > 0;
        let request = parts
            .arguments
            .as_ref()
            .ok()
            .filter(|_| wanted)
            .map(|arguments| Request { sql: parts.sql.clone(), arguments: arguments.clone() });
        Self { stats, plans, request, start: now() }
    }
}

impl<DB: Database> Watch<DB> {
    /// Asks for the plan when the query was slow, once.
    fn end(&mut self) {
        let Some(request) = self.request.take() else { return };
        let print = fingerprint(request.sql.as_str(), self.stats.dialect());
        if self.stats.claim_explain(print, self.start.elapsed()) {
            // A full queue or a host that stopped explaining: the query goes without.
            let _ = self.plans.sender.try_send(request);
        }
    }
}

impl<'c, E, DB> Executor<'c> for ObservedWithPlans<E, DB>
where
    E: Executor<'c, Database = DB>,
    DB: Database,
    Arguments<DB>: Clone,
    DB::QueryResult: RowsAffected,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, Q>(
        self,
        query: Q,
    ) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, DB>,
    {
        let parts = Parts::of(query);
        let watch = Watch::begin(self.stats, self.plans, &parts);
        Box::pin(Watched { inner: self.inner.fetch_many(parts), watch })
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, Result<Option<DB::Row>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, DB>,
    {
        let parts = Parts::of(query);
        let mut watch = Watch::begin(self.stats, self.plans, &parts);
        let answer = self.inner.fetch_optional(parts);
        Box::pin(async move {
            let answer = answer.await;
            watch.end();
            answer
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }
}

type Answer<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

/// A stream whose end is noticed.
struct Watched<'e, DB: Database> {
    inner: BoxStream<'e, Result<Answer<DB>, sqlx::Error>>,
    watch: Watch<DB>,
}

/// Nothing in it is pinned in place: the inner stream is boxed.
impl<DB: Database> Unpin for Watched<'_, DB> {}

impl<DB: Database> Stream for Watched<'_, DB> {
    type Item = Result<Answer<DB>, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.inner.as_mut().poll_next(context));
        if next.is_none() {
            self.watch.end();
        }
        Poll::Ready(next)
    }
}

/// How a database is asked for a plan.
fn explain(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "EXPLAIN (FORMAT JSON) ",
        Dialect::MySql => "EXPLAIN FORMAT=JSON ",
        Dialect::Sqlite => "EXPLAIN QUERY PLAN ",
    }
}

impl<DB: Database> SlowPlans<DB> {
    /// How long a plan may take. [`DEFAULT_PLAN_TIMEOUT`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Waits for the next slow query, explains it on `conn` and attaches the plan to it in the slow-query log. `false` once
    /// nobody can ask any more.
    ///
    /// # Errors
    /// [`Error`] when the plan could not be had: the next call goes on with the next query. After [`Error::TimedOut`] the connection
    /// should be replaced.
    ///
    /// # Cancel safety
    /// A query whose plan is being taken goes without it.
    pub async fn explain_next<C>(&mut self, conn: &mut C) -> Result<bool, Error>
    where
        for<'c> &'c mut C: Executor<'c, Database = DB>,
        String: for<'r> sqlx::Decode<'r, DB>,
        usize: sqlx::ColumnIndex<DB::Row>,
    {
        let Some(request) = self.receiver.recv().await else { return Ok(false) };
        let dialect = self.stats.dialect();
        let sql = AssertSqlSafe(format!("{}{}", explain(dialect), request.sql.as_str())).into_sql_str();
        let query = Parts::<DB>::once(sql, request.arguments);
        let rows = timeout(self.limit, (&mut *conn).fetch_all(query)).await;
        let rows = rows.map_err(|_| Error::TimedOut("explaining a slow query"))?;
        let rows = rows.map_err(|source| Error::Database { doing: "explain a slow query", source })?;
        // SQLite answers with one row per step, whose text stands last; the others with one text.
        let column = if dialect == Dialect::Sqlite { 3 } else { 0 };
        let lines: Vec<String> =
            rows.iter().filter_map(|row| row.try_get_unchecked::<String, _>(column).ok()).collect();
        let plan = mask(&lines.join("\n"), dialect);
        self.stats.attach_plan(fingerprint(request.sql.as_str(), dialect), plan);
        Ok(true)
    }
}

/// A plan without the values in its conditions. In JSON these stand inside texts, so each text is read as SQL; figures of the
/// plan itself, which are no texts, stay.
fn mask(plan: &str, dialect: Dialect) -> String {
    match serde_json::from_str(plan) {
        Ok(mut value) => {
            mask_texts(&mut value, dialect);
            value.to_string()
        }
        Err(_) => mask_sql(plan, dialect),
    }
}

fn mask_texts(value: &mut serde_json::Value, dialect: Dialect) {
    match value {
        serde_json::Value::String(text) => *text = mask_sql(text, dialect),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| mask_texts(item, dialect)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| mask_texts(field, dialect)),
        _ => {}
    }
}

fn mask_sql(text: &str, dialect: Dialect) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    let value = |kind| matches!(kind, TokenKind::Text | TokenKind::Number);
    for token in Lexer::new(text, dialect).filter(|token| value(token.kind)) {
        masked.push_str(&text[copied..token.start]);
        masked.push('?');
        copied = token.end;
    }
    masked.push_str(&text[copied..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_and_names_and_figures_stay() {
        let plan = r#"[{"Plan": {"Node Type": "Seq Scan", "Total Cost": 12.5, "Filter": "((name = 'O''Brien'::text) AND (n > 42))"}}]"#;
        let masked = mask(plan, Dialect::Postgres);
        assert!(masked.contains("12.5") && masked.contains("((name = ?::text) AND (n > ?))"), "{masked}");
        assert_eq!(
            mask("SEARCH t USING INDEX i (a=? AND b=5)", Dialect::Sqlite),
            "SEARCH t USING INDEX i (a=? AND b=?)"
        );
    }
}
