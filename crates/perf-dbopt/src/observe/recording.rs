use super::entry::Entry;
use super::event::{QueryEnd, QueryEvent, SlowQuery};
use super::scope;
use super::stats::{QueryStats, nanos};
use perf_core::time::{Instant, now};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Codes told apart; a server has some 250, of which an application meets a handful.
const MAX_CODES: usize = 64;

/// One query under way. Dropping it without an end counts the query as cancelled.
#[derive(Debug)]
#[must_use = "a recording that is dropped at once counts as a cancelled query"]
pub struct Recording {
    stats: QueryStats,
    /// Nothing when recording is switched off, or once the end was recorded.
    entry: Option<Arc<Entry>>,
    start: Instant,
    rows: u64,
}

impl Recording {
    #[inline]
    pub(super) fn start(stats: QueryStats, sql: &str) -> Self {
        let found = stats.is_enabled().then(|| stats.0.table.find(sql));
        let Some(found) = found else {
            let start = stats.0.began;
            return Self { stats, entry: None, start, rows: 0 };
        };
        if found.evicted > 0 {
            stats.0.totals.evicted.add(found.evicted as u64);
            stats.emit(&QueryEvent::Evicted { statements: found.evicted });
        }
        Self { stats, entry: Some(found.entry), start: now(), rows: 0 }
    }

    /// Notes one row of a stream; the first also stops the time to the first row.
    #[inline]
    pub fn row(&mut self) {
        if self.rows == 0
            && let Some(entry) = &self.entry
        {
            entry.first_rows.fetch_add(1, Relaxed);
            entry.first_row_nanos.fetch_add(nanos(self.start.elapsed()), Relaxed);
        }
        self.rows += 1;
    }

    /// Notes how many rows the statement changed. Rows it also returned are not counted twice.
    #[inline]
    pub fn changed(&mut self, rows: u64) {
        if self.entry.as_ref().is_some_and(|entry| entry.writes) {
            self.rows = self.rows.max(rows);
        }
    }

    /// The query gave its whole answer, with `rows` rows beside those noted before.
    #[inline]
    pub fn done(mut self, rows: u64) {
        self.rows += rows;
        self.end(QueryEnd::Done);
    }

    /// The query failed. `code` is what the database calls the error (SQLSTATE); `None` when it never got there.
    pub fn failed(mut self, code: Option<&str>) {
        self.fail(code);
    }

    pub(super) fn fail(&mut self, code: Option<&str>) {
        if self.entry.is_none() {
            return;
        }
        let mut errors = self.stats.0.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let code = code.unwrap_or("client");
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else {
            let code = if errors.len() < MAX_CODES { code } else { "other" };
            *errors.entry(code.to_owned()).or_default() += 1;
        }
        drop(errors);
        self.end(QueryEnd::Failed);
    }

    /// Records the end, once.
    #[inline]
    pub(super) fn end(&mut self, end: QueryEnd) {
        if self.entry.is_some() {
            self.end_at(end, now());
        }
    }

    /// The same for a query whose time was measured elsewhere.
    pub(super) fn end_after(&mut self, elapsed: Duration, rows: u64) {
        self.rows = rows;
        if let Some(finished) = self.start.checked_add(elapsed) {
            self.end_at(QueryEnd::Done, finished);
        }
    }

    #[inline]
    fn end_at(&mut self, end: QueryEnd, finished: Instant) {
        let Some(entry) = self.entry.take() else { return };
        let elapsed = finished.saturating_duration_since(self.start);
        let taken = nanos(elapsed);
        let totals = &self.stats.0.totals;
        let seconds = taken as f64 * 1e-9;
        entry.latency.record(seconds);
        totals.latency.record(seconds);
        if taken > entry.max_nanos.load(Relaxed) {
            entry.max_nanos.fetch_max(taken, Relaxed);
        }
        entry.used.store(nanos(finished.saturating_duration_since(self.stats.0.began)), Relaxed);
        if self.rows > 0 {
            entry.rows.fetch_add(self.rows, Relaxed);
            totals.rows.add(self.rows);
        }
        match end {
            QueryEnd::Done => {}
            QueryEnd::Failed => {
                entry.errors.fetch_add(1, Relaxed);
                totals.errors.increment();
            }
            QueryEnd::Cancelled => {
                entry.cancelled.fetch_add(1, Relaxed);
                totals.cancelled.increment();
            }
        }
        scope::note(self.stats.identity(), entry.fingerprint, self.rows, elapsed);
        if elapsed >= self.stats.0.config.slow {
            self.slow(&entry, elapsed, end);
        }
    }

    #[cold]
    fn slow(&self, entry: &Entry, elapsed: Duration, end: QueryEnd) {
        self.stats.note_slow(SlowQuery {
            fingerprint: entry.fingerprint,
            text: Arc::clone(&entry.text),
            elapsed,
            rows: self.rows,
            end,
            at: self.stats.0.began.elapsed(),
            route: scope::route(self.stats.identity()),
            plan: None,
        });
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(QueryEnd::Cancelled);
    }
}
