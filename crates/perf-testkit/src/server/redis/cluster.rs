//! Three Redis masters that share the hash slots.

use super::reply::Client;
use super::{RedisBuilder, RedisReply, RedisServer, ServerError};
use crate::server::Port;
use crate::server::real_time::{blocking, poll_until};
use std::time::Duration;

/// How many hash slots there are.
const SLOTS: u16 = 16_384;
const MASTERS: u16 = 3;
/// How long the nodes may take to agree; they gossip once a second.
const AGREEMENT: Duration = Duration::from_secs(30);
/// After how many milliseconds without an answer a node counts as failed.
const NODE_TIMEOUT: &str = "2000";

/// A private Redis Cluster of three masters, without replicas unless one is asked for, removed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    replicas: Vec<RedisServer>,
    /// Each node's second port, on which nodes talk to each other.
    bus: Vec<Port>,
}

impl RedisCluster {
    /// Starts three masters and waits until all of them see the whole cluster.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`], or [`ServerError::Slow`] when the nodes do not agree within 30 s.
    ///
    /// # Cancel safety
    /// Dropping the future lets the start finish in the background and removes the servers then.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(RedisServer::builder()).await
    }

    /// Starts it with further settings for every node.
    ///
    /// # Errors
    /// As [`RedisCluster::start`].
    ///
    /// # Cancel safety
    /// As [`RedisCluster::start`].
    pub async fn start_with(settings: RedisBuilder) -> Result<Self, ServerError> {
        blocking(move || Self::start_blocking(&settings)).await
    }

    /// Starts it with a replica of the master of this number, which takes over when that one dies.
    ///
    /// # Errors
    /// As [`RedisCluster::start`].
    ///
    /// # Cancel safety
    /// As [`RedisCluster::start`].
    pub async fn start_with_replica_of(master: usize) -> Result<Self, ServerError> {
        blocking(move || {
            let settings = RedisServer::builder();
            let mut cluster = Self::start_blocking(&settings)?;
            cluster.add_replica(&settings, master)?;
            Ok(cluster)
        })
        .await
    }

    fn start_blocking(settings: &RedisBuilder) -> Result<Self, ServerError> {
        let bus = (0..MASTERS).map(|_| Port::reserve()).collect::<Result<Vec<_>, _>>()?;
        let nodes = bus.iter().map(|bus| node(settings, bus)).collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { nodes, replicas: Vec::new(), bus };
        cluster.introduce()?;
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    fn add_replica(&mut self, settings: &RedisBuilder, of: usize) -> Result<(), ServerError> {
        let bus = Port::reserve()?;
        let replica = node(settings, &bus)?;
        let (first, first_bus) = (self.nodes[0].port().to_string(), self.bus[0].number().to_string());
        ask(&replica, &["CLUSTER", "MEET", "127.0.0.1", &first, &first_bus])?;
        let id = ask(&self.nodes[of], &["CLUSTER", "MYID"])?.text().unwrap_or_default().to_owned();
        // Refused until it has heard of its master.
        let follows = || ask(&replica, &["CLUSTER", "REPLICATE", &id]).is_ok();
        let is_in_step = || {
            let info = ask(&replica, &["INFO", "replication"]);
            info.is_ok_and(|info| info.text().is_some_and(|text| text.contains("master_link_status:up")))
        };
        // Who takes over must be known to those who vote for it.
        let is_known = |node: &RedisServer| {
            let nodes = ask(node, &["CLUSTER", "NODES"]);
            nodes.is_ok_and(|nodes| nodes.text().is_some_and(|text| text.contains("slave")))
        };
        if poll_until(AGREEMENT, follows)
            && poll_until(AGREEMENT, is_in_step)
            && poll_until(AGREEMENT, || self.nodes.iter().all(is_known))
        {
            self.replicas.push(replica);
            self.bus.push(bus);
            return Ok(());
        }
        Err(slow("in step with its master", replica.log()))
    }

    /// Gives each node its slots and an epoch of its own, and introduces all to the first.
    fn introduce(&self) -> Result<(), ServerError> {
        let first = (self.nodes[0].port().to_string(), self.bus[0].number().to_string());
        for (index, node) in (0..MASTERS).zip(&self.nodes) {
            let bound = |n: u16| u32::from(SLOTS) * u32::from(n) / u32::from(MASTERS);
            let (from, to) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
            ask(node, &["CLUSTER", "ADDSLOTSRANGE", &from, &to])?;
            ask(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
            if index > 0 {
                ask(node, &["CLUSTER", "MEET", "127.0.0.1", &first.0, &first.1])?;
            }
        }
        Ok(())
    }

    fn wait_until_whole(&self) -> Result<(), ServerError> {
        let whole = |node: &RedisServer| {
            let info = ask(node, &["CLUSTER", "INFO"]);
            let has = |line: &str| info.as_ref().is_ok_and(|i| i.text().is_some_and(|t| t.contains(line)));
            has("cluster_state:ok") && has("cluster_known_nodes:3") && has("cluster_slots_ok:16384")
        };
        if poll_until(AGREEMENT, || self.nodes.iter().all(whole)) {
            return Ok(());
        }
        Err(slow("whole", self.nodes.iter().map(RedisServer::log).collect()))
    }

    /// The masters, in order of their slots.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The replicas, of which there are none unless one was asked for.
    #[must_use]
    pub fn replicas(&self) -> &[RedisServer] {
        &self.replicas
    }

    /// The URLs of all masters, any of which a client may start from.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The master that owns the slot of `key`.
    ///
    /// # Errors
    /// As [`RedisServer::command`]: the first master must be up.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn owner_of(&self, key: &str) -> Result<&RedisServer, ServerError> {
        let slot = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await?;
        let slot = slot.int().and_then(|slot| u32::try_from(slot).ok()).unwrap_or_default();
        let index =
            (1..u32::from(MASTERS)).take_while(|n| slot >= u32::from(SLOTS) * n / u32::from(MASTERS)).count();
        Ok(&self.nodes[index])
    }
}

fn node(settings: &RedisBuilder, bus: &Port) -> Result<RedisServer, ServerError> {
    let builder = settings.clone().setting("cluster-enabled", "yes");
    let builder = builder.setting("cluster-port", bus.number().to_string());
    builder.setting("cluster-node-timeout", NODE_TIMEOUT).start_blocking()
}

fn slow(state: &'static str, output: String) -> ServerError {
    ServerError::Slow { program: "redis cluster".to_owned(), state, limit: AGREEMENT, output }
}

/// Sends a command to a node from the blocking pool.
pub(super) fn ask(node: &RedisServer, words: &[&str]) -> Result<RedisReply, ServerError> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Client::connect(node.port(), node.password.as_deref())?.command(&words)
}
