//! An index is on trial until measurements say whether it helped (B5.8, B5.9).

use super::create::{Applied, IndexApplier};
use super::verify::{Baseline, Verdict, VerifyPolicy, judge};
use crate::advise::Advice;
use crate::error::Doing;
use crate::postgres::sources::{StatementsDelta, StatementsSnapshot};
use crate::{Apply, Dialect, Error, Fingerprint, Lexer};
use perf_core::InvalidConfig;
use perf_core::time::sleep;
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long indexes are measured before they are judged.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct TrialPolicy {
    /// When a difference counts.
    pub verify: VerifyPolicy,
    /// Nothing but a regression is acted upon sooner. `30m`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub min_time: Duration,
    /// An index that has not shown by then that it helps is taken back: it is a burden on writes. `72h`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_time: Duration,
    /// How often [`watch`](IndexApplier::watch) looks. `60s`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub interval: Duration,
}

impl Default for TrialPolicy {
    fn default() -> Self {
        Self {
            verify: VerifyPolicy::default(),
            min_time: Duration::from_secs(30 * 60),
            max_time: Duration::from_secs(72 * 3600),
            interval: Duration::from_secs(60),
        }
    }
}

impl TrialPolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let text = perf_core::duration::format;
        if self.max_time < self.min_time {
            return Err(InvalidConfig::new("max_time", text(self.max_time), "at least min_time"));
        }
        if self.interval.is_zero() {
            return Err(InvalidConfig::new("interval", text(self.interval), "more than zero"));
        }
        self.verify.validate().map_err(|error| error.within("verify"))
    }
}

/// Indexes that were created and are being measured.
///
/// With feature `serde` it can be kept across a restart of the process: everything else about it is in the database.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Trial {
    indexes: Vec<OnTrial>,
    /// What the statements cost before.
    before: BTreeMap<Fingerprint, Baseline>,
    start: StatementsSnapshot,
    /// When measuring began, by the server's clock.
    began: f64,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct OnTrial {
    schema: Option<String>,
    table: String,
    name: String,
    /// The statements it was made for.
    serves: Vec<Fingerprint>,
    /// What else its plans depend on: the table's columns and other indexes, and the server's version.
    #[cfg_attr(feature = "serde", serde(default))]
    surroundings: Option<String>,
}

/// What one look at an index on trial came to.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IndexVerdict {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub verdict: Verdict,
    /// What became of it. `None` while it is still on trial.
    pub outcome: Option<TrialOutcome>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TrialOutcome {
    /// It helped and stays.
    Kept,
    /// It did not, and was dropped.
    Reverted,
    /// Somebody else dropped it meanwhile.
    Gone,
}

impl Trial {
    /// The names of the indexes still on trial.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.indexes.iter().map(|index| index.name.as_str())
    }

    /// Whether every index has been judged.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.indexes.is_empty()
    }
}

impl IndexApplier {
    /// Creates the proposed indexes and puts them on trial. `before` is what their statements cost until now: two snapshots
    /// of `pg_stat_statements` with enough calls between them.
    ///
    /// # Errors
    /// Those of [`apply`](IndexApplier::apply), and [`Error`] when `pg_stat_statements` cannot be read.
    ///
    /// # Cancel safety
    /// As [`apply`](IndexApplier::apply); indexes created until then are not on trial.
    pub async fn begin(
        &self,
        conn: &mut PgConnection,
        advice: &Advice,
        before: &StatementsDelta,
        consent: &Apply,
    ) -> Result<(Applied, Trial), Error> {
        let applied = self.apply(conn, advice, consent).await?;
        let created: Vec<&str> = applied.created().collect();
        let mut indexes = Vec::new();
        for index in advice.create.iter().filter(|index| created.contains(&index.name.as_str())) {
            let (schema, table) = (index.index.schema.clone(), index.index.table.clone());
            indexes.push(OnTrial {
                surroundings: surroundings(conn, schema.as_deref(), &table).await?,
                schema,
                table,
                name: index.name.clone(),
                serves: index.serves.iter().map(|served| served.fingerprint).collect(),
            });
        }
        let start = StatementsSnapshot::take(conn).await?;
        let trial = Trial { indexes, before: before.baselines(), start, began: clock(conn).await? };
        Ok((applied, trial))
    }

    /// Looks at what was measured so far, keeps what helped, and takes back what did not. An index that was judged is on
    /// trial no more. Measuring begins anew when the server's statistics were reset or are incomplete, when the server got
    /// another version, and when a column or another index of a table on trial came, went or changed.
    ///
    /// # Errors
    /// [`Error`] when the policy has a value outside its range, the connection fails or the audit trail cannot be written; a
    /// second call continues.
    ///
    /// # Cancel safety
    /// As [`revert`](IndexApplier::revert).
    pub async fn verify(
        &self,
        conn: &mut PgConnection,
        trial: &mut Trial,
        policy: &TrialPolicy,
        consent: &Apply,
    ) -> Result<Vec<IndexVerdict>, Error> {
        policy.validate()?;
        let (present, at) = (StatementsSnapshot::take(conn).await?, clock(conn).await?);
        let mut delta = present.since(&trial.start);
        let changed = notice_changes(conn, &mut trial.indexes).await?;
        if delta.restarted || delta.incomplete || changed {
            (trial.start, trial.began) = (present, at);
        }
        if changed {
            // What was measured until now belongs to the plans of before.
            delta = StatementsDelta::default();
        }
        let elapsed = Duration::try_from_secs_f64(at - trial.began).unwrap_or_default();
        let mut verdicts = Vec::new();
        for index in trial.indexes.clone() {
            let verdict = match uses(conn, &index).await? {
                Uses::Gone => {
                    trial.indexes.retain(|other| other.name != index.name);
                    let outcome = Some(TrialOutcome::Gone);
                    verdicts.push(IndexVerdict { name: index.name, verdict: Verdict::Undecided, outcome });
                    continue;
                }
                // Dropping it did not come to its end.
                Uses::Invalid => Verdict::Unused,
                Uses::Scans(scans) => decide(&index, &trial.before, &delta, scans, elapsed, policy),
            };
            let outcome = match &verdict {
                Verdict::Undecided => None,
                Verdict::Improved(_) => Some(TrialOutcome::Kept),
                Verdict::Neutral | Verdict::Regressed(_) | Verdict::Unused => {
                    self.take_back(conn, index.schema.as_deref(), &index.name, consent).await?;
                    Some(TrialOutcome::Reverted)
                }
            };
            // Taken off at once, so that an error at the next one does not have this one judged twice.
            if outcome.is_some() {
                trial.indexes.retain(|other| other.name != index.name);
            }
            verdicts.push(IndexVerdict { name: index.name, verdict, outcome });
        }
        Ok(verdicts)
    }

    /// Looks again and again until every index has been judged, and returns the verdicts. Bounded by
    /// [`TrialPolicy::max_time`] and the time statements take.
    ///
    /// # Errors
    /// [`Error`] when the connection fails: connect again and go on with the same trial.
    ///
    /// # Cancel safety
    /// The trial holds what is still to be judged; verdicts of this call are lost.
    pub async fn watch(
        &self,
        conn: &mut PgConnection,
        trial: &mut Trial,
        policy: &TrialPolicy,
        consent: &Apply,
    ) -> Result<Vec<IndexVerdict>, Error> {
        let mut all = Vec::new();
        while !trial.is_over() {
            sleep(policy.interval).await;
            let verdicts = self.verify(conn, trial, policy, consent).await?;
            all.extend(verdicts.into_iter().filter(|verdict| verdict.outcome.is_some()));
        }
        Ok(all)
    }
}

/// What the measurements say of one index at this time.
fn decide(
    index: &OnTrial,
    before: &BTreeMap<Fingerprint, Baseline>,
    delta: &StatementsDelta,
    scans: u64,
    elapsed: Duration,
    policy: &TrialPolicy,
) -> Verdict {
    // Any statement on the table may have got another plan, and every write pays.
    let concerned =
        |print: &Fingerprint, text: &str| index.serves.contains(print) || mentions(text, &index.table);
    let after: BTreeMap<Fingerprint, Baseline> = delta
        .statements
        .iter()
        .filter(|(print, statement)| concerned(print, &statement.query))
        .map(|(print, statement)| (*print, statement.measured))
        .collect();
    let verdict = judge(before, &after, scans, policy.verify);
    let enough = |baseline: Option<&Baseline>| baseline.is_some_and(|it| it.calls >= policy.verify.min_calls);
    let mut measured = index.serves.iter().filter(|print| before.contains_key(print)).peekable();
    let ready = measured.peek().is_some()
        && measured.all(|print| enough(before.get(print)) && enough(after.get(print)))
        && elapsed >= policy.min_time;
    match verdict {
        Verdict::Regressed(_) if scans > 0 => verdict,
        Verdict::Undecided if elapsed >= policy.max_time => {
            if scans == 0 {
                Verdict::Unused
            } else {
                Verdict::Neutral
            }
        }
        _ if ready || elapsed >= policy.max_time => verdict,
        _ => Verdict::Undecided,
    }
}

/// Whether a statement names a table.
fn mentions(sql: &str, table: &str) -> bool {
    Lexer::new(sql, Dialect::Postgres).any(|token| {
        let text = token.text(sql);
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        quoted.map_or_else(|| text.eq_ignore_ascii_case(table), |name| name.replace("\"\"", "\"") == table)
    })
}

/// Looks at what else the plans on each table depend on, and says whether any of it changed.
async fn notice_changes(conn: &mut PgConnection, indexes: &mut [OnTrial]) -> Result<bool, Error> {
    let mut changed = false;
    for index in indexes {
        let now = surroundings(conn, index.schema.as_deref(), &index.table).await?;
        changed |= now != index.surroundings;
        index.surroundings = now;
    }
    Ok(changed)
}

/// A digest of a table's columns and of its indexes beside ours, and of the server's version. `None` when it is not there.
async fn surroundings(
    conn: &mut PgConnection,
    schema: Option<&str>,
    table: &str,
) -> Result<Option<String>, Error> {
    let sql = "select md5(string_agg(p.part, '|' order by p.part) || current_setting('server_version_num')) \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join lateral ( \
                 select pg_get_indexdef(i.indexrelid) as part from pg_index i join pg_class x on x.oid = i.indexrelid \
                   where i.indrelid = c.oid and i.indisvalid and x.relname !~ '^perfidx_[0-9a-f]{8}$' \
                 union all select a.attnum || ' ' || a.attname || ' ' || a.atttypid || ' ' || a.atttypmod from pg_attribute a \
                   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) p \
               where c.relname = $1 and n.nspname = coalesce($2, 'public')";
    sqlx::query_scalar(sql)
        .persistent(false)
        .bind(table)
        .bind(schema)
        .fetch_one(conn)
        .await
        .doing("look at a table on trial")
}

async fn clock(conn: &mut PgConnection) -> Result<f64, Error> {
    sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8")
        .persistent(false)
        .fetch_one(conn)
        .await
        .doing("read the clock")
}

enum Uses {
    Gone,
    Invalid,
    Scans(u64),
}

/// How often an index, or those of its partitions, was used.
async fn uses(conn: &mut PgConnection, index: &OnTrial) -> Result<Uses, Error> {
    let sql = "with recursive own as (select c.oid, i.indisvalid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 join pg_index i on i.indexrelid = c.oid where c.relname = $1 and n.nspname = coalesce($2, 'public')), \
               tree as (select oid from own union all select h.inhrelid from pg_inherits h join tree on h.inhparent = tree.oid) \
               select (select indisvalid from own), coalesce(sum(pg_stat_get_numscans(oid)), 0)::int8 from tree";
    let row = sqlx::query(sql)
        .persistent(false)
        .bind(&index.name)
        .bind(index.schema.as_deref())
        .fetch_one(conn)
        .await
        .doing("count the uses of an index")?;
    Ok(match row.get::<Option<bool>, _>(0) {
        None => Uses::Gone,
        Some(false) => Uses::Invalid,
        Some(true) => Uses::Scans(row.get::<i64, _>(1).cast_unsigned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sources::StatementDelta;

    const PRINT: Fingerprint = Fingerprint(1);

    fn on_trial() -> OnTrial {
        OnTrial {
            schema: None,
            table: "orders".into(),
            name: "perfidx_1".into(),
            serves: vec![PRINT],
            surroundings: None,
        }
    }

    fn base(calls: u64, mean_ms: f64, blocks: f64) -> Baseline {
        Baseline { calls, mean_ms, variance: 0.01, blocks }
    }

    fn verdict(after: Baseline, scans: u64, minutes: u64) -> Verdict {
        let before = BTreeMap::from([(PRINT, base(100, 8.0, 900.0))]);
        let mut delta = StatementsDelta::default();
        let query = "select * from orders where customer = $1".into();
        delta.statements.insert(PRINT, StatementDelta { query, measured: after, rows: 0 });
        let elapsed = Duration::from_secs(60 * minutes);
        decide(&on_trial(), &before, &delta, scans, elapsed, &TrialPolicy::default())
    }

    #[test]
    fn b5_8_a_verdict_waits_for_calls_and_time_and_a_regression_for_neither() {
        let better = base(100, 0.1, 5.0);
        assert_eq!(verdict(better, 100, 29), Verdict::Undecided);
        assert!(matches!(verdict(better, 100, 30), Verdict::Improved(_)));
        assert_eq!(verdict(base(29, 0.1, 5.0), 29, 60), Verdict::Undecided);
        assert!(matches!(verdict(base(100, 80.0, 9000.0), 100, 1), Verdict::Regressed(_)));
    }

    #[test]
    fn b5_8_writes_on_the_table_are_guarded_like_reads() {
        const WRITE: Fingerprint = Fingerprint(2);
        let verdict = |calls: u64, mean_ms: f64| {
            let before = BTreeMap::from([(PRINT, base(100, 8.0, 900.0)), (WRITE, base(calls, 1.0, 3.0))]);
            let mut delta = StatementsDelta::default();
            for (print, query, measured) in [
                (PRINT, "select * from orders where customer = $1", base(100, 0.1, 5.0)),
                (WRITE, "insert into orders values ($1)", base(calls, mean_ms, 3.0)),
            ] {
                delta.statements.insert(print, StatementDelta { query: query.into(), measured, rows: 0 });
            }
            decide(&on_trial(), &before, &delta, 100, Duration::from_secs(3600), &TrialPolicy::default())
        };
        assert!(matches!(verdict(100, 1.5), Verdict::Improved(_)), "a few inserts pay little for much");
        let many = verdict(10_000, 1.5);
        assert!(matches!(&many, Verdict::Regressed(worse) if worse[0].fingerprint == WRITE), "{many:?}");
    }

    #[test]
    fn b5_8_what_has_not_helped_by_the_end_is_a_burden() {
        let end = 72 * 60;
        assert_eq!(verdict(base(3, 0.1, 5.0), 0, end), Verdict::Unused);
        assert_eq!(verdict(base(3, 0.1, 5.0), 3, end), Verdict::Neutral);
        assert_eq!(verdict(base(100, 8.0, 900.0), 5, end), Verdict::Neutral);
        // Another index made it faster: this one was never read.
        assert_eq!(verdict(base(100, 0.1, 5.0), 0, 30), Verdict::Unused);
    }

    #[test]
    fn a_statement_mentions_its_tables_in_any_case_and_quotes() {
        assert!(mentions("select 1 from Orders", "orders"));
        assert!(mentions("select 1 from \"Or\"\"ders\"", "Or\"ders"));
        assert!(!mentions("select 'orders' from \"Orders\"", "orders"));
    }
}
