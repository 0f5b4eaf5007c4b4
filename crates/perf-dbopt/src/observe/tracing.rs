use super::stats::QueryStats;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Observes queries through the events sqlx writes, without touching the host's code: macros, pools and libraries alike.
///
/// Made by [`QueryStats::tracing_layer`]. sqlx writes these events at level `DEBUG` (`WARN` when slow) for target `sqlx::query`, which
/// must be enabled; it then formats the statement each time. Errors, cancellation and the time to the first row are not in them, and the
/// time includes what the consumer of the rows took. Do not wrap the same executors with [`QueryStats::observe`] as well: each
/// query would count twice.
#[derive(Clone, Debug)]
pub struct SqlxLayer {
    stats: QueryStats,
}

impl QueryStats {
    /// A layer for `tracing-subscriber`'s registry that records what sqlx reports.
    #[must_use]
    pub fn tracing_layer(&self) -> SqlxLayer {
        SqlxLayer { stats: self.clone() }
    }
}

impl<S: Subscriber> Layer<S> for SqlxLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" || !self.stats.is_enabled() {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        // The full text is left out when the summary, its first words, is all there is.
        let sql = if seen.statement.trim().is_empty() { &seen.summary } else { &seen.statement };
        if !sql.is_empty() {
            self.stats.record(sql, seen.elapsed, seen.returned.max(seen.affected));
        }
    }
}

#[derive(Default)]
struct Seen {
    summary: String,
    statement: String,
    elapsed: Duration,
    returned: u64,
    affected: u64,
}

impl Visit for Seen {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.elapsed = Duration::try_from_secs_f64(value).unwrap_or_default();
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_returned" => self.returned = value,
            "rows_affected" => self.affected = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
