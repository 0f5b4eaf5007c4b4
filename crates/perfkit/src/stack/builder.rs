use super::tuning::PoolSizes;
use super::{Stack, StackError, alerts};
use crate::config::Config;
use crate::database;
use perf_cache::{CacheSpace, CacheSpaceBuilder};
use perf_http::{Auth, Management, Standard};
use perf_metrics::{AlertEvent, Check, ComponentsExaminer, Cycle, HealthChecks, LIVENESS, Metrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A [`Stack`] to be made: the configuration, and what only code can say.
#[must_use = "a stack runs once it is built"]
pub struct StackBuilder {
    config: Config,
    checks: Vec<Check>,
    auth: Option<Auth>,
    version: String,
    alert_events: Vec<mpsc::Sender<AlertEvent>>,
}

impl StackBuilder {
    pub(super) const fn new(config: Config) -> Self {
        Self { config, checks: Vec::new(), auth: None, version: String::new(), alert_events: Vec::new() }
    }

    /// Adds a health check of the host's own. Databases of the configuration have one already.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Who may use the management surface; without it the token of the configuration decides.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The version of the service that the live page shows.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Tells the host of alerts that fire, flap or resolve, beside the webhook. What does not fit into the channel is counted as
    /// not delivered and holds nothing up.
    pub fn alert_events(mut self, events: mpsc::Sender<AlertEvent>) -> Self {
        self.alert_events.push(events);
        self
    }

    /// Makes the stack. Pools connect when they are first used, or as their `min_idle` says.
    ///
    /// # Errors
    /// [`StackError`] naming the part that cannot be made. Nothing is left running then.
    pub async fn build(self) -> Result<Stack, StackError> {
        let Self { config, checks, auth, version, alert_events } = self;
        config.validate()?;
        let metrics = Metrics::builder().config(config.metrics.clone()).build()?;
        let space = space(&config).build().await?;
        let mut databases = BTreeMap::new();
        for (name, database) in &config.databases {
            databases.insert(name.clone(), database::open(name, database)?);
        }
        #[cfg(feature = "redis")]
        let shared_rates = super::rates::open(&config)?;
        #[cfg(feature = "snapshots")]
        let mut backups = super::snapshots::Backups::open(&config)?;
        let standard = Standard::builder(config.name.clone()).config(config.http.clone()).build()?;

        let mut health = HealthChecks::builder().components(metrics.registry()).group(LIVENESS, []);
        for check in databases.values().map(|opened| opened.check.clone()).chain(checks) {
            health = health.check(check);
        }
        let health = Arc::new(health.start()?);

        let components = databases.values().flat_map(|opened| opened.components.iter().cloned());
        for component in components {
            metrics.register(component)?.keep();
        }
        #[cfg(feature = "redis")]
        for rate in shared_rates.values() {
            metrics.register(Arc::new(rate.clone()))?.keep();
        }
        #[cfg(feature = "snapshots")]
        for snapshots in backups.by_name.values() {
            metrics.register(Arc::new(snapshots.clone()))?.keep();
        }
        metrics.register(Arc::new(standard.metrics().clone()))?.keep();
        if let Some(limit) = standard.rate_limit() {
            metrics.register(Arc::new(limit.clone()))?.keep();
        }
        metrics.register(health.component())?.keep();
        metrics.register(Arc::new(space.clone()))?.keep();

        let alerts = alerts::start(&config, &metrics, alert_events)?;
        let management = match config.management.clone() {
            None => None,
            Some(management) => {
                let mut builder = Management::builder(metrics.clone())
                    .config(management)
                    .health(Arc::clone(&health))
                    .service(config.name.clone(), version);
                if let Some((alerts, _)) = &alerts {
                    builder = builder.alerts(alerts.clone());
                }
                if let Some(auth) = auth {
                    builder = builder.auth(auth);
                }
                Some(builder.build()?.start().await?)
            }
        };
        let tuning = config.tuning.map(|tuning| {
            let sizes = databases.values().flat_map(|opened| opened.sized.iter().cloned()).collect();
            let cycle = Cycle::builder()
                .examiner(ComponentsExaminer(metrics.registry().clone()))
                .tuner(PoolSizes(sizes))
                .enabled(tuning.enabled)
                .build();
            let task = cycle.spawn(tuning.interval);
            (cycle, task)
        });
        #[cfg(feature = "otlp")]
        let otlp = match config.otlp.clone() {
            None => None,
            Some(settings) => {
                let otlp =
                    perf_metrics::Otlp::builder(&metrics, config.name.clone()).config(settings).build()?;
                metrics.register(otlp.component())?.keep();
                let task = otlp.spawn();
                Some((otlp, task))
            }
        };
        #[cfg(feature = "snapshots")]
        backups.start(&config);
        Ok(Stack {
            config,
            metrics,
            health,
            space,
            databases,
            #[cfg(feature = "redis")]
            shared_rates,
            #[cfg(feature = "snapshots")]
            backups,
            #[cfg(feature = "websocket")]
            websockets: std::sync::Mutex::default(),
            alerts,
            tuning,
            standard,
            management,
            #[cfg(feature = "otlp")]
            otlp,
        })
    }
}

fn space(config: &Config) -> CacheSpaceBuilder {
    let builder = CacheSpace::builder(config.name.clone())
        .degraded_ttl(config.cache.degraded_ttl)
        .store_timeout(config.cache.store_timeout);
    let builder = match config.cache.max_loads {
        Some(loads) => builder.max_loads(loads),
        None => builder,
    };
    #[cfg(feature = "redis")]
    if let Some(redis) = config.cache.redis() {
        return builder.redis(redis);
    }
    builder
}
