//! Index advice from the statements of the first run, applied with our word.

use crate::report::{Gain, Index};
use perfkit::dbopt::advise::IndexAdvice;
use perfkit::dbopt::postgres::{ApplyPolicy, IndexApplier, PostgresAdvisor};
use perfkit::dbopt::sqlite::SqliteAdvisor;
use perfkit::dbopt::{Apply, Dialect, QueryStats, Workload, WorkloadQuery};
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;

type Failure = Box<dyn Error + Send + Sync>;

/// Who is written into the record of what was changed.
const ACTOR: &str = "storefront";

/// The observed statements and how often each ran: what one process leaves for the next.
pub fn statements(stats: &QueryStats) -> Vec<(String, u64)> {
    stats.statements().iter().map(|statement| (statement.text.to_string(), statement.calls())).collect()
}

fn workload(path: &Path, dialect: Dialect) -> Result<Workload, Failure> {
    let statements: Vec<(String, u64)> = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut workload = Workload::new(dialect);
    for (sql, calls) in statements {
        workload.add(WorkloadQuery::new(&sql, dialect, calls));
    }
    Ok(workload)
}

/// Advises on a SQLite database, creates the indexes, and says what each is for.
pub async fn sqlite(url: &str, statements: &Path) -> Result<Vec<Index>, Failure> {
    let workload = workload(statements, Dialect::Sqlite)?;
    let mut connection = SqliteConnection::connect(url).await?;
    let advisor = SqliteAdvisor::default();
    let advice = advisor.advise(&mut connection, &workload).await?;
    let applied = advisor.apply(&mut connection, &advice, &Apply::confirmed_by(ACTOR)).await?;
    connection.close().await?;
    Ok(described(&advice.create, applied.created()))
}

/// Advises on a PostgreSQL database with HypoPG, creates the indexes, and says what each is for. Without HypoPG there is no advice.
pub async fn postgres(url: &str, statements: &Path) -> Result<Vec<Index>, Failure> {
    let workload = workload(statements, Dialect::Postgres)?;
    let mut connection = PgConnection::connect(url).await?;
    let installed = sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS hypopg").execute(&mut connection).await;
    if let Err(error) = installed {
        eprintln!("no index advice, because HypoPG cannot be installed in this database: {error}");
        return Ok(Vec::new());
    }
    let advice = PostgresAdvisor::default().advise(&mut connection, &workload).await?;
    let applier = IndexApplier::new(ApplyPolicy::default())?;
    let applied = applier.apply(&mut connection, &advice, &Apply::confirmed_by(ACTOR)).await?;
    connection.close().await?;
    Ok(described(&advice.create, applied.created()))
}

/// Those of the recommended indexes that were created, each with what it is for.
fn described<'a>(advice: &[IndexAdvice], created: impl Iterator<Item = &'a str>) -> Vec<Index> {
    let created: HashSet<&str> = created.collect();
    advice.iter().filter(|index| created.contains(index.name.as_str())).map(describe).collect()
}

fn describe(index: &IndexAdvice) -> Index {
    let gains = index.serves.iter().map(|served| Gain {
        statement: served.text.to_string(),
        calls: served.calls,
        cost_before: served.cost_before,
        cost_after: served.cost_after,
    });
    let serves: Vec<Gain> = gains.collect();
    let total =
        |cost: fn(&Gain) -> f64| serves.iter().map(|gain| gain.calls as f64 * cost(gain)).sum::<f64>();
    let (before, after) = (total(|gain| gain.cost_before), total(|gain| gain.cost_after));
    let gain = match serves.len() {
        0 => "serves no statement in the plans with all that is recommended".to_owned(),
        number => format!(
            "serves {number} {}, which cost {:.0} % less with all that is recommended",
            if number == 1 { "statement" } else { "statements" },
            (1.0 - after / before.max(f64::MIN_POSITIVE)) * 100.0
        ),
    };
    let reason = format!(
        "{gain}; takes {:.1} MB; its upkeep is {:.2} % of what the workload costs",
        index.bytes as f64 / 1e6,
        index.upkeep * 100.0
    );
    Index { statement: index.ddl.clone(), reason, serves, bytes: index.bytes }
}
