//! A private Redis, alone, as a cluster, or watched by a sentinel.

mod cluster;
mod reply;
mod sentinel;

pub use cluster::RedisCluster;
pub use reply::RedisReply;
pub use sentinel::{RedisSentinel, Sentinel};

use super::account::Account;
use super::binary::Binary;
use super::directory::Directory;
use super::instance::{Instance, Spec};
use super::real_time::blocking;
use super::{Port, ServerError};
use reply::Client;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// How a private Redis is started. Made by [`RedisServer::builder`].
#[must_use]
#[derive(Clone, Debug)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    password: Option<String>,
}

impl RedisBuilder {
    /// Sets a parameter of `redis.conf`, such as `maxmemory`; a later value replaces an earlier one.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Keeps the data across [`RedisServer::restart`] and [`RedisServer::kill`], by an append-only file that is written
    /// before each answer. Without it Redis comes back empty, as a cache does.
    pub fn persistent(self) -> Self {
        self.setting("appendonly", "yes").setting("appendfsync", "always")
    }

    /// Lets only clients in that know the password, which [`RedisServer::url`] then contains.
    pub fn require_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`ServerError::MissingBinary`] when Redis is not installed, and whatever keeps the server from starting.
    ///
    /// # Cancel safety
    /// Dropping the future lets the start finish in the background and removes the server then.
    pub async fn start(self) -> Result<RedisServer, ServerError> {
        blocking(move || self.start_blocking()).await
    }

    fn start_blocking(self) -> Result<RedisServer, ServerError> {
        let program = Binary { name: "redis-server", package: "redis-server" }.find()?;
        let Self { mut settings, password } = self;
        if let Some(password) = &password {
            settings.push(("requirepass".to_owned(), password.clone()));
        }
        let port = Port::reserve()?;
        let directory = Directory::create("redis", None, Signal::KILL)?;
        let spec = RedisSpec { program, settings, password: password.clone() };
        let instance = Instance::start(Box::new(spec), directory, port)?;
        Ok(RedisServer { instance: Arc::new(instance), password })
    }
}

/// A private Redis on a loopback port of its own, removed when dropped. It starts in a few milliseconds.
///
/// ```no_run
/// # async fn example() -> Result<(), perf_testkit::ServerError> {
/// use perf_testkit::RedisServer;
///
/// let server = RedisServer::builder().setting("maxmemory", "8mb").start().await?;
/// server.command(&["SET", "greeting", "hello"]).await?;
/// assert_eq!(server.command(&["GET", "greeting"]).await?.text(), Some("hello"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisServer {
    instance: Arc<Instance>,
    password: Option<String>,
}

impl RedisServer {
    /// Settings before the start.
    pub fn builder() -> RedisBuilder {
        RedisBuilder { settings: Vec::new(), password: None }
    }

    /// Starts a server with the testkit's settings: nothing is written to disk.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    ///
    /// # Cancel safety
    /// As [`RedisBuilder::start`].
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// The URL of the server, with the password where one is required.
    #[must_use]
    pub fn url(&self) -> String {
        let secret = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{secret}127.0.0.1:{}/", self.port())
    }

    /// Sends one command on a connection of its own and returns the answer.
    ///
    /// # Errors
    /// [`ServerError::Refused`] when the answer is an error, [`ServerError::Io`] when there is none within 5 s.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the command back.
    pub async fn command(&self, words: &[&str]) -> Result<RedisReply, ServerError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (port, password) = (self.port(), self.password.clone());
        blocking(move || Client::connect(port, password.as_deref())?.command(&words)).await
    }
}

super::instance::verbs!(RedisServer);

struct RedisSpec {
    program: PathBuf,
    settings: Vec<(String, String)>,
    password: Option<String>,
}

/// Set before the test's own settings.
const SETTINGS: [(&str, &str); 6] = [
    ("bind", "127.0.0.1"),
    ("daemonize", "no"),
    ("save", ""),
    ("appendonly", "no"),
    // Replicas need not wait for others to join one transfer.
    ("repl-diskless-sync-delay", "0"),
    ("enable-debug-command", "yes"),
];

impl Spec for RedisSpec {
    fn name(&self) -> &'static str {
        "redis-server"
    }

    fn command(&self, directory: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(directory).arg("--dir").arg(directory).arg("--port").arg(port.to_string());
        for (name, value) in SETTINGS {
            command.arg(format!("--{name}")).arg(value);
        }
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        command
    }

    fn account(&self) -> Option<Account> {
        None
    }

    /// It answers `LOADING` while it reads its append-only file.
    fn is_ready(&self, _directory: &Path, port: u16, _id: u32) -> bool {
        let client = Client::connect(port, self.password.as_deref());
        client.is_ok_and(|mut client| client.command(&["PING".to_owned()]).is_ok())
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    /// It leaves nothing outside its directory, and looks at other signals only ten times a second.
    fn quit_signal(&self) -> Signal {
        Signal::KILL
    }
}
