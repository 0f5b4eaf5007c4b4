use crate::config::{DatabaseConfig, scheme};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::config::{EndpointConfig, ResiliencePreset};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::database::{Database, DatabaseErrors, Guard};
use crate::stack::{Resizable, StackError};
use perf_core::Component;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_core::{Health, InvalidConfig, Name, time};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_dbopt::{Dialect, QueryStats};
use perf_metrics::Check;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_metrics::Criticality;
#[cfg(feature = "sqlite")]
use perf_pool::balance::Alive;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_pool::balance::{BalancedPool, Endpoint, Probe, Role};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_pool::{Manager, Pool};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_resilience::{Budget, Bulkhead, Pipeline};
use std::any::Any;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use std::time::Duration;

/// A future that closes a pool and counts the leases that did not come back.
pub(crate) type Closing = Pin<Box<dyn Future<Output = usize> + Send>>;

/// A database of any kind, as the stack keeps it.
pub(crate) struct Opened {
    /// The `Database<M>` behind it.
    pub(crate) typed: Box<dyn Any + Send + Sync>,
    pub(crate) components: Vec<Arc<dyn Component>>,
    pub(crate) check: Check,
    /// The pools, for whoever tunes their sizes.
    pub(crate) sized: Vec<Arc<dyn Resizable>>,
    pub(crate) close: Box<dyn Fn() -> Closing + Send + Sync>,
    /// How many leases are out now.
    pub(crate) leased: Box<dyn Fn() -> usize + Send + Sync>,
    /// How many callers wait now.
    pub(crate) waiting: Box<dyn Fn() -> usize + Send + Sync>,
}

/// Opens a database by the scheme of its URL. No connection is made yet.
pub(crate) fn open(name: &str, config: &DatabaseConfig) -> Result<Opened, StackError> {
    let scheme = scheme(config.url.expose());
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => assemble(name, config, Dialect::Sqlite, Alive, |url| {
            perf_pool::Sqlite::new(url).map(|manager| file_settings(url, manager))
        }),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let probe = perf_pool::balance::PostgresRole;
            assemble(name, config, Dialect::Postgres, probe, perf_pool::Postgres::new)
        }
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => {
            let probe = perf_pool::balance::MySqlRole;
            assemble(name, config, Dialect::MySql, probe, perf_pool::MySql::new)
        }
        _ => Err(StackError::Scheme {
            database: name.to_owned(),
            scheme: scheme.to_owned(),
            allowed: allowed(),
        }),
    }
}

/// A file is written ahead, so that readers and the writer do not wait for each other; synchronising at checkpoints is then
/// enough to keep it whole. Whoever wants otherwise makes the pool in code.
#[cfg(feature = "sqlite")]
fn file_settings(url: &str, manager: perf_pool::Sqlite) -> perf_pool::Sqlite {
    let manager = manager.busy_timeout(perf_pool::Sqlite::DEFAULT_BUSY_TIMEOUT);
    if url.contains(":memory:")
        || ["mode=memory", "mode=ro", "immutable="].iter().any(|mode| url.contains(mode))
    {
        return manager;
    }
    manager.pragma("journal_mode", "WAL").pragma("synchronous", "NORMAL")
}

/// How long a health check waits for each kind of endpoint: together below the time that a check has.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
const PATIENCE: Duration = Duration::from_millis(900);

/// The schemes this build knows.
fn allowed() -> String {
    let known = [
        cfg!(feature = "sqlite").then_some("sqlite"),
        cfg!(feature = "postgres").then_some("postgres"),
        cfg!(feature = "mysql").then_some("mysql"),
    ];
    let known: Vec<&str> = known.into_iter().flatten().collect();
    if known.is_empty() {
        "none: switch on the feature sqlite, postgres or mysql".to_owned()
    } else {
        known.join(", ")
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn refused(name: &str, error: sqlx::Error) -> StackError {
    StackError::Url { database: name.to_owned(), source: error }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn assemble<M: Manager>(
    name: &str,
    config: &DatabaseConfig,
    dialect: Dialect,
    probe: impl Probe<M>,
    manager: impl Fn(&str) -> Result<M, sqlx::Error>,
) -> Result<Opened, StackError> {
    let make = |pool: String, url: &str| {
        let manager = manager(url).map_err(|error| refused(name, error))?;
        Ok::<_, StackError>(Pool::builder(manager).config(config.pool.clone()).name(pool).build()?)
    };
    let primary = Endpoint::new(EndpointConfig::PRIMARY).role(Role::Writer);
    let mut endpoints = vec![(primary, make(name.to_owned(), config.url.expose())?)];
    for (index, replica) in config.replicas.iter().enumerate() {
        let pool = make(format!("{name}/{}", replica.name_at(index)), replica.url.expose())?;
        endpoints.push((replica.endpoint(index), pool));
    }
    let pools: Vec<Pool<M>> = endpoints.iter().map(|(_, pool)| pool.clone()).collect();
    let balanced = balanced(name, config, endpoints, probe)?;
    let name = Name::from(name.to_owned());
    let database = Database {
        pool: pools[0].clone(),
        balanced,
        queries: QueryStats::builder(name.clone(), dialect).config(config.queries.clone()).build()?,
        guard: guard(&name, config)?,
        name,
    };
    let (closed, counted, queue) = (database.clone(), pools.clone(), pools.clone());
    Ok(Opened {
        components: database.components(&pools),
        check: database.check(config.health_interval),
        sized: pools.into_iter().map(|pool| Arc::new(pool) as Arc<dyn Resizable>).collect(),
        close: Box::new(move || {
            let closing: Vec<_> = closed.balanced.pools().iter().map(Pool::close).collect();
            // Nothing is probed any more, whoever still holds a handle. Taking endpoints away makes no pool.
            let _ = closed.balanced.set_endpoints(Vec::new());
            Box::pin(async move {
                let mut unreturned = 0;
                for closing in closing {
                    unreturned += closing.await.unreturned.len();
                }
                unreturned
            })
        }),
        leased: Box::new(move || counted.iter().map(|pool| pool.holders().len()).sum()),
        waiting: Box::new(move || queue.iter().map(|pool| pool.stats().waiting).sum()),
        typed: Box::new(database),
    })
}

/// All endpoints behind one `acquire`. A single one is never probed: there is nothing to choose.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn balanced<M: Manager>(
    name: &str,
    config: &DatabaseConfig,
    endpoints: Vec<(Endpoint, Pool<M>)>,
    probe: impl Probe<M>,
) -> Result<BalancedPool<M>, StackError> {
    let (list, pools): (Vec<Endpoint>, Vec<Pool<M>>) = endpoints.into_iter().unzip();
    let known: BTreeMap<String, Pool<M>> =
        list.iter().map(|endpoint| endpoint.name().to_owned()).zip(pools).collect();
    let has_replicas = list.len() > 1;
    let make = move |endpoint: &Endpoint| {
        let pool = known.get(endpoint.name()).cloned();
        pool.ok_or_else(|| InvalidConfig::new("endpoint", endpoint.name(), "one of the configuration").into())
    };
    let builder = BalancedPool::builder(name.to_owned(), make).config(config.balance.clone()).endpoints(list);
    let built = if has_replicas { builder.probe(probe).build() } else { builder.build() };
    built.map_err(|source| StackError::Endpoints { database: name.to_owned(), source })
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn guard(name: &Name, config: &DatabaseConfig) -> Result<Guard, InvalidConfig> {
    let resilience = &config.resilience;
    if let Some(pipeline) = &resilience.pipeline {
        return Pipeline::builder(name.clone()).config(pipeline.clone())?.classify(DatabaseErrors).build();
    }
    let mut builder = match resilience.preset {
        ResiliencePreset::Database => Pipeline::database(name.clone())?,
        ResiliencePreset::HttpClient => Pipeline::http_client(name.clone())?,
        ResiliencePreset::Cache => Pipeline::cache(name.clone())?,
    };
    if let Some(bulkhead) = resilience.bulkhead {
        builder = builder.bulkhead(&Bulkhead::builder(name.clone()).config(bulkhead).build()?);
    }
    if let Some(budget) = resilience.budget {
        builder = builder.budget(&Budget::builder(name.clone()).config(budget).build()?);
    }
    builder.classify(DatabaseErrors).build()
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
impl<M: Manager> Database<M> {
    /// What is to be registered of it.
    fn components(&self, pools: &[Pool<M>]) -> Vec<Arc<dyn Component>> {
        let mut components: Vec<Arc<dyn Component>> = vec![Arc::new(self.queries.clone())];
        components.extend(pools.iter().map(|pool| Arc::new(pool.clone()) as Arc<dyn Component>));
        if pools.len() > 1 {
            components.push(Arc::new(self.balanced.clone()));
        }
        components.extend(self.guard.components());
        components
    }

    /// The check that decides readiness: is there a connection that takes writes, or at least one that takes reads?
    fn check(&self, interval: Duration) -> Check {
        let pool = self.balanced.clone();
        let ask = move || {
            let pool = pool.clone();
            async move {
                if pool.endpoints().len() < 2 {
                    return match pool.acquire_as(Role::Writer).await {
                        Ok(_) => Health::up(),
                        Err(error) => Health::down(error.to_string()),
                    };
                }
                // A writer that is gone must not use up the time in which a reader would have answered.
                let refused = match time::timeout(PATIENCE, pool.acquire_as(Role::Writer)).await {
                    Ok(Ok(_)) => return Health::up(),
                    Ok(Err(error)) => error.to_string(),
                    Err(elapsed) => elapsed.to_string(),
                };
                match time::timeout(PATIENCE, pool.acquire_as(Role::Reader)).await {
                    Ok(Ok(_)) => Health::degraded(format!("no endpoint takes writes: {refused}")),
                    _ => Health::down(refused),
                }
            }
        };
        Check::new(self.name.clone(), ask).criticality(Criticality::Fatal).interval(interval)
    }
}
