//! A private PostgreSQL.

use super::account::Account;
use super::binary::{Binary, postgres_directories};
use super::directory::Directory;
use super::instance::{Instance, Spec};
use super::real_time::blocking;
use super::{Port, ServerError, process, template};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const PACKAGE: &str = "postgresql-15";
const USER: &str = "postgres";
const PASSWORD: &str = "perf-testkit";

/// How a private PostgreSQL is started. Made by [`PostgresServer::builder`].
#[must_use]
#[derive(Clone, Debug)]
pub struct PostgresBuilder {
    settings: Vec<(String, String)>,
    password: bool,
    /// How to reach the server this one follows.
    primary: Option<String>,
}

impl PostgresBuilder {
    /// Sets a parameter of `postgresql.conf`; a later value replaces an earlier one, the testkit's own included.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Loads these libraries at start, as `pg_stat_statements` needs.
    pub fn preload(self, libraries: &str) -> Self {
        self.setting("shared_preload_libraries", libraries)
    }

    /// Lets only clients in that know the password, which [`PostgresServer::url`] contains. Without it everybody on this
    /// machine may connect.
    pub fn require_password(mut self) -> Self {
        self.password = true;
        self
    }

    /// Makes the server a standby: it begins as a copy of `primary` and streams what is written there. It takes reads only,
    /// and must not have fewer connections, workers or locks than the primary.
    pub fn standby_of(mut self, primary: &PostgresServer) -> Self {
        let secret = if primary.password { format!(" password={PASSWORD}") } else { String::new() };
        self.primary = Some(format!("host=127.0.0.1 port={} user={USER}{secret}", primary.port()));
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`ServerError::MissingBinary`] when PostgreSQL is not installed, and whatever keeps the server from starting.
    ///
    /// # Cancel safety
    /// Dropping the future lets the start finish in the background and removes the server then.
    pub async fn start(self) -> Result<PostgresServer, ServerError> {
        let started = blocking(move || {
            let tools = Tools::find()?;
            let account = Account::unless_unprivileged("postgres", USER)?;
            let port = Port::reserve()?;
            let directory = Directory::create("postgres", account, Signal::QUIT)?;
            let data = directory.subdirectory("data", account)?;
            match &self.primary {
                Some(primary) => tools.copy(primary, &data, account)?,
                None => {
                    let key = format!("postgres-{}-1", tools.version()?);
                    template::fill(&key, &data, account, |path| tools.initialise(path, account))?;
                }
            }
            self.write_access_rules(&data)?;
            let Self { settings, password, primary: _ } = self;
            let spec = PostgresSpec { program: tools.path("postgres"), settings, account };
            let instance = Instance::start(Box::new(spec), directory, port)?;
            Ok((instance, tools, password))
        });
        let (instance, tools, password) = started.await?;
        Ok(PostgresServer { instance: Arc::new(instance), tools, password })
    }

    fn write_access_rules(&self, data: &Path) -> Result<(), ServerError> {
        let method = if self.password { "scram-sha-256" } else { "trust" };
        let rules =
            format!("host all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n");
        let failed = ServerError::io(|| "could not write pg_hba.conf");
        fs::write(data.join("pg_hba.conf"), rules).map_err(failed)
    }
}

/// A private PostgreSQL on a loopback port of its own, removed when dropped.
///
/// It starts in about a quarter of a second, and again in a twentieth, on a copy of a data directory that the first start
/// of a build directory makes.
/// Durability is off (`fsync`, `synchronous_commit`, `full_page_writes`): nothing here outlives a power cut anyway, and
/// a killed server still recovers what was committed and flushed.
///
/// ```no_run
/// # async fn example() -> Result<(), perf_testkit::ServerError> {
/// use perf_testkit::PostgresServer;
///
/// let server = PostgresServer::builder().preload("pg_stat_statements").start().await?;
/// assert_eq!(server.sql("SELECT 1 + 1").await?, "2");
/// server.restart().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    instance: Arc<Instance>,
    tools: Tools,
    password: bool,
}

impl PostgresServer {
    /// Settings before the start.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder { settings: Vec::new(), password: false, primary: None }
    }

    /// Starts a server with the testkit's settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    ///
    /// # Cancel safety
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// The URL of the database `postgres`, with user and, where one is required, password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of another database of this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let secret = if self.password { format!(":{PASSWORD}") } else { String::new() };
        format!("postgres://{USER}{secret}@127.0.0.1:{}/{database}", self.port())
    }

    /// Runs SQL through `psql` in the database `postgres`, one transaction for each statement, and returns what it prints:
    /// rows in lines, columns separated by `|`.
    ///
    /// # Errors
    /// [`ServerError::Exited`] with the server's message when a statement fails.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the statements.
    pub async fn sql(&self, statements: &str) -> Result<String, ServerError> {
        self.sql_in("postgres", statements).await
    }

    /// Runs SQL in another database; see [`PostgresServer::sql`].
    ///
    /// # Errors
    /// As [`PostgresServer::sql`].
    ///
    /// # Cancel safety
    /// As [`PostgresServer::sql`].
    pub async fn sql_in(&self, database: &str, statements: &str) -> Result<String, ServerError> {
        let mut command = Command::new(self.tools.path("psql"));
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d"]).arg(self.url_of(database));
        command.arg("-c").arg(statements).env("PGCONNECT_TIMEOUT", "10");
        let instance = Arc::clone(&self.instance);
        let output =
            blocking(move || process::run(command, instance.account(), instance.directory())).await?;
        Ok(output.trim_end().to_owned())
    }

    /// Makes a database and returns its URL, for tests that share a server.
    ///
    /// # Errors
    /// As [`PostgresServer::sql`]: it exists already, for example.
    ///
    /// # Cancel safety
    /// As [`PostgresServer::sql`].
    pub async fn create_database(&self, name: &str) -> Result<String, ServerError> {
        self.sql(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).await?;
        Ok(self.url_of(name))
    }

    /// Restarts the server in recovery, as a standby is: it takes no writes until `pg_promote()`. What it holds stays.
    ///
    /// # Errors
    /// As [`PostgresServer::restart`].
    ///
    /// # Cancel safety
    /// As [`PostgresServer::restart`].
    pub async fn stand_by(&self) -> Result<(), ServerError> {
        let data = self.sql("SHOW data_directory").await?;
        self.stop().await?;
        std::fs::write(Path::new(&data).join("standby.signal"), "")
            .map_err(ServerError::io(|| "could not make a standby of the server"))?;
        self.restart().await
    }
}

super::instance::verbs!(PostgresServer);

/// Where the programs of one PostgreSQL version are.
#[derive(Clone, Debug)]
struct Tools(PathBuf);

impl Tools {
    fn find() -> Result<Self, ServerError> {
        let postgres = Binary { name: "postgres", package: PACKAGE };
        let found = postgres
            .find_in(postgres_directories(Path::new("/usr/lib/postgresql")))
            .or_else(|_| postgres.find())?;
        let directory = found.parent().map(Path::to_owned).unwrap_or_default();
        for name in ["initdb", "psql"] {
            Binary { name, package: PACKAGE }.find_in([directory.clone()])?;
        }
        Ok(Self(directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The version, as part of a file name: `15.14`.
    fn version(&self) -> Result<String, ServerError> {
        let mut command = Command::new(self.path("postgres"));
        command.arg("--version");
        let output = process::run(command, None, &std::env::temp_dir())?;
        Ok(output.split_whitespace().nth(2).unwrap_or("unknown").replace('/', "-"))
    }

    fn initialise(&self, data: &Path, account: Option<Account>) -> Result<(), ServerError> {
        let parent = data.parent().unwrap_or(data);
        let password = parent.join("password");
        fs::write(&password, PASSWORD).map_err(ServerError::io(|| "could not write a password file"))?;
        if let Some(account) = account {
            account.own(&password).map_err(ServerError::io(|| "could not give a password file away"))?;
        }
        let mut command = Command::new(self.path("initdb"));
        command.arg("-D").arg(data).arg("--pwfile").arg(&password).current_dir(parent);
        // Segments of 1 MB instead of 16 make a data directory cheap to copy.
        command.args(["-U", USER, "--no-sync", "--no-instructions", "--wal-segsize=1"]);
        command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust"]);
        process::run(command, account, parent).map(drop)
    }

    /// Copies a running server, with what a standby of it needs to follow it.
    fn copy(&self, primary: &str, data: &Path, account: Option<Account>) -> Result<(), ServerError> {
        Binary { name: "pg_basebackup", package: PACKAGE }.find_in([self.0.clone()])?;
        let mut command = Command::new(self.path("pg_basebackup"));
        command.arg("-D").arg(data).arg("-d").arg(primary);
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        process::run(command, account, data.parent().unwrap_or(data)).map(drop)
    }
}

struct PostgresSpec {
    program: PathBuf,
    settings: Vec<(String, String)>,
    account: Option<Account>,
}

/// Set before the test's own settings.
const SETTINGS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    // No socket file: its path could be too long, and nothing needs it.
    ("unix_socket_directories", ""),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    // Memory shared through files in the data directory goes with it, also when the server is killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("huge_pages", "off"),
    ("min_wal_size", "2MB"),
    ("max_wal_size", "256MB"),
];

impl Spec for PostgresSpec {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn command(&self, directory: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-D").arg(directory.join("data")).current_dir(directory);
        command.arg("-p").arg(port.to_string());
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
    }

    fn account(&self) -> Option<Account> {
        self.account
    }

    /// The last line of `postmaster.pid` says how far the start has come. A file left by a killed server names another
    /// process.
    fn is_ready(&self, directory: &Path, _port: u16, id: u32) -> bool {
        let Some(lines) = lock_file(directory) else { return false };
        let own = lines.first().is_some_and(|line| line.trim() == id.to_string());
        own && lines.get(7).is_some_and(|line| line.trim() == "ready")
    }

    fn stop_signal(&self) -> Signal {
        Signal::INT
    }

    fn quit_signal(&self) -> Signal {
        Signal::QUIT
    }

    /// A killed server leaves the small segment with which it guards its data directory; line 7 of its lock file has the
    /// number of it.
    fn clean(&self, directory: &Path) {
        let lines = lock_file(directory).unwrap_or_default();
        let Some(segment) = lines.get(6).and_then(|line| line.split_whitespace().nth(1)) else { return };
        let mut command = Command::new("ipcrm");
        command.args(["-m", segment]);
        let _gone_already = process::run(command, None, directory);
    }
}

fn lock_file(directory: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(directory.join("data/postmaster.pid")).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}
