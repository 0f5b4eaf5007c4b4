use crate::manager::Manager;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, ErrorKind, IntoConnectionInfo, RedisError};

/// Makes Redis connections, for commands that need one of their own (`BLPOP`, `WATCH`, `SUBSCRIBE`-free scripts), or to
/// spread load over several sockets. `TCP_NODELAY` is set.
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
#[derive(Clone, Debug)]
pub struct Redis {
    client: Client,
}

impl Redis {
    /// The server of a URL.
    ///
    /// # Errors
    /// [`RedisError`] for a URL that is not one.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let settings = TcpSettings::default().set_nodelay(true);
        Ok(Self { client: Client::open(url.into_connection_info()?.set_tcp_settings(settings))? })
    }

    /// Connects with exactly this client.
    #[must_use]
    pub const fn with_client(client: Client) -> Self {
        Self { client }
    }
}

impl Manager for Redis {
    type Connection = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        self.client.get_multiplexed_async_connection().await
    }

    async fn check(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        redis::cmd("PING").query_async(connection).await
    }

    fn is_permanent(&self, error: &RedisError) -> bool {
        matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
    }
}
