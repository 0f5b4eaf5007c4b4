use super::error::SnapshotError;
use super::manifest::sync;
use super::{Captured, Depth, Description, SnapshotTarget};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The database's file inside a snapshot.
const FILE: &str = "database.sqlite";

/// A SQLite database file. Captured with `VACUUM INTO` while others read and write: the copy is consistent, compact, and
/// free of deleted content.
///
/// Restoring needs the file for itself. A connection to a database in WAL mode is noticed and the restore refused; one
/// in rollback mode that does nothing at the moment cannot be noticed, and keeps the old file.
#[derive(Clone, Debug)]
pub struct SqliteTarget {
    path: PathBuf,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> SnapshotError {
    move |error| SnapshotError::tool(what, error)
}

impl SqliteTarget {
    /// The database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// Makes sure that nobody else has the database open, as far as that can be known, and leaves no log beside it.
    async fn claim(&self) -> Result<(), SnapshotError> {
        let in_use =
            |why: String| SnapshotError::Refused(format!("`{}` is in use: {why}", self.path.display()));
        let options =
            SqliteConnectOptions::new().filename(&self.path).busy_timeout(std::time::Duration::ZERO);
        let mut connection = options.connect().await.map_err(failed("opening the database"))?;
        let claimed = async {
            sqlx::query("PRAGMA locking_mode = EXCLUSIVE").fetch_all(&mut connection).await?;
            // Leaving WAL mode needs every other connection gone, also idle ones.
            let mode: String =
                sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await?;
            sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await?;
            sqlx::query("ROLLBACK").execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(mode)
        }
        .await;
        let closed = connection.close().await;
        let mode = claimed.map_err(|error| in_use(error.to_string()))?;
        closed.map_err(failed("closing the database"))?;
        if mode.eq_ignore_ascii_case("wal") { Err(in_use("others have it open".to_owned())) } else { Ok(()) }
    }
}

async fn open_copy(path: &Path) -> Result<SqliteConnection, SnapshotError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    options.connect().await.map_err(|error| SnapshotError::Damaged(error.to_string()))
}

/// Rows by table. Names are quoted: a table may be called anything.
async fn counts(connection: &mut SqliteConnection) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut counts = BTreeMap::new();
    for table in tables {
        let query = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut *connection).await?;
        counts.insert(format!("rows of {table}"), u64::try_from(rows).unwrap_or(0));
    }
    Ok(counts)
}

async fn check(path: &Path) -> Result<BTreeMap<String, u64>, SnapshotError> {
    let mut connection = open_copy(path).await?;
    let checked = async {
        let verdict: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await?;
        let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut connection).await?;
        Ok::<_, sqlx::Error>((verdict, orphans, counts(&mut connection).await?))
    }
    .await;
    let closed = connection.close().await;
    let (verdict, orphans, counts) = checked.map_err(|error| SnapshotError::Damaged(error.to_string()))?;
    closed.map_err(failed("closing the copy"))?;
    if verdict != "ok" {
        return Err(SnapshotError::Damaged(verdict));
    }
    if let Some(orphan) = orphans {
        let table: String = orphan.try_get(0).unwrap_or_default();
        return Err(SnapshotError::Damaged(format!("a row of `{table}` refers to one that is not there")));
    }
    Ok(counts)
}

#[async_trait]
impl SnapshotTarget for SqliteTarget {
    fn describe(&self) -> Description {
        Description { kind: "sqlite", name: self.path.display().to_string() }
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        let copy = directory.join(FILE);
        let options = SqliteConnectOptions::new().filename(&self.path);
        let mut connection = options.connect().await.map_err(failed("opening the database"))?;
        let made = async {
            let version: String =
                sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut connection).await?;
            sqlx::query("VACUUM INTO ?").bind(copy.display().to_string()).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(version)
        }
        .await;
        let closed = connection.close().await;
        let version = made.map_err(failed("VACUUM INTO"))?;
        closed.map_err(failed("closing the database"))?;
        // SQLite does not bring this file to disk itself.
        sync(&copy).await?;
        Ok(Captured {
            files: vec![FILE.to_owned()],
            counts: check(&copy).await?,
            versions: BTreeMap::from([("sqlite".to_owned(), version)]),
        })
    }

    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        let file = directory.join(FILE);
        match depth {
            Depth::Read => check(&file).await,
            Depth::Restore => {
                let scratch = Scratch(directory.join(".drill.sqlite"));
                tokio::fs::copy(&file, &scratch.0).await.map_err(SnapshotError::io("copy to", &scratch.0))?;
                sync(&scratch.0).await?;
                check(&scratch.0).await
            }
        }
    }

    async fn restore(&self, directory: &Path, overwrite: bool) -> Result<(), SnapshotError> {
        let exists =
            tokio::fs::try_exists(&self.path).await.map_err(SnapshotError::io("look at", &self.path))?;
        if exists && !overwrite {
            return Err(SnapshotError::Refused(format!("`{}` is there already", self.path.display())));
        }
        let fresh = Scratch(self.beside(".restoring"));
        tokio::fs::copy(directory.join(FILE), &fresh.0)
            .await
            .map_err(SnapshotError::io("copy to", &fresh.0))?;
        sync(&fresh.0).await?;
        if exists {
            self.claim().await?;
        }
        for log in [self.beside("-wal"), self.beside("-shm")] {
            match tokio::fs::remove_file(&log).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SnapshotError::io("remove", log)(error));
                }
                _ => {}
            }
        }
        tokio::fs::rename(&fresh.0, &self.path).await.map_err(SnapshotError::io("replace", &self.path))?;
        sync(self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            .await
    }

    fn restores_at_once(&self) -> bool {
        true
    }
}

/// A file that is removed when dropped; once renamed there is nothing left to remove.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is only a copy; one that stays behind is overwritten by the next.
        let _ = std::fs::remove_file(&self.0);
    }
}
