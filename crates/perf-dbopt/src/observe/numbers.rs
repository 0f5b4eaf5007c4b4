use super::entry::RESERVED;
use super::stats::QueryStats;
use perf_core::{Component, ComponentId, Counter, Desc, Histogram, Sink, Unit};

/// Everything the observer exports, in the order it is collected.
pub const SERIES: [Desc; 8] = [DURATION, ROWS, ERRORS, CANCELLED, SLOW, LOOPS, STATEMENTS, EVICTED];

const DURATION: Desc = Desc::histogram(
    "perf_dbopt_query_duration_seconds",
    "Time queries took, from sending to the last row",
    Unit::Seconds,
);
const ROWS: Desc = Desc::counter("perf_dbopt_rows_total", "Rows queries returned and changed", Unit::Count);
const ERRORS: Desc =
    Desc::counter("perf_dbopt_query_errors_total", "Queries that ended in an error", Unit::Count);
const CANCELLED: Desc =
    Desc::counter("perf_dbopt_queries_cancelled_total", "Queries dropped before their end", Unit::Count);
const SLOW: Desc =
    Desc::counter("perf_dbopt_slow_queries_total", "Queries that took at least the slow limit", Unit::Count);
const LOOPS: Desc = Desc::counter(
    "perf_dbopt_repetitions_total",
    "Requests that repeated a statement where one query would do",
    Unit::Count,
);
const STATEMENTS: Desc =
    Desc::gauge("perf_dbopt_statements", "Statements kept apart at present", Unit::Count);
const EVICTED: Desc = Desc::counter(
    "perf_dbopt_statements_evicted_total",
    "Statements that left the table to make room",
    Unit::Count,
);

/// The totals behind the series.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) latency: Histogram,
    pub(super) rows: Counter,
    pub(super) errors: Counter,
    pub(super) cancelled: Counter,
    pub(super) slow: Counter,
    pub(super) loops: Counter,
    pub(super) evicted: Counter,
}

impl Totals {
    pub(super) fn new() -> Self {
        Self {
            latency: Histogram::new().reserve(RESERVED),
            rows: Counter::new(),
            errors: Counter::new(),
            cancelled: Counter::new(),
            slow: Counter::new(),
            loops: Counter::new(),
            evicted: Counter::new(),
        }
    }
}

/// The observer's totals at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ObserverStats {
    /// Queries recorded, whatever their end.
    pub queries: u64,
    /// The time they took, in seconds.
    pub seconds: f64,
    /// Rows they returned and changed.
    pub rows: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Those dropped before their end.
    pub cancelled: u64,
    /// Those at or above the slow limit.
    pub slow: u64,
    /// Requests that repeated a statement.
    pub repetitions: u64,
    /// Statements that left the table.
    pub evicted: u64,
}

impl ObserverStats {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let Self { queries, seconds, rows, errors, cancelled, slow, repetitions, evicted } = *self;
        Self {
            queries: queries.saturating_sub(earlier.queries),
            seconds: (seconds - earlier.seconds).max(0.0),
            rows: rows.saturating_sub(earlier.rows),
            errors: errors.saturating_sub(earlier.errors),
            cancelled: cancelled.saturating_sub(earlier.cancelled),
            slow: slow.saturating_sub(earlier.slow),
            repetitions: repetitions.saturating_sub(earlier.repetitions),
            evicted: evicted.saturating_sub(earlier.evicted),
        }
    }
}

impl QueryStats {
    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> ObserverStats {
        let totals = &self.0.core.totals;
        let latency = totals.latency.snapshot();
        ObserverStats {
            queries: latency.count(),
            seconds: latency.sum(),
            rows: totals.rows.get(),
            errors: totals.errors.get(),
            cancelled: totals.cancelled.get(),
            slow: totals.slow.get(),
            repetitions: totals.loops.get(),
            evicted: totals.evicted.get(),
        }
    }
}

impl Component for QueryStats {
    fn id(&self) -> ComponentId {
        ComponentId::new("database", self.0.core.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let totals = &self.0.core.totals;
        sink.histogram(&DURATION, &[], &totals.latency);
        sink.counter(&ROWS, &[], totals.rows.get());
        sink.counter(&ERRORS, &[], totals.errors.get());
        sink.counter(&CANCELLED, &[], totals.cancelled.get());
        sink.counter(&SLOW, &[], totals.slow.get());
        sink.counter(&LOOPS, &[], totals.loops.get());
        sink.gauge(&STATEMENTS, &[], self.0.table.len() as f64);
        sink.counter(&EVICTED, &[], totals.evicted.get());
    }
}
