use super::entry::Entry;
use super::event::{QueryEnd, QueryEvent, SlowQuery};
use super::scope;
use super::stats::{QueryStats, nanos};
use super::table::{Found, keep};
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
    /// Nothing when recording is switched off, or once the end was recorded.
    live: Option<Live>,
    rows: u64,
}

#[derive(Debug)]
struct Live {
    entry: Arc<Entry>,
    /// By the observer's clock.
    start: u64,
    /// The text's hash, under which this thread remembers the entry.
    hash: u64,
}

impl Recording {
    /// Of a query that is not recorded.
    pub(super) const NONE: Self = Self { live: None, rows: 0 };

    /// What is not recorded costs one look at a switch: no call, nothing built in memory.
    #[inline(always)]
    pub(super) fn start(stats: &QueryStats, sql: &str) -> Self {
        if stats.is_enabled() { Self::begin(stats, sql) } else { Self::NONE }
    }

    #[inline(never)]
    fn begin(stats: &QueryStats, sql: &str) -> Self {
        let Found { entry, hash, evicted } = stats.0.table.find(sql);
        if evicted > 0 {
            entry.core.totals.evicted.add(evicted as u64);
            entry.core.emit(&QueryEvent::Evicted { statements: evicted });
        }
        let start = entry.core.clock.now();
        Self { live: Some(Live { entry, start, hash }), rows: 0 }
    }

    /// Notes one row of a stream; the first also stops the time to the first row.
    #[inline]
    pub fn row(&mut self) {
        if self.rows == 0
            && let Some(Live { entry, start, .. }) = &self.live
        {
            entry.first_rows.fetch_add(1, Relaxed);
            entry.first_row_nanos.fetch_add(entry.core.clock.since(*start), Relaxed);
        }
        self.rows += 1;
    }

    /// Notes how many rows the statement changed. Rows it also returned are not counted twice.
    #[inline]
    pub fn changed(&mut self, rows: u64) {
        if self.live.as_ref().is_some_and(|live| live.entry.writes) {
            self.rows = self.rows.max(rows);
        }
    }

    /// The query gave its whole answer, with `rows` rows beside those noted before.
    #[inline(always)]
    pub fn done(mut self, rows: u64) {
        if let Some(live) = self.live.take() {
            live.done(self.rows + rows);
        }
    }

    /// The query failed. `code` is what the database calls the error (SQLSTATE); `None` when it never got there.
    pub fn failed(mut self, code: Option<&str>) {
        self.fail(code);
    }

    pub(super) fn fail(&mut self, code: Option<&str>) {
        let Some(live) = &self.live else { return };
        let mut errors = live.entry.core.errors.lock().unwrap_or_else(PoisonError::into_inner);
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
    #[inline(always)]
    pub(super) fn end(&mut self, end: QueryEnd) {
        if let Some(live) = self.live.take() {
            live.end_now(end, self.rows);
        }
    }

    /// The same for a query whose time was measured elsewhere.
    pub(super) fn end_after(&mut self, elapsed: Duration, rows: u64) {
        self.rows = rows;
        if let Some(live) = self.live.take() {
            live.end(QueryEnd::Done, nanos(elapsed), rows);
        }
    }
}

impl Live {
    #[inline(never)]
    fn done(self, rows: u64) {
        self.end_now(QueryEnd::Done, rows);
    }

    #[inline]
    fn end_now(self, end: QueryEnd, rows: u64) {
        let taken = self.entry.core.clock.since(self.start);
        self.end(end, taken, rows);
    }

    #[inline]
    fn end(self, end: QueryEnd, taken: u64, rows: u64) {
        let Self { entry, hash, .. } = self;
        let core = &entry.core;
        let totals = &core.totals;
        let seconds = taken as f64 * 1e-9;
        entry.latency.record(seconds);
        totals.latency.record(seconds);
        if taken > entry.max_nanos.load(Relaxed) {
            entry.max_nanos.fetch_max(taken, Relaxed);
        }
        if rows > 0 {
            entry.rows.add(rows);
            totals.rows.add(rows);
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
        let elapsed = Duration::from_nanos(taken);
        scope::note(core.identity(), entry.fingerprint, rows, elapsed);
        if elapsed >= core.config.slow {
            slow(&entry, elapsed, rows, end);
        }
        keep(hash, entry);
    }
}

#[cold]
fn slow(entry: &Entry, elapsed: Duration, rows: u64, end: QueryEnd) {
    entry.core.note_slow(SlowQuery {
        fingerprint: entry.fingerprint,
        text: Arc::clone(&entry.text),
        elapsed,
        rows,
        end,
        at: entry.core.began.elapsed(),
        route: scope::route(entry.core.identity()),
        plan: None,
    });
}

impl Drop for Recording {
    #[inline(always)]
    fn drop(&mut self) {
        self.end(QueryEnd::Cancelled);
    }
}
