//! The result: one table, the same as JSON, and a self-contained HTML page.

use crate::check::Findings;
use crate::child::Numbers;
use serde::{Deserialize, Serialize};
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
    /// Each kind of request by itself.
    pub steps: Vec<Step>,
    /// Points (quantile, milliseconds) for the chart.
    pub quantiles: Vec<(f64, f64)>,
    #[serde(flatten)]
    pub findings: Findings,
}

/// One kind of request of a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub name: String,
    pub requests: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// The open phase, at the same rate before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    pub rate: u32,
    pub before: Run,
    pub after: Run,
}

/// An index that perf-dbopt recommended and that was created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub statement: String,
    /// In one sentence for people: what it serves, and at which price.
    pub reason: String,
    /// The statements it was recommended for, those that gain most first.
    pub serves: Vec<Gain>,
    /// Its size as the advisor expects it.
    pub bytes: u64,
}

/// What an index does for one statement, by the planner's own estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    pub statement: String,
    /// How often the first run ran it.
    pub calls: u64,
    pub cost_before: f64,
    /// With everything that was recommended.
    pub cost_after: f64,
}

/// What users saw while the database was stalled and then gone: the same faults for both ways to serve the shop.
#[derive(Clone, Debug, Serialize)]
pub struct Chaos {
    pub stall_seconds: u64,
    pub outage_seconds: u64,
    pub before: Run,
    pub after: Run,
    pub effect: Effect,
}

/// What stood between the faults and the users of the second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub breaker_opened: u64,
    /// Calls of the database that an open breaker refused instead of trying them in vain.
    pub breaker_refused: u64,
    /// Second attempts.
    pub retries: u64,
    /// Calls of the database refused because too many were running or waiting.
    pub limited: u64,
    /// Answers past their life that were shown because the database failed. None of them may be older than what a user has
    /// been told, as all answers.
    pub stale_if_error: u64,
}

impl Effect {
    pub const fn of(numbers: &Numbers) -> Self {
        Self {
            breaker_opened: numbers.breaker_opened,
            breaker_refused: numbers.breaker_refused,
            retries: numbers.retries,
            limited: numbers.limited,
            stale_if_error: numbers.stale_if_error,
        }
    }
}

impl Chaos {
    /// The lines of its table.
    pub fn rows(&self) -> Vec<Row> {
        let (before, after) = (&self.before, &self.after);
        let both = |name, number: fn(&Run) -> f64, digits| Row {
            name,
            before: grouped(number(before), digits),
            after: grouped(number(after), digits),
            change: String::new(),
        };
        let share = |run: &Run| format!("{:.2} %", run.failed_share() * 100.0);
        let alone = |name, number: u64| Row {
            name,
            before: "-".to_owned(),
            after: grouped(number as f64, 0),
            change: String::new(),
        };
        vec![
            both("requests", |run| run.requests as f64, 0),
            both("failed", |run| run.errors as f64, 0),
            Row { name: "failed share", before: share(before), after: share(after), change: String::new() },
            both("answered", |run| run.answered() as f64, 0),
            both("p99 ms", |run| run.p99_ms, 1),
            both("max ms", |run| run.max_ms, 1),
            alone("breaker opened", self.effect.breaker_opened),
            alone("refused by breaker", self.effect.breaker_refused),
            alone("retries", self.effect.retries),
            alone("limited calls", self.effect.limited),
            alone("stale if error", self.effect.stale_if_error),
            both("wrong answers", |run| run.findings.wrong as f64, 0),
            both("stale answers", |run| run.findings.stale as f64, 0),
        ]
    }
}

impl Run {
    /// Requests that were answered as the shop is meant to.
    pub const fn answered(&self) -> u64 {
        self.requests.saturating_sub(self.errors)
    }

    fn failed_share(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }
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
        let chaos = self.chaos.iter().flat_map(|chaos| [&chaos.before, &chaos.after]);
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
        self.push_indexes(&mut text);
        if let Some(chaos) = &self.chaos {
            let _ = writeln!(
                text,
                "\nchaos: the same users while the database stalls for {} s and then is gone for {} s\n",
                chaos.stall_seconds, chaos.outage_seconds
            );
            push_table(&mut text, &chaos.rows());
        }
        let _ = writeln!(
            text,
            "\nanswers checked against the database: {} ({} by content), wrong {}, stale {}",
            self.checked, self.compared, self.wrong, self.stale
        );
        text
    }

    fn push_indexes(&self, text: &mut String) {
        if self.indexes.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\nindexes that perf-dbopt recommended from the statements of the first run, and created:"
        );
        for index in &self.indexes {
            let _ = writeln!(text, "  {}\n    {}", index.statement, index.reason);
            for gain in &index.serves {
                let (calls, before, after) = (
                    grouped(gain.calls as f64, 0),
                    grouped(gain.cost_before, 0),
                    grouped(gain.cost_after, 0),
                );
                let _ = writeln!(
                    text,
                    "    - {calls} calls, cost {before} -> {after}: {}",
                    shortened(&gain.statement, 100)
                );
            }
        }
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
    push_table(text, &rows(before, after));
}

fn push_table(text: &mut String, rows: &[Row]) {
    let _ = writeln!(text, "{:<22}{:>16}{:>16}{:>12}", "", "before", "after", "change");
    for row in rows {
        let line = format!("{:<22}{:>16}{:>16}{:>12}", row.name, row.before, row.after, row.change);
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// The beginning of a text, when all of it is too much for a line.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number with separated thousands.
pub fn grouped(value: f64, digits: usize) -> String {
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
