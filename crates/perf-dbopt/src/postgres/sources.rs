//! What a PostgreSQL server itself knows of the statements it ran: `pg_stat_statements`, read and compared, never reset (B6).

use super::apply::Baseline;
use crate::advise::WorkloadQuery;
use crate::error::Doing;
use crate::{Dialect, Error, Fingerprint, Workload, fingerprint, normalize};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Something the server could tell and does not, with the one line that changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Capability {
    /// `pg_stat_statements` is not created in this database.
    StatementsMissing,
    /// It is created but the server did not load it at its start.
    StatementsNotPreloaded,
    /// This role does not see the texts of others.
    TextsHidden,
    /// `pg_stat_statements.track` is `none`.
    TrackNone,
    /// `compute_query_id` is `off`.
    QueryIdOff,
    /// `track_io_timing` is `off`: time spent reading is not known.
    IoTimingOff,
    /// HypoPG is not created in this database: advice is not possible.
    HypoPgMissing,
}

impl Capability {
    /// What to do about it.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        match self {
            Self::StatementsMissing => "CREATE EXTENSION pg_stat_statements",
            Self::StatementsNotPreloaded => "add pg_stat_statements to shared_preload_libraries and restart",
            Self::TextsHidden => "GRANT pg_read_all_stats TO this role",
            Self::TrackNone => "ALTER SYSTEM SET pg_stat_statements.track = 'top'",
            Self::QueryIdOff => "ALTER SYSTEM SET compute_query_id = 'auto'",
            Self::IoTimingOff => "ALTER SYSTEM SET track_io_timing = on",
            Self::HypoPgMissing => "CREATE EXTENSION hypopg",
        }
    }

    /// Everything this server and role lack.
    ///
    /// # Errors
    /// [`Error`] when the catalogues cannot be read.
    pub async fn missing(conn: &mut PgConnection) -> Result<Vec<Self>, Error> {
        let sql = "select exists (select 1 from pg_extension where extname = 'pg_stat_statements'), \
                   current_setting('pg_stat_statements.track', true), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), \
                   current_setting('compute_query_id', true), current_setting('track_io_timing', true), \
                   exists (select 1 from pg_extension where extname = 'hypopg')";
        let row =
            sqlx::query(sql).persistent(false).fetch_one(&mut *conn).await.doing("read the settings")?;
        let setting = |place| row.get::<Option<String>, _>(place);
        let (created, track) = (row.get::<bool, _>(0), setting(1));
        let mut missing = Vec::new();
        let mut note = |lacks: bool, what| {
            if lacks {
                missing.push(what);
            }
        };
        note(!created, Self::StatementsMissing);
        note(created && track.is_none() && !loaded(conn).await?, Self::StatementsNotPreloaded);
        note(!row.get::<bool, _>(2), Self::TextsHidden);
        note(track.as_deref() == Some("none"), Self::TrackNone);
        note(setting(3).as_deref() == Some("off"), Self::QueryIdOff);
        note(setting(4).as_deref() == Some("off"), Self::IoTimingOff);
        note(!row.get::<bool, _>(5), Self::HypoPgMissing);
        Ok(missing)
    }
}

/// Whether the library was loaded at the server's start; asking its view is the only sure way.
async fn loaded(conn: &mut PgConnection) -> Result<bool, Error> {
    let Some(home) = home(conn).await? else { return Ok(false) };
    let sql = format!("select 1 from {home}.pg_stat_statements limit 1");
    match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(conn).await {
        Ok(_) => Ok(true),
        Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("55000")) => {
            Ok(false)
        }
        Err(error) => Err(error).doing("read pg_stat_statements"),
    }
}

async fn home(conn: &mut PgConnection) -> Result<Option<String>, Error> {
    let sql = "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'";
    let schema: Option<String> = sqlx::query_scalar(sql)
        .persistent(false)
        .fetch_optional(conn)
        .await
        .doing("look for pg_stat_statements")?;
    Ok(schema.map(|schema| Dialect::Postgres.quote(&schema)))
}

type RowKey = (i64, i64, i64, bool);

#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Counters {
    fingerprint: Fingerprint,
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::text::shared", deserialize_with = "crate::text::read_shared")
    )]
    query: Arc<str>,
    calls: i64,
    total_ms: f64,
    squares: f64,
    rows: i64,
    blocks: i64,
}

/// What `pg_stat_statements` held at one moment.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StatementsSnapshot {
    /// A list of pairs as data: not every format has keys that are no text.
    #[cfg_attr(feature = "serde", serde(with = "pairs"))]
    rows: HashMap<RowKey, Counters>,
    reset: Option<String>,
    evictions: Option<i64>,
    /// Statements whose text this role may not see.
    pub hidden: usize,
}

#[cfg(feature = "serde")]
mod pairs {
    use super::{Counters, HashMap, RowKey};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        rows: &HashMap<RowKey, Counters>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<RowKey, Counters>, D::Error> {
        Ok(Vec::<(RowKey, Counters)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// What one statement did between two snapshots.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatementDelta {
    /// The text as the server keeps it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub query: Arc<str>,
    /// What was measured.
    pub measured: Baseline,
    /// Rows returned and changed.
    pub rows: u64,
}

/// What happened between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatementsDelta {
    /// By fingerprint: the server's own numbers change with its version, with DDL and between replicas.
    pub statements: BTreeMap<Fingerprint, StatementDelta>,
    /// The statistics were reset in between: these are the numbers since then.
    pub restarted: bool,
    /// Entries were evicted in between, so the numbers are incomplete: raise `pg_stat_statements.max`.
    pub incomplete: bool,
}

impl StatementsSnapshot {
    /// Reads the view, whatever its version: the columns are looked up.
    ///
    /// # Errors
    /// [`Error`] when it is not there or cannot be read; [`Capability::missing`] says why.
    pub async fn take(conn: &mut PgConnection) -> Result<Self, Error> {
        let home = home(conn).await?.ok_or_else(|| {
            Error::Unexpected(format!(
                "pg_stat_statements is missing: {}",
                Capability::StatementsMissing.fix()
            ))
        })?;
        let columns = columns(conn).await?;
        let has = |name: &str| columns.contains(name);
        let time = |what: &str| {
            if has("total_exec_time") { format!("{what}_exec_time") } else { format!("{what}_time") }
        };
        let level = if has("toplevel") { "toplevel" } else { "true" };
        let sql = format!(
            "select userid::int8, dbid::int8, coalesce(queryid, 0), {level}, query, calls, {}, {}, {}, rows, \
             shared_blks_hit + shared_blks_read from {home}.pg_stat_statements where calls > 0 \
             and dbid = (select oid from pg_database where datname = current_database())",
            time("total"),
            time("mean"),
            time("stddev")
        );
        let mut snapshot = Self::default();
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *conn).await;
        for row in rows.doing("read pg_stat_statements")? {
            snapshot.add(&row);
        }
        snapshot.information(conn, &home).await?;
        Ok(snapshot)
    }

    fn add(&mut self, row: &sqlx::postgres::PgRow) {
        let query: Option<String> = row.get(4);
        let Some(query) = query.filter(|query| query != "<insufficient privilege>") else {
            self.hidden += 1;
            return;
        };
        let (calls, mean, deviation): (i64, f64, f64) = (row.get(5), row.get(7), row.get(8));
        let counters = Counters {
            fingerprint: fingerprint(&query, Dialect::Postgres),
            query: query.into(),
            calls,
            total_ms: row.get(6),
            squares: calls as f64 * (deviation * deviation + mean * mean),
            rows: row.get(9),
            blocks: row.get(10),
        };
        self.rows.insert((row.get(0), row.get(1), row.get(2), row.get(3)), counters);
    }

    /// When the statistics were reset and how often entries were evicted, from version 1.9 on.
    async fn information(&mut self, conn: &mut PgConnection, home: &str) -> Result<(), Error> {
        let there = "select count(*) from pg_class where relname = 'pg_stat_statements_info'";
        let there: i64 = sqlx::query_scalar(there)
            .persistent(false)
            .fetch_one(&mut *conn)
            .await
            .doing("look for pg_stat_statements_info")?;
        if there > 0 {
            let sql = format!("select dealloc, stats_reset::text from {home}.pg_stat_statements_info");
            let row = sqlx::query(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_one(conn)
                .await
                .doing("read pg_stat_statements_info")?;
            self.evictions = Some(row.get(0));
            self.reset = row.get(1);
        }
        Ok(())
    }

    /// What happened since `earlier`. A number that went down, or a later reset, reads as a restart: then everything in the
    /// present snapshot is new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> StatementsDelta {
        let reset = self.reset != earlier.reset;
        let mut delta = StatementsDelta {
            restarted: reset,
            incomplete: self.evictions > earlier.evictions,
            ..StatementsDelta::default()
        };
        for (key, now) in &self.rows {
            let then = earlier.rows.get(key).filter(|then| !reset && then.calls <= now.calls);
            delta.restarted |= then.is_none() && earlier.rows.contains_key(key);
            add(&mut delta.statements, now, then);
        }
        delta
    }

    /// Everything since the last reset.
    #[must_use]
    pub fn all(&self) -> StatementsDelta {
        let mut delta = StatementsDelta::default();
        for now in self.rows.values() {
            add(&mut delta.statements, now, None);
        }
        delta
    }
}

fn add(statements: &mut BTreeMap<Fingerprint, StatementDelta>, now: &Counters, then: Option<&Counters>) {
    let calls = now.calls - then.map_or(0, |then| then.calls);
    if calls <= 0 {
        return;
    }
    let n = calls as f64;
    let mean_ms = (now.total_ms - then.map_or(0.0, |then| then.total_ms)) / n;
    let squares = (now.squares - then.map_or(0.0, |then| then.squares)) / n;
    let measured = Baseline {
        calls: calls.cast_unsigned(),
        mean_ms,
        variance: (squares - mean_ms * mean_ms).max(0.0),
        blocks: (now.blocks - then.map_or(0, |then| then.blocks)) as f64 / n,
    };
    let rows = u64::try_from(now.rows - then.map_or(0, |then| then.rows)).unwrap_or_default();
    let entry = statements.entry(now.fingerprint).or_insert_with(|| StatementDelta {
        query: Arc::clone(&now.query),
        measured: Baseline::default(),
        rows: 0,
    });
    entry.measured = entry.measured.merge(measured);
    entry.rows += rows;
}

async fn columns(conn: &mut PgConnection) -> Result<BTreeSet<String>, Error> {
    let sql = "select a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid \
               where c.relname = 'pg_stat_statements' and c.relkind = 'v' and a.attnum > 0";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .persistent(false)
        .fetch_all(conn)
        .await
        .doing("look at pg_stat_statements")?;
    Ok(names.into_iter().collect())
}

impl StatementsDelta {
    /// What was measured, by statement, as [`judge`](super::judge) compares it.
    #[must_use]
    pub fn baselines(&self) -> BTreeMap<Fingerprint, Baseline> {
        self.statements.iter().map(|(print, delta)| (*print, delta.measured)).collect()
    }

    /// The statements as input for the advisor.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let mut workload = Workload::new(Dialect::Postgres);
        for (print, delta) in &self.statements {
            workload.add(WorkloadQuery {
                fingerprint: *print,
                text: normalize(&delta.query, Dialect::Postgres).into(),
                sql: Arc::clone(&delta.query),
                calls: delta.measured.calls,
                total: Duration::try_from_secs_f64(
                    delta.measured.mean_ms * delta.measured.calls as f64 / 1e3,
                )
                .unwrap_or_default(),
                rows: delta.rows,
            });
        }
        workload
    }
}
