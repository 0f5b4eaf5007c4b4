use super::{Endpoint, Role};
use crate::error::Cause;
use crate::manager::Manager;
use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Knows which endpoints there are.
#[async_trait::async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The endpoints there are now. The pool bounds it by `probe_timeout`; after an error it keeps those it has.
    async fn discover(&self) -> Result<Vec<Endpoint>, Cause>;
}

const _: Option<&dyn Discovery> = None;

/// A list, which may be replaced.
#[derive(Debug, Default)]
pub struct Static(Mutex<Vec<Endpoint>>);

impl Static {
    /// These endpoints.
    #[must_use]
    pub const fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(Mutex::new(endpoints))
    }

    /// Replaces the list; pools notice at their next look.
    pub fn replace(&self, endpoints: Vec<Endpoint>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }
}

#[async_trait::async_trait]
impl Discovery for Static {
    async fn discover(&self) -> Result<Vec<Endpoint>, Cause> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[async_trait::async_trait]
impl<D: Discovery + ?Sized> Discovery for std::sync::Arc<D> {
    async fn discover(&self) -> Result<Vec<Endpoint>, Cause> {
        (**self).discover().await
    }
}

type Naming = Box<dyn Fn(SocketAddr) -> Endpoint + Send + Sync>;

/// The addresses of a name in DNS, an endpoint for each.
pub struct Dns {
    host: String,
    port: u16,
    endpoint: Naming,
}

impl Dns {
    /// Looks up `host`; `endpoint` makes an endpoint of each address: `|at| Endpoint::new(format!("redis://{at}"))`.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        endpoint: impl Fn(SocketAddr) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        Self { host: host.into(), port, endpoint: Box::new(endpoint) }
    }
}

#[async_trait::async_trait]
impl Discovery for Dns {
    async fn discover(&self) -> Result<Vec<Endpoint>, Cause> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(Cause::new)?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        // The order of the answer says nothing, and a name may be listed twice.
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses.into_iter().map(|address| (self.endpoint)(address)).collect())
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Asks an endpoint whether it lives, and what it may be used for.
#[async_trait::async_trait]
pub trait Probe<M: Manager>: Send + Sync + 'static {
    /// Asks over a connection that is kept for this; none if roles mean nothing here.
    async fn probe(&self, manager: &M, connection: &mut M::Connection) -> Result<Option<Role>, Cause>;

    /// Whether an error says that a writer takes no writes any more.
    fn is_read_only(&self, error: &(dyn StdError + 'static)) -> bool {
        let _ = error;
        false
    }
}

/// Asks by the manager's own check; roles stay as they were given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alive;

#[async_trait::async_trait]
impl<M: Manager> Probe<M> for Alive {
    async fn probe(&self, manager: &M, connection: &mut M::Connection) -> Result<Option<Role>, Cause> {
        manager.check(connection).await.map(|()| None).map_err(Cause::new)
    }
}

/// Tells a primary from a replica by `pg_is_in_recovery()`, and SQLSTATE 25006 from other errors.
#[cfg(feature = "postgres")]
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresRole;

#[cfg(feature = "postgres")]
#[async_trait::async_trait]
impl Probe<crate::Postgres> for PostgresRole {
    async fn probe(
        &self,
        _: &crate::Postgres,
        connection: &mut sqlx::PgConnection,
    ) -> Result<Option<Role>, Cause> {
        // A primary that was told to be read-only takes no writes either.
        let query = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";
        let reads_only: bool = sqlx::query_scalar(query).fetch_one(connection).await.map_err(Cause::new)?;
        Ok(Some(if reads_only { Role::Reader } else { Role::Writer }))
    }

    fn is_read_only(&self, error: &(dyn StdError + 'static)) -> bool {
        has_code(error, "25006")
    }
}

/// Tells a primary from a replica by `@@read_only`, and error 1290 or 1836 from others.
#[cfg(feature = "mysql")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MySqlRole;

#[cfg(feature = "mysql")]
#[async_trait::async_trait]
impl Probe<crate::MySql> for MySqlRole {
    async fn probe(
        &self,
        _: &crate::MySql,
        connection: &mut sqlx::MySqlConnection,
    ) -> Result<Option<Role>, Cause> {
        let read_only: i64 = sqlx::query_scalar("SELECT CAST(@@global.read_only AS SIGNED)")
            .fetch_one(connection)
            .await
            .map_err(Cause::new)?;
        Ok(Some(if read_only == 0 { Role::Writer } else { Role::Reader }))
    }

    fn is_read_only(&self, error: &(dyn StdError + 'static)) -> bool {
        use sqlx::mysql::MySqlDatabaseError;
        let mut next = Some(error);
        while let Some(error) = next {
            let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
            let number = database
                .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
                .map(MySqlDatabaseError::number);
            if matches!(number, Some(1290 | 1836)) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

#[cfg(feature = "postgres")]
fn has_code(error: &(dyn StdError + 'static), code: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        if database.and_then(|error| error.code()).is_some_and(|found| found == code) {
            return true;
        }
        next = error.source();
    }
    false
}
