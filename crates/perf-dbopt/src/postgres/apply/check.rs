use crate::advise::IndexAdvice;
use crate::error::Doing;
use crate::{Error, Window};
use perf_core::InvalidConfig;
use sqlx::{PgConnection, Row};
use std::fmt;
use std::time::Duration;

/// What must hold before an index is created, and how long each step may take.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ApplyPolicy {
    /// How long to wait for a lock before giving way to others. `3s`: what a queue behind the lock can bear.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub lock_timeout: Duration,
    /// Attempts after a lock timeout, 1 to 20. `5`.
    pub attempts: u32,
    /// An open transaction older than this keeps CREATE INDEX CONCURRENTLY waiting, so it is not begun. `60s`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_transaction_age: Duration,
    /// Sessions working at the same time beyond which the server has other things to do. `None` leaves it open.
    pub max_active: Option<u32>,
    /// The part of the day in which indexes are built. `None`: at any time.
    pub window: Option<Window>,
    /// How far the slowest replica may lag behind before more is written. `30s`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_replica_lag: Duration,
    /// Bytes all indexes made here may take together, those that are there and the next included. `None` leaves it open.
    pub max_bytes: Option<u64>,
    /// How long an index that was taken back is not built again. `30d`, so that advice and verdict do not take turns.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub suppress: Duration,
    /// Indexes a table may have in the end, those there included; at least 1. `15`.
    pub max_per_table: u32,
    /// Tables that are never touched: `name` or `schema.name`.
    pub deny: Vec<String>,
}

impl Default for ApplyPolicy {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            attempts: 5,
            max_transaction_age: Duration::from_secs(60),
            max_active: None,
            window: None,
            max_replica_lag: Duration::from_secs(30),
            max_bytes: None,
            suppress: Duration::from_secs(30 * 24 * 3600),
            max_per_table: 15,
            deny: Vec::new(),
        }
    }
}

impl ApplyPolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.lock_timeout.is_zero() || self.lock_timeout > Duration::from_secs(60) {
            let value = perf_core::duration::format(self.lock_timeout);
            return Err(InvalidConfig::new("lock_timeout", value, "1ms to 60s"));
        }
        if !(1..=20).contains(&self.attempts) {
            return Err(InvalidConfig::new("attempts", self.attempts, "1 to 20"));
        }
        if self.max_per_table == 0 {
            return Err(InvalidConfig::new("max_per_table", 0, "1 or more"));
        }
        if let Some(blank) = self.deny.iter().find(|table| table.trim().is_empty()) {
            return Err(InvalidConfig::new("deny", blank, "names of tables"));
        }
        Ok(())
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case", tag = "refusal"))]
#[non_exhaustive]
pub enum Refusal {
    /// Another process works on this table.
    Busy {
        /// Its session, when it can be seen.
        holder: Option<i32>,
    },
    /// This is a standby, or the session may only read.
    Standby,
    /// This role does not own the table.
    NotOwner,
    /// The table is not there.
    MissingTable,
    /// The table is on the deny list.
    Denied,
    /// The table has as many indexes as the policy allows.
    TooManyIndexes {
        /// How many.
        there: u32,
    },
    /// Another index is being built on it, or it is being rewritten.
    BeingRebuilt,
    /// A transaction is open for too long.
    OldTransaction {
        /// Its session.
        holder: i32,
    },
    /// The server is busy.
    Load {
        /// Sessions working.
        active: u32,
    },
    /// Autovacuum is saving the table from wraparound, and must not be disturbed.
    Wraparound,
    /// It is not the time of day for it.
    OutsideWindow {
        /// When it is, in UTC.
        window: Window,
    },
    /// A replica lags behind.
    ReplicaLag {
        /// By how many seconds.
        seconds: u64,
    },
    /// With it, the indexes made here would take more than the policy allows.
    OverBudget {
        /// The bytes they take already.
        there: u64,
    },
    /// It was built before, did not help, and was taken back.
    Suppressed {
        /// In how many hours it may be built again.
        hours: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { holder: Some(pid) } => write!(f, "session {pid} works on this table"),
            Self::Busy { holder: None } => f.write_str("another session works on this table"),
            Self::Standby => f.write_str("the server is a standby, or the session may only read"),
            Self::NotOwner => f.write_str("this role does not own the table"),
            Self::MissingTable => f.write_str("the table is not there"),
            Self::Denied => f.write_str("the table is on the deny list"),
            Self::TooManyIndexes { there } => write!(f, "the table has {there} indexes"),
            Self::BeingRebuilt => f.write_str("the table is being rebuilt"),
            Self::OldTransaction { holder } => write!(f, "session {holder} holds an old transaction open"),
            Self::Load { active } => write!(f, "{active} sessions are working"),
            Self::Wraparound => f.write_str("autovacuum prevents wraparound"),
            Self::OutsideWindow { window } => write!(f, "changes are made between {window} UTC only"),
            Self::ReplicaLag { seconds } => write!(f, "a replica lags {seconds} s behind"),
            Self::OverBudget { there } => write!(f, "the indexes made here take {there} bytes already"),
            Self::Suppressed { hours } => write!(f, "it was taken back, and waits for {hours} hours"),
        }
    }
}

/// What is known of the table an index goes on.
pub(super) struct Target {
    pub(super) oid: i64,
    pub(super) partitioned: bool,
}

const TABLE: &str = "select c.oid::int8, pg_has_role(current_user, c.relowner, 'USAGE'), c.relkind = 'p', \
    pg_is_in_recovery() or current_setting('transaction_read_only') = 'on', \
    (select count(*) from pg_index i where i.indrelid = c.oid)::int4, \
    exists (select 1 from pg_stat_progress_create_index p where p.relid = c.oid) \
      or exists (select 1 from pg_stat_progress_cluster p where p.relid = c.oid), \
    exists (select 1 from pg_stat_activity a where a.query like 'autovacuum: VACUUM%' \
      and right(a.query, length(w.mark)) = w.mark) \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    cross join lateral (select ' ' || n.nspname || '.' || c.relname || ' (to prevent wraparound)' as mark) w \
    where c.relname = $1 and n.nspname = coalesce($2, 'public') and c.relkind in ('r', 'p', 'm')";

/// The oldest transaction that would keep us waiting, and the sessions at work beside ours.
const ACTIVITY: &str = "select pid::int4, coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8, \
    (count(*) filter (where state = 'active') over ())::int4 from pg_stat_activity \
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' \
    order by xact_start nulls last limit 1";

/// The minute of the day, how far the slowest replica lags, the bytes of the indexes made here, and the server's clock.
const SERVER: &str = "select (extract(hour from t.utc) * 60 + extract(minute from t.utc))::int4, \
    coalesce((select max(extract(epoch from coalesce(replay_lag, flush_lag, write_lag))) from pg_stat_replication), 0)::float8, \
    coalesce((select sum(pg_relation_size(c.oid)) from pg_class c where c.relkind = 'i' and c.relname ~ '^perfidx_[0-9a-f]{8}$'), 0)::int8, \
    extract(epoch from clock_timestamp())::float8 \
    from (select clock_timestamp() at time zone 'utc' as utc) t";

/// What speaks against building anything more on this server now.
async fn server(
    conn: &mut PgConnection,
    index: &IndexAdvice,
    policy: &ApplyPolicy,
    reverted: Option<f64>,
) -> Result<Option<Refusal>, Error> {
    let row = sqlx::query(SERVER).persistent(false).fetch_one(conn).await.doing("look at the server")?;
    let (minute, lag, there, clock): (i32, f64, i64, f64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let there = there.cast_unsigned();
    let left = reverted.map_or(0.0, |at| at + policy.suppress.as_secs_f64() - clock);
    Ok(match policy.window {
        Some(window) if !window.contains(u16::try_from(minute).unwrap_or_default()) => {
            Some(Refusal::OutsideWindow { window })
        }
        _ if lag > policy.max_replica_lag.as_secs_f64() => Some(Refusal::ReplicaLag { seconds: lag as u64 }),
        _ if policy.max_bytes.is_some_and(|most| there.saturating_add(index.bytes) > most) => {
            Some(Refusal::OverBudget { there })
        }
        _ if left > 0.0 => Some(Refusal::Suppressed { hours: (left / 3600.0).ceil() as u64 }),
        _ => None,
    })
}

/// Whether the index may be built now. `reverted` is when it was last taken back, by the server's clock.
pub(super) async fn check(
    conn: &mut PgConnection,
    index: &IndexAdvice,
    policy: &ApplyPolicy,
    reverted: Option<f64>,
) -> Result<Result<Target, Refusal>, Error> {
    let def = &index.index;
    let full = format!("{}.{}", def.schema.as_deref().unwrap_or("public"), def.table);
    if policy.deny.iter().any(|denied| *denied == def.table || *denied == full) {
        return Ok(Err(Refusal::Denied));
    }
    let row = sqlx::query(TABLE)
        .persistent(false)
        .bind(&def.table)
        .bind(def.schema.as_deref())
        .fetch_optional(&mut *conn)
        .await
        .doing("look at the table")?;
    let Some(row) = row else { return Ok(Err(Refusal::MissingTable)) };
    let there = u32::try_from(row.get::<i32, _>(4)).unwrap_or_default();
    let refusal = match () {
        () if row.get::<bool, _>(3) => Some(Refusal::Standby),
        () if !row.get::<bool, _>(1) => Some(Refusal::NotOwner),
        () if there >= policy.max_per_table => Some(Refusal::TooManyIndexes { there }),
        () if row.get::<bool, _>(5) => Some(Refusal::BeingRebuilt),
        () if row.get::<bool, _>(6) => Some(Refusal::Wraparound),
        () => None,
    };
    if let Some(refusal) = refusal {
        return Ok(Err(refusal));
    }
    if let Some(refusal) = server(conn, index, policy, reverted).await? {
        return Ok(Err(refusal));
    }
    let activity = sqlx::query(ACTIVITY)
        .persistent(false)
        .fetch_optional(&mut *conn)
        .await
        .doing("look at the activity")?;
    if let Some(activity) = activity {
        let (holder, age, active): (i32, f64, i32) = (activity.get(0), activity.get(1), activity.get(2));
        if age > policy.max_transaction_age.as_secs_f64() {
            return Ok(Err(Refusal::OldTransaction { holder }));
        }
        let active = u32::try_from(active).unwrap_or_default();
        if policy.max_active.is_some_and(|most| active > most) {
            return Ok(Err(Refusal::Load { active }));
        }
    }
    Ok(Ok(Target { oid: row.get(0), partitioned: row.get(2) }))
}
