//! What is wrong in a PostgreSQL database, from its catalogues: one query per kind, whatever the number of tables (B4, B7).

use super::checks::CHECKS;
use super::uses::IndexUses;
use crate::error::Doing;
use crate::{Apply, Error, Finding, FindingKind, Maintained, MaintenancePolicy, Severity};
use perf_core::InvalidConfig;
use perf_core::time::now;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::time::Duration;

/// From when on things are worth a word that are harmless in small.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct InspectPolicy {
    /// Bytes from which an unused index is named. 10 MB, as in PgHero.
    pub unused_bytes: u64,
    /// Statistics younger than this say nothing about what is unused, on this server and on each replica. `30d`: month-end
    /// reports come once a month.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub unused_for: Duration,
    /// How long a session may hold a transaction open and do nothing. `60s`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub idle_in_transaction: Duration,
    /// Rows from which autovacuum's share of a table is a large number: half a million dead rows at ten million and the
    /// server's default. `10_000_000`, at least 1.
    pub large_rows: u64,
}

impl Default for InspectPolicy {
    fn default() -> Self {
        Self {
            unused_bytes: 10 << 20,
            unused_for: Duration::from_secs(30 * 24 * 3600),
            idle_in_transaction: Duration::from_secs(60),
            large_rows: 10_000_000,
        }
    }
}

impl InspectPolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.large_rows == 0 {
            return Err(InvalidConfig::new("large_rows", 0, "at least 1"));
        }
        Ok(())
    }

    /// The policy's numbers in a query's text: what they are compared with is the server's.
    fn fill(&self, sql: &str) -> String {
        sql.replace("{bytes}", &self.unused_bytes.to_string())
            .replace("{unused}", &self.unused_for.as_secs_f64().to_string())
            .replace("{idle}", &self.idle_in_transaction.as_secs_f64().to_string())
            .replace("{rows}", &self.large_rows.to_string())
    }
}

/// Everything worth knowing, the most severe first. Reads catalogues only, in one query for each kind, and works on a standby
/// as well. What an index is used for on replicas only it cannot know: [`inspect_with`] can.
///
/// # Errors
/// [`Error`] when a catalogue cannot be read.
///
/// # Cancel safety
/// The database is only read.
pub async fn inspect(conn: &mut PgConnection) -> Result<Vec<Finding>, Error> {
    inspect_with(conn, &InspectPolicy::default(), &[]).await
}

/// The same by a policy, and with what every other server says that reads from the same tables: an index that one of them
/// used is not unused, and while the statistics of any of them are young none is.
///
/// # Errors
/// [`Error`] when the policy has a value outside its range or a catalogue cannot be read.
///
/// # Cancel safety
/// The database is only read.
pub async fn inspect_with(
    conn: &mut PgConnection,
    policy: &InspectPolicy,
    replicas: &[IndexUses],
) -> Result<Vec<Finding>, Error> {
    policy.validate()?;
    let known = replicas.iter().all(|uses| uses.age >= policy.unused_for);
    let elsewhere: Vec<String> = replicas.iter().flat_map(|uses| uses.used.iter().cloned()).collect();
    let mut findings = Vec::new();
    for (kind, sql) in CHECKS {
        if kind == FindingKind::UnusedIndex && !known {
            continue;
        }
        let mut query = sqlx::query(AssertSqlSafe(policy.fill(sql))).persistent(false);
        if kind == FindingKind::UnusedIndex {
            query = query.bind(&elsewhere);
        }
        for row in query.fetch_all(&mut *conn).await.doing("inspect the catalogues")? {
            findings.push(Finding {
                kind,
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
