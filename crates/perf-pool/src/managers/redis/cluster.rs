use crate::manager::Manager;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{ErrorKind, IntoConnectionInfo, RedisError};
use std::fmt;

/// Makes connections to a Redis cluster. Each knows which node has which key, follows redirections, and finds its way
/// again after a fail-over.
#[derive(Clone)]
pub struct RedisCluster {
    client: ClusterClient,
}

impl RedisCluster {
    /// The cluster that these nodes belong to; one that answers is enough to find the others.
    ///
    /// # Errors
    /// [`RedisError`] for a URL that is not one, or none at all.
    pub fn new<N: IntoConnectionInfo>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RedisError> {
        Ok(Self { client: ClusterClient::new(nodes)? })
    }

    /// Connects with exactly this client.
    #[must_use]
    pub const fn with_client(client: ClusterClient) -> Self {
        Self { client }
    }
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCluster").finish_non_exhaustive()
    }
}

impl Manager for RedisCluster {
    type Connection = ClusterConnection;
    type Error = RedisError;

    async fn connect(&self) -> Result<ClusterConnection, RedisError> {
        self.client.get_async_connection().await
    }

    async fn check(&self, connection: &mut ClusterConnection) -> Result<(), RedisError> {
        redis::cmd("PING").query_async(connection).await
    }

    fn is_permanent(&self, error: &RedisError) -> bool {
        matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
    }
}
