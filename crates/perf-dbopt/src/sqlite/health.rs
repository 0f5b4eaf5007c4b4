//! Whether a SQLite database is well, and the little it needs to stay so (B9).

use crate::error::Doing;
use crate::{Apply, Error, Finding, FindingKind, Maintained, MaintenancePolicy, Severity};
use perf_core::time::now;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

/// Rows per index that statistics are taken from: quick, and enough to tell indexes apart. Before 3.46 `PRAGMA optimize` reads
/// everything without such a limit.
const ANALYSIS_LIMIT: u32 = 400;
/// A free list beyond this share of the file is worth returning.
const FREE_SHARE: f64 = 0.25;
/// The same, when there is little of it, is not.
const FREE_PAGES: i64 = 1000;
/// A write-ahead log of this size was not written back for long: a reader holds it, or checkpoints are off.
const LARGE_LOG: u64 = 64 << 20;

/// What is wrong with a SQLite database, or could be better: statistics, free pages, write-ahead log, settings. Quick: it does not
/// read the tables; see [`check_integrity`] for that.
///
/// # Errors
/// [`Error`] when the database cannot be read.
///
/// # Cancel safety
/// The database is only read.
pub async fn inspect(conn: &mut SqliteConnection) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let main = "main";
    // With -1 it says what it would do, and does nothing.
    let wanted =
        sqlx::raw_sql("PRAGMA optimize(-1)").fetch_all(&mut *conn).await.doing("ask what to analyse")?;
    for row in wanted {
        let action: String = row.try_get(0).doing("read an answer")?;
        let message = "its statistics are missing or old";
        findings.push(
            Finding::new(FindingKind::NeedsAnalyze, Severity::Info, object_of(&action), message)
                .with_action(action),
        );
    }
    let (pages, free) =
        (number(conn, "PRAGMA page_count").await?, number(conn, "PRAGMA freelist_count").await?);
    let vacuum = number(conn, "PRAGMA auto_vacuum").await?;
    if free >= FREE_PAGES && free as f64 >= FREE_SHARE * pages as f64 {
        let message = format!("{free} of {pages} pages are free");
        let finding = Finding::new(FindingKind::FreePages, Severity::Info, main, message);
        // Without incremental vacuuming only VACUUM would help, which rewrites the file and stops everybody.
        findings.push(if vacuum == 2 { finding.with_action("PRAGMA incremental_vacuum") } else { finding });
    }
    findings.extend(log(conn).await?);
    let mode: String = text(conn, "PRAGMA journal_mode").await?;
    if !matches!(mode.as_str(), "wal" | "memory") {
        let message = format!("journal_mode is {mode}: a writer stops every reader");
        let finding = Finding::new(FindingKind::Setting, Severity::Warning, "journal_mode", message);
        findings.push(finding.with_action("PRAGMA journal_mode = wal"));
    }
    if number(conn, "PRAGMA busy_timeout").await? == 0 {
        let message = "a connection that finds the database locked fails at once";
        let finding = Finding::new(FindingKind::Setting, Severity::Warning, "busy_timeout", message);
        findings.push(finding.with_action("PRAGMA busy_timeout = 5000"));
    }
    let sql = "select count(*) from pragma_compile_options where compile_options = 'ENABLE_STAT4'";
    if number(conn, sql).await? == 0 {
        let message = "built without STAT4: the planner does not know how values are distributed";
        findings.push(Finding::new(FindingKind::Setting, Severity::Info, "ENABLE_STAT4", message));
    }
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.kind.cmp(&b.kind)));
    Ok(findings)
}

/// The table a statement of `PRAGMA optimize` is about.
fn object_of(action: &str) -> String {
    action.rsplit_once('.').map_or(action, |(_, name)| name).trim_end_matches(';').to_owned()
}

/// Whether the write-ahead log is so large that nobody can have written it back for long.
async fn log(conn: &mut SqliteConnection) -> Result<Option<Finding>, Error> {
    let file: String =
        text(conn, "select coalesce(file, '') from pragma_database_list where name = 'main'").await?;
    let size = if file.is_empty() { None } else { std::fs::metadata(format!("{file}-wal")).ok() };
    Ok(size.map(|log| log.len()).filter(|bytes| *bytes >= LARGE_LOG).map(|bytes| {
        let message = format!("the write-ahead log has {} MB: readers slow down", bytes >> 20);
        Finding::new(FindingKind::Checkpoint, Severity::Warning, "main", message)
            .with_action("PRAGMA wal_checkpoint(TRUNCATE)")
    }))
}

/// Reads the whole database and names what is damaged, at most a hundred things: broken pages and rows, indexes that do not match
/// their tables, rows whose parent is missing. As slow as reading the file.
///
/// # Errors
/// [`Error`] when the database cannot be read at all.
///
/// # Cancel safety
/// The database is only read.
pub async fn check_integrity(conn: &mut SqliteConnection) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for row in sqlx::raw_sql("PRAGMA integrity_check(100)")
        .fetch_all(&mut *conn)
        .await
        .doing("check the integrity")?
    {
        let message: String = row.try_get(0).doing("read an answer")?;
        if message != "ok" {
            findings.push(Finding::new(FindingKind::Corruption, Severity::Critical, "main", message));
        }
    }
    let sql = "select \"table\", parent, count(*) from pragma_foreign_key_check group by 1, 2 limit 100";
    for row in sqlx::query(sql).fetch_all(conn).await.doing("check the foreign keys")? {
        let (table, parent, rows): (String, Option<String>, i64) = (row.get(0), row.get(1), row.get(2));
        let message =
            format!("{rows} rows refer to rows of {} that are not there", parent.unwrap_or_default());
        findings.push(Finding::new(FindingKind::Corruption, Severity::Warning, table, message));
    }
    Ok(findings)
}

/// Does what the policy finds worth doing: statistics, writing back the log, returning free pages.
///
/// # Errors
/// [`Error`] when the connection fails. A statement the database refuses, because it is locked, is part of the answer.
///
/// # Cancel safety
/// Each statement is done whole or not at all.
pub async fn maintain(
    conn: &mut SqliteConnection,
    findings: &[Finding],
    policy: &MaintenancePolicy,
    consent: &Apply,
) -> Result<Maintained, Error> {
    let _ = consent;
    let begin = now();
    let mut maintained = Maintained::default();
    let mut actions = policy.plan(findings).into_iter();
    let minute = number(conn, "select strftime('%H', 'now') * 60 + strftime('%M', 'now')").await?;
    if policy.window.is_some_and(|window| !window.contains(u16::try_from(minute).unwrap_or_default())) {
        maintained.outside_window = true;
        maintained.left = actions.collect();
        return Ok(maintained);
    }
    let before = number(conn, "PRAGMA analysis_limit").await?;
    set_limit(conn, i64::from(ANALYSIS_LIMIT)).await?;
    for action in actions.by_ref() {
        if begin.elapsed() >= policy.budget {
            maintained.left.push(action);
            break;
        }
        match sqlx::raw_sql(AssertSqlSafe(action.clone())).execute(&mut *conn).await {
            Ok(_) => maintained.done.push(action),
            Err(sqlx::Error::Database(error)) => maintained.failed.push((action, error.message().to_owned())),
            Err(error) => return Err(error).doing("maintain the database"),
        }
    }
    maintained.left.extend(actions);
    set_limit(conn, before).await?;
    Ok(maintained)
}

async fn set_limit(conn: &mut SqliteConnection, limit: i64) -> Result<(), Error> {
    let sql = format!("PRAGMA analysis_limit = {limit}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.doing("limit the analysis")?;
    Ok(())
}

async fn number(conn: &mut SqliteConnection, sql: &'static str) -> Result<i64, Error> {
    sqlx::query_scalar(sql).fetch_one(conn).await.doing("read a setting")
}

async fn text(conn: &mut SqliteConnection, sql: &'static str) -> Result<String, Error> {
    sqlx::query_scalar(sql).fetch_one(conn).await.doing("read a setting")
}
