use crate::{Dialect, Fingerprint, QueryStat, fingerprint, normalize, statements};
use std::sync::Arc;
use std::time::Duration;

/// One statement of a workload and how much of it there is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkloadQuery {
    /// The statement's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its normal form, which holds no value and may be shown.
    pub text: Arc<str>,
    /// The statement as it is planned. It may hold values and is never shown.
    pub(crate) sql: Arc<str>,
    /// How often it ran.
    pub calls: u64,
    /// The time that took; zero when unknown.
    pub total: Duration,
    /// Rows it returned and changed.
    pub rows: u64,
}

impl WorkloadQuery {
    /// A statement that runs `calls` times.
    #[must_use]
    pub fn new(sql: &str, dialect: Dialect, calls: u64) -> Self {
        Self {
            fingerprint: fingerprint(sql, dialect),
            text: normalize(sql, dialect).into(),
            sql: sql.into(),
            calls,
            total: Duration::ZERO,
            rows: 0,
        }
    }

    /// A share of it, between 0 and 1.
    #[cfg(feature = "postgres")]
    pub(crate) fn part(&self, share: f64) -> Self {
        let of = |count: u64| (count as f64 * share).round() as u64;
        Self { calls: of(self.calls), rows: of(self.rows), total: self.total.mul_f64(share), ..self.clone() }
    }
}

/// What an application asks of its database: the input of every advisor.
///
/// ```
/// use perf_dbopt::{Dialect, Workload};
///
/// let workload = Workload::from_sql("select a from t; select b from t; select a from t", Dialect::Sqlite);
/// assert_eq!(workload.queries.len(), 2);
/// assert_eq!(workload.queries[0].calls, 2);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workload {
    /// Whose SQL it is.
    pub dialect: Dialect,
    /// The statements, one per fingerprint.
    pub queries: Vec<WorkloadQuery>,
}

impl Workload {
    /// A workload without statements.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect, queries: Vec::new() }
    }

    /// The statements of a text; one that occurs twice counts twice.
    #[must_use]
    pub fn from_sql(text: &str, dialect: Dialect) -> Self {
        let mut workload = Self::new(dialect);
        for sql in statements(text, dialect) {
            workload.add(WorkloadQuery::new(sql, dialect, 1));
        }
        workload
    }

    /// What an observer saw.
    #[must_use]
    pub fn from_stats(dialect: Dialect, stats: &[QueryStat]) -> Self {
        let mut workload = Self::new(dialect);
        for stat in stats.iter().filter(|stat| stat.calls() > 0) {
            workload.add(WorkloadQuery {
                fingerprint: stat.fingerprint,
                text: Arc::clone(&stat.text),
                sql: Arc::clone(&stat.example),
                calls: stat.calls(),
                total: stat.total(),
                rows: stat.rows,
            });
        }
        workload
    }

    /// Adds a statement, or adds to it when its fingerprint is there already.
    pub fn add(&mut self, query: WorkloadQuery) {
        match self.queries.iter_mut().find(|known| known.fingerprint == query.fingerprint) {
            Some(known) => {
                known.calls = known.calls.saturating_add(query.calls);
                known.total = known.total.saturating_add(query.total);
                known.rows = known.rows.saturating_add(query.rows);
            }
            None => self.queries.push(query),
        }
    }

    /// The same with one statement more.
    #[must_use]
    pub fn with(mut self, sql: &str, calls: u64) -> Self {
        self.add(WorkloadQuery::new(sql, self.dialect, calls));
        self
    }
}
