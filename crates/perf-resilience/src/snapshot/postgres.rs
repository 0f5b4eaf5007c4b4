use super::error::SnapshotError;
use super::lock::{STALE_PARTIAL, abandoned, hold};
use super::{Captured, Depth, Description, SnapshotTarget, now_ms};
use async_trait::async_trait;
use perf_core::{InvalidConfig, Rng, Secret};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use tokio::process::Command;

/// Runs a program that must not go on without this process, and ends it when nobody holds the other end of the input any
/// more: because the work was given up, or because the process was killed. A `pg_restore` that survived its owner would
/// commit when nobody expects it any more. Everything started is also waited for, so that nothing is left to whoever adopts
/// it, which in a container may be this process itself.
const LEASH: &str = r#"
exec 3<&0 </dev/null
"$0" "$@" 3<&- &
program=$!
{ read -r nothing <&3; kill -9 "$program"; } >/dev/null 2>&1 &
leash=$!
exec 3<&-
wait "$program"
status=$?
kill -9 "$leash" 2>/dev/null
wait "$leash" 2>/dev/null
exit "$status"
"#;

/// The dump's file inside a snapshot.
const FILE: &str = "database.dump";

/// A PostgreSQL database, captured with `pg_dump` in its custom format: one consistent point in time.
///
/// Roles and tablespaces are not part of it; recovery to a point in time stays with the tools made for it. The client
/// tools must be at least as new as the server. A password travels in a file that only its owner can read, never in
/// arguments.
///
/// A restore is one transaction. Objects made since the capture stay, unless they belong to one that was captured. Programs
/// are started through `sh`, so that none of them goes on when the work is given up or this process is killed.
#[derive(Clone, Debug)]
pub struct PostgresTarget {
    host: String,
    port: u16,
    user: String,
    database: String,
    password: Option<Secret<String>>,
    programs: Option<PathBuf>,
    ssl_mode: Option<PgSslMode>,
}

impl PostgresTarget {
    /// The database `database` at `host`, as `user`.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        let (host, user, database) = (host.into(), user.into(), database.into());
        Self { host, port, user, database, password: None, programs: None, ssl_mode: None }
    }

    /// The database that a URL names, as sqlx reads it: `postgres://user:password@host:port/database?sslmode=require`.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a text that is no such URL. The text is never part of the message.
    ///
    /// ```
    /// use perf_resilience::snapshot::{PostgresTarget, SnapshotTarget};
    ///
    /// let target = PostgresTarget::from_url("postgres://ada:s3cr%2Fet@db-1:5433/shop")?;
    /// assert_eq!(target.describe().name, "shop");
    /// assert!(!format!("{target:?}").contains("s3cr"));
    /// # Ok::<(), perf_core::InvalidConfig>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, InvalidConfig> {
        let wrong = || InvalidConfig::new("url", "***", "postgres://user:password@host:port/database");
        let options: PgConnectOptions = url.parse().map_err(|_| wrong())?;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let user = options.get_username();
        let target = Self::new(host, options.get_port(), user, options.get_database().unwrap_or(user));
        let target = Self { ssl_mode: Some(options.get_ssl_mode()), ..target };
        match password_of(url) {
            None => Ok(target),
            Some(password) => Ok(target.password(Secret::new(decoded(password).ok_or_else(wrong)?))),
        }
    }

    /// With this password.
    #[must_use]
    pub fn password(mut self, password: Secret<String>) -> Self {
        self.password = Some(password);
        self
    }

    /// Where `pg_dump`, `pg_restore` and `psql` are, when they are not on the path.
    #[must_use]
    pub fn programs(mut self, directory: impl Into<PathBuf>) -> Self {
        self.programs = Some(directory.into());
        self
    }

    async fn run(
        &self,
        program: &'static str,
        database: &str,
        arguments: &[&str],
    ) -> Result<String, SnapshotError> {
        let path = self.programs.as_ref().map_or_else(|| PathBuf::from(program), |at| at.join(program));
        let mut command = Command::new("sh");
        command
            .args(["-c", LEASH])
            .arg(path)
            .args(arguments)
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGDATABASE", database)
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(mode) = self.ssl_mode {
            command.env("PGSSLMODE", mode_name(mode));
        }
        let _pass_file = match &self.password {
            Some(password) => {
                let file = PassFile::write(password.expose())?;
                command.env("PGPASSFILE", &file.path);
                Some(file)
            }
            None => None,
        };
        let failed = |error| SnapshotError::tool(program, error);
        let mut child = command.spawn().map_err(failed)?;
        let leash = child.stdin.take();
        let output = child.wait_with_output().await.map_err(failed)?;
        drop(leash);
        if !output.status.success() {
            return Err(SnapshotError::tool(program, String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn sql(&self, database: &str, statement: &str) -> Result<String, SnapshotError> {
        let arguments =
            ["--no-psqlrc", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", "-c", statement];
        Ok(self.run("psql", database, &arguments).await?.trim().to_owned())
    }

    /// The entries of a dump's table of contents: reading them reads the whole archive's directory.
    async fn entries(&self, file: &Path) -> Result<u64, SnapshotError> {
        let file = file.display().to_string();
        let list = self.run("pg_restore", &self.database, &["--list", &file]).await;
        let list = list.map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        Ok(list.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()).count() as u64)
    }

    /// Reads every byte of the dump's data by turning it into SQL that goes nowhere.
    async fn read_through(&self, file: &Path) -> Result<(), SnapshotError> {
        let file = file.display().to_string();
        let read = self.run("pg_restore", &self.database, &["--file=/dev/null", &file]).await;
        read.map(drop).map_err(|error| SnapshotError::Damaged(error.to_string()))
    }

    /// Drops the databases of rehearsals that were killed or given up long ago.
    async fn drop_abandoned(&self) -> Result<(), SnapshotError> {
        let list = "SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, 'perf_drill_')";
        for name in self.sql(&self.database, list).await?.lines().filter(|name| is_abandoned(name, now_ms()))
        {
            self.sql(&self.database, &format!("DROP DATABASE IF EXISTS {name}")).await?;
        }
        Ok(())
    }

    async fn restore_into(&self, database: &str, file: &Path, clean: bool) -> Result<(), SnapshotError> {
        let file = file.display().to_string();
        let mut arguments =
            vec!["--exit-on-error", "--single-transaction", "--no-owner", "--dbname", database];
        if clean {
            arguments.extend(["--clean", "--if-exists"]);
        }
        arguments.push(&file);
        self.run("pg_restore", database, &arguments).await.map(drop)
    }
}

const fn mode_name(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// The password in a URL as it is written there, which sqlx reads but does not give out.
fn password_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@')?.0.split_once(':').map(|(_, password)| password)
}

/// Replaces `%2F` and the like by what they stand for; nothing if that is no text.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// What the names of databases for rehearsals begin with; the time they were made at follows.
const SCRATCH: &str = "perf_drill_";

/// Whether a rehearsal made the database of this name, and so long ago that it cannot be under way any more.
fn is_abandoned(name: &str, now_ms: u64) -> bool {
    let Some((made, rest)) = name.strip_prefix(SCRATCH).and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let ours = rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let age = made.parse::<u64>().ok().and_then(|made| now_ms.checked_sub(made));
    ours && age.is_some_and(|age| u128::from(age) > STALE_PARTIAL.as_millis())
}

const TABLES: &str = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'";

#[async_trait]
impl SnapshotTarget for PostgresTarget {
    fn describe(&self) -> Description {
        Description { kind: "postgres", name: self.database.clone() }
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        let path = directory.join(FILE);
        let file = path.display().to_string();
        self.run("pg_dump", &self.database, &["--format=custom", "--file", &file]).await?;
        let entries = self.entries(&path).await?;
        // pg_dump has been seen to end well on a full disk.
        self.read_through(&path).await?;
        let server = self.sql(&self.database, "SHOW server_version").await?;
        let tool = self.run("pg_dump", &self.database, &["--version"]).await?.trim().to_owned();
        Ok(Captured {
            files: vec![FILE.to_owned()],
            counts: BTreeMap::from([("entries".to_owned(), entries)]),
            versions: BTreeMap::from([("postgres".to_owned(), server), ("pg_dump".to_owned(), tool)]),
        })
    }

    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        let file = directory.join(FILE);
        let counts = BTreeMap::from([("entries".to_owned(), self.entries(&file).await?)]);
        self.read_through(&file).await?;
        if depth == Depth::Restore {
            // A name of its own, so that a rehearsal can never touch a database that somebody uses.
            self.drop_abandoned().await?;
            let scratch = format!("{SCRATCH}{:013}_{:08x}", now_ms(), Rng::from_entropy().next_u64() >> 32);
            self.sql(&self.database, &format!("CREATE DATABASE {scratch}")).await?;
            let restored = self.restore_into(&scratch, &file, false).await;
            let dropped = self.sql(&self.database, &format!("DROP DATABASE {scratch}")).await;
            restored.map_err(|error| SnapshotError::Damaged(error.to_string()))?;
            dropped?;
        }
        Ok(counts)
    }

    async fn restore(&self, directory: &Path, overwrite: bool) -> Result<(), SnapshotError> {
        let tables = self.sql(&self.database, TABLES).await?;
        if tables != "0" && !overwrite {
            return Err(SnapshotError::Refused(format!("`{}` has {tables} tables", self.database)));
        }
        self.restore_into(&self.database, &directory.join(FILE), overwrite).await
    }

    fn restores_at_once(&self) -> bool {
        true
    }
}

/// What the names of password files begin with.
const PASS_FILE: &str = "perf-pass-";

/// A password file that only its owner can read; removed when dropped.
struct PassFile {
    path: PathBuf,
    _held: File,
}

impl PassFile {
    fn write(password: &str) -> Result<Self, SnapshotError> {
        use std::os::unix::fs::OpenOptionsExt;
        static TIDY: Once = Once::new();
        TIDY.call_once(Self::remove_abandoned);
        loop {
            let name = format!("{PASS_FILE}{}-{:016x}", std::process::id(), Rng::from_entropy().next_u64());
            let path = std::env::temp_dir().join(name);
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(&path).map_err(SnapshotError::io("make", &path))?;
            let Some(held) = hold(&path).map_err(SnapshotError::io("lock", &path))? else { continue };
            let pass_file = Self { path, _held: held };
            let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
            writeln!(file, "*:*:*:*:{escaped}").map_err(SnapshotError::io("write", &pass_file.path))?;
            return Ok(pass_file);
        }
    }

    /// Removes the password files of processes that were killed. One that is not found today is found another time.
    fn remove_abandoned() {
        let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
        for entry in entries.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PASS_FILE);
            if ours && let Some(_held) = abandoned(&entry.path(), false) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for PassFile {
    fn drop(&mut self) {
        // Nothing more can be done about it here; it lies in the temporary directory and nobody else can read it.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_everything_and_passwords_are_read_as_they_were_meant() {
        let of = |url: &str| PostgresTarget::from_url(url).unwrap();
        let target = of("postgres://ada:p%40ss:w%2Frd%@db-1:5433/shop?sslmode=verify-full");
        assert_eq!((target.host.as_str(), target.port, target.user.as_str()), ("db-1", 5433, "ada"));
        assert_eq!(target.password.unwrap().expose(), "p@ss:w/rd%");
        assert_eq!(target.ssl_mode.map(mode_name), Some("verify-full"));
        let plain = of("postgresql://ada@db-1/shop?note=a:b@c");
        assert!(plain.password.is_none());
        assert_eq!((plain.database.as_str(), plain.port), ("shop", 5432));
        let refused = PostgresTarget::from_url("postgres://ada:secret@db-1:port/shop").unwrap_err();
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }

    #[test]
    fn only_old_databases_of_rehearsals_are_abandoned() {
        let day = 24 * 3600 * 1000;
        assert!(is_abandoned("perf_drill_0000000001000_0123abcd", day + 1001));
        for other in [
            "perf_drill_0000000001000_0123abcd",
            "perf_drill_0000000000001_0123abcde",
            "perf_drill_0000000000001_mine",
            "perf_drill_x_0123abcd",
            "perf_drills",
            "shop",
        ] {
            assert!(!is_abandoned(other, day + 1000), "{other}");
        }
    }
}
