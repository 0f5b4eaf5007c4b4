//! What the sessions of a PostgreSQL are doing, sampled: average active sessions by what they wait for.

use crate::Error;
use crate::error::Doing;
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;

/// Statements told apart.
const MAX_STATEMENTS: usize = 256;

/// What a session was seen doing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Doings {
    /// `active`, `idle`, `idle in transaction`, …
    pub state: String,
    /// The class of what it waits for; `CPU` when it waits for nothing.
    pub wait_type: String,
    /// What it waits for.
    pub wait: String,
}

/// Samples of `pg_stat_activity`, added up. Take one a second, say, for a minute: the server's own sessions and this one are
/// left out. Values of statements are never read.
///
/// ```no_run
/// # async fn example(conn: &mut sqlx::PgConnection) -> Result<(), perf_dbopt::Error> {
/// use perf_dbopt::postgres::ActivitySamples;
///
/// let mut samples = ActivitySamples::default();
/// for _ in 0..60 {
///     samples.take(conn).await?;
///     perf_core::time::sleep(std::time::Duration::from_secs(1)).await;
/// }
/// println!("{:.1} sessions work on average", samples.mean("active"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ActivitySamples {
    /// How many samples were taken.
    pub samples: u64,
    /// Sessions seen, by what they did; divided by `samples`, average sessions. A list of pairs as data.
    #[cfg_attr(feature = "serde", serde(serialize_with = "pairs"))]
    pub seen: BTreeMap<Doings, u64>,
    /// Working sessions seen, by the server's number for their statement (`pg_stat_statements.queryid`), 0 where it has none.
    /// At most 256.
    pub statements: BTreeMap<i64, u64>,
    /// The longest transaction seen, in seconds.
    pub longest_transaction: f64,
}

#[cfg(feature = "serde")]
fn pairs<S: serde::Serializer>(seen: &BTreeMap<Doings, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(seen)
}

const SAMPLE: &str = "select coalesce(a.state, 'unknown'), coalesce(a.wait_event_type, 'CPU'), coalesce(a.wait_event, 'CPU'), \
    coalesce((to_jsonb(a) ->> 'query_id')::int8, 0), coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8 \
    from pg_stat_activity a where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() \
    and a.datname = current_database()";

impl ActivitySamples {
    /// Takes one sample.
    ///
    /// # Errors
    /// [`Error`] when the view cannot be read.
    pub async fn take(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let rows =
            sqlx::query(SAMPLE).persistent(false).fetch_all(conn).await.doing("sample the activity")?;
        self.samples += 1;
        for row in rows {
            let state: String = row.get(0);
            if state == "active" {
                let statement: i64 = row.get(3);
                let known = self.statements.contains_key(&statement);
                let key = if known || self.statements.len() < MAX_STATEMENTS { statement } else { 0 };
                *self.statements.entry(key).or_default() += 1;
            }
            self.longest_transaction = self.longest_transaction.max(row.get(4));
            *self.seen.entry(Doings { state, wait_type: row.get(1), wait: row.get(2) }).or_default() += 1;
        }
        Ok(())
    }

    /// How many sessions were in this state on average; 0 without samples.
    #[must_use]
    pub fn mean(&self, state: &str) -> f64 {
        let seen: u64 =
            self.seen.iter().filter(|(doings, _)| doings.state == state).map(|(_, seen)| seen).sum();
        seen as f64 / self.samples.max(1) as f64
    }

    /// What working sessions waited for, in average sessions, the most first; `CPU` for those that waited for nothing.
    #[must_use]
    pub fn waits(&self) -> Vec<(String, f64)> {
        let mut by_wait: BTreeMap<String, u64> = BTreeMap::new();
        for (doings, seen) in self.seen.iter().filter(|(doings, _)| doings.state == "active") {
            let name = if doings.wait_type == "CPU" {
                "CPU".to_owned()
            } else {
                format!("{}: {}", doings.wait_type, doings.wait)
            };
            *by_wait.entry(name).or_default() += seen;
        }
        let mut waits: Vec<_> = by_wait
            .into_iter()
            .map(|(name, seen)| (name, seen as f64 / self.samples.max(1) as f64))
            .collect();
        waits.sort_by(|a, b| b.1.total_cmp(&a.1));
        waits
    }
}
