//! A private MariaDB.

use super::account::Account;
use super::binary::Binary;
use super::directory::Directory;
use super::instance::{Instance, Spec};
use super::real_time::blocking;
use super::{Port, ServerError, process, template};
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PACKAGE: &str = "mariadb-server";
const USER: &str = "perf";
const PASSWORD: &str = "perf-testkit";
const DATABASE: &str = "perf";
/// How long the server's greeting may take.
const GREETING: Duration = Duration::from_secs(1);

/// How a private MariaDB is started. Made by [`MariaDbServer::builder`].
#[must_use]
#[derive(Clone, Debug)]
pub struct MariaDbBuilder {
    settings: Vec<(String, String)>,
}

impl MariaDbBuilder {
    /// Sets a system variable at start, such as `performance-schema`; a later value replaces an earlier one.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`ServerError::MissingBinary`] when MariaDB is not installed, and whatever keeps the server from starting.
    ///
    /// # Cancel safety
    /// Dropping the future lets the start finish in the background and removes the server then.
    pub async fn start(self) -> Result<MariaDbServer, ServerError> {
        blocking(move || {
            let program = Binary { name: "mariadbd", package: PACKAGE }.find()?;
            let client = Binary { name: "mariadb", package: "mariadb-client" }.find()?;
            let account = Account::unless_unprivileged("mariadbd", "mysql")?;
            let port = Port::reserve()?;
            let directory = Directory::create("mariadb", account, Signal::KILL)?;
            let data = directory.subdirectory("data", account)?;
            let key = format!("mariadb-{}-1", version(&program)?);
            template::fill(&key, &data, account, |path| initialise(path, account))?;
            let spec = MariaDbSpec { program, settings: self.settings, account };
            let instance = Arc::new(Instance::start(Box::new(spec), directory, port)?);
            Ok(MariaDbServer { instance, client })
        })
        .await
    }
}

/// A private MariaDB on a loopback port of its own, removed when dropped.
///
/// It has one user, who may do everything, and one empty database; both are in [`MariaDbServer::url`].
///
/// ```no_run
/// # async fn example() -> Result<(), perf_testkit::ServerError> {
/// use perf_testkit::MariaDbServer;
///
/// let server = MariaDbServer::start().await?;
/// assert_eq!(server.sql("SELECT 1 + 1").await?, "2");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MariaDbServer {
    instance: Arc<Instance>,
    client: PathBuf,
}

impl MariaDbServer {
    /// Settings before the start.
    pub fn builder() -> MariaDbBuilder {
        MariaDbBuilder { settings: Vec::new() }
    }

    /// Starts a server with the testkit's settings.
    ///
    /// # Errors
    /// As [`MariaDbBuilder::start`].
    ///
    /// # Cancel safety
    /// As [`MariaDbBuilder::start`].
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// The URL of the server's database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The URL of another database of this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port())
    }

    /// Runs SQL through the `mariadb` client and returns what it prints: rows in lines, columns separated by tabs.
    ///
    /// # Errors
    /// [`ServerError::Exited`] with the server's message when a statement fails.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the statements.
    pub async fn sql(&self, statements: &str) -> Result<String, ServerError> {
        let mut command = Command::new(&self.client);
        command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--connect-timeout=10"]);
        command.arg(format!("--port={}", self.port())).arg(format!("--user={USER}"));
        command.args(["--batch", "--skip-column-names", "--execute", statements, DATABASE]);
        command.env("MYSQL_PWD", PASSWORD);
        let instance = Arc::clone(&self.instance);
        let output =
            blocking(move || process::run(command, instance.account(), instance.directory())).await?;
        Ok(output.trim_end().to_owned())
    }

    /// Makes a database and returns its URL, for tests that share a server.
    ///
    /// # Errors
    /// As [`MariaDbServer::sql`]: it exists already, for example.
    ///
    /// # Cancel safety
    /// As [`MariaDbServer::sql`].
    pub async fn create_database(&self, name: &str) -> Result<String, ServerError> {
        self.sql(&format!("CREATE DATABASE `{}`", name.replace('`', "``"))).await?;
        Ok(self.url_of(name))
    }
}

super::instance::verbs!(MariaDbServer);

/// The version, as part of a file name: `10.11.14`.
fn version(program: &Path) -> Result<String, ServerError> {
    let mut command = Command::new(program);
    command.args(["--no-defaults", "--version"]);
    let output = process::run(command, None, &std::env::temp_dir())?;
    let word = output.split_whitespace().nth(2).unwrap_or("unknown");
    Ok(word.split('-').next().unwrap_or(word).replace('/', "-"))
}

/// Small files, so that a data directory is cheap to copy; the same at every start, as InnoDB checks.
const LAYOUT: [&str; 3] = [
    "--innodb-log-file-size=8M",
    "--innodb-data-file-path=ibdata1:3M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:3M:autoextend",
];

fn initialise(data: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let install = Binary { name: "mariadb-install-db", package: PACKAGE }.find()?;
    let parent = data.parent().unwrap_or(data);
    let users = parent.join("users.sql");
    // The installation runs without access rules; loading them is what makes accounts known.
    let statements = format!(
        "FLUSH PRIVILEGES;\n\
         CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION;\n\
         CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;\n"
    );
    fs::write(&users, statements).map_err(ServerError::io(|| "could not write the first users"))?;
    if let Some(account) = account {
        account.own(&users).map_err(ServerError::io(|| "could not give the first users away"))?;
    }
    let mut command = Command::new(install);
    command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).current_dir(parent);
    // A server that starts removes what it takes for left behind in the folder for temporary tables.
    command.arg(format!("--tmpdir={}", parent.display()));
    command.args(["--auth-root-authentication-method=normal", "--skip-name-resolve", "--skip-test-db"]);
    command.arg(format!("--extra-file={}", users.display())).args(LAYOUT);
    process::run(command, account, parent).map(drop)
}

struct MariaDbSpec {
    program: PathBuf,
    settings: Vec<(String, String)>,
    account: Option<Account>,
}

/// Set before the test's own settings.
const SETTINGS: [&str; 8] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-method=nosync",
    "--innodb-fast-shutdown=1",
    "--character-set-server=utf8mb4",
];

impl Spec for MariaDbSpec {
    fn name(&self) -> &'static str {
        "mariadbd"
    }

    fn command(&self, directory: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--no-defaults").current_dir(directory);
        command.arg(format!("--datadir={}", directory.join("data").display()));
        command.arg(format!("--tmpdir={}", directory.display()));
        // A name relative to the data directory, because a socket's path must be short.
        command.arg("--socket=s").arg(format!("--pid-file={}", directory.join("pid").display()));
        command.arg(format!("--port={port}")).args(LAYOUT).args(SETTINGS);
        for (name, value) in &self.settings {
            command.arg(format!("--{name}={value}"));
        }
        command
    }

    fn account(&self) -> Option<Account> {
        self.account
    }

    /// It opens its port last, and greets whoever connects.
    fn is_ready(&self, _directory: &Path, port: u16, _id: u32) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Ok(mut socket) = TcpStream::connect_timeout(&address, GREETING) else { return false };
        let mut greeting = [0; 5];
        let read = socket.set_read_timeout(Some(GREETING)).and_then(|()| socket.read_exact(&mut greeting));
        // The fifth byte is the version of the protocol; an error packet has 255 there.
        read.is_ok() && greeting[4] == 10
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    fn quit_signal(&self) -> Signal {
        Signal::KILL
    }
}
