//! Where Redis is, and how it is used.

use super::link::Server;
use perf_core::{InvalidConfig, Secret};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError};

/// How nodes tell each other what is invalid. What each one guarantees when messages are lost is the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Invalidation {
    /// A Redis Stream that every node reads to its end. A node that was away reads what it missed: nothing is lost, and
    /// nothing else is thrown away. The default.
    #[default]
    Log,
    /// Pub/sub messages with consecutive numbers. A node that missed some notices it (by the next number, or by asking
    /// twice a second) and drops everything it holds: nothing stale, but a cold cache after each interruption.
    PubSub,
    /// RESP3 `CLIENT TRACKING` in broadcast mode. As for pub/sub, and besides it tells when *anybody* changes or deletes
    /// a value in Redis, so that copies in memory follow changes made by hand or by other programs. Every write of a value
    /// is told to every node, which costs as many messages.
    Tracking,
}

/// Where Redis is and how it is used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    place: Place,
    pub(super) invalidation: Invalidation,
    pub(super) retain: usize,
}

#[derive(Clone, Debug)]
enum Place {
    One(Secret<String>),
    Sentinel { sentinels: Vec<Secret<String>>, service: String, own: Option<Secret<String>> },
    Cluster(Vec<Secret<String>>),
}

impl RedisConfig {
    /// Records that the log retains: as many invalidations should be remembered as can happen within the longest life of a
    /// value. Too few cost loads on nodes that start, and are never wrong.
    pub const RETAIN: usize = 100_000;

    const fn at(place: Place) -> Self {
        Self { place, invalidation: Invalidation::Log, retain: Self::RETAIN }
    }

    /// The server at this address: `redis://[user:password@]host:port[/database]`.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::at(Place::One(Secret::new(url.into())))
    }

    /// The primary that these sentinels name for `service`. User, password and database in the addresses are those of the
    /// servers; see [`sentinel_password`](Self::sentinel_password) for the sentinels' own.
    #[must_use]
    pub fn sentinel<U: Into<String>>(
        sentinels: impl IntoIterator<Item = U>,
        service: impl Into<String>,
    ) -> Self {
        Self::at(Place::Sentinel { sentinels: secrets(sentinels), service: service.into(), own: None })
    }

    /// The Cluster that these nodes belong to; the others are learned from them.
    #[must_use]
    pub fn cluster<U: Into<String>>(nodes: impl IntoIterator<Item = U>) -> Self {
        Self::at(Place::Cluster(secrets(nodes)))
    }

    /// The password that the sentinels themselves ask for. Makes no difference without sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        if let Place::Sentinel { own, .. } = &mut self.place {
            *own = Some(Secret::new(password.into()));
        }
        self
    }

    /// Records that the log retains.
    #[must_use]
    pub const fn retain(mut self, records: usize) -> Self {
        self.retain = records;
        self
    }

    /// How nodes tell each other what is invalid.
    #[must_use]
    pub const fn invalidation(mut self, invalidation: Invalidation) -> Self {
        self.invalidation = invalidation;
        self
    }

    /// The server, checked as far as that is possible without connecting.
    pub(super) fn server(&self) -> Result<Server, InvalidConfig> {
        match &self.place {
            Place::One(url) => {
                let info = info("redis.url", url)?;
                let open = |info: ConnectionInfo| Client::open(info).map_err(refused("redis.url"));
                let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let pushed = open(info.clone().set_redis_settings(resp3))?;
                Ok(Server::One { plain: Box::new(open(info)?), pushed: Box::new(pushed) })
            }
            Place::Sentinel { sentinels, service, own } => {
                self.watched(sentinels, service, own.as_ref(), ProtocolVersion::RESP2)?;
                let config = self.clone();
                Ok(Server::Sentinel(Box::new(move |protocol| config.resolve(protocol))))
            }
            Place::Cluster(nodes) => {
                if self.invalidation != Invalidation::Log {
                    let allowed = "`log`, the one that follows a Cluster through its changes";
                    return Err(InvalidConfig::new("redis.invalidation", "on a Cluster", allowed));
                }
                if nodes.is_empty() {
                    return Err(InvalidConfig::new("redis.cluster", "no address", "one address or more"));
                }
                let nodes: Vec<ConnectionInfo> =
                    nodes.iter().map(|url| info("redis.cluster", url)).collect::<Result<_, _>>()?;
                let builder = redis::cluster::ClusterClientBuilder::new(nodes)
                    .tcp_settings(TcpSettings::default().set_nodelay(true))
                    .connection_timeout(super::link::CONNECT)
                    .retries(3)
                    .min_retry_wait(5)
                    .max_retry_wait(50);
                Ok(Server::Cluster(Box::new(builder.build().map_err(refused("redis.cluster"))?)))
            }
        }
    }

    /// A client of the sentinels, made anew for each connection: it learns who the primary is only then.
    fn resolve(&self, protocol: ProtocolVersion) -> Result<redis::sentinel::SentinelClient, InvalidConfig> {
        match &self.place {
            Place::Sentinel { sentinels, service, own } => {
                self.watched(sentinels, service, own.as_ref(), protocol)
            }
            Place::One(_) | Place::Cluster(_) => {
                Err(InvalidConfig::new("redis.sentinel", "no sentinel", "one address or more"))
            }
        }
    }

    fn watched(
        &self,
        sentinels: &[Secret<String>],
        service: &str,
        own: Option<&Secret<String>>,
        protocol: ProtocolVersion,
    ) -> Result<redis::sentinel::SentinelClient, InvalidConfig> {
        let infos: Vec<ConnectionInfo> =
            sentinels.iter().map(|url| info("redis.sentinel", url)).collect::<Result<_, _>>()?;
        let Some(first) = infos.first() else {
            return Err(InvalidConfig::new("redis.sentinel", "no address", "one address or more"));
        };
        let settings = first.redis_settings();
        let nodelay = TcpSettings::default().set_nodelay(true);
        let mut builder = SentinelClientBuilder::new(
            infos.iter().map(|info| info.addr().clone()),
            service,
            SentinelServerType::Master,
        )
        .map_err(refused("redis.sentinel"))?
        .set_client_to_redis_tcp_settings(nodelay.clone())
        .set_client_to_sentinel_tcp_settings(nodelay)
        .set_client_to_redis_protocol(protocol)
        .set_client_to_redis_db(settings.db());
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(own) = own {
            builder = builder.set_client_to_sentinel_password(own.expose());
        }
        builder.build().map_err(refused("redis.sentinel"))
    }
}

fn secrets<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Vec<Secret<String>> {
    urls.into_iter().map(|url| Secret::new(url.into())).collect()
}

fn info(field: &'static str, url: &Secret<String>) -> Result<ConnectionInfo, InvalidConfig> {
    let info = url.expose().as_str().into_connection_info().map_err(refused(field))?;
    // Without it the kernel holds small commands back for up to 40 ms.
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// Addresses have passwords in them: they are never part of a message.
fn refused(field: &'static str) -> impl Fn(RedisError) -> InvalidConfig {
    move |reason| InvalidConfig::new(field, Secret::new(()), reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_and_passwords_are_not() {
        for (config, field) in [
            (RedisConfig::url("not an address"), "redis.url"),
            (RedisConfig::sentinel(["redis://u:hunter2@:x"], "perf"), "redis.sentinel"),
            (RedisConfig::sentinel(Vec::<String>::new(), "perf"), "redis.sentinel"),
            (RedisConfig::cluster(Vec::<String>::new()), "redis.cluster"),
            (
                RedisConfig::cluster(["redis://127.0.0.1:1"]).invalidation(Invalidation::PubSub),
                "redis.invalidation",
            ),
        ] {
            let error = config.server().map(drop).unwrap_err();
            assert_eq!(error.field(), field);
            assert!(!error.to_string().contains("hunter2") && !format!("{config:?}").contains("hunter2"));
        }
        assert!(
            RedisConfig::sentinel(["redis://127.0.0.1:1"], "perf").sentinel_password("x").server().is_ok()
        );
    }
}
