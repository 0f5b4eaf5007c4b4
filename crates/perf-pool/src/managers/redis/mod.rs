//! Redis: one server, whoever a sentinel says is the primary, or a cluster; alone on a connection, or sharing a few.

#[cfg(feature = "redis-cluster")]
mod cluster;
mod connection;
mod shared;

#[cfg(feature = "redis-cluster")]
pub use cluster::RedisCluster;
pub use connection::RedisConnection;
pub use shared::{Shared as RedisShared, SharedConnection as RedisSharedConnection};

use crate::manager::{Condition, Manager};
use redis::io::tcp::TcpSettings;
use redis::{Client, ErrorKind, IntoConnectionInfo, RedisError};
use std::fmt;

/// Makes Redis connections, for commands that need one of their own (`BLPOP`, `WATCH`, `MULTI`), or to spread load over
/// several sockets; for commands that may share, see [`RedisShared`]. `TCP_NODELAY` is set.
///
/// What a connection is told is watched: one that comes back with a transaction or watches open, another database chosen
/// or a command given up half-way is put in order before the next user gets it, and one that failed is not used again.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_pool::{Pool, Redis};
///
/// let pool = Pool::builder(Redis::new("redis://localhost")?).max(8).build()?;
/// let mut lease = pool.acquire().await?;
/// let _: () = redis::cmd("SET").arg("greeting").arg("hello").query_async(&mut *lease).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Server(Client),
    #[cfg(feature = "redis-sentinel")]
    Sentinel {
        /// Asking changes what it knows of the sentinels, and is bounded by `connect_timeout`.
        client: std::sync::Arc<tokio::sync::Mutex<redis::sentinel::SentinelClient>>,
        service: String,
        db: i64,
    },
}

impl Redis {
    /// The server of a URL.
    ///
    /// # Errors
    /// [`RedisError`] for a URL that is not one.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let settings = TcpSettings::default().set_nodelay(true);
        Ok(Self::with_client(Client::open(url.into_connection_info()?.set_tcp_settings(settings))?))
    }

    /// Connects with exactly this client.
    #[must_use]
    pub const fn with_client(client: Client) -> Self {
        Self { source: Source::Server(client) }
    }

    /// The primary of a service, as the sentinels at `sentinels` see it. `server` gives database, user, password and TLS of
    /// the servers; its host and port are not looked at: `redis://user:secret@_/0`.
    ///
    /// After a fail-over, connections to the old primary fail with their first write or check, and new ones go to the new.
    ///
    /// # Errors
    /// [`RedisError`] for a URL that is not one, or none at all.
    #[cfg(feature = "redis-sentinel")]
    pub fn sentinel(sentinels: &[&str], service: &str, server: &str) -> Result<Self, RedisError> {
        use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
        let settings = || TcpSettings::default().set_nodelay(true);
        let server = server.into_connection_info()?;
        let db = server.redis_settings().db();
        let node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(server.redis_settings().clone())
            .set_tcp_settings(settings());
        let addresses = sentinels
            .iter()
            .map(|url| Ok(url.into_connection_info()?.set_tcp_settings(settings())))
            .collect::<Result<Vec<_>, RedisError>>()?;
        let client =
            SentinelClient::build(addresses, service.to_owned(), Some(node), SentinelServerType::Master)?;
        let client = std::sync::Arc::new(tokio::sync::Mutex::new(client));
        Ok(Self { source: Source::Sentinel { client, service: service.to_owned(), db } })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            // Its own output would have the password.
            Source::Server(_) => f.debug_struct("Redis").finish_non_exhaustive(),
            #[cfg(feature = "redis-sentinel")]
            Source::Sentinel { service, .. } => {
                f.debug_struct("Redis").field("service", service).finish_non_exhaustive()
            }
        }
    }
}

impl Manager for Redis {
    type Connection = RedisConnection;
    type Error = RedisError;

    async fn connect(&self) -> Result<RedisConnection, RedisError> {
        let (inner, db) = match &self.source {
            Source::Server(client) => {
                let db = client.get_connection_info().redis_settings().db();
                (client.get_multiplexed_async_connection().await?, db)
            }
            #[cfg(feature = "redis-sentinel")]
            Source::Sentinel { client, db, .. } => (client.lock().await.get_async_connection().await?, *db),
        };
        Ok(RedisConnection::new(inner, db))
    }

    async fn check(&self, connection: &mut RedisConnection) -> Result<(), RedisError> {
        match &self.source {
            Source::Server(_) => redis::cmd("PING").query_async(connection).await,
            // One that lives and is not the primary any more is of no use.
            #[cfg(feature = "redis-sentinel")]
            Source::Sentinel { .. } => {
                let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(connection).await?;
                let role: Option<String> =
                    role.into_iter().next().and_then(|role| redis::from_redis_value(role).ok());
                if role.as_deref() == Some("master") {
                    return Ok(());
                }
                Err((ErrorKind::UnexpectedReturnType, "the server is not the primary any more").into())
            }
        }
    }

    fn condition(&self, connection: &mut RedisConnection) -> Condition {
        connection.condition()
    }

    async fn reset(&self, connection: &mut RedisConnection) -> Result<(), RedisError> {
        connection.reset().await?;
        self.check(connection).await
    }

    fn is_permanent(&self, error: &RedisError) -> bool {
        matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
    }
}
