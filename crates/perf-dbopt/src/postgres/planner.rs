use super::repair::{MAX_ATTEMPTS, Objection, Repair, refuse};
use crate::Error;
use crate::advise::SkipReason;
use crate::error::Doing;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::BTreeMap;

/// A statement PostgreSQL can plan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// The planner's cost of the generic plan.
    pub cost: f64,
    /// The rows it expects.
    pub rows: f64,
    /// The plan as PostgreSQL's JSON.
    pub plan: String,
    /// Whether the text had to be changed or types declared to be planned.
    pub repaired: bool,
    /// The types declared for parameters, by number.
    pub types: BTreeMap<u32, &'static str>,
}

/// Plans normalised statements, with `$n` where their values were, on one connection.
///
/// It never executes a statement, and plans for unknown values (a generic plan), never for NULL. The connection should be
/// one that nothing else uses meanwhile, connected directly or in a pooler's session mode.
#[derive(Debug)]
pub struct Explainer<'c> {
    pub(super) conn: &'c mut PgConnection,
    prepared: bool,
}

/// A statement as it can be prepared.
#[derive(Clone, Debug)]
pub(super) struct Plannable {
    pub(super) prepare: String,
    pub(super) explain: String,
    repair: Repair,
}

impl<'c> Explainer<'c> {
    /// Prepares the session: generic plans, no waiting for locks, five seconds for a plan.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn new(conn: &'c mut PgConnection) -> Result<Self, Error> {
        let sql = "set plan_cache_mode = force_generic_plan; set lock_timeout = '1s'; set statement_timeout = '5s'; \
                   set client_min_messages = error";
        sqlx::raw_sql(sql).execute(&mut *conn).await.doing("prepare the session")?;
        // Only superusers may do this; without it one entry per number of parameters appears in pg_stat_statements.
        let _ = sqlx::raw_sql("set pg_stat_statements.track = none").execute(&mut *conn).await;
        Ok(Self { conn, prepared: false })
    }

    /// Gives the session back as it was.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.deallocate().await?;
        let sql =
            "reset plan_cache_mode; reset lock_timeout; reset statement_timeout; reset client_min_messages";
        sqlx::raw_sql(sql).execute(&mut *self.conn).await.doing("restore the session")?;
        let _ = sqlx::raw_sql("reset pg_stat_statements.track").execute(&mut *self.conn).await;
        Ok(())
    }

    async fn deallocate(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.prepared) {
            let gone = sqlx::raw_sql("deallocate perfkit_plan").execute(&mut *self.conn).await;
            if let Err(error) = gone {
                return Err(known(error)?).doing("forget a statement");
            }
        }
        Ok(())
    }

    /// Plans a statement.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked; the inner [`SkipReason`] says why this statement has no plan.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a prepared statement behind in the session, which the next call replaces.
    pub async fn explain(&mut self, sql: &str) -> Result<Result<Explained, SkipReason>, Error> {
        let plannable = match self.admit(sql).await? {
            Ok(plannable) => plannable,
            Err(reason) => return Ok(Err(reason)),
        };
        match sqlx::raw_sql(AssertSqlSafe(plannable.explain.clone())).fetch_one(&mut *self.conn).await {
            Ok(row) => {
                let plan = text(&row)?;
                Ok(Ok(Explained {
                    cost: number(&plan, "\"Total Cost\": ").unwrap_or_default(),
                    rows: number(&plan, "\"Plan Rows\": ").unwrap_or_default(),
                    repaired: plannable.repair.is_repaired(),
                    types: plannable.repair.declared(),
                    plan,
                }))
            }
            Err(error) => {
                let error = known(error)?;
                objection(&error, 0, "").map(|o| Err(step_refusal(&o))).ok_or(error).doing("plan a statement")
            }
        }
    }

    /// Finds a form of the statement that can be prepared, and leaves it prepared.
    pub(super) async fn admit(&mut self, sql: &str) -> Result<Result<Plannable, SkipReason>, Error> {
        if let Some(reason) = refuse(sql) {
            return Ok(Err(reason));
        }
        let mut repair = Repair::new(sql.trim().trim_end_matches(';'));
        for _ in 0..MAX_ATTEMPTS {
            self.deallocate().await?;
            let head = format!("prepare perfkit_plan{} as ", repair.type_list());
            let prepare = format!("{head}{}", repair.text);
            let Err(error) = sqlx::raw_sql(AssertSqlSafe(prepare.clone())).execute(&mut *self.conn).await
            else {
                self.prepared = true;
                return Ok(Ok(Plannable { explain: explain(repair.parameters), prepare, repair }));
            };
            if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("42P05")) {
                // A call dropped half-way left it behind.
                self.prepared = true;
                continue;
            }
            let Some(objection) = objection(&error, head.len(), &prepare) else {
                return Err(error).doing("prepare a statement");
            };
            if let Err(reason) = repair.step(&objection) {
                return Ok(Err(reason));
            }
        }
        Ok(Err(SkipReason::NotPlannable(format!("no types found in {MAX_ATTEMPTS} attempts"))))
    }
}

/// An error that has a name of its own: the statement prepared a moment ago is not there, because a pooler gave this session
/// to somebody else meanwhile.
pub(super) fn known(error: sqlx::Error) -> Result<sqlx::Error, Error> {
    let lost = error.as_database_error().is_some_and(|it| it.code().as_deref() == Some("26000"));
    if !lost {
        return Ok(error);
    }
    let fix =
        "the session changed between two statements: connect directly, or through a pooler in session mode";
    Err(Error::Unexpected(fix.to_owned()))
}

/// One text per number of parameters, so that `pg_stat_statements` sees few of them.
fn explain(parameters: u32) -> String {
    let nulls = vec!["null"; parameters as usize].join(", ");
    let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    format!("explain (format json) execute perfkit_plan{arguments}")
}

/// What a statement was refused for, when it was the statement and not the connection.
fn objection(error: &sqlx::Error, head: usize, sent: &str) -> Option<Objection> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let at = match error.position() {
        // Positions count characters from 1; offsets count bytes.
        Some(PgErrorPosition::Original(place)) => {
            sent.char_indices().nth(place.saturating_sub(1)).map(|(offset, _)| offset.saturating_sub(head))
        }
        _ => None,
    };
    Some(Objection { code: error.code().to_owned(), message: error.message().to_owned(), at })
}

fn step_refusal(objection: &Objection) -> SkipReason {
    match &*objection.code {
        "42501" => SkipReason::PermissionDenied(objection.message.clone()),
        "42P01" => SkipReason::Missing(objection.message.clone()),
        _ => SkipReason::NotPlannable(format!("{} ({})", objection.message, objection.code)),
    }
}

/// The first column as text, whatever its type: the simple protocol sends text.
pub(super) fn text(row: &PgRow) -> Result<String, Error> {
    let value = row.try_get_raw(0).doing("read an answer")?;
    value.as_str().map(str::to_owned).map_err(|error| Error::Unexpected(error.to_string()))
}

/// The first number after `label`. The plan's own comes before those of its parts.
pub(super) fn number(plan: &str, label: &str) -> Option<f64> {
    let rest = plan.split_once(label)?.1;
    let end =
        rest.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+' | 'e' | 'E')).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
