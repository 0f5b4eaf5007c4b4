//! What the servers that share their tables use the indexes for: evidence against calling one unused (B4).

use crate::Error;
use crate::error::Doing;
use sqlx::{PgConnection, Row};
use std::collections::BTreeSet;
use std::time::Duration;

/// Which indexes a server used, and since when it counts. Taken on each replica and given to
/// [`inspect_with`](super::inspect_with) on the primary; it can be sent from one to the other as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct IndexUses {
    /// The indexes used at least once, as `schema.index`, quoted where SQL needs it.
    pub used: BTreeSet<String>,
    /// How long the server has counted.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub age: Duration,
}

impl IndexUses {
    /// Reads what the server counted since its statistics were reset, or since its start: a standby counts for itself.
    ///
    /// # Errors
    /// [`Error`] when the statistics cannot be read.
    ///
    /// # Cancel safety
    /// The database is only read.
    pub async fn take(conn: &mut PgConnection) -> Result<Self, Error> {
        let sql = "select coalesce((select array_agg(format('%I.%I', schemaname, indexrelname)) from pg_stat_user_indexes \
                     where idx_scan > 0), '{}')::text[], \
                   extract(epoch from clock_timestamp() - coalesce(d.stats_reset, pg_postmaster_start_time()))::float8 \
                   from pg_stat_database d where d.datname = current_database()";
        let row =
            sqlx::query(sql).persistent(false).fetch_one(conn).await.doing("read the uses of indexes")?;
        let age = Duration::try_from_secs_f64(row.get(1)).unwrap_or_default();
        Ok(Self { used: row.get::<Vec<String>, _>(0).into_iter().collect(), age })
    }
}
