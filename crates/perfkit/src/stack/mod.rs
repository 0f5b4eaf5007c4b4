//! What a configuration describes, made and running.

mod alerts;
mod builder;
mod error;
#[cfg(feature = "redis")]
mod rates;
mod shutdown;
#[cfg(feature = "snapshots")]
mod snapshots;
mod tuning;
#[cfg(feature = "websocket")]
mod websocket;

pub use builder::StackBuilder;
pub use error::StackError;
pub use shutdown::CloseReport;
pub(crate) use tuning::Resizable;

use crate::config::Config;
use crate::database::{Database, Opened};
use axum::Router;
use perf_cache::{Cache, CacheBuilder, CacheSpace, Key};
use perf_core::{Component, DuplicateComponent};
use perf_http::{ManagementServer, Server, Serving, Standard};
use perf_metrics::{Alerts, AlertsTask, Cycle, CycleTask, HealthChecks, Metrics};
use perf_pool::Manager;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The caches, databases, layers, numbers, health checks and management surface of one service.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, routing::get};
/// use perfkit::{Config, Stack};
///
/// let stack = Stack::new(Config::from_toml("[databases.orders]\nurl = 'sqlite::memory:'")?).await?;
/// let orders = stack.sqlite("orders")?;
/// let mut lease = orders.pool().acquire().await?;
/// let (one,): (i64,) = sqlx::query_as("SELECT 1").fetch_one(orders.queries().observe(&mut *lease)).await?;
/// assert_eq!(one, 1);
/// drop(lease);
///
/// let serving = stack.serve(([127, 0, 0, 1], 0).into(), Router::new().route("/", get(|| async { "hello" }))).await?;
/// assert_ne!(serving.address().port(), 0);
/// let report = stack.shut_down(serving).await;
/// assert!(report.is_clean());
/// # Ok(()) }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
pub struct Stack {
    config: Config,
    metrics: Metrics,
    health: Arc<HealthChecks>,
    space: CacheSpace,
    databases: BTreeMap<String, Opened>,
    #[cfg(feature = "redis")]
    shared_rates: BTreeMap<String, perf_resilience::rate::SharedRate>,
    #[cfg(feature = "snapshots")]
    backups: snapshots::Backups,
    #[cfg(feature = "websocket")]
    websockets: std::sync::Mutex<Vec<perf_pool::websocket::WebSocketPool>>,
    alerts: Option<(Alerts, AlertsTask)>,
    tuning: Option<(Cycle, CycleTask)>,
    standard: Standard,
    management: Option<ManagementServer>,
    #[cfg(feature = "otlp")]
    otlp: Option<(perf_metrics::Otlp, perf_metrics::OtlpTask)>,
}

impl Stack {
    /// Makes what `config` describes: opens pools, starts health checks and the management listener.
    ///
    /// # Errors
    /// [`StackError`] naming the part that cannot be made.
    pub async fn new(config: Config) -> Result<Self, StackError> {
        Self::builder(config).build().await
    }

    /// A stack with what only code can say.
    pub fn builder(config: Config) -> StackBuilder {
        StackBuilder::new(config)
    }

    /// The configuration it was made from.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The numbers of everything in the stack, and the host's own.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The health checks and the life cycle.
    #[must_use]
    pub const fn health(&self) -> &Arc<HealthChecks> {
        &self.health
    }

    /// The space that all caches share their tags in.
    #[must_use]
    pub const fn space(&self) -> &CacheSpace {
        &self.space
    }

    /// The layers round a service, as configured: `router.layer(stack.layers())`.
    #[must_use]
    pub fn layers(&self) -> Standard {
        self.standard.clone()
    }

    /// The management surface, if the configuration has one.
    #[must_use]
    pub const fn management(&self) -> Option<&ManagementServer> {
        self.management.as_ref()
    }

    /// The alerts and objectives, if the configuration has any: how each stands, and the same as rules for Prometheus.
    #[must_use]
    pub fn alerts(&self) -> Option<&Alerts> {
        self.alerts.as_ref().map(|(alerts, _)| alerts)
    }

    /// The rounds of self-tuning, if the configuration has a section for them: what was found, proposed and done.
    #[must_use]
    pub fn tuning(&self) -> Option<&Cycle> {
        self.tuning.as_ref().map(|(cycle, _)| cycle)
    }

    /// The exports to OpenTelemetry, if the configuration has a section for them. Its `layer` sends the host's spans.
    #[cfg(feature = "otlp")]
    #[must_use]
    pub fn otlp(&self) -> Option<&perf_metrics::Otlp> {
        self.otlp.as_ref().map(|(otlp, _)| otlp)
    }

    /// A cache, described by the section `caches.NAME`, or the defaults when there is none.
    ///
    /// # Errors
    /// [`StackError`] when there is a cache of this name already.
    pub fn cache<K, V>(&self, name: &str) -> Result<Cache<K, V>, StackError>
    where
        K: Key,
        V: Send + Sync + 'static,
    {
        self.cache_with(name, |builder| builder)
    }

    /// As [`Stack::cache`], with what only code can say: a weigher, a predicate for stale values, an observer.
    ///
    /// # Errors
    /// As [`Stack::cache`], and when a setting cannot be used.
    pub fn cache_with<K, V>(
        &self,
        name: &str,
        more: impl FnOnce(CacheBuilder<K, V>) -> CacheBuilder<K, V>,
    ) -> Result<Cache<K, V>, StackError>
    where
        K: Key,
        V: Send + Sync + 'static,
    {
        let config = self.config.caches.get(name).cloned().unwrap_or_default();
        let cache = more(self.space.cache(name).config(config)).build()?;
        self.register(Arc::new(cache.clone()))?;
        Ok(cache)
    }

    /// A SQLite database of the configuration.
    ///
    /// # Errors
    /// [`StackError::NoDatabase`] when there is none of this name and kind.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&self, name: &str) -> Result<Database<perf_pool::Sqlite>, StackError> {
        self.database(name, "SQLite")
    }

    /// A PostgreSQL database of the configuration.
    ///
    /// # Errors
    /// As [`Stack::sqlite`].
    #[cfg(feature = "postgres")]
    pub fn postgres(&self, name: &str) -> Result<Database<perf_pool::Postgres>, StackError> {
        self.database(name, "PostgreSQL")
    }

    /// A MySQL or MariaDB database of the configuration.
    ///
    /// # Errors
    /// As [`Stack::sqlite`].
    #[cfg(feature = "mysql")]
    pub fn mysql(&self, name: &str) -> Result<Database<perf_pool::MySql>, StackError> {
        self.database(name, "MySQL")
    }

    /// Puts a component of the host's own on the metrics page, for as long as the stack lives.
    ///
    /// # Errors
    /// [`DuplicateComponent`] when there is one of its kind and name.
    pub fn register(&self, component: Arc<dyn Component>) -> Result<(), DuplicateComponent> {
        self.metrics.register(component)?.keep();
        Ok(())
    }

    /// Serves `router` behind the configured layers, and says that the service is ready. Port 0 takes any free port.
    ///
    /// # Errors
    /// [`StackError::Bind`] with the address, when it cannot be listened on.
    pub async fn serve(&self, address: SocketAddr, router: Router) -> Result<Serving, StackError> {
        let server = Server::bind(address).await?;
        let serving = server.serve(router.layer(self.layers()));
        self.health.ready();
        Ok(serving)
    }

    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "without a driver there is no typed database to ask for")
    )]
    fn database<M: Manager>(&self, name: &str, kind: &'static str) -> Result<Database<M>, StackError> {
        let opened = self.databases.get(name).and_then(|opened| opened.typed.downcast_ref::<Database<M>>());
        opened.cloned().ok_or_else(|| StackError::NoDatabase {
            database: name.to_owned(),
            kind,
            known: self.databases.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("name", &self.config.name)
            .field("databases", &self.databases.keys())
            .finish_non_exhaustive()
    }
}
