//! What is asked of the server around a change: the lock, whether an index is there, and which are ours.

use super::check::{Refusal, Target};
use crate::Error;
use crate::advise::IndexAdvice;
use crate::error::Doing;
use sqlx::{PgConnection, Row};

/// The first half of the advisory lock; the second is the table. Anything may use advisory locks, so it is an unlikely number.
const LOCK_CLASS: i32 = 0x7065_7266;

/// Takes the lock on a table's changes, which belongs to the session.
pub(super) async fn lock(conn: &mut PgConnection, target: &Target) -> Result<Result<(), Refusal>, Error> {
    let key = key(target);
    let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
        .persistent(false)
        .bind(LOCK_CLASS)
        .bind(key)
        .fetch_one(&mut *conn)
        .await
        .doing("take the lock")?;
    if taken {
        return Ok(Ok(()));
    }
    let sql = "select pid::int4 from pg_locks where locktype = 'advisory' and classid::int8 = $1 and objid::int8 = $2 and granted limit 1";
    let holder = sqlx::query_scalar(sql)
        .persistent(false)
        .bind(i64::from(LOCK_CLASS))
        .bind(i64::from(key.cast_unsigned()))
        .fetch_optional(conn)
        .await
        .doing("see who holds the lock")?;
    Ok(Err(Refusal::Busy { holder }))
}

pub(super) async fn unlock(conn: &mut PgConnection, target: &Target) -> Result<(), Error> {
    sqlx::query("select pg_advisory_unlock($1, $2)")
        .persistent(false)
        .bind(LOCK_CLASS)
        .bind(key(target))
        .execute(conn)
        .await
        .doing("give the lock back")?;
    Ok(())
}

/// Advisory locks belong to the database already, and the table's number is unique in it.
fn key(target: &Target) -> i32 {
    (target.oid as u32).cast_signed()
}

/// Whether the index is there, and if so whether it is valid.
pub(super) async fn validity(conn: &mut PgConnection, index: &IndexAdvice) -> Result<Option<bool>, Error> {
    exists(conn, index.index.schema.as_deref(), &index.name).await
}

pub(super) async fn exists(
    conn: &mut PgConnection,
    schema: Option<&str>,
    name: &str,
) -> Result<Option<bool>, Error> {
    let sql = "select i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid \
               join pg_namespace n on n.oid = c.relnamespace where c.relname = $1 and n.nspname = coalesce($2, 'public')";
    sqlx::query_scalar(sql)
        .persistent(false)
        .bind(name)
        .bind(schema)
        .fetch_optional(conn)
        .await
        .doing("look for an index")
}

/// Begins the comment on every index made here, by which the next run knows its own.
pub(super) const TAG: &str = "perfkit:";

/// Whether an index is one of ours: by its comment, or because it has none yet.
pub(super) async fn is_ours(
    conn: &mut PgConnection,
    schema: Option<&str>,
    name: &str,
) -> Result<bool, Error> {
    let sql = "select coalesce(obj_description(c.oid, 'pg_class'), $3) like $3 || '%' from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace where c.relname = $1 and n.nspname = coalesce($2, 'public')";
    let ours: Option<bool> = sqlx::query_scalar(sql)
        .persistent(false)
        .bind(name)
        .bind(schema)
        .bind(TAG)
        .fetch_optional(conn)
        .await
        .doing("see whose an index is")?;
    Ok(ours.unwrap_or(true))
}

/// The day by the server's clock, in UTC.
pub(super) async fn today(conn: &mut PgConnection) -> Result<String, Error> {
    sqlx::query_scalar("select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD')")
        .persistent(false)
        .fetch_one(conn)
        .await
        .doing("read the clock")
}

pub(super) struct Own {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) valid: bool,
    pub(super) tagged: bool,
    pub(super) building: bool,
}

/// Our indexes: by their names, and by their comments where they have one.
pub(super) async fn ours(conn: &mut PgConnection) -> Result<Vec<Own>, Error> {
    let sql = "select n.nspname::text, c.relname::text, i.indisvalid, coalesce(d.description like 'perfkit:%', false), \
               exists (select 1 from pg_stat_progress_create_index p where p.index_relid = c.oid) \
               from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace \
               left join pg_description d on d.objoid = c.oid and d.classoid = 'pg_class'::regclass and d.objsubid = 0 \
               where c.relname ~ '^perfidx_[0-9a-f]{8}$' and (d.description is null or d.description like 'perfkit:%') \
               and not c.relispartition order by 1, 2";
    let rows = sqlx::query(sql).persistent(false).fetch_all(conn).await.doing("list our indexes")?;
    let own = |row: &sqlx::postgres::PgRow| Own {
        schema: row.get(0),
        name: row.get(1),
        valid: row.get(2),
        tagged: row.get(3),
        building: row.get(4),
    };
    Ok(rows.iter().map(own).collect())
}
