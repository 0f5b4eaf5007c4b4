use super::stats::Core;
use crate::Fingerprint;
use perf_core::{Counter, Histogram, HistogramSnapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Times for which every histogram of the observer has room from the start, in seconds, so that recording one of them
/// never allocates: from what no query falls below to half a minute, 29 powers of two.
pub(super) const RESERVED: std::ops::Range<f64> = 65e-9..30.0;

/// The numbers of one statement, written without a lock.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) core: Arc<Core>,
    pub(super) fingerprint: Fingerprint,
    pub(super) text: Arc<str>,
    /// The statement as it was first sent. It may hold values, so it never leaves the process.
    pub(super) example: Arc<str>,
    /// Whether it changes rows. Drivers report a number of changed rows for reads as well: the rows they returned, or
    /// what the statement before changed.
    pub(super) writes: bool,
    pub(super) latency: Histogram,
    pub(super) rows: Counter,
    pub(super) first_rows: AtomicU64,
    pub(super) first_row_nanos: AtomicU64,
    pub(super) max_nanos: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) cancelled: AtomicU64,
    /// When it was last looked up in the table, by the number of the look-up; 0 when never.
    pub(super) used: AtomicU64,
    /// When a plan was last asked for, in nanoseconds since the observer began; 0 when never.
    pub(super) explained: AtomicU64,
    /// When it was last looked at whether it is slow as a rule, likewise.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(super) looked: AtomicU64,
    /// Set when the entry left the table: whoever still finds it must look again.
    pub(super) evicted: AtomicBool,
}

impl Entry {
    pub(super) fn new(core: Arc<Core>, fingerprint: Fingerprint, text: String, example: &str) -> Self {
        Self {
            core,
            fingerprint,
            writes: crate::sql::writes(&text),
            text: text.into(),
            example: example.into(),
            latency: Histogram::new().reserve(RESERVED),
            rows: Counter::new(),
            first_rows: AtomicU64::new(0),
            first_row_nanos: AtomicU64::new(0),
            max_nanos: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            used: AtomicU64::new(0),
            explained: AtomicU64::new(0),
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            looked: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
        }
    }

    pub(super) fn stat(&self) -> QueryStat {
        QueryStat {
            fingerprint: self.fingerprint,
            text: Arc::clone(&self.text),
            example: Arc::clone(&self.example),
            latency: self.latency.snapshot(),
            rows: self.rows.get(),
            first_rows: self.first_rows.load(Relaxed),
            first_row_total: Duration::from_nanos(self.first_row_nanos.load(Relaxed)),
            max: Duration::from_nanos(self.max_nanos.load(Relaxed)),
            errors: self.errors.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
        }
    }
}

/// What is known of one statement: a copy, taken at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueryStat {
    /// The statement's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its normal form, which holds no value.
    pub text: Arc<str>,
    pub(crate) example: Arc<str>,
    /// How long its calls took, in seconds: those that succeeded, failed and were cancelled alike.
    pub latency: HistogramSnapshot,
    /// Rows returned and rows changed, in total.
    pub rows: u64,
    /// How many calls returned at least one row from a stream.
    pub first_rows: u64,
    /// The time until that first row, summed over those calls.
    pub first_row_total: Duration,
    /// The longest call.
    pub max: Duration,
    /// Calls that ended in an error.
    pub errors: u64,
    /// Calls whose future or stream was dropped before its end.
    pub cancelled: u64,
}

impl QueryStat {
    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.latency.count()
    }

    /// The time of all its calls together.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::try_from_secs_f64(self.latency.sum()).unwrap_or(Duration::ZERO)
    }

    /// The mean time of a call; zero without calls.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.latency.mean().and_then(|mean| Duration::try_from_secs_f64(mean).ok()).unwrap_or_default()
    }

    /// The time below which the share `q` of the calls stayed, within 1.083 %.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        Duration::try_from_secs_f64(self.latency.quantile(q)?.value).ok()
    }

    /// What was added since `earlier`, a copy of the same statement's numbers. The longest call is that of all time.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let Self {
            fingerprint,
            text,
            example,
            latency,
            rows,
            first_rows,
            first_row_total,
            max,
            errors,
            cancelled,
        } = self;
        Self {
            fingerprint: *fingerprint,
            text: Arc::clone(text),
            example: Arc::clone(example),
            latency: latency.since(&earlier.latency),
            rows: rows.saturating_sub(earlier.rows),
            first_rows: first_rows.saturating_sub(earlier.first_rows),
            first_row_total: first_row_total.saturating_sub(earlier.first_row_total),
            max: *max,
            errors: errors.saturating_sub(earlier.errors),
            cancelled: cancelled.saturating_sub(earlier.cancelled),
        }
    }
}
