use super::audit::{AuditEntry, AuditSink, NoAudit, Reverted};
use super::check::{ApplyPolicy, Refusal, Target, check};
use super::server::{TAG, exists, is_ours, lock, ours, today, unlock, validity};
use crate::advise::{Advice, IndexAdvice, quoted};
use crate::error::Doing;
use crate::{Apply, Dialect, Error};
use perf_core::time::{now, sleep};
use perf_core::{Backoff, InvalidConfig, Rng};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What became of one proposed index.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum IndexOutcome {
    /// It was created and is valid.
    Created {
        /// Its name.
        name: String,
        /// How long that took.
        #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
        took: Duration,
    },
    /// A valid index of this name was there.
    Present {
        /// Its name.
        name: String,
    },
    /// It would be created by this statement; nothing was done.
    DryRun {
        /// The statement.
        statement: String,
    },
    /// It was not begun.
    Refused {
        /// Its name.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// It failed, and what it left was removed.
    Failed {
        /// Its name.
        name: String,
        /// What the database said.
        error: String,
    },
    /// It failed and left an invalid index that could not be removed; the next run tries again.
    NeedsCleanup {
        /// Its name.
        name: String,
        /// What the database said.
        error: String,
    },
}

/// What was done, by whom.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Applied {
    /// Who asked for it.
    pub actor: String,
    /// One outcome per proposed index, in order.
    pub outcomes: Vec<IndexOutcome>,
}

impl Applied {
    /// The names of the indexes that were created.
    pub fn created(&self) -> impl Iterator<Item = &str> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            IndexOutcome::Created { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// What an earlier run had left, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Repaired {
    /// Invalid indexes of ours that were dropped.
    pub dropped: Vec<String>,
    /// Valid indexes of ours whose comment was missing.
    pub adopted: Vec<String>,
}

/// Creates indexes without stopping anybody, and drops its own again.
///
/// Built on one connection to the primary, outside any transaction. Killing the process at any step leaves something the next
/// [`repair`](IndexApplier::repair) completes or cleans.
#[derive(Clone)]
pub struct IndexApplier {
    policy: ApplyPolicy,
    audit: Arc<dyn AuditSink>,
    /// Indexes this process took back, and when by the server's clock.
    reverted: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl std::fmt::Debug for IndexApplier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexApplier").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl IndexApplier {
    /// An applier that keeps no audit trail.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value of the policy is outside its range.
    pub fn new(policy: ApplyPolicy) -> Result<Self, InvalidConfig> {
        policy.validate()?;
        Ok(Self { policy, audit: Arc::new(NoAudit), reverted: Arc::default() })
    }

    /// Writes every change down first.
    #[must_use]
    pub fn audit(mut self, sink: impl AuditSink + 'static) -> Self {
        self.audit = Arc::new(sink);
        self
    }

    /// When this index was last taken back, as this process or the trail remembers.
    fn reverted_at(&self, name: &str) -> Result<Option<f64>, Error> {
        let own = self.reverted.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        let trail = self.audit.reverted().map_err(Error::Audit)?;
        let known = trail.iter().filter(|it| it.index == name).map(|it| it.at).chain(own);
        Ok(known.reduce(f64::max))
    }

    /// Drops one index that did not help, and remembers it.
    pub(super) async fn take_back(
        &self,
        conn: &mut PgConnection,
        schema: Option<&str>,
        name: &str,
        consent: &Apply,
    ) -> Result<(), Error> {
        let at: f64 = sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8")
            .persistent(false)
            .fetch_one(&mut *conn)
            .await
            .doing("read the clock")?;
        // Written first: a crash in between leaves an index that is known not to help, and is dropped by the next verdict.
        let mut entry = AuditEntry::new(consent.actor(), name, "reverted");
        entry.reverted = Some(Reverted::new(name, at));
        self.audit.record(&entry).map_err(Error::Audit)?;
        self.reverted.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), at);
        self.drop_index(conn, schema, name, consent).await
    }

    /// Says what [`apply`](IndexApplier::apply) would do. Nothing is changed.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn dry_run(&self, conn: &mut PgConnection, advice: &Advice) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        for index in &advice.create {
            applied.outcomes.push(
                match check(conn, index, &self.policy, self.reverted_at(&index.name)?).await? {
                    Ok(_) => IndexOutcome::DryRun { statement: statement(index) },
                    Err(refusal) => IndexOutcome::Refused { name: index.name.clone(), refusal },
                },
            );
        }
        Ok(applied)
    }

    /// Creates the proposed indexes, one after another.
    ///
    /// # Errors
    /// [`Error`] when the connection fails or the audit trail cannot be written. What a single index is refused or fails for
    /// is part of the answer.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an invalid index, as a crash would: [`repair`](IndexApplier::repair) removes it.
    pub async fn apply(
        &self,
        conn: &mut PgConnection,
        advice: &Advice,
        consent: &Apply,
    ) -> Result<Applied, Error> {
        let mut applied = Applied { actor: consent.actor().to_owned(), outcomes: Vec::new() };
        for index in &advice.create {
            applied.outcomes.push(self.apply_one(conn, index, consent).await?);
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        consent: &Apply,
    ) -> Result<IndexOutcome, Error> {
        let name = index.name.clone();
        let target = match check(conn, index, &self.policy, self.reverted_at(&index.name)?).await? {
            Ok(target) => target,
            Err(refusal) => return Ok(IndexOutcome::Refused { name, refusal }),
        };
        if let Err(refusal) = lock(conn, &target).await? {
            return Ok(IndexOutcome::Refused { name, refusal });
        }
        let outcome = self.build(conn, index, &target, consent).await;
        // A failed connection has given the lock back by itself.
        let released = unlock(conn, &target).await;
        let outcome = outcome?;
        released?;
        Ok(outcome)
    }

    async fn build(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        target: &Target,
        consent: &Apply,
    ) -> Result<IndexOutcome, Error> {
        let name = index.name.clone();
        match validity(conn, index).await? {
            Some(true) => return Ok(IndexOutcome::Present { name }),
            Some(false) if !is_ours(conn, index.index.schema.as_deref(), &name).await? => {
                let error = "an invalid index of this name is there, and its comment is not ours".to_owned();
                return Ok(IndexOutcome::Failed { name, error });
            }
            // Left by a run that was killed. `IF NOT EXISTS` would take it for success.
            Some(false) => self.drop_index(conn, index.index.schema.as_deref(), &name, consent).await?,
            None => {}
        }
        let start = now();
        let built = if target.partitioned {
            self.build_partitioned(conn, index, consent).await
        } else {
            self.concurrently(conn, index, &statement(index), &name, consent).await
        };
        let failure = match built {
            Ok(()) if validity(conn, index).await? == Some(true) => None,
            Ok(()) => Some("the index is not valid".to_owned()),
            Err(Error::Audit(error)) => return Err(Error::Audit(error)),
            Err(error) if error.code().is_none() => return Err(error),
            Err(error) => Some(chain(&error)),
        };
        if let Some(error) = failure {
            return self.clean(conn, index, consent, error).await;
        }
        self.finish(conn, index, consent).await?;
        Ok(IndexOutcome::Created { name, took: start.elapsed() })
    }

    /// Removes what a failed build left.
    async fn clean(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        consent: &Apply,
        error: String,
    ) -> Result<IndexOutcome, Error> {
        let name = index.name.clone();
        if validity(conn, index).await?.is_none() {
            return Ok(IndexOutcome::Failed { name, error });
        }
        match self.drop_index(conn, index.index.schema.as_deref(), &name, consent).await {
            Ok(()) => Ok(IndexOutcome::Failed { name, error }),
            Err(Error::Audit(error)) => Err(Error::Audit(error)),
            Err(second) => {
                Ok(IndexOutcome::NeedsCleanup { name, error: format!("{error}; {}", chain(&second)) })
            }
        }
    }

    /// The comment by which the index is known as ours, and statistics where the index needs its own.
    async fn finish(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        consent: &Apply,
    ) -> Result<(), Error> {
        self.tag(conn, index.index.schema.as_deref(), &index.name, "created for", consent).await?;
        if index.index.keys.iter().any(|key| key.column_name().is_none()) {
            self.run(conn, &format!("ANALYZE {}", index.index.table_sql(Dialect::Postgres)), consent).await?;
        }
        Ok(())
    }

    /// Comments on an index of ours: the tool, the recommendation (its name follows from it, and stays when the index is
    /// renamed), for whom, and on which day.
    async fn tag(
        &self,
        conn: &mut PgConnection,
        schema: Option<&str>,
        name: &str,
        how: &str,
        consent: &Apply,
    ) -> Result<(), Error> {
        let day = today(conn).await?;
        let text = format!("{TAG} {name} {how} {} on {day}", consent.actor());
        let (index, text) = (qualified(schema, name), Dialect::Postgres.literal(&text));
        self.run(conn, &format!("COMMENT ON INDEX {index} IS {text}"), consent).await
    }

    /// Runs CREATE INDEX CONCURRENTLY, again after a lock timeout.
    async fn concurrently(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        sql: &str,
        name: &str,
        consent: &Apply,
    ) -> Result<(), Error> {
        self.patient(conn).await?;
        let mut delays = self.delays();
        let mut attempt = 1;
        let result = loop {
            match self.run(conn, sql, consent).await {
                Err(error) if error.code().as_deref() == Some("55P03") && attempt < self.policy.attempts => {
                    if exists(conn, index.index.schema.as_deref(), name).await?.is_some() {
                        self.drop_index(conn, index.index.schema.as_deref(), name, consent).await?;
                        self.patient(conn).await?;
                    }
                    attempt += 1;
                    sleep(delays.next().unwrap_or(Duration::from_secs(1))).await;
                }
                result => break result,
            }
        };
        let _ = sqlx::raw_sql("reset statement_timeout; reset lock_timeout").execute(&mut *conn).await;
        result
    }

    /// A partitioned table refuses CONCURRENTLY: an invalid index on the parent alone, one on each leaf, attached one by one.
    /// The parent turns valid with the last. What is there already is left, so a second run goes on where the first stopped.
    async fn build_partitioned(
        &self,
        conn: &mut PgConnection,
        index: &IndexAdvice,
        consent: &Apply,
    ) -> Result<(), Error> {
        let schema = index.index.schema.as_deref();
        let parent = index.index.table_sql(Dialect::Postgres);
        let only = index.index.target_sql(Dialect::Postgres, &format!("ONLY {parent}"));
        let own = quoted(&index.name, Dialect::Postgres);
        self.run(conn, &format!("CREATE INDEX {own} ON {only}"), consent).await?;
        let sql = "select n.nspname::text, c.relname::text from pg_partition_tree($1::text::regclass) t \
                   join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace where t.isleaf order by 1, 2";
        let leaves = sqlx::query(sql)
            .persistent(false)
            .bind(&parent)
            .fetch_all(&mut *conn)
            .await
            .doing("list the partitions")?;
        for leaf in leaves {
            let (leaf_schema, leaf): (String, String) = (leaf.get(0), leaf.get(1));
            let mut def = index.index.clone();
            (def.schema, def.table) = (Some(leaf_schema.clone()), leaf);
            let name = def.name();
            if exists(conn, Some(&leaf_schema), &name).await? == Some(false) {
                self.drop_index(conn, Some(&leaf_schema), &name, consent).await?;
            }
            if exists(conn, Some(&leaf_schema), &name).await?.is_none() {
                let sql = concurrent(&def.create(Dialect::Postgres, &name));
                let advice = IndexAdvice { index: def, name: name.clone(), ..index.clone() };
                self.concurrently(conn, &advice, &sql, &name, consent).await?;
            }
            let attach = format!(
                "ALTER INDEX {} ATTACH PARTITION {}",
                qualified(schema, &index.name),
                qualified(Some(&leaf_schema), &name)
            );
            self.run(conn, &attach, consent).await?;
        }
        Ok(())
    }

    /// Drops the indexes that were created, and no others.
    ///
    /// # Errors
    /// [`Error`] when the connection fails or the audit trail cannot be written; a second call continues.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an index half dropped, which is invalid: [`repair`](IndexApplier::repair) removes it.
    pub async fn revert(
        &self,
        conn: &mut PgConnection,
        applied: &Applied,
        consent: &Apply,
    ) -> Result<Vec<String>, Error> {
        let mut dropped = Vec::new();
        for index in ours(conn).await? {
            if applied.created().any(|name| name == index.name) {
                self.drop_index(conn, Some(&index.schema), &index.name, consent).await?;
                dropped.push(index.name);
            }
        }
        Ok(dropped)
    }

    /// Completes or cleans what a run that was killed has left: invalid indexes of ours are dropped, valid ones without our
    /// comment get it. Indexes of other origin are never touched.
    ///
    /// # Errors
    /// [`Error`] when the connection fails or the audit trail cannot be written; a second call continues.
    ///
    /// # Cancel safety
    /// As [`revert`](IndexApplier::revert).
    pub async fn repair(&self, conn: &mut PgConnection, consent: &Apply) -> Result<Repaired, Error> {
        let mut repaired = Repaired::default();
        for index in ours(conn).await? {
            if index.building {
                continue;
            }
            if !index.valid {
                self.drop_index(conn, Some(&index.schema), &index.name, consent).await?;
                repaired.dropped.push(index.name);
            } else if !index.tagged {
                self.tag(conn, Some(&index.schema), &index.name, "found by", consent).await?;
                repaired.adopted.push(index.name);
            }
        }
        Ok(repaired)
    }

    async fn drop_index(
        &self,
        conn: &mut PgConnection,
        schema: Option<&str>,
        name: &str,
        consent: &Apply,
    ) -> Result<(), Error> {
        let name = qualified(schema, name);
        self.patient(conn).await?;
        let mut delays = self.delays();
        let mut attempt = 1;
        let result = loop {
            let result = self.run(conn, &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"), consent).await;
            match result.as_ref().err().and_then(Error::code).as_deref() {
                // An index of a partitioned table cannot be dropped concurrently.
                Some("0A000") => {
                    break self.run(conn, &format!("DROP INDEX IF EXISTS {name}"), consent).await;
                }
                Some("55P03") if attempt < self.policy.attempts => {
                    attempt += 1;
                    sleep(delays.next().unwrap_or(Duration::from_secs(1))).await;
                }
                _ => break result,
            }
        };
        let _ = sqlx::raw_sql("reset statement_timeout; reset lock_timeout").execute(&mut *conn).await;
        result
    }

    /// Lets a statement take as long as it works, and wait for others only as long as the policy says.
    async fn patient(&self, conn: &mut PgConnection) -> Result<(), Error> {
        let timeout = self.policy.lock_timeout.as_millis();
        let session = format!("set statement_timeout = 0; set lock_timeout = '{timeout}ms'");
        sqlx::raw_sql(AssertSqlSafe(session)).execute(conn).await.doing("prepare the session")?;
        Ok(())
    }

    /// The pauses after a lock timeout.
    fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        Backoff::exponential(Duration::from_millis(200))
            .cap(Duration::from_secs(5))
            .delays(Rng::from_entropy().next_u64())
    }

    /// Runs one statement, written down before and after.
    async fn run(&self, conn: &mut PgConnection, sql: &str, consent: &Apply) -> Result<(), Error> {
        let note = |outcome: String| self.audit.record(&AuditEntry::new(consent.actor(), sql, outcome));
        note("started".to_owned()).map_err(Error::Audit)?;
        let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.doing("change an index");
        note(result.as_ref().map_or_else(chain, |_| "done".to_owned())).map_err(Error::Audit)?;
        result.map(|_| ())
    }
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn concurrent(ddl: &str) -> String {
    ddl.replacen("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)
}

fn statement(index: &IndexAdvice) -> String {
    concurrent(&index.index.create(Dialect::Postgres, &index.name))
}

fn qualified(schema: Option<&str>, name: &str) -> String {
    let name = quoted(name, Dialect::Postgres);
    match schema {
        Some(schema) => format!("{}.{name}", quoted(schema, Dialect::Postgres)),
        None => name,
    }
}
