use crate::config::DatabaseConfig;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::config::ResiliencePreset;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::database::{Database, DatabaseErrors, Guard};
use crate::stack::StackError;
use perf_core::Component;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_core::{Health, InvalidConfig, Name};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_dbopt::{Dialect, QueryStats};
use perf_metrics::Check;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_metrics::Criticality;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_pool::{Manager, Pool};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use perf_resilience::{Bulkhead, Pipeline};
use std::any::Any;
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
    pub(crate) close: Box<dyn Fn() -> Closing + Send + Sync>,
    /// How many leases are out now.
    pub(crate) leased: Box<dyn Fn() -> usize + Send + Sync>,
}

/// Opens a database by the scheme of its URL. No connection is made yet.
pub(crate) fn open(name: &str, config: &DatabaseConfig) -> Result<Opened, StackError> {
    let url = config.url.expose();
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let manager = perf_pool::Sqlite::new(url).map_err(|error| refused(name, error))?;
            assemble(name, config, file_settings(url, manager), Dialect::Sqlite)
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let manager = perf_pool::Postgres::new(url).map_err(|error| refused(name, error))?;
            assemble(name, config, manager, Dialect::Postgres)
        }
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => {
            let manager = perf_pool::MySql::new(url).map_err(|error| refused(name, error))?;
            assemble(name, config, manager, Dialect::MySql)
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
    manager: M,
    dialect: Dialect,
) -> Result<Opened, StackError> {
    let name = Name::from(name.to_owned());
    let database = Database {
        pool: Pool::builder(manager).config(config.pool.clone()).name(name.clone()).build()?,
        queries: QueryStats::builder(name.clone(), dialect).config(config.queries.clone()).build()?,
        guard: guard(&name, config)?,
        name,
    };
    let (pool, counted) = (database.pool.clone(), database.pool.clone());
    Ok(Opened {
        components: database.components(),
        check: database.check(config.health_interval),
        close: Box::new(move || {
            let closing = pool.close();
            Box::pin(async move { closing.await.unreturned.len() })
        }),
        leased: Box::new(move || counted.holders().len()),
        typed: Box::new(database),
    })
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
    builder.classify(DatabaseErrors).build()
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
impl<M: Manager> Database<M> {
    /// What is to be registered of it.
    fn components(&self) -> Vec<Arc<dyn Component>> {
        let mut components: Vec<Arc<dyn Component>> =
            vec![Arc::new(self.pool.clone()), Arc::new(self.queries.clone())];
        components.extend(self.guard.components());
        components
    }

    /// The check that decides readiness: is there a connection, and does it answer?
    fn check(&self, interval: Duration) -> Check {
        let pool = self.pool.clone();
        let ask = move || {
            let pool = pool.clone();
            async move {
                match pool.acquire().await {
                    Ok(_) => Health::up(),
                    Err(error) => Health::down(error.to_string()),
                }
            }
        };
        Check::new(self.name.clone(), ask).criticality(Criticality::Fatal).interval(interval)
    }
}
