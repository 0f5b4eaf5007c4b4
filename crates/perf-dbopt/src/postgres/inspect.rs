//! What is wrong in a PostgreSQL database, from its catalogues: one query per kind, whatever the number of tables (B4, B7).

use crate::error::Doing;
use crate::{Apply, Error, Finding, FindingKind, Maintained, MaintenancePolicy, Severity};
use perf_core::time::now;
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// An unused index smaller than this is not worth a thought, as in PgHero.
const UNUSED_BYTES: i64 = 10 << 20;
/// Statistics younger than this say nothing about what is unused: month-end reports come once a month.
const UNUSED_DAYS: i32 = 30;

/// Each query yields object, message, severity (0 to 2) and action.
const CHECKS: [(FindingKind, &str); 10] = [
    (
        FindingKind::InvalidIndex,
        "select i.indexrelid::regclass::text, case when c.relname ~ '_cc(new|old)[0-9]*$' \
           then 'left by a REINDEX CONCURRENTLY that failed: every write pays for it, no read can use it' \
           else 'not valid: every write pays for it, no read can use it' end, 1, \
         'DROP INDEX CONCURRENTLY ' || i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indexrelid \
         where not i.indisvalid and c.relkind = 'i' \
         and not exists (select 1 from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)",
    ),
    (
        // Equal in table, method, keys, classes, collations, order, expressions, condition, included columns and NULL handling.
        FindingKind::DuplicateIndex,
        "with i as (select i.*, c.relam, row_number() over (partition by i.indrelid, c.relam, i.indkey::text, i.indnkeyatts, \
           i.indclass::text, i.indcollation::text, i.indoption::text, pg_get_expr(i.indexprs, i.indrelid), \
           pg_get_expr(i.indpred, i.indrelid), to_jsonb(i) ->> 'indnullsnotdistinct' \
           order by (i.indisprimary or i.indisreplident or i.indisclustered) desc, i.indisunique desc, i.indexrelid) as place, \
           exists (select 1 from pg_constraint o where o.conindid = i.indexrelid and o.contype in ('p', 'u', 'x')) as bound \
         from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indisvalid and c.relkind = 'i' and c.relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)) \
         select indexrelid::regclass::text, 'equal to another index on ' || indrelid::regclass, 1, \
         'DROP INDEX CONCURRENTLY ' || indexrelid::regclass from i \
         where place > 1 and not (indisunique or bound or indisprimary or indisreplident or indisclustered or indisexclusion)",
    ),
    (
        FindingKind::RedundantIndex,
        "select a.indexrelid::regclass::text, 'the beginning of ' || b.indexrelid::regclass, 0, \
         'DROP INDEX CONCURRENTLY ' || a.indexrelid::regclass \
         from pg_index a join pg_class ac on ac.oid = a.indexrelid \
         join pg_index b on b.indrelid = a.indrelid and b.indexrelid <> a.indexrelid and b.indisvalid and b.indnkeyatts > a.indnkeyatts \
         join pg_class bc on bc.oid = b.indexrelid and bc.relam = ac.relam \
         where ac.relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace) and ac.relkind = 'i' and a.indisvalid \
         and ac.relam = (select oid from pg_am where amname = 'btree') and a.indnatts = a.indnkeyatts \
         and a.indexprs is null and b.indexprs is null \
         and pg_get_expr(a.indpred, a.indrelid) is not distinct from pg_get_expr(b.indpred, b.indrelid) \
         and (a.indkey::int2[])[0:a.indnkeyatts - 1] = (b.indkey::int2[])[0:a.indnkeyatts - 1] \
         and (a.indclass::oid[])[0:a.indnkeyatts - 1] = (b.indclass::oid[])[0:a.indnkeyatts - 1] \
         and (a.indcollation::oid[])[0:a.indnkeyatts - 1] = (b.indcollation::oid[])[0:a.indnkeyatts - 1] \
         and (a.indoption::int2[])[0:a.indnkeyatts - 1] = (b.indoption::int2[])[0:a.indnkeyatts - 1] \
         and not (a.indisunique or a.indisprimary or a.indisreplident or a.indisclustered or a.indisexclusion) \
         and not ac.relispartition and bc.relpages <= 4 * greatest(ac.relpages, 1)",
    ),
    (
        FindingKind::UnusedIndex,
        "select s.indexrelid::regclass::text, 'not used since ' || coalesce(d.stats_reset, pg_postmaster_start_time())::date, 0, \
         'DROP INDEX CONCURRENTLY ' || s.indexrelid::regclass \
         from pg_stat_user_indexes s join pg_index i using (indexrelid) join pg_stat_database d on d.datname = current_database() \
         where s.idx_scan = 0 and i.indisvalid and pg_relation_size(s.indexrelid) >= {bytes} \
         and coalesce(d.stats_reset, pg_postmaster_start_time()) < now() - interval '{days} days' \
         and not (i.indisunique or i.indisprimary or i.indisreplident or i.indisexclusion) \
         and not exists (select 1 from pg_constraint c where c.contype = 'f' and c.conrelid = i.indrelid \
           and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)",
    ),
    (
        FindingKind::MissingForeignKeyIndex,
        "select c.conrelid::regclass::text, 'no index on (' || k.columns || '), which references ' || c.confrelid::regclass, \
         case when p.n_tup_del > 0 then 1 else 0 end, \
         'CREATE INDEX CONCURRENTLY ON ' || c.conrelid::regclass || ' (' || k.columns || ')' \
         from pg_constraint c left join pg_stat_user_tables p on p.relid = c.confrelid \
         cross join lateral (select string_agg(quote_ident(a.attname), ', ' order by u.place) as columns \
           from unnest(c.conkey) with ordinality u(att, place) join pg_attribute a on a.attrelid = c.conrelid and a.attnum = u.att) k \
         where c.contype = 'f' and not exists (select 1 from pg_index i where i.indrelid = c.conrelid and i.indisvalid \
           and i.indpred is null and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey \
           and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] <@ c.conkey)",
    ),
    (
        FindingKind::NeedsVacuum,
        "select s.relid::regclass::text, s.n_dead_tup || ' dead rows of ' || s.n_live_tup + s.n_dead_tup, 0, \
         'VACUUM (SKIP_LOCKED) ' || s.relid::regclass from pg_stat_user_tables s \
         where s.n_dead_tup > current_setting('autovacuum_vacuum_threshold')::float8 \
           + current_setting('autovacuum_vacuum_scale_factor')::float8 * s.n_live_tup \
         and not exists (select 1 from pg_stat_progress_vacuum v where v.relid = s.relid)",
    ),
    (
        FindingKind::NeedsAnalyze,
        "select s.relid::regclass::text, case when s.last_analyze is null and s.last_autoanalyze is null \
           then 'never analysed' else s.n_mod_since_analyze || ' changes since it was analysed' end, 0, \
         'ANALYZE (SKIP_LOCKED) ' || s.relid::regclass from pg_stat_user_tables s \
         where s.n_mod_since_analyze > current_setting('autovacuum_analyze_threshold')::float8 \
           + current_setting('autovacuum_analyze_scale_factor')::float8 * s.n_live_tup",
    ),
    (
        FindingKind::FreezeAge,
        "select c.oid::regclass::text, greatest(age(c.relfrozenxid), age(t.relfrozenxid)) || ' transactions old', \
         case when greatest(age(c.relfrozenxid), age(t.relfrozenxid)) > 1200000000 then 2 else 1 end, \
         'VACUUM (FREEZE) ' || c.oid::regclass from pg_class c left join pg_class t on t.oid = c.reltoastrelid \
         where c.relkind in ('r', 'm') and greatest(age(c.relfrozenxid), age(t.relfrozenxid)) \
           > 0.9 * current_setting('autovacuum_freeze_max_age')::float8",
    ),
    (
        // What is left of a sequence also ends where the type of the column it feeds does.
        FindingKind::SequenceEnd,
        "select format('%I.%I', s.schemaname, s.sequencename), round(100 * u.used) || ' % used', \
         case when u.used >= 0.9 then 2 else 1 end, null \
         from pg_sequences s \
         left join lateral (select a.atttypid from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid \
           where d.objid = format('%I.%I', s.schemaname, s.sequencename)::regclass and d.classid = 'pg_class'::regclass \
           and d.deptype in ('a', 'i') limit 1) o on true \
         cross join lateral (select case when s.increment_by > 0 \
           then s.last_value::numeric / least(s.max_value, case o.atttypid when 'int2'::regtype then 32767 when 'int4'::regtype \
             then 2147483647 else 9223372036854775807 end) \
           else s.last_value::numeric / s.min_value end as used) u \
         where s.last_value is not null and not s.cycle and u.used >= 0.75",
    ),
    (
        FindingKind::IdleInTransaction,
        "select 'session ' || pid, 'idle in a transaction for ' || extract(epoch from now() - state_change)::int || ' s', 1, null \
         from pg_stat_activity where state like 'idle in transaction%' and state_change < now() - interval '60 seconds'",
    ),
];

const MORE: [(FindingKind, &str); 2] = [
    (
        FindingKind::InactiveSlot,
        "select slot_name::text, 'nobody reads it, and it holds back the log', 1, null from pg_replication_slots where not active",
    ),
    (
        FindingKind::InvalidConstraint,
        "select conrelid::regclass || '.' || quote_ident(conname), 'never checked for the rows that were there', 0, \
         'ALTER TABLE ' || conrelid::regclass || ' VALIDATE CONSTRAINT ' || quote_ident(conname) \
         from pg_constraint where not convalidated and conrelid <> 0",
    ),
];

/// Everything worth knowing, the most severe first. Reads catalogues only, in twelve queries.
///
/// # Errors
/// [`Error`] when a catalogue cannot be read.
///
/// # Cancel safety
/// The database is only read.
pub async fn inspect(conn: &mut PgConnection) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (kind, sql) in CHECKS.iter().chain(&MORE) {
        let sql =
            sql.replace("{bytes}", &UNUSED_BYTES.to_string()).replace("{days}", &UNUSED_DAYS.to_string());
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *conn).await;
        for row in rows.doing("inspect the catalogues")? {
            findings.push(Finding {
                kind: *kind,
                severity: match row.get::<i32, _>(2) {
                    2 => Severity::Critical,
                    1 => Severity::Warning,
                    _ => Severity::Info,
                },
                object: row.get(0),
                message: row.get(1),
                action: row.get(3),
            });
        }
    }
    findings
        .sort_by(|a, b| b.severity.cmp(&a.severity).then(a.kind.cmp(&b.kind)).then(a.object.cmp(&b.object)));
    Ok(findings)
}

/// Does what the policy finds worth doing: VACUUM and ANALYZE, and rebuilding indexes where it says so.
///
/// Tables locked by others are skipped, each statement waits at most three seconds for a lock and runs at most as long as is
/// left of the budget, and nothing here rewrites a table. A statement that fails does not keep the others from being run.
///
/// # Errors
/// [`Error`] when the connection fails; what was done until then stays done, and harms nobody.
///
/// # Cancel safety
/// A dropped VACUUM or ANALYZE changes nothing; a dropped REINDEX may leave an invalid index, which
/// [`inspect`] finds.
pub async fn maintain(
    conn: &mut PgConnection,
    findings: &[Finding],
    policy: &MaintenancePolicy,
    consent: &Apply,
) -> Result<Maintained, Error> {
    let _ = consent;
    let begin = now();
    let mut maintained = Maintained::default();
    let mut actions = policy.plan(findings).into_iter();
    if let Some(window) = policy.window
        && !window.contains(minute(conn).await?)
    {
        maintained.outside_window = true;
        maintained.left = actions.collect();
        return Ok(maintained);
    }
    for action in actions.by_ref() {
        let left = policy.budget.saturating_sub(begin.elapsed());
        if left.is_zero() {
            maintained.left.push(action);
            break;
        }
        let limits =
            format!("set lock_timeout = '3s'; set statement_timeout = '{}ms'", left.as_millis().max(1));
        sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut *conn).await.doing("prepare the session")?;
        match sqlx::raw_sql(AssertSqlSafe(action.clone())).execute(&mut *conn).await {
            Ok(_) => maintained.done.push(action),
            // Refused by the server, which still listens.
            Err(sqlx::Error::Database(error)) => maintained.failed.push((action, error.message().to_owned())),
            Err(error) => return Err(error).doing("maintain a table"),
        }
    }
    maintained.left.extend(actions);
    let reset = "reset lock_timeout; reset statement_timeout";
    sqlx::raw_sql(reset).execute(&mut *conn).await.doing("restore the session")?;
    Ok(maintained)
}

/// The minute of the day, in UTC by the server's clock.
async fn minute(conn: &mut PgConnection) -> Result<u16, Error> {
    let sql = "select (extract(hour from t.utc) * 60 + extract(minute from t.utc))::int4 \
               from (select clock_timestamp() at time zone 'utc' as utc) t";
    let minute: i32 =
        sqlx::query_scalar(sql).persistent(false).fetch_one(conn).await.doing("read the clock")?;
    Ok(u16::try_from(minute).unwrap_or_default())
}
