//! A rate limit that several instances share through Redis (feature `redis`).

use super::{DEFAULT_MAX_KEYS, KeyedRate, Quota, RateConfig, RateStats, collect};
use crate::breaker::Breaker;
use crate::signal;
use crate::stats::stats;
use perf_core::time::{self, Duration};
use perf_core::{
    Component, ComponentId, Desc, Evidence, Health, InvalidConfig, Name, Outcome, Reason, Rejected, Sink,
    Unit, duration,
};
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use std::sync::Arc;
use tokio::sync::Mutex;

/// One script decides and takes, so that two instances can never take the same permit.
const SCRIPT: &str = include_str!("shared.lua");
/// A limit is asked before every request, so a Redis in the same building has answered long before.
pub const DEFAULT_SHARED_TIMEOUT: Duration = Duration::from_millis(100);
/// So many failures in a row, and Redis is left alone for a second.
const PATIENCE: u32 = 3;
const REST: Duration = Duration::from_secs(1);

/// What decides while Redis does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum WhenDown {
    /// Each of so many instances allows its share of the rate by itself.
    Local {
        /// How many instances share the rate, at least 1.
        instances: u32,
    },
    /// Everything goes through: the limit is a courtesy.
    Open,
    /// Nothing goes through: the limit protects something that would break.
    Closed,
}

/// What a configuration file can say about a shared rate limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SharedRateConfig {
    /// The rate and the burst of each key, for all instances together; default 100 a second, 10 at once.
    pub quota: Quota,
    /// What decides while Redis does not; default the local rate of one instance.
    pub when_down: WhenDown,
    /// How long one decision may take, connecting included; default [`DEFAULT_SHARED_TIMEOUT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub timeout: Duration,
    /// What the keys in Redis begin with; default `perf:rate:`.
    pub prefix: String,
}

impl Default for SharedRateConfig {
    fn default() -> Self {
        Self {
            quota: RateConfig::default().quota,
            when_down: WhenDown::Local { instances: 1 },
            timeout: DEFAULT_SHARED_TIMEOUT,
            prefix: "perf:rate:".to_owned(),
        }
    }
}

impl SharedRateConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.quota.validate().map_err(|e| e.within("quota"))?;
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(60) {
            let found = duration::format(self.timeout);
            return Err(InvalidConfig::new("timeout", found, "longer than nothing, at most 60s"));
        }
        if let WhenDown::Local { instances: 0 } = self.when_down {
            return Err(InvalidConfig::new("when_down.local.instances", 0, "1 and above"));
        }
        Ok(())
    }

    /// The share of one instance: never more in total than all are allowed, except that each has a burst of one.
    fn local(&self) -> RateConfig {
        let mut config = RateConfig { max_keys: DEFAULT_MAX_KEYS, ..RateConfig::default() };
        config.quota = self.quota;
        if let WhenDown::Local { instances } = self.when_down {
            let per = self.quota.per.saturating_mul(instances);
            // A share slower than one permit a day is one permit a day.
            config.quota.per = per.min(Duration::from_secs(86_400));
            config.quota.burst = (self.quota.burst / instances).max(1);
        }
        config
    }
}

stats! {
    /// How a shared rate limit decided.
    SharedRateStats from Counters {
        /// Requests that Redis let through.
        admitted,
        /// Requests that Redis refused.
        refused,
        /// Requests decided without Redis, let through.
        admitted_alone,
        /// Requests decided without Redis, refused.
        refused_alone,
        /// Times Redis failed or did not answer in time.
        failures,
    }
}

/// A rate for each key that all instances of a service share through Redis. Cheap to clone.
///
/// The decision is one script on the server, by the server's clock, so clocks that differ do no harm. A Redis that fails
/// or does not answer within [`SharedRateConfig::timeout`] is left alone after three failures in a row and tried again a
/// second later; meanwhile [`WhenDown`] decides, at once.
///
/// ```no_run
/// use perf_resilience::rate::{SharedRate, SharedRateConfig, WhenDown, per_second};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = SharedRateConfig::default();
/// config.quota = per_second(500).burst(50);
/// config.when_down = WhenDown::Local { instances: 4 };
/// let limit = SharedRate::open("api", "redis://127.0.0.1/", config)?;
/// limit.try_acquire("customer 7", 1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedRate(Arc<Inner>);

struct Inner {
    name: Name,
    config: SharedRateConfig,
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    script: redis::Script,
    /// Nanoseconds of one permit.
    interval: u64,
    breaker: Breaker,
    local: KeyedRate<String>,
    counters: Counters,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, config, breaker, counters, .. } = self;
        let mut shown = f.debug_struct("SharedRate");
        shown
            .field("name", name)
            .field("config", config)
            .field("breaker", breaker)
            .field("counters", counters);
        shown.finish_non_exhaustive()
    }
}

impl SharedRate {
    /// A limit over the Redis that `client` connects to. Nothing is connected yet. Without `TCP_NODELAY`, which
    /// [`SharedRate::open`] sees to, the kernel holds small commands back for up to 40 ms.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn new(
        name: impl Into<Name>,
        client: redis::Client,
        config: SharedRateConfig,
    ) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let name = name.into();
        let breaker = Breaker::builder(name.clone())
            .consecutive(PATIENCE)
            .failure_rate(1.0)
            .open_for(REST)
            .open_cap(REST)
            .jitter(0.1)
            .probes(1)
            .probe_timeout(config.timeout.saturating_mul(2))
            .build()?;
        Ok(Self(Arc::new(Inner {
            local: KeyedRate::new(name.clone(), &config.local()),
            name,
            client,
            connection: Mutex::new(None),
            script: redis::Script::new(SCRIPT),
            interval: config.quota.interval(),
            breaker,
            counters: Counters::default(),
            config,
        })))
    }

    /// A limit over the Redis at `redis://[user:password@]host:port[/database]`, without delay of small commands. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// As [`SharedRate::new`], and for a text that is no such URL, which is never part of the message.
    pub fn open(name: impl Into<Name>, url: &str, config: SharedRateConfig) -> Result<Self, InvalidConfig> {
        let wrong = |_| InvalidConfig::new("redis", "***", "redis://[user:password@]host:port[/database]");
        let place = url.into_connection_info().map_err(wrong)?;
        let place = place.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Self::new(name, redis::Client::open(place).map_err(wrong)?, config)
    }

    /// Takes `permits` of `key` if they are there now.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], with the time until they would be there; without a time when they are more than the burst
    /// or when Redis is down and [`WhenDown::Closed`] decides. Nothing is taken then.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the permits taken: the server may have decided already.
    pub async fn try_acquire(&self, key: &str, permits: u32) -> Result<(), Rejected> {
        let Inner { config, counters, .. } = &*self.0;
        if permits > config.quota.burst {
            counters.refused.increment();
            let (observed, limit) = (f64::from(permits), f64::from(config.quota.burst));
            return Err(self.limited().evidence(Evidence { what: "permits at once", observed, limit }));
        }
        match self.0.ask(key, permits).await {
            Some(0) => {
                counters.admitted.increment();
                Ok(())
            }
            Some(wait) => {
                counters.refused.increment();
                Err(self.limited().retry_after(Duration::from_micros(wait)))
            }
            None => self.alone(key, permits),
        }
    }

    /// Makes the call if a permit of `key` is there now.
    ///
    /// # Errors
    /// The call's own error, or the refusal.
    ///
    /// # Cancel safety
    /// As [`SharedRate::try_acquire`] until the call is made, then as the call.
    pub async fn run<T, E: From<Rejected>>(
        &self,
        key: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.try_acquire(key, 1).await.map_err(signal::refuse::<E>)?;
        call.await
    }

    /// Decides without Redis.
    fn alone(&self, key: &str, permits: u32) -> Result<(), Rejected> {
        let Inner { config, counters, local, .. } = &*self.0;
        let decided = match config.when_down {
            WhenDown::Open => Ok(()),
            WhenDown::Closed => Err(self.limited()),
            WhenDown::Local { .. } => local.try_acquire_many(&key.to_owned(), permits),
        };
        let counter = if decided.is_ok() { &counters.admitted_alone } else { &counters.refused_alone };
        counter.increment();
        decided
    }

    fn limited(&self) -> Rejected {
        Rejected::new(Reason::RateLimited, self.0.name.clone())
    }

    /// Whether Redis decides at present.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.breaker.state() == crate::BreakerState::Closed
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> SharedRateStats {
        self.0.counters.read()
    }
}

impl Inner {
    /// The microseconds to wait by Redis, or `None` if it did not say.
    async fn ask(&self, key: &str, permits: u32) -> Option<u64> {
        let pass = self.breaker.enter().ok()?;
        match time::timeout(self.config.timeout, self.decide(key, permits)).await {
            Ok(Ok(wait)) => {
                pass.leave(Outcome::Success);
                Some(wait)
            }
            Ok(Err(_)) | Err(_) => {
                pass.leave(Outcome::Failure);
                self.counters.failures.increment();
                // A connection that failed or hangs is given up; the next decision makes another.
                if let Ok(mut connection) = self.connection.try_lock() {
                    *connection = None;
                }
                None
            }
        }
    }

    async fn decide(&self, key: &str, permits: u32) -> redis::RedisResult<u64> {
        let mut connection = self.connected().await?;
        let micros = |permits: u32| (u128::from(self.interval) * u128::from(permits)) as f64 / 1e3;
        self.script
            .key(format!("{}{}:{key}", self.config.prefix, self.name))
            .arg(micros(self.config.quota.burst))
            .arg(micros(permits))
            .invoke_async(&mut connection)
            .await
    }

    async fn connected(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let made = self.client.get_multiplexed_async_connection().await?;
        *connection = Some(made.clone());
        Ok(made)
    }
}

const ALONE: Desc = Desc::counter(
    "perf_resilience_rate_decided_alone_total",
    "Requests of a shared rate that were decided without Redis",
    Unit::Count,
);
const FAILURES: Desc = Desc::counter(
    "perf_resilience_rate_store_failures_total",
    "Times the store of a shared rate failed or was too slow",
    Unit::Count,
);

impl Component for SharedRate {
    fn id(&self) -> ComponentId {
        ComponentId::new("rate", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        let total = RateStats {
            admitted: stats.admitted + stats.admitted_alone,
            refused: stats.refused + stats.refused_alone,
            ..RateStats::default()
        };
        collect(&total, sink);
        sink.counter(&ALONE, &[("outcome", "admitted")], stats.admitted_alone);
        sink.counter(&ALONE, &[("outcome", "refused")], stats.refused_alone);
        sink.counter(&FAILURES, &[], stats.failures);
    }

    fn health(&self) -> Health {
        if self.is_shared() {
            Health::up()
        } else {
            Health::degraded("the shared rate is decided by each instance alone: Redis does not answer")
        }
    }
}
