//! The result: one table, the same as JSON, and a self-contained HTML page.

use crate::check::Findings;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// One measured phase of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Answered requests per second.
    pub rps: f64,
    pub requests: u64,
    pub errors: u64,
    pub db_queries: u64,
    /// Time spent in queries, summed over connections.
    pub db_ms_total: f64,
    /// The same for each request.
    pub db_ms_per_request: f64,
    /// Bytes of answers on the wire.
    pub bytes_sent: u64,
    pub bytes_per_request: f64,
    /// The service's own peak, without the load tester.
    pub peak_rss_mb: f64,
    /// Share of page reads answered from the cache; absent without a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<f64>,
    /// Errors by kind.
    pub errors_by_kind: Vec<(String, u64)>,
    /// Points (quantile, milliseconds) for the chart.
    pub quantiles: Vec<(f64, f64)>,
    #[serde(flatten)]
    pub findings: Findings,
}

/// The open phase, at the same rate before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    pub rate: u32,
    pub before: Run,
    pub after: Run,
}

/// An index that perf-dbopt recommended and that was applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Index {
    pub statement: String,
    pub reason: String,
}

/// What users saw while the database was stalled and killed.
#[derive(Clone, Debug, Serialize)]
pub struct Chaos {
    pub stall_seconds: u64,
    pub outage_seconds: u64,
    pub run: Run,
}

/// Everything a run of the storefront found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub command: String,
    pub machine: String,
    pub database: String,
    pub scale: f64,
    pub users: u32,
    pub seconds: u64,
    pub seed: u64,
    pub before: Run,
    pub after: Run,
    pub open: Open,
    pub indexes: Vec<Index>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chaos: Option<Chaos>,
    pub checked: u64,
    pub compared: u64,
    pub wrong: u64,
    pub stale: u64,
}

impl Report {
    /// Adds up what the checks of all phases found.
    pub fn sum_findings(&mut self) {
        let runs = [&self.before, &self.after, &self.open.before, &self.open.after];
        let chaos = self.chaos.iter().map(|chaos| &chaos.run);
        let all: Vec<&Findings> = runs.into_iter().chain(chaos).map(|run| &run.findings).collect();
        self.checked = all.iter().map(|f| f.checked).sum();
        self.compared = all.iter().map(|f| f.compared).sum();
        self.wrong = all.iter().map(|f| f.wrong).sum();
        self.stale = all.iter().map(|f| f.stale).sum();
    }

    /// Whether every answer was right.
    pub fn is_clean(&self) -> bool {
        self.wrong == 0 && self.stale == 0
    }

    /// The table a person reads.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let title = format!(
            "{} users, {} s closed phase, TPC-H scale {} in {}, seed {}",
            self.users, self.seconds, self.scale, self.database, self.seed
        );
        let _ = writeln!(text, "\n{title}\n");
        push_rows(&mut text, &self.before, &self.after);
        let _ = writeln!(text, "\nopen phase at {} requests/s\n", self.open.rate);
        push_rows(&mut text, &self.open.before, &self.open.after);
        if !self.indexes.is_empty() {
            let _ = writeln!(text, "\nindexes that perf-dbopt recommended from the first run and applied:");
            for index in &self.indexes {
                let _ = writeln!(text, "  {}\n    {}", index.statement, index.reason);
            }
        }
        if let Some(chaos) = &self.chaos {
            let _ = writeln!(
                text,
                "\nchaos: database stalled for {} s, then gone for {} s: {} requests, {} errors {:?}, p99 {:.1} ms, {} stale, {} wrong",
                chaos.stall_seconds,
                chaos.outage_seconds,
                chaos.run.requests,
                chaos.run.errors,
                chaos.run.errors_by_kind,
                chaos.run.p99_ms,
                chaos.run.findings.stale,
                chaos.run.findings.wrong,
            );
        }
        let _ = writeln!(
            text,
            "\nanswers checked against the database: {} ({} by content), wrong {}, stale {}",
            self.checked, self.compared, self.wrong, self.stale
        );
        text
    }

    /// Writes the report as JSON; the file appears complete or not at all.
    pub fn write_json(&self, path: &Path) -> std::io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        json.push(b'\n');
        write_whole(path, &json)
    }

    /// Writes the report as one HTML file that needs nothing else.
    pub fn write_html(&self, path: &Path) -> std::io::Result<()> {
        write_whole(path, crate::html::page(self).as_bytes())
    }
}

/// Writes beside the target and renames, so that nobody ever finds half a file.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = Path::new(&beside);
    let written = std::fs::File::create(beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let finished = written.and_then(|()| std::fs::rename(beside, path));
    if finished.is_err() {
        // The error that matters is the first; a leftover part file would only add to it.
        let _ = std::fs::remove_file(beside);
    }
    finished
}

/// One line of the table: name, before, after, change.
pub struct Row {
    pub name: &'static str,
    pub before: String,
    pub after: String,
    pub change: String,
}

/// The lines of the table.
pub fn rows(before: &Run, after: &Run) -> Vec<Row> {
    let row = |name, a: f64, b: f64, digits: usize, change: String| Row {
        name,
        before: grouped(a, digits),
        after: grouped(b, digits),
        change,
    };
    let less =
        |a: f64, b: f64| if a > 0.0 { format!("{:+.1} %", (b / a - 1.0) * 100.0) } else { String::new() };
    let times = |a: f64, b: f64| if a > 0.0 { format!("{:.1} x", b / a) } else { String::new() };
    let mut rows: Vec<Row> = [
        ("mean ms", before.mean_ms, after.mean_ms),
        ("p50 ms", before.p50_ms, after.p50_ms),
        ("p95 ms", before.p95_ms, after.p95_ms),
        ("p99 ms", before.p99_ms, after.p99_ms),
        ("max ms", before.max_ms, after.max_ms),
    ]
    .into_iter()
    .map(|(name, a, b)| row(name, a, b, 2, less(a, b)))
    .collect();
    rows.push(row("requests/s", before.rps, after.rps, 0, times(before.rps, after.rps)));
    rows.push(row("requests", before.requests as f64, after.requests as f64, 0, String::new()));
    rows.push(row("database queries", before.db_queries as f64, after.db_queries as f64, 0, String::new()));
    rows.push(row(
        "database ms",
        before.db_ms_total,
        after.db_ms_total,
        0,
        less(before.db_ms_total, after.db_ms_total),
    ));
    let per = (before.db_ms_per_request, after.db_ms_per_request);
    rows.push(row("database ms/request", per.0, per.1, 3, less(per.0, per.1)));
    rows.push(row("bytes sent", before.bytes_sent as f64, after.bytes_sent as f64, 0, String::new()));
    let per = (before.bytes_per_request, after.bytes_per_request);
    rows.push(row("bytes/request", per.0, per.1, 0, less(per.0, per.1)));
    rows.push(row("peak memory MB", before.peak_rss_mb, after.peak_rss_mb, 1, String::new()));
    let ratio =
        |run: &Run| run.hit_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    rows.push(Row { name: "hit ratio", before: ratio(before), after: ratio(after), change: String::new() });
    rows.push(row("errors", before.errors as f64, after.errors as f64, 0, String::new()));
    rows
}

fn push_rows(text: &mut String, before: &Run, after: &Run) {
    let _ = writeln!(text, "{:<22}{:>16}{:>16}{:>12}", "", "before", "after", "change");
    for row in rows(before, after) {
        let _ = writeln!(text, "{:<22}{:>16}{:>16}{:>12}", row.name, row.before, row.after, row.change);
    }
}

/// A number with separated thousands.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut out = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out += fraction;
    }
    out
}
