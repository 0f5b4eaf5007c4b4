use crate::checks;
use crate::sizing::SizingConfig;
use perf_core::{Backoff, InvalidConfig};
use std::time::Duration;

/// Which idle connection is used next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Order {
    /// The one used last: the rest age and can be closed.
    #[default]
    Lifo,
    /// The one idle longest: the load is spread evenly.
    Fifo,
}

/// Who is served when a connection comes back while callers wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Fairness {
    /// The oldest waiter, always: nobody is overtaken.
    #[default]
    Strict,
    /// Whoever comes first, as long as the oldest waiter has waited for less than `max_wait`; then the oldest waiter. It
    /// saves a change of tasks for each lease and lengthens the longest waits: measure before you use it.
    Barging {
        /// How long the oldest waiter is overtaken at most.
        #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
        max_wait: Duration,
    },
}

/// What a configuration file can say about a pool. The defaults are the constants of this type.
///
/// ```
/// use perf_pool::PoolConfig;
///
/// let mut config = PoolConfig::default();
/// config.min_idle = 20;
/// assert_eq!(config.validate().unwrap_err().to_string(), "invalid configuration: min_idle = 20, allowed: 0 to max, 16");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Connections at most, in any state. 1 to [`PoolConfig::LARGEST_MAX`].
    pub max: usize,
    /// Connections kept open even when nobody needs them. 0 to `max`.
    pub min_idle: usize,
    /// Callers at most that wait for a lease to end; the next one is refused at once. Those for whom there is room, one
    /// for each connection of `max` that is not leased, do not count. Zero: nobody waits for a lease. None: no limit.
    pub max_waiters: Option<usize>,
    /// Connections being made at one time at most. 1 to `max`.
    pub max_connecting: usize,
    /// How long a caller waits for a connection unless it says otherwise. Zero: it never waits.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub acquire_timeout: Duration,
    /// How long making one connection may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub connect_timeout: Duration,
    /// How long one check or reset may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub check_timeout: Duration,
    /// How long saying good-bye to one connection may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub close_timeout: Duration,
    /// How long [`Pool::close`](crate::Pool::close) waits for leases to come back.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub drain_timeout: Duration,
    /// How long [`Pool::warm_up`](crate::Pool::warm_up) waits for `min_idle` connections.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub warmup_timeout: Duration,
    /// A connection idle for longer is checked before it is used. Zero: always.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub check_after: Duration,
    /// An idle connection is checked in the background this often. None: never.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub keepalive: Option<Duration>,
    /// A connection lives between 90 % and 100 % of this, drawn for each, so that those born together do not die
    /// together. None: no limit.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub max_lifetime: Option<Duration>,
    /// A connection idle for longer is closed, down to `min_idle`. None: never.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub idle_timeout: Option<Duration>,
    /// Connections above this number are closed when they have been idle for `overflow_linger`. None: no such number.
    pub keep: Option<usize>,
    /// How long a connection above `keep` stays idle before it is closed. Zero: it is closed as it comes back.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub overflow_linger: Duration,
    /// Connections above `max` while old ones are being replaced before they expire. 0 to 16.
    pub replace_overlap: usize,
    /// A lease held for longer is reported, with the place it was acquired at. None: never.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub leak_after: Option<Duration>,
    /// How often the pool looks after its idle connections. At least 1 ms.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub maintenance_interval: Duration,
    /// First wait after a failed attempt to connect; it doubles, with full jitter, up to `retry_cap`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub retry_base: Duration,
    /// Longest wait between two attempts to connect.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub retry_cap: Duration,
    /// Whether callers fail at once while the server cannot be reached and no connection lives. Errors the manager calls
    /// permanent always do that.
    pub fail_fast: bool,
    /// Whether a caller whose time is shorter than the predicted wait is refused at once.
    pub refuse_hopeless: bool,
    /// Which idle connection is used next.
    pub order: Order,
    /// Whether newcomers may overtake waiters for a moment.
    pub fairness: Fairness,
    /// Observes the load and finds the right size, acting on it or only telling. None: the size stays as it is.
    pub sizing: Option<SizingConfig>,
}

impl PoolConfig {
    /// Enough for two to four cores with a local database; more seldom helps.
    pub const DEFAULT_MAX: usize = 16;
    /// The largest `max` accepted: beyond it something else is wrong.
    pub const LARGEST_MAX: usize = 100_000;
    /// A small number: a server that is slow to accept is not helped by a crowd at its door.
    pub const DEFAULT_MAX_CONNECTING: usize = 2;
    /// The customary limit for a request, and SQLAlchemy's and HikariCP's.
    pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Ten times what a slow handshake with TLS needs.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// A check is one round trip: a second is a very long one.
    pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
    /// A good-bye that takes longer is not worth waiting for.
    pub const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
    /// Less than the 30 s orchestrators give a process to stop.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
    /// Long enough for a database that starts together with the service.
    pub const DEFAULT_WARMUP_TIMEOUT: Duration = Duration::from_secs(30);
    /// A busy connection is never checked, and one that dozed off is (pgx's number).
    pub const DEFAULT_CHECK_AFTER: Duration = Duration::from_secs(1);
    /// Below the five minutes after which common firewalls forget a silent connection.
    pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(120);
    /// HikariCP's number: servers' memory and changed addresses are let go in time.
    pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
    /// HikariCP's number: a peak is over after ten minutes without use.
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
    /// Long enough that a steady load above `keep` does not reconnect all the time.
    pub const DEFAULT_OVERFLOW_LINGER: Duration = Duration::from_secs(30);
    /// One connection above `max` is what a careful replacement needs.
    pub const DEFAULT_REPLACE_OVERLAP: usize = 1;
    /// No ordinary request holds a connection for a minute.
    pub const DEFAULT_LEAK_AFTER: Duration = Duration::from_secs(60);
    /// Limits overshoot by at most this; looking costs microseconds.
    pub const DEFAULT_MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
    /// Fast enough for a hiccup.
    pub const DEFAULT_RETRY_BASE: Duration = Duration::from_millis(50);
    /// Slow enough not to stampede a server that restarts.
    pub const DEFAULT_RETRY_CAP: Duration = Duration::from_secs(5);

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        checks::sizes(&[
            ("max", self.max, 1, Self::LARGEST_MAX),
            ("max_connecting", self.max_connecting, 1, Self::LARGEST_MAX),
            ("replace_overlap", self.replace_overlap, 0, 16),
        ])?;
        for (field, value) in [("min_idle", self.min_idle), ("keep", self.keep.unwrap_or(0))] {
            if value > self.max {
                return Err(InvalidConfig::new(field, value, format!("0 to max, {}", self.max)));
            }
        }
        if let Some(sizing) = &self.sizing {
            sizing.validate().map_err(|error| error.within("sizing"))?;
        }
        checks::times(&[
            ("connect_timeout", Some(self.connect_timeout)),
            ("check_timeout", Some(self.check_timeout)),
            ("close_timeout", Some(self.close_timeout)),
            ("warmup_timeout", Some(self.warmup_timeout)),
            ("keepalive", self.keepalive),
            ("max_lifetime", self.max_lifetime),
            ("idle_timeout", self.idle_timeout),
            ("leak_after", self.leak_after),
            ("maintenance_interval", Some(self.maintenance_interval)),
        ])?;
        checks::retries(self.retry_base, self.retry_cap)
    }

    /// The delays between attempts to connect.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::exponential(self.retry_base).cap(self.retry_cap)
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max: Self::DEFAULT_MAX,
            min_idle: 0,
            max_waiters: None,
            max_connecting: Self::DEFAULT_MAX_CONNECTING,
            acquire_timeout: Self::DEFAULT_ACQUIRE_TIMEOUT,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            check_timeout: Self::DEFAULT_CHECK_TIMEOUT,
            close_timeout: Self::DEFAULT_CLOSE_TIMEOUT,
            drain_timeout: Self::DEFAULT_DRAIN_TIMEOUT,
            warmup_timeout: Self::DEFAULT_WARMUP_TIMEOUT,
            check_after: Self::DEFAULT_CHECK_AFTER,
            keepalive: Some(Self::DEFAULT_KEEPALIVE),
            max_lifetime: Some(Self::DEFAULT_MAX_LIFETIME),
            idle_timeout: Some(Self::DEFAULT_IDLE_TIMEOUT),
            keep: None,
            overflow_linger: Self::DEFAULT_OVERFLOW_LINGER,
            replace_overlap: Self::DEFAULT_REPLACE_OVERLAP,
            leak_after: Some(Self::DEFAULT_LEAK_AFTER),
            maintenance_interval: Self::DEFAULT_MAINTENANCE_INTERVAL,
            retry_base: Self::DEFAULT_RETRY_BASE,
            retry_cap: Self::DEFAULT_RETRY_CAP,
            fail_fast: false,
            refuse_hopeless: true,
            order: Order::default(),
            fairness: Fairness::default(),
            sizing: None,
        }
    }
}
