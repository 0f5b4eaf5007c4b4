//! Bloat, growth and settings of a PostgreSQL: what takes more figures than one catalogue query yields (B7, B8).

use super::catalog;
use crate::error::Doing;
use crate::{Dialect, Error, Finding, FindingKind, Severity};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, HashMap};

/// Below this, bloat is not worth a thought.
const BLOAT_BYTES: f64 = 10e6;
/// From this share on it is worth a rebuild.
const BLOAT_SHARE: f64 = 0.4;

/// The bytes and mean row of each table, as ioguix' estimate takes them: rows times their width against the pages there are.
const TABLES: &str = "select n.nspname::text, c.relname::text, (c.relpages::float8 * current_setting('block_size')::float8)::float8, \
    c.reltuples::float8, (24 + case when max(s.null_frac) > 0 then (7 + count(*)) / 8 else 0 end \
      + sum((1 - s.null_frac) * s.avg_width))::float8, \
    coalesce((select option_value::float8 from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 100)::float8, \
    bool_or(s.avg_width is null), count(*)::int8 = max(c.relnatts)::int8 \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and not s.inherited \
    where c.relkind = 'r' and c.reltuples > 0 and n.nspname not in ('pg_catalog', 'information_schema') \
    group by n.nspname, c.relname, c.relpages, c.reltuples, c.reloptions";

const INDEXES: &str = "select n.nspname::text, x.relname::text, t.relname::text, pg_relation_size(x.oid)::float8 \
    from pg_index i join pg_class x on x.oid = i.indexrelid join pg_class t on t.oid = i.indrelid \
    join pg_namespace n on n.oid = t.relnamespace join pg_am am on am.oid = x.relam \
    where am.amname = 'btree' and x.relkind = 'i' and i.indisvalid and i.indpred is null and i.indexprs is null and t.reltuples > 0 \
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%'";

/// How much of tables and B-tree indexes is empty, estimated from statistics: as good as the last ANALYZE. Tables at least
/// 10 MB larger than their rows need, by 40 % or more, are named; likewise indexes.
///
/// # Errors
/// [`Error`] when the catalogues cannot be read.
///
/// # Cancel safety
/// The database is only read.
pub async fn bloat(conn: &mut PgConnection) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for row in
        sqlx::query(TABLES).persistent(false).fetch_all(&mut *conn).await.doing("estimate the bloat")?
    {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let (bytes, rows, width, fill): (f64, f64, f64, f64) =
            (row.get(2), row.get(3), row.get(4), row.get(5));
        // A row is aligned to 8 bytes and has a line pointer of 4; a page has a header of 24.
        let row_bytes = (width / 8.0).ceil() * 8.0 + 4.0;
        let needed = (rows * row_bytes / (fill / 100.0) / (8192.0 - 24.0)).ceil() * 8192.0;
        let known: bool = row.get(7);
        let object = format!("{}.{}", Dialect::Postgres.quote(&schema), Dialect::Postgres.quote(&name));
        let doubt = if known { "" } else { ", statistics of some columns are missing" };
        // VACUUM FULL locks everybody out, so it is never proposed.
        findings.extend(wasted(FindingKind::TableBloat, object, bytes, needed, doubt, None));
    }
    let catalog = catalog::read(conn).await?;
    let mut defs = HashMap::new();
    for (place, table) in catalog.schema.tables().iter().enumerate() {
        for index in &table.indexes {
            defs.insert((table.schema.clone().unwrap_or_default(), index.name.clone()), (place, &index.def));
        }
    }
    for row in sqlx::query(INDEXES).persistent(false).fetch_all(conn).await.doing("estimate the bloat")? {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let Some((place, def)) = defs.get(&(schema.clone(), name.clone())) else { continue };
        let object = format!("{}.{}", Dialect::Postgres.quote(&schema), Dialect::Postgres.quote(&name));
        let action = format!("REINDEX INDEX CONCURRENTLY {object}");
        let needed = catalog.bytes(def, *place);
        findings.extend(wasted(FindingKind::IndexBloat, object, row.get(3), needed, "", Some(action)));
    }
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
    Ok(findings)
}

fn wasted(
    kind: FindingKind,
    object: String,
    bytes: f64,
    needed: f64,
    doubt: &str,
    action: Option<String>,
) -> Option<Finding> {
    let waste = bytes - needed;
    (waste >= BLOAT_BYTES && waste >= BLOAT_SHARE * bytes).then(|| Finding {
        kind,
        severity: if waste >= 10.0 * BLOAT_BYTES { Severity::Warning } else { Severity::Info },
        object,
        message: format!("about {:.0} % of {:.0} MB is empty{doubt}", 100.0 * waste / bytes, bytes / 1e6),
        action,
    })
}

/// How large each table is at one moment, its indexes and TOAST included.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TableSizes {
    /// Bytes by `schema.table`.
    pub bytes: BTreeMap<String, u64>,
    /// When, in seconds since 1970 by the server's clock.
    pub at: f64,
}

/// How a table grew between two moments.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Growth {
    /// `schema.table`.
    pub table: String,
    /// Its bytes now.
    pub bytes: u64,
    /// Bytes it gained a day; negative when it shrank.
    pub per_day: f64,
}

impl TableSizes {
    /// Reads the sizes.
    ///
    /// # Errors
    /// [`Error`] when the catalogues cannot be read.
    pub async fn take(conn: &mut PgConnection) -> Result<Self, Error> {
        let sql = "select format('%I.%I', n.nspname, c.relname), pg_total_relation_size(c.oid)::int8, \
                   extract(epoch from clock_timestamp())::float8 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema')";
        let rows = sqlx::query(sql).persistent(false).fetch_all(conn).await.doing("read the sizes")?;
        let mut sizes = Self::default();
        for row in rows {
            sizes.at = row.get(2);
            // A table that was dropped meanwhile has no size.
            if let Some(bytes) = row.get::<Option<i64>, _>(1) {
                sizes.bytes.insert(row.get(0), bytes.cast_unsigned());
            }
        }
        Ok(sizes)
    }

    /// The growth since `earlier`, the fastest first. Tables that were not there then are left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<Growth> {
        let days = ((self.at - earlier.at) / 86_400.0).max(f64::MIN_POSITIVE);
        let mut all: Vec<Growth> = self
            .bytes
            .iter()
            .filter_map(|(table, bytes)| {
                let before = *earlier.bytes.get(table)?;
                let per_day = (*bytes as f64 - before as f64) / days;
                Some(Growth { table: table.clone(), bytes: *bytes, per_day })
            })
            .collect();
        all.sort_by(|a, b| b.per_day.total_cmp(&a.per_day).then_with(|| a.table.cmp(&b.table)));
        all
    }
}

/// The machine a server runs on, which it does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Host {
    /// Bytes of memory.
    pub memory: u64,
    /// Processor cores.
    pub cores: u32,
    /// Whether the data lies on a disk without moving parts.
    pub ssd: bool,
}

/// Settings far from what pgtune's rules of thumb say for this machine. Starting points, not truths: the evidence of a workload
/// outweighs them, so each is at most a warning.
///
/// # Errors
/// [`Error`] when the settings cannot be read.
pub async fn advise_settings(conn: &mut PgConnection, host: &Host) -> Result<Vec<Finding>, Error> {
    let sql = "select name::text, setting::text, coalesce(unit, '')::text from pg_settings where name in ('shared_buffers', \
               'effective_cache_size', 'work_mem', 'maintenance_work_mem', 'random_page_cost', 'max_connections', \
               'checkpoint_completion_target', 'autovacuum', 'track_io_timing', 'max_parallel_workers')";
    let rows = sqlx::query(sql).persistent(false).fetch_all(conn).await.doing("read the settings")?;
    let settings: BTreeMap<String, (String, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    Ok(judge_settings(&settings, host))
}

fn judge_settings(settings: &BTreeMap<String, (String, String)>, host: &Host) -> Vec<Finding> {
    let number = |name: &str| {
        let (value, unit) = settings.get(name)?;
        let scale = match unit.as_str() {
            "8kB" => 8192.0,
            "kB" => 1024.0,
            "MB" => 1_048_576.0,
            _ => 1.0,
        };
        Some(value.parse::<f64>().ok()? * scale)
    };
    let memory = host.memory as f64;
    let mut findings = Vec::new();
    let mut advise = |name: &str, message: String, to: String| {
        findings.push(Finding {
            kind: FindingKind::Setting,
            severity: Severity::Info,
            object: name.to_owned(),
            message,
            action: Some(format!("ALTER SYSTEM SET {name} = {to}")),
        });
    };
    let mb = |bytes: f64| format!("'{:.0}MB'", bytes / 1_048_576.0);
    if let Some(buffers) = number("shared_buffers")
        && (buffers < memory / 8.0 || buffers > memory / 2.0)
    {
        let message = format!("{:.0} MB of {:.0} MB memory; a quarter is usual", buffers / 1e6, memory / 1e6);
        advise("shared_buffers", message, mb(memory / 4.0));
    }
    if let Some(cache) = number("effective_cache_size")
        && (cache < memory / 2.0 || cache > memory)
    {
        let message = "the planner takes indexes for dearer or cheaper than they are".to_owned();
        advise("effective_cache_size", message, mb(memory * 0.75));
    }
    if let (Some(work), Some(connections)) = (number("work_mem"), number("max_connections")) {
        let buffers = number("shared_buffers").unwrap_or(memory / 4.0);
        let fair =
            ((memory - buffers) / ((connections + f64::from(host.cores)) * 3.0)).max(4.0 * 1_048_576.0);
        if work > fair * 4.0 {
            let message =
                format!("{:.0} MB times {connections:.0} connections do not fit into memory", work / 1e6);
            advise("work_mem", message, mb(fair));
        }
    }
    if host.ssd && number("random_page_cost").is_some_and(|cost| cost >= 4.0) {
        advise(
            "random_page_cost",
            "right for disks that turn; on others it hides indexes".to_owned(),
            "1.1".to_owned(),
        );
    }
    if settings.get("autovacuum").is_some_and(|(value, _)| value == "off") {
        advise("autovacuum", "dead rows and transaction numbers pile up".to_owned(), "on".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_settings_far_from_the_machine_are_named() {
        let host = Host { memory: 16 << 30, cores: 8, ssd: true };
        let set = |values: &[(&str, &str, &str)]| {
            values
                .iter()
                .map(|(name, value, unit)| ((*name).to_owned(), ((*value).to_owned(), (*unit).to_owned())))
                .collect::<BTreeMap<_, _>>()
        };
        let fresh = set(&[
            ("shared_buffers", "16384", "8kB"),
            ("effective_cache_size", "524288", "8kB"),
            ("work_mem", "1048576", "kB"),
            ("max_connections", "100", ""),
            ("random_page_cost", "4", ""),
            ("autovacuum", "off", ""),
        ]);
        let names: Vec<String> = judge_settings(&fresh, &host).into_iter().map(|f| f.object).collect();
        assert_eq!(
            names,
            ["shared_buffers", "effective_cache_size", "work_mem", "random_page_cost", "autovacuum"]
        );
        let tuned = set(&[
            ("shared_buffers", "524288", "8kB"),
            ("effective_cache_size", "1572864", "8kB"),
            ("work_mem", "16384", "kB"),
            ("max_connections", "100", ""),
            ("random_page_cost", "1.1", ""),
            ("autovacuum", "on", ""),
        ]);
        assert_eq!(judge_settings(&tuned, &host), []);
    }

    #[test]
    fn growth_is_by_the_day_and_shrinking_counts() {
        let sizes = |at: f64, bytes: &[(&str, u64)]| TableSizes {
            at,
            bytes: bytes.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect(),
        };
        let before = sizes(0.0, &[("a", 100), ("b", 100)]);
        let after = sizes(43_200.0, &[("a", 150), ("b", 50), ("new", 7)]);
        let growth: Vec<_> = after.since(&before).into_iter().map(|g| (g.table, g.per_day)).collect();
        assert_eq!(growth, [("a".to_owned(), 100.0), ("b".to_owned(), -100.0)]);
    }
}
