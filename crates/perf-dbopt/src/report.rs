//! Everything known of one database on one page: for people as text or HTML, for programs as data.

use crate::advise::Advice;
use crate::{Finding, Fingerprint, NPlusOne, PoolAdvice, QueryStats, RouteStat, SlowQuery};
use std::fmt;
use std::fmt::Write;
use std::time::Duration;

/// One statement's line in a [`Report`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatementLine {
    /// The statement.
    pub fingerprint: Fingerprint,
    /// Its normal form, which holds no value.
    pub text: String,
    /// How often it was called.
    pub calls: u64,
    /// Rows it returned and changed.
    pub rows: u64,
    /// Calls that ended in an error.
    pub errors: u64,
    /// The time of all calls.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub total: Duration,
    /// The mean time of a call.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub mean: Duration,
    /// The time below which 95 of 100 calls stayed.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub p95: Duration,
}

/// What the observer saw and the advisors found. No part of it holds a value of a query.
///
/// ```
/// use perf_dbopt::{Dialect, QueryStats, Report};
///
/// let stats = QueryStats::new("shop", Dialect::Sqlite);
/// stats.start("select * from t where name = '<b>'").done(1);
/// let report = Report::of(&stats, 10);
/// assert!(report.to_html().contains("select * from t where name = ?"));
/// assert!(report.to_string().contains("1 calls"));
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The database, as the observer calls it.
    pub database: String,
    /// The statements that took the most time, most first.
    pub statements: Vec<StatementLine>,
    /// The slow queries remembered, newest first.
    pub slow: Vec<SlowQuery>,
    /// Requests that repeated a statement, newest first.
    pub repetitions: Vec<NPlusOne>,
    /// The routes, by the time their queries took.
    pub routes: Vec<RouteStat>,
    /// Indexes worth creating.
    pub advice: Option<Advice>,
    /// What is wrong in the database.
    pub findings: Vec<Finding>,
    /// How many connections to hold.
    pub pool: Option<PoolAdvice>,
}

impl Report {
    /// What the observer saw: at most `limit` statements, slow queries, repetitions and routes each. Advice and findings are for the
    /// caller to add.
    #[must_use]
    pub fn of(stats: &QueryStats, limit: usize) -> Self {
        let line = |stat: &crate::QueryStat| StatementLine {
            fingerprint: stat.fingerprint,
            text: stat.text.to_string(),
            calls: stat.calls(),
            rows: stat.rows,
            errors: stat.errors,
            total: stat.total(),
            mean: stat.mean(),
            p95: stat.quantile(0.95).unwrap_or_default(),
        };
        let mut report = Self {
            database: stats.name().to_owned(),
            statements: stats.top(limit).iter().map(line).collect(),
            slow: stats.slow_queries(),
            repetitions: stats.repetitions(),
            routes: stats.routes(),
            ..Self::default()
        };
        report.slow.truncate(limit);
        report.repetitions.truncate(limit);
        report.routes.truncate(limit);
        report
    }

    /// Adds advice on indexes.
    #[must_use]
    pub fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }

    /// Adds what inspection found.
    #[must_use]
    pub fn with_findings(mut self, findings: impl IntoIterator<Item = Finding>) -> Self {
        self.findings.extend(findings);
        self
    }

    /// Adds advice on the pool.
    #[must_use]
    pub fn with_pool(mut self, advice: PoolAdvice) -> Self {
        self.pool = Some(advice);
        self
    }

    /// One page of HTML that needs nothing from elsewhere. Everything that comes from the database is escaped.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut page = Page(String::new());
        page.raw("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>");
        page.text(&self.database);
        page.raw("</title><style>body{font:15px system-ui;margin:2em;max-width:80em}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .6em;border-bottom:1px solid #ddd;vertical-align:top}code{white-space:pre-wrap;overflow-wrap:anywhere}</style><h1>Database ");
        page.text(&self.database);
        page.raw("</h1>");
        self.statements_table(&mut page);
        self.index_table(&mut page);
        let rows = self.findings.iter().map(|finding| {
            let action = finding.action.clone().unwrap_or_default();
            vec![format!("{:?}", finding.severity), finding.object.clone(), finding.message.clone(), action]
        });
        page.table("What is wrong", &["Severity", "Object", "Seen", "Action"], rows);
        let rows = self.slow.iter().map(|slow| {
            let route = slow.route.as_deref().unwrap_or_default().to_owned();
            vec![
                time(slow.elapsed),
                slow.rows.to_string(),
                route,
                slow.text.to_string(),
                slow.plan.clone().unwrap_or_default(),
            ]
        });
        page.table("Slow queries", &["Time", "Rows", "Route", "Statement", "Plan"], rows);
        let rows = self.repetitions.iter().map(|found| {
            vec![
                found.route.to_string(),
                found.calls.to_string(),
                found.text.to_string(),
                found.suggestion.clone(),
            ]
        });
        page.table("Repetitions in one request", &["Route", "Calls", "Statement", "Instead"], rows);
        let rows = self.routes.iter().map(|route| {
            vec![
                route.route.to_string(),
                route.requests.to_string(),
                route.queries.to_string(),
                time(route.time),
            ]
        });
        page.table("Routes", &["Route", "Requests", "Queries", "Time"], rows);
        if let Some(pool) = &self.pool {
            let rows = std::iter::once(vec![
                format!("{:?}", pool.verdict),
                format!("hold {}: {}", pool.recommended, pool.reason),
            ]);
            page.table("Connections", &["Verdict", "Why"], rows);
        }
        page.raw("</html>");
        page.0
    }

    fn statements_table(&self, page: &mut Page) {
        let rows = self.statements.iter().map(|line| {
            vec![
                time(line.total),
                line.calls.to_string(),
                time(line.mean),
                time(line.p95),
                line.rows.to_string(),
                line.errors.to_string(),
                line.text.clone(),
            ]
        });
        page.table("Statements", &["Total", "Calls", "Mean", "p95", "Rows", "Errors", "Statement"], rows);
    }

    fn index_table(&self, page: &mut Page) {
        let Some(advice) = &self.advice else { return };
        let rows = advice.create.iter().map(|index| {
            let served: Vec<String> = index
                .serves
                .iter()
                .map(|it| {
                    format!(
                        "{} calls, cost {:.0} to {:.0}: {}",
                        it.calls, it.cost_before, it.cost_after, it.text
                    )
                })
                .collect();
            vec![index.ddl.clone(), format!("{:.1} MB", index.bytes as f64 / 1e6), served.join("\n")]
        });
        let title =
            format!("Indexes worth creating: {:.1} % of the present cost", 100.0 * advice.relative_cost());
        page.table(&title, &["Statement", "Size", "Serves"], rows);
        let left =
            advice.skipped.iter().map(|skipped| vec![skipped.reason.to_string(), skipped.text.to_string()]);
        page.table("Statements left out", &["Why", "Statement"], left);
    }
}

fn time(duration: Duration) -> String {
    format!("{duration:.1?}")
}

impl fmt::Display for Report {
    /// The same for a terminal or a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database {}", self.database)?;
        for line in &self.statements {
            let (total, mean, p95) = (time(line.total), time(line.mean), time(line.p95));
            writeln!(f, "{total} in {} calls, mean {mean}, p95 {p95}: {}", line.calls, line.text)?;
        }
        for slow in &self.slow {
            writeln!(f, "slow, {}: {}", time(slow.elapsed), slow.text)?;
        }
        for found in &self.repetitions {
            writeln!(
                f,
                "{} repeats {} times: {} ({})",
                found.route, found.calls, found.text, found.suggestion
            )?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        self.advice.iter().try_for_each(|advice| write!(f, "{advice}"))?;
        self.pool
            .iter()
            .try_for_each(|pool| writeln!(f, "hold {} connections: {}", pool.recommended, pool.reason))
    }
}

/// HTML as it grows.
struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    /// A table under a heading, or nothing when it has no rows.
    fn table(&mut self, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        self.raw("<h2>");
        self.text(title);
        self.raw("</h2><table><tr>");
        for head in heads {
            // Writing to a text cannot fail.
            let _ = write!(self.0, "<th>{head}</th>");
        }
        self.raw("</tr>");
        for row in rows {
            self.raw("<tr>");
            for cell in row {
                self.raw("<td><code>");
                self.text(&cell);
                self.raw("</code></td>");
            }
            self.raw("</tr>");
        }
        self.raw("</table>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, FindingKind, Severity};

    #[test]
    fn nothing_from_a_database_becomes_markup() {
        let stats = QueryStats::new("<script>", Dialect::Sqlite);
        stats.start("select \"<img src=x>\" from t").done(0);
        let hostile = Finding::new(FindingKind::Setting, Severity::Info, "a'b\"c&d", "<b>");
        let report = Report::of(&stats, 5).with_findings([hostile]);
        let html = report.to_html();
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>"), "{html}");
        assert!(html.contains("a&#39;b&quot;c&amp;d"));
        // Tables without rows are left out.
        assert!(!html.contains("Slow queries"));
    }
}
