//! The questions an inspection asks, one for each kind of finding.

use crate::FindingKind;

/// Each query yields object, message, severity (0 to 2) and action.
pub(super) const CHECKS: [(FindingKind, &str); 14] = [
    (
        FindingKind::InvalidIndex,
        "select i.indexrelid::regclass::text, case when c.relname ~ '_cc(new|old)[0-9]*$' \
           then 'left by a REINDEX CONCURRENTLY that failed: every write pays for it, no read can use it' \
           else 'not valid: every write pays for it, no read can use it' end, 1, \
         'DROP INDEX CONCURRENTLY ' || i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indexrelid \
         where not i.indisvalid and c.relkind = 'i' and c.relpersistence <> 't' \
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
        // One that is more than four times as large costs scans of the narrow one: then it is named, and nothing is proposed.
        "select a.indexrelid::regclass::text, 'the beginning of ' || b.indexrelid::regclass \
           || case when f.wide then ', which is more than four times as large' else '' end, 0, \
         case when not f.wide then 'DROP INDEX CONCURRENTLY ' || a.indexrelid::regclass end \
         from pg_index a join pg_class ac on ac.oid = a.indexrelid \
         join pg_index b on b.indrelid = a.indrelid and b.indexrelid <> a.indexrelid and b.indisvalid and b.indnkeyatts > a.indnkeyatts \
         join pg_class bc on bc.oid = b.indexrelid and bc.relam = ac.relam \
         cross join lateral (select bc.relpages > 4 * greatest(ac.relpages, 1) as wide) f \
         where ac.relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace) and ac.relkind = 'i' and a.indisvalid \
         and ac.relam = (select oid from pg_am where amname = 'btree') and a.indnatts = a.indnkeyatts \
         and a.indexprs is null and b.indexprs is null \
         and pg_get_expr(a.indpred, a.indrelid) is not distinct from pg_get_expr(b.indpred, b.indrelid) \
         and (a.indkey::int2[])[0:a.indnkeyatts - 1] = (b.indkey::int2[])[0:a.indnkeyatts - 1] \
         and (a.indclass::oid[])[0:a.indnkeyatts - 1] = (b.indclass::oid[])[0:a.indnkeyatts - 1] \
         and (a.indcollation::oid[])[0:a.indnkeyatts - 1] = (b.indcollation::oid[])[0:a.indnkeyatts - 1] \
         and (a.indoption::int2[])[0:a.indnkeyatts - 1] = (b.indoption::int2[])[0:a.indnkeyatts - 1] \
         and not (a.indisunique or a.indisprimary or a.indisreplident or a.indisclustered or a.indisexclusion) \
         and not ac.relispartition and not exists (select 1 from pg_constraint o where o.conindid = a.indexrelid)",
    ),
    (
        // $1: those used on replicas.
        FindingKind::UnusedIndex,
        "select s.indexrelid::regclass::text, 'not used since ' || coalesce(d.stats_reset, pg_postmaster_start_time())::date, 0, \
         'DROP INDEX CONCURRENTLY ' || s.indexrelid::regclass \
         from pg_stat_user_indexes s join pg_index i using (indexrelid) join pg_class c on c.oid = s.indexrelid \
         join pg_stat_database d on d.datname = current_database() \
         where s.idx_scan = 0 and coalesce(d.stats_reset, pg_postmaster_start_time()) <= now() - make_interval(secs => {unused}) \
         and i.indisvalid and not c.relispartition and c.relpersistence <> 't' \
         and pg_relation_size(s.indexrelid) >= {bytes} and not format('%I.%I', s.schemaname, s.indexrelname) = any($1) \
         and not (i.indisunique or i.indisprimary or i.indisreplident or i.indisclustered or i.indisexclusion) \
         and not exists (select 1 from pg_constraint o where o.conindid = i.indexrelid) \
         and not exists (select 1 from pg_constraint o where o.contype = 'f' and o.conrelid = i.indrelid \
           and (i.indkey::int2[])[0:cardinality(o.conkey) - 1] @> o.conkey)",
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
        // When autovacuum would: by the server's settings, or by those of the table.
        FindingKind::NeedsVacuum,
        "select s.relid::regclass::text, case when s.n_dead_tup > t.dead then s.n_dead_tup || ' dead rows of ' || s.n_live_tup + s.n_dead_tup \
           else t.new || ' rows came since the last one' end, 0, \
         'VACUUM (SKIP_LOCKED) ' || s.relid::regclass from pg_stat_user_tables s join pg_class c on c.oid = s.relid \
         cross join lateral (select coalesce(max(option_value) filter (where option_name = 'autovacuum_vacuum_threshold'), \
             current_setting('autovacuum_vacuum_threshold'))::float8 + greatest(c.reltuples, 0) \
             * coalesce(max(option_value) filter (where option_name = 'autovacuum_vacuum_scale_factor'), \
             current_setting('autovacuum_vacuum_scale_factor'))::float8 as dead, \
           nullif(coalesce(max(option_value) filter (where option_name = 'autovacuum_vacuum_insert_threshold'), \
             current_setting('autovacuum_vacuum_insert_threshold', true))::float8, -1) + greatest(c.reltuples, 0) \
             * coalesce(max(option_value) filter (where option_name = 'autovacuum_vacuum_insert_scale_factor'), \
             current_setting('autovacuum_vacuum_insert_scale_factor', true))::float8 as most_new, \
           (to_jsonb(s) ->> 'n_ins_since_vacuum')::float8 as new from pg_options_to_table(c.reloptions)) t \
         where c.relpersistence <> 't' and (s.n_dead_tup > t.dead or t.new > t.most_new) \
         and not exists (select 1 from pg_stat_progress_vacuum v where v.relid = s.relid)",
    ),
    (
        FindingKind::NeedsAnalyze,
        "select s.relid::regclass::text, case when s.last_analyze is null and s.last_autoanalyze is null \
           then 'never analysed' else s.n_mod_since_analyze || ' changes since it was analysed' end, 0, \
         'ANALYZE (SKIP_LOCKED) ' || s.relid::regclass from pg_stat_user_tables s join pg_class c on c.oid = s.relid \
         cross join lateral (select coalesce(max(option_value) filter (where option_name = 'autovacuum_analyze_threshold'), \
             current_setting('autovacuum_analyze_threshold'))::float8 + greatest(c.reltuples, 0) \
             * coalesce(max(option_value) filter (where option_name = 'autovacuum_analyze_scale_factor'), \
             current_setting('autovacuum_analyze_scale_factor'))::float8 as most from pg_options_to_table(c.reloptions)) t \
         where c.relpersistence <> 't' and s.n_mod_since_analyze > t.most",
    ),
    (
        // A fifth of ten million rows is a long time to wait for, and a long VACUUM then.
        FindingKind::Setting,
        "select c.oid::regclass::text, round(c.reltuples) || ' rows, and autovacuum waits until ' \
           || round(c.reltuples * current_setting('autovacuum_vacuum_scale_factor')::float8) || ' of them are dead', 0, \
         'ALTER TABLE ' || c.oid::regclass || ' SET (autovacuum_vacuum_scale_factor = ' \
           || case when c.reltuples > 10 * {rows}::float8 then '0.01' else '0.02' end || ')' \
         from pg_class c where c.relkind in ('r', 'm') and c.relpersistence <> 't' and c.reltuples > {rows} \
         and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) \
         and current_setting('autovacuum_vacuum_scale_factor')::float8 >= 0.1 and not exists (select 1 \
           from pg_options_to_table(c.reloptions) where option_name = 'autovacuum_vacuum_scale_factor')",
    ),
    (
        // Transaction numbers and those of shared locks, of the table and of what is stored beside it.
        FindingKind::FreezeAge,
        "select c.oid::regclass::text, case when a.xids >= a.multis then a.xids || ' transactions old' \
           else a.multis || ' shared locks old' end, \
         case when greatest(a.xids, a.multis) > 1200000000 then 2 else 1 end, \
         'VACUUM (FREEZE) ' || c.oid::regclass from pg_class c left join pg_class t on t.oid = c.reltoastrelid \
         cross join lateral (select greatest(age(c.relfrozenxid), age(t.relfrozenxid)) as xids, \
           greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) as multis) a \
         where c.relkind in ('r', 'm') and c.relpersistence <> 't' \
         and (a.xids > 0.9 * current_setting('autovacuum_freeze_max_age')::float8 \
           or a.multis > 0.9 * current_setting('autovacuum_multixact_freeze_max_age')::float8)",
    ),
    (
        // Who keeps VACUUM from removing and freezing rows, once it has been for long.
        FindingKind::VacuumHeldBack,
        "select h.holder, h.what || ' holds back VACUUM by ' || h.held || ' transactions', \
         case when h.held > 0.5 * m.most then 2 else 1 end, h.action \
         from (select 'session ' || pid as holder, 'its transaction' as what, greatest(age(backend_xmin), age(backend_xid)) as held, \
             null as action from pg_stat_activity where backend_type <> 'walsender' and pid <> pg_backend_pid() \
           union all select 'prepared transaction ' || quote_literal(gid), 'it was left prepared and', age(transaction), \
             'ROLLBACK PREPARED ' || quote_literal(gid) from pg_prepared_xacts where database = current_database() \
           union all select 'slot ' || slot_name, 'it', greatest(age(xmin), age(catalog_xmin)), null from pg_replication_slots \
           union all select 'standby ' || coalesce(nullif(application_name, ''), pid::text), 'a query there', age(backend_xmin), null \
             from pg_stat_replication) h, (select current_setting('autovacuum_freeze_max_age')::float8 as most) m \
         where h.held > 0.05 * m.most",
    ),
    (
        // What is left of a sequence also ends where the type of the column it feeds does: one that owns it, or one whose
        // default calls it. What is not written to the log cannot be read on a standby.
        FindingKind::SequenceEnd,
        "select format('%I.%I', n.nspname, c.relname), round(100 * u.used) || ' % used', \
         case when u.used >= 0.9 then 2 else 1 end, null \
         from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace \
         cross join lateral (select case when c.relpersistence <> 't' \
             and (c.relpersistence = 'p' or not pg_is_in_recovery()) and has_sequence_privilege(c.oid, 'SELECT,USAGE') \
           then pg_sequence_last_value(c.oid) end as value) l \
         left join lateral (select min(case f.kind when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 \
             else 9223372036854775807 end) as most from \
           (select a.atttypid as kind from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid \
              where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i') \
            union all select a.atttypid from pg_depend d join pg_attrdef e on e.oid = d.objid \
              join pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum \
              where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid) f) o on true \
         cross join lateral (select case when s.seqincrement > 0 \
           then l.value::numeric / least(s.seqmax, o.most) else l.value::numeric / s.seqmin end as used) u \
         where l.value is not null and not s.seqcycle and u.used >= 0.75",
    ),
    (
        FindingKind::IdleInTransaction,
        "select 'session ' || pid, 'idle in a transaction for ' || extract(epoch from now() - state_change)::int || ' s', 1, null \
         from pg_stat_activity where state like 'idle in transaction%' and state_change < now() - make_interval(secs => {idle})",
    ),
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
