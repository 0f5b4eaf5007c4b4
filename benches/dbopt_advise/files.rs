//! A workload from a folder: schema, rows and statements that are somebody else's, and need not be ours to publish.
//!
//! - `schema.sql` creates the tables;
//! - `TABLE.csv` fills one of them; without any, statements are planned over empty tables and no index is looked for;
//! - each file in `queries/` holds one statement.
//!
//! The statements are taken as `pg_stat_statements` keeps them, with `$n` for every constant. It notes a statement when it is planned
//! (`track_planning`), so each is sent once and cancelled soon after.

use crate::contest::{Effort, compare};
use crate::rivals::Memory;
use crate::{AnyError, Database, is_there, run};
use perf_core::time::{Duration, now};
use perf_dbopt::postgres::Explainer;
use perf_dbopt::{Dialect, Workload};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What bar B-3 allows for a budget; how long a rival may take says `PERF_DBOPT_RIVAL_SECONDS`, or it is an hour.
fn effort() -> Effort {
    let rivals = std::env::var("PERF_DBOPT_RIVAL_SECONDS").ok().and_then(|text| text.parse().ok());
    Effort {
        time: Duration::from_secs(60),
        calls: usize::MAX,
        widths: &[2],
        rivals: Duration::from_secs(rivals.unwrap_or(3600)),
        variants: false,
    }
}
/// Planning a statement of a decision-support benchmark takes tens of milliseconds.
const CANCEL: [&str; 3] = ["300ms", "3s", "30s"];
/// The cancelled statement was planned all the same.
const CANCELLED: &str = "57014";

/// Files of a folder with this ending, in the order of their names.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, AnyError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn load(conn: &mut PgConnection, folder: &Path, rows: &[PathBuf]) -> Result<(), AnyError> {
    run(conn, &std::fs::read_to_string(folder.join("schema.sql"))?).await?;
    for path in rows {
        let copy = format!("copy {} from stdin with (format csv)", Dialect::Postgres.quote(&stem(path)));
        let mut sink = conn.copy_in_raw(&copy).await?;
        let mut file = File::open(path)?;
        loop {
            let mut chunk = vec![0; 1 << 20];
            let many = file.read(&mut chunk)?;
            if many == 0 {
                break;
            }
            chunk.truncate(many);
            sink.send(chunk).await?;
        }
        sink.finish().await?;
    }
    run(conn, "vacuum analyze").await
}

/// How often each text was planned so far.
async fn planned(conn: &mut PgConnection) -> Result<HashMap<String, i64>, AnyError> {
    let sql = "select query, plans from pg_stat_statements where toplevel and query not like '%pg_stat_statements%' \
               and dbid = (select oid from pg_database where datname = current_database())";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// The text the server keeps of a statement.
async fn kept(conn: &mut PgConnection, sql: &str) -> Result<String, AnyError> {
    for limit in CANCEL {
        let before = planned(conn).await?;
        run(conn, &format!("set statement_timeout = '{limit}'")).await?;
        let outcome = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *conn).await;
        run(conn, "reset statement_timeout").await?;
        if let Err(error) = outcome
            && error.as_database_error().and_then(|error| error.code()).as_deref() != Some(CANCELLED)
        {
            return Err(error.into());
        }
        let after = planned(conn).await?;
        let more = |(text, plans): &(&String, &i64)| before.get(*text).copied().unwrap_or_default() < **plans;
        if let Some((text, _)) = after.iter().find(more) {
            return Ok(text.clone());
        }
    }
    Err("pg_stat_statements did not note it".into())
}

/// Whether a statement can be explained the plain way: prepared as it is, and executed with NULL for everything.
async fn plainly(conn: &mut PgConnection, text: &str) -> Result<bool, AnyError> {
    if run(conn, &format!("prepare plainly as {text}")).await.is_err() {
        return Ok(false);
    }
    let sql = "select cardinality(parameter_types) from pg_prepared_statements where name = 'plainly'";
    let parameters: i32 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
    let nulls = vec!["null"; usize::try_from(parameters)?].join(", ");
    let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    let explained = run(conn, &format!("explain execute plainly{arguments}")).await.is_ok();
    run(conn, "deallocate plainly").await?;
    Ok(explained)
}

/// Prints how many of the texts are explained, plainly and by us.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
async fn explain(conn: &mut PgConnection, name: &str, texts: &[(String, String)]) -> Result<(), AnyError> {
    let mut plain = 0;
    for (_, text) in texts {
        plain += usize::from(plainly(conn, text).await?);
    }
    let start = now();
    let (mut ours, mut repaired) = (0, 0);
    let mut explainer = Explainer::new(conn).await?;
    for (file, text) in texts {
        match explainer.explain(text).await? {
            Ok(explained) => {
                ours += 1;
                repaired += usize::from(explained.repaired);
            }
            Err(reason) => println!("note {name}/{file} is not explained: {reason}"),
        }
    }
    explainer.finish().await?;
    println!(
        "ratio advise-{name}-explained texts={} plain={plain} ours={ours} repaired={repaired} ms={}",
        texts.len(),
        start.elapsed().as_millis()
    );
    Ok(())
}

/// Budgets in MB from `PERF_DBOPT_BUDGETS`, or a twentieth, a fifth and the whole of the database's present size.
async fn budgets(conn: &mut PgConnection) -> Result<Vec<f64>, AnyError> {
    if let Ok(list) = std::env::var("PERF_DBOPT_BUDGETS") {
        return Ok(list.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?);
    }
    let sql = "select pg_database_size(current_database())::float8 / 1e6";
    let size: f64 = sqlx::query_scalar(sql).fetch_one(conn).await?;
    Ok([0.05, 0.2, 1.0].map(|share| (size * share).round()).to_vec())
}

/// How many of a folder's statements are explained, and what each algorithm makes of three budgets.
pub(crate) async fn contest(folder: &Path, mut database: Database) -> Result<(), AnyError> {
    let conn = &mut database.conn;
    run(conn, "create extension if not exists pg_stat_statements").await?;
    run(conn, "set pg_stat_statements.track_planning = on").await?;
    let (rows, queries) = (files(folder, "csv")?, files(&folder.join("queries"), "sql")?);
    let schema = std::fs::read_to_string(folder.join("schema.sql"))?;
    let first = schema.to_ascii_lowercase();
    let first = first.split_once("create table ").and_then(|(_, rest)| rest.split_whitespace().next());
    if !is_there(conn, first.ok_or("schema.sql creates no table")?).await? {
        load(conn, folder, &rows).await?;
    }
    let mut texts = Vec::new();
    for path in &queries {
        let text = kept(conn, &std::fs::read_to_string(path)?).await;
        texts.push((stem(path), text.map_err(|error| format!("{}: {error}", path.display()))?));
    }
    let name = stem(folder);
    explain(conn, &name, &texts).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let workload =
        texts.iter().fold(Workload::new(Dialect::Postgres), |workload, (_, text)| workload.with(text, 1));
    // What a rival learnt for one budget it knows for the next.
    let mut memory = Memory::new();
    for budget in budgets(conn).await? {
        compare(conn, &name, &workload, budget, &effort(), &mut memory).await?;
    }
    Ok(())
}
