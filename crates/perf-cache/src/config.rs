//! What a configuration file can say about a cache.

use crate::ahead::PrefetchConfig;
use crate::remote::compress::Compression;
use perf_core::{InvalidConfig, duration};
use std::time::Duration;

/// How much a cache holds: bytes as its weigher counts them, or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Capacity {
    /// Weight in bytes: keys, values and 128 bytes of bookkeeping for each entry.
    Bytes(u64),
    /// Number of entries, whatever their size.
    Entries(u64),
}

/// A capacity in bytes: `.capacity(Bytes(64 << 20))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A capacity in entries: `.capacity(Entries(10_000))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries(pub u64);

impl From<Bytes> for Capacity {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes.0)
    }
}

impl From<Entries> for Capacity {
    fn from(entries: Entries) -> Self {
        Self::Entries(entries.0)
    }
}

impl Capacity {
    /// The amount, in its own unit.
    #[must_use]
    pub const fn amount(self) -> u64 {
        match self {
            Self::Bytes(amount) | Self::Entries(amount) => amount,
        }
    }
}

/// When a hit on a value that is still fresh starts its refresh in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Refresh {
    /// Never.
    #[default]
    Off,
    /// After this share of the life, in (0, 1).
    Fraction(f64),
    /// This long after the load.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    After(Duration),
    /// Optimal probabilistic early expiration (Vattani and others, VLDB 2015): earlier the longer a load takes, spread so
    /// that nodes do not refresh together; the factor β is 1 unless there is a reason.
    XFetch(f64),
}

impl Refresh {
    /// [`Refresh::XFetch`] with factor `beta`.
    #[must_use]
    pub const fn xfetch(beta: f64) -> Self {
        Self::XFetch(beta)
    }
}

/// Which engine keeps the entries of the first tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EngineKind {
    /// Our own: the better hit ratio on every trace we know, and hits without a lock.
    #[default]
    Adaptive,
    /// moka's, behind feature `moka`. It pins nothing: only with [`priorities`](CacheConfig::priorities) off.
    #[cfg(feature = "moka")]
    Moka,
}

/// What happens to a load when as many as may run at once are running. Refreshes and other loads that nobody waits for are
/// refused in either case, and sooner: they leave an eighth of the places to loads that somebody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum WhenFull {
    /// It waits for its turn, as long as its callers at most.
    #[default]
    Wait,
    /// It is refused at once: what is left of an older value is served instead, or
    /// [`LoadError::Overloaded`](crate::LoadError::Overloaded).
    Shed,
}

/// What happens to a load when the last caller that waits for it gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum CancelPolicy {
    /// It goes on, and its value is there for the next caller.
    #[default]
    Detach,
    /// It is cancelled: for loads that are dear to their source and of no use to anyone else.
    Abort,
}

/// The settings of one cache, as a configuration file writes them.
///
/// ```
/// use perf_cache::CacheConfig;
/// use std::time::Duration;
///
/// let config = CacheConfig { fresh: Duration::from_secs(5), ..CacheConfig::balanced() };
/// assert!(config.validate().is_ok());
/// assert_eq!(CacheConfig { jitter: 2.0, ..config }.validate().unwrap_err().field(), "jitter");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct CacheConfig {
    /// What the first tier may hold. Default [`CacheConfig::CAPACITY`].
    pub capacity: Capacity,
    /// Life of a value. `0s` stores nothing. Default [`CacheConfig::FRESH`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub fresh: Duration,
    /// When a hit starts a refresh ahead of the end of the life. Default off.
    pub refresh: Refresh,
    /// How long past its life a value is served while a refresh runs. Default 0.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub stale_while_revalidate: Duration,
    /// How long past its life a value is served when the load fails or is late. Default 0.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub stale_if_error: Duration,
    /// After a failed load, how long a stale value is served before the next attempt. Default
    /// [`CacheConfig::THROTTLE`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub throttle: Duration,
    /// Life of the knowledge that there is nothing. `0s` does not remember it. Default [`CacheConfig::NEGATIVE`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub negative: Duration,
    /// Share of the capacity that the knowledge of what does not exist may take, beside the values: whoever asks for random
    /// keys evicts only what others asked for in vain. In (0, 1]. Default [`CacheConfig::NEGATIVE_SHARE`].
    pub negative_share: f64,
    /// Life of a loader's error: until it ends, callers get the same error without a load. `0s` does not remember errors,
    /// which is the default. Which errors are remembered only code can say: [`cache_errors`]; otherwise all are.
    ///
    /// [`cache_errors`]: crate::CacheBuilder::cache_errors
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub errors: Duration,
    /// A read extends the life of a value to this much from then, within `max_age` of its load; `None` does not. A read
    /// within a sixteenth of it after the last extension may not extend it again. Not together with `refresh`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub sliding: Option<Duration>,
    /// Lives are lengthened by a random share of at most this, in [0, 1], so that values loaded together do not end
    /// together. Default [`CacheConfig::JITTER`].
    pub jitter: f64,
    /// No life is longer than this, jitter and the loader's own wishes included. Default 1 day.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub max_age: Duration,
    /// How long a caller waits for a load when there is a stale value to serve instead; `None` waits for the load.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub soft_timeout: Option<Duration>,
    /// How long a caller waits for a load at all. The load itself goes on. Default [`CacheConfig::HARD_TIMEOUT`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub hard_timeout: Duration,
    /// After this long a load that has not ended is dropped, so that its key can be loaded again. Default
    /// [`CacheConfig::ABANDON_AFTER`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub abandon_after: Duration,
    /// Loads that may run at once. Default [`CacheConfig::MAX_LOADS`].
    pub max_loads: u32,
    /// What happens to a load when that many are running. Default [`WhenFull::Wait`].
    pub when_full: WhenFull,
    /// What happens to a load when nobody waits for it any more. Default [`CancelPolicy::Detach`].
    pub cancel: CancelPolicy,
    /// Whether a loader may be offered a value that a tag has invalidated as the base of `not modified`: for sources whose
    /// entity tags can be trusted more than invalidations. It is never served. Default false.
    pub allow_invalidated_base: bool,
    /// A value heavier than this is returned but not kept. `None` means an eighth of the capacity in bytes.
    pub max_entry_bytes: Option<u64>,
    /// Share of the keys that are observed for the miss-ratio curve at most, in [0, 1]; large caches observe fewer. With any
    /// of it one read in 256 is looked at for hot keys and bytes saved. A hit costs some nanoseconds more then, so 0, which
    /// observes nothing, is the default; the presets say [`CacheConfig::SAMPLING`].
    pub sampling: f64,
    /// What prefetching may cost, for caches that do: [`Cache::prefetcher`](crate::Cache::prefetcher).
    pub prefetch: PrefetchConfig,
    /// How long a node may hold the lease of a key while it loads; see [`lease`](crate::CacheBuilder::lease). `None`, the
    /// default, does without leases.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub lease: Option<Duration>,
    /// How values are compressed on their way to the second tier. Default off.
    pub compression: Compression,
    /// Which engine keeps the entries.
    pub engine: EngineKind,
    /// Whether an entry may be pinned high or low ([`Priority`](crate::Priority)). With false all entries rank alike, whatever
    /// loaders say. Default true; the engine `moka` cannot do it and is refused with it.
    pub priorities: bool,
}

impl CacheConfig {
    /// 64 MiB: some hundred thousand small rows, little beside a service's own memory.
    pub const CAPACITY: Capacity = Capacity::Bytes(64 << 20);
    /// One minute: long enough to absorb nearly all reads of a hot key, short enough to forgive a forgotten invalidation.
    pub const FRESH: Duration = Duration::from_secs(60);
    /// Five seconds: a source in trouble is asked rarely, and its recovery is noticed soon.
    pub const THROTTLE: Duration = Duration::from_secs(5);
    /// Five seconds: what does not exist is often about to be created.
    pub const NEGATIVE: Duration = Duration::from_secs(5);
    /// A tenth: enough to remember the keys that are asked for in vain again and again, too little to matter.
    pub const NEGATIVE_SHARE: f64 = 0.1;
    /// A tenth of the life spreads values loaded in one burst over several seconds.
    pub const JITTER: f64 = 0.1;
    /// One day: whatever invalidation missed ends after it.
    pub const MAX_AGE: Duration = Duration::from_secs(86_400);
    /// What the presets say, one key in 64: little enough not to be noticed, and 512 keys of a cache of 32,768 entries.
    pub const SAMPLING: f64 = 1.0 / 64.0;
    /// Ten seconds: longer than any query worth waiting for in a request.
    pub const HARD_TIMEOUT: Duration = Duration::from_secs(10);
    /// Two minutes: a load that hangs longer will not come back.
    pub const ABANDON_AFTER: Duration = Duration::from_secs(120);
    /// A lease that ends before the second tier has answered twice protects nothing.
    pub const SHORTEST_LEASE: Duration = Duration::from_millis(10);
    /// More loads than this at once only queue up in the source.
    pub const MAX_LOADS: u32 = 1024;

    /// Long lives and wide stale windows: for data that changes rarely or is always invalidated.
    #[must_use]
    pub fn aggressive() -> Self {
        Self {
            fresh: Duration::from_secs(600),
            refresh: Refresh::Fraction(0.8),
            stale_while_revalidate: Duration::from_secs(600),
            stale_if_error: Duration::from_secs(86_400),
            negative: Duration::from_secs(30),
            soft_timeout: Some(Duration::from_millis(50)),
            sampling: Self::SAMPLING,
            ..Self::default()
        }
    }

    /// A minute of life, refreshed ahead of its end, an hour of protection against failures.
    #[must_use]
    pub fn balanced() -> Self {
        Self {
            refresh: Refresh::XFetch(1.0),
            stale_while_revalidate: Duration::from_secs(30),
            stale_if_error: Duration::from_secs(3_600),
            soft_timeout: Some(Duration::from_millis(100)),
            sampling: Self::SAMPLING,
            ..Self::default()
        }
    }

    /// Five seconds of life and nothing stale, ever: for data that must follow its source closely.
    #[must_use]
    pub fn conservative() -> Self {
        Self {
            fresh: Duration::from_secs(5),
            negative: Duration::from_secs(1),
            sampling: Self::SAMPLING,
            ..Self::default()
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let share = |field, value: f64| {
            (0.0..=1.0)
                .contains(&value)
                .then_some(())
                .ok_or_else(|| InvalidConfig::new(field, value, "0 to 1"))
        };
        share("jitter", self.jitter)?;
        self.prefetch.validate().map_err(|invalid| invalid.within("prefetch"))?;
        share("sampling", self.sampling)?;
        share("negative_share", self.negative_share)?;
        if self.negative_share == 0.0 {
            return Err(InvalidConfig::new(
                "negative_share",
                0,
                "above 0, to 1; `negative = \"0s\"` remembers nothing",
            ));
        }
        if self.sliding.is_some() && self.refresh != Refresh::Off {
            return Err(InvalidConfig::new(
                "sliding",
                "a life",
                "no `refresh` beside it: a value that is read never ends",
            ));
        }
        if self.sliding.is_some_and(|life| life.is_zero()) {
            return Err(InvalidConfig::new("sliding", "0s", "1ns or more"));
        }
        if self.capacity.amount() == 0 {
            return Err(InvalidConfig::new("capacity", 0, "1 or more"));
        }
        if self.max_loads == 0 {
            return Err(InvalidConfig::new("max_loads", 0, "1 or more"));
        }
        for (field, value) in [("hard_timeout", self.hard_timeout), ("abandon_after", self.abandon_after)] {
            if value.is_zero() {
                return Err(InvalidConfig::new(field, duration::format(value), "1ns or more"));
            }
        }
        if let Some(life) = self.lease.filter(|life| *life < Self::SHORTEST_LEASE) {
            return Err(InvalidConfig::new("lease", duration::format(life), "10ms or more"));
        }
        #[cfg(feature = "moka")]
        if self.engine == EngineKind::Moka && self.priorities {
            return Err(InvalidConfig::new("priorities", true, "false: the engine `moka` pins nothing"));
        }
        self.compression.validate()?;
        match self.refresh {
            Refresh::Fraction(share) if !(share > 0.0 && share < 1.0) => {
                Err(InvalidConfig::new("refresh.fraction", share, "above 0 and below 1"))
            }
            Refresh::XFetch(beta) if !(beta.is_finite() && beta > 0.0) => {
                Err(InvalidConfig::new("refresh.x_fetch", beta, "above 0"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for CacheConfig {
    /// A minute of life, nothing stale, everything else as the constants say.
    fn default() -> Self {
        Self {
            capacity: Self::CAPACITY,
            fresh: Self::FRESH,
            refresh: Refresh::Off,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            throttle: Self::THROTTLE,
            negative: Self::NEGATIVE,
            negative_share: Self::NEGATIVE_SHARE,
            errors: Duration::ZERO,
            sliding: None,
            jitter: Self::JITTER,
            max_age: Self::MAX_AGE,
            soft_timeout: None,
            hard_timeout: Self::HARD_TIMEOUT,
            abandon_after: Self::ABANDON_AFTER,
            max_loads: Self::MAX_LOADS,
            when_full: WhenFull::Wait,
            cancel: CancelPolicy::Detach,
            allow_invalidated_base: false,
            max_entry_bytes: None,
            sampling: 0.0,
            prefetch: PrefetchConfig::default(),
            lease: None,
            compression: Compression::Off,
            engine: EngineKind::default(),
            priorities: true,
        }
    }
}

/// The settings that most caches want one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Preset {
    /// [`CacheConfig::aggressive`].
    Aggressive,
    /// [`CacheConfig::balanced`].
    Balanced,
    /// [`CacheConfig::conservative`].
    Conservative,
}

impl From<Preset> for CacheConfig {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::Aggressive => Self::aggressive(),
            Preset::Balanced => Self::balanced(),
            Preset::Conservative => Self::conservative(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        for preset in [Preset::Aggressive, Preset::Balanced, Preset::Conservative] {
            assert_eq!(CacheConfig::from(preset).validate(), Ok(()));
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let default = CacheConfig::default;
        for (config, field) in [
            (CacheConfig { jitter: f64::NAN, ..default() }, "jitter"),
            (CacheConfig { capacity: Capacity::Entries(0), ..default() }, "capacity"),
            (CacheConfig { refresh: Refresh::Fraction(1.0), ..default() }, "refresh.fraction"),
            (CacheConfig { refresh: Refresh::XFetch(0.0), ..default() }, "refresh.x_fetch"),
            (CacheConfig { max_loads: 0, ..default() }, "max_loads"),
            (CacheConfig { lease: Some(Duration::from_millis(1)), ..default() }, "lease"),
            #[cfg(feature = "zstd")]
            (
                CacheConfig {
                    compression: Compression::Zstd { level: 20, above: 0, dictionary: 0 },
                    ..default()
                },
                "compression.zstd.level",
            ),
            #[cfg(feature = "zstd")]
            (
                CacheConfig {
                    compression: Compression::Zstd { level: 3, above: 0, dictionary: 7 },
                    ..default()
                },
                "compression.zstd.dictionary",
            ),
            (CacheConfig { negative_share: 0.0, ..default() }, "negative_share"),
            (CacheConfig { sliding: Some(Duration::ZERO), ..default() }, "sliding"),
            (
                CacheConfig { sliding: Some(Duration::MAX), refresh: Refresh::XFetch(1.0), ..default() },
                "sliding",
            ),
            (CacheConfig { hard_timeout: Duration::ZERO, ..default() }, "hard_timeout"),
            #[cfg(feature = "moka")]
            (CacheConfig { engine: EngineKind::Moka, ..default() }, "priorities"),
        ] {
            assert_eq!(config.validate().unwrap_err().field(), field);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn what_is_written_reads_back_and_unknown_fields_are_refused() {
        let config = CacheConfig::aggressive();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<CacheConfig>(&text).unwrap(), config);
        let error = serde_json::from_str::<CacheConfig>(r#"{"ttl": "5s"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `ttl`"), "{error}");
    }
}
