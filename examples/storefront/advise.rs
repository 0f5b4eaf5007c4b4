//! Index advice from the statements of the first run, applied with our word.

use perfkit::dbopt::advise::IndexAdvice;
use perfkit::dbopt::postgres::{ApplyPolicy, IndexApplier, PostgresAdvisor};
use perfkit::dbopt::sqlite::SqliteAdvisor;
use perfkit::dbopt::{Apply, Dialect, QueryStats, Workload, WorkloadQuery};
use sqlx::{Connection, PgConnection, SqliteConnection};
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
pub async fn sqlite(url: &str, statements: &Path) -> Result<Vec<(String, String)>, Failure> {
    let workload = workload(statements, Dialect::Sqlite)?;
    let mut connection = SqliteConnection::connect(url).await?;
    let advisor = SqliteAdvisor::default();
    let advice = advisor.advise(&mut connection, &workload).await?;
    advisor.apply(&mut connection, &advice, &Apply::confirmed_by(ACTOR)).await?;
    connection.close().await?;
    Ok(advice.create.iter().map(described).collect())
}

/// Advises on a PostgreSQL database with HypoPG, creates the indexes, and says what each is for. Without HypoPG there is no advice.
pub async fn postgres(url: &str, statements: &Path) -> Result<Vec<(String, String)>, Failure> {
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
    let created: Vec<&str> = applied.created().collect();
    Ok(advice.create.iter().filter(|index| created.contains(&index.name.as_str())).map(described).collect())
}

fn described(index: &IndexAdvice) -> (String, String) {
    let served: Vec<String> = index
        .serves
        .iter()
        .map(|served| {
            format!(
                "{} calls, cost {:.0} to {:.0}: {}",
                served.calls, served.cost_before, served.cost_after, served.text
            )
        })
        .collect();
    (index.ddl.clone(), served.join("; "))
}
