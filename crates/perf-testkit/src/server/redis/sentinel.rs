//! A Redis primary with one replica and the sentinel that promotes it.

use super::cluster::ask;
use super::reply::Client;
use super::{RedisReply, RedisServer, ServerError};
use crate::server::Port;
use crate::server::account::Account;
use crate::server::binary::Binary;
use crate::server::directory::Directory;
use crate::server::instance::{Instance, Spec};
use crate::server::real_time::{blocking, poll_until};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long replica and sentinel may take to find each other.
const AGREEMENT: Duration = Duration::from_secs(30);
const SERVICE: &str = "perf";

/// A private Redis primary with one replica, watched by a sentinel that promotes the replica about a second and a half
/// after the primary stops answering. All three are removed when dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    primary: RedisServer,
    replica: RedisServer,
    sentinel: Sentinel,
}

impl RedisSentinel {
    /// Starts the three processes and waits until the sentinel knows a replica that is in step.
    ///
    /// # Errors
    /// [`ServerError::MissingBinary`] when Redis or its sentinel is not installed, or whatever keeps one from starting.
    ///
    /// # Cancel safety
    /// Dropping the future lets the start finish in the background and removes the servers then.
    pub async fn start() -> Result<Self, ServerError> {
        blocking(Self::start_blocking).await
    }

    fn start_blocking() -> Result<Self, ServerError> {
        let node = || RedisServer::builder().persistent();
        let primary = node().start_blocking()?;
        let of = format!("127.0.0.1 {}", primary.port());
        let replica = node().setting("replicaof", of).start_blocking()?;
        let in_step = poll_until(AGREEMENT, || {
            let info = ask(&replica, &["INFO", "replication"]);
            info.is_ok_and(|info| info.text().is_some_and(|text| text.contains("master_link_status:up")))
        });
        if !in_step {
            return Err(slow("in step", &replica.instance));
        }
        let sentinel = Sentinel::start(primary.port())?;
        let known = poll_until(AGREEMENT, || {
            let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", SERVICE]);
            replicas.is_ok_and(|replicas| {
                let fields = replicas.list().first().map(RedisReply::list).unwrap_or_default();
                let field = |name: &str| {
                    let at = fields.iter().position(|field| field.text() == Some(name))?;
                    fields.get(at + 1)?.text()
                };
                // An unwatched replica has no address of its primary yet and could not be promoted.
                field("flags") == Some("slave") && field("master-link-status") == Some("ok")
            })
        });
        if known {
            Ok(Self { primary, replica, sentinel })
        } else {
            Err(slow("watching", &sentinel.instance))
        }
    }

    /// The server that started as primary.
    #[must_use]
    pub const fn primary(&self) -> &RedisServer {
        &self.primary
    }

    /// The server that started as replica.
    #[must_use]
    pub const fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// The sentinel process itself.
    #[must_use]
    pub const fn sentinel(&self) -> &Sentinel {
        &self.sentinel
    }

    /// The name under which the sentinel watches the primary.
    #[must_use]
    pub const fn service(&self) -> &'static str {
        SERVICE
    }

    /// The URL of the sentinel.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.sentinel.port())
    }

    /// The port of the server that the sentinel takes for the primary now.
    ///
    /// # Errors
    /// [`ServerError::Io`] when the sentinel does not answer.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn current_primary(&self) -> Result<u16, ServerError> {
        let instance = Arc::clone(&self.sentinel.instance);
        blocking(move || current_primary(&Sentinel { instance })).await
    }

    /// Waits until the replica has been promoted and answers writes.
    ///
    /// # Errors
    /// [`ServerError::Slow`] when that has not happened after 30 s.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn promoted(&self) -> Result<(), ServerError> {
        let instance = Arc::clone(&self.sentinel.instance);
        let port = self.replica.port();
        blocking(move || {
            let sentinel = Sentinel { instance };
            let writable = || {
                let role = Client::connect(port, None).and_then(|mut c| c.command(&["ROLE".to_owned()]));
                role.is_ok_and(|r| r.list().first().and_then(RedisReply::text) == Some("master"))
            };
            let done = poll_until(AGREEMENT, || {
                current_primary(&sentinel).is_ok_and(|primary| primary == port) && writable()
            });
            if done { Ok(()) } else { Err(slow("done with the promotion", &sentinel.instance)) }
        })
        .await
    }
}

fn current_primary(sentinel: &Sentinel) -> Result<u16, ServerError> {
    let answer = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])?;
    let port = answer.list().get(1).and_then(RedisReply::text).and_then(|port| port.parse().ok());
    port.ok_or_else(|| ServerError::Refused {
        request: "SENTINEL GET-MASTER-ADDR-BY-NAME".to_owned(),
        answer: format!("{answer:?}"),
    })
}

fn slow(state: &'static str, instance: &Instance) -> ServerError {
    let program = "redis sentinel".to_owned();
    ServerError::Slow { program, state, limit: AGREEMENT, output: instance.log() }
}

/// The sentinel process of a [`RedisSentinel`].
#[derive(Debug)]
pub struct Sentinel {
    instance: Arc<Instance>,
}

impl Sentinel {
    fn start(primary: u16) -> Result<Self, ServerError> {
        let program = Binary { name: "redis-sentinel", package: "redis-sentinel" }.find()?;
        let port = Port::reserve()?;
        let directory = Directory::create("sentinel", None, Signal::KILL)?;
        let settings = format!(
            "port {}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {SERVICE} 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 3000\n",
            port.number(),
            directory.path().display(),
        );
        let file = directory.path().join("sentinel.conf");
        fs::write(&file, settings).map_err(ServerError::io(|| "could not write sentinel.conf"))?;
        let instance = Instance::start(Box::new(SentinelSpec(program)), directory, port)?;
        Ok(Self { instance: Arc::new(instance) })
    }

    fn ask(&self, words: &[&str]) -> Result<RedisReply, ServerError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Client::connect(self.instance.port(), None)?.command(&words)
    }
}

crate::server::instance::verbs!(Sentinel);

struct SentinelSpec(PathBuf);

impl Spec for SentinelSpec {
    fn name(&self) -> &'static str {
        "redis-sentinel"
    }

    /// The port is in its file, which it rewrites as it learns.
    fn command(&self, directory: &Path, _port: u16) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(directory.join("sentinel.conf")).current_dir(directory);
        command
    }

    fn account(&self) -> Option<Account> {
        None
    }

    fn is_ready(&self, _directory: &Path, port: u16, _id: u32) -> bool {
        let client = Client::connect(port, None);
        client.is_ok_and(|mut client| client.command(&["PING".to_owned()]).is_ok())
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    fn quit_signal(&self) -> Signal {
        Signal::KILL
    }
}
