use super::EjectorConfig;
use crate::checks;
use perf_core::InvalidConfig;
use perf_core::time::Duration;

/// What a configuration file can say about several endpoints. The defaults are the constants of this type.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BalanceConfig {
    /// How an endpoint is chosen.
    pub strategy: Strategy,
    /// How long a call to an endpoint nobody has tried is taken to last.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub default_rtt: Duration,
    /// Latencies are forgotten over this time.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub decay: Duration,
    /// What a failed call costs at least, so that failing fast does not look like being fast.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub penalty: Duration,
    /// An endpoint that joins or recovers gets its full share after this time. Zero: at once.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub slow_start: Duration,
    /// The share it begins with. 0 to 1.
    pub slow_start_least: f64,
    /// How the share grows: 1 evenly, more than 1 faster at first. 0.1 to 10.
    pub slow_start_aggression: f64,
    /// How many of the endpoints this instance uses, another choice for each instance. None: all.
    pub subset: Option<usize>,
    /// Endpoints that a caller tries at most, one after the other within its one deadline. At least 1: no other than the
    /// first.
    pub tries: u32,
    /// How often the list of endpoints is asked for.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub discover_interval: Duration,
    /// How often each endpoint is probed.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub probe_interval: Duration,
    /// How long a probe, or asking for the list, may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub probe_timeout: Duration,
    /// Good probes in a row that bring an endpoint back. At least 1.
    pub rise: u32,
    /// Bad probes in a row that take it out. At least 1.
    pub fall: u32,
    /// When endpoints are taken out because their calls fail.
    pub ejector: EjectorConfig,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Strategy {
    /// The better of two drawn at random, by latency and calls under way.
    #[default]
    P2c,
    /// The one with the fewest calls under way for its weight.
    LeastLoaded,
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
}

impl Strategy {
    /// A fresh choice of this kind.
    #[must_use]
    pub fn balance(self) -> Box<dyn super::Balance> {
        match self {
            Self::P2c => Box::new(super::P2c::default()),
            Self::LeastLoaded => Box::new(super::LeastLoaded::default()),
            Self::RoundRobin => Box::new(super::RoundRobin::default()),
            Self::Random => Box::new(super::RandomPick),
        }
    }
}

impl BalanceConfig {
    /// A call over a local network with some work at its end.
    pub const DEFAULT_RTT: Duration = Duration::from_millis(10);
    /// Finagle's number: long enough to remember a pause, short enough to forgive it.
    pub const DEFAULT_DECAY: Duration = Duration::from_secs(10);
    /// Longer than any call that succeeds.
    pub const DEFAULT_PENALTY: Duration = Duration::from_secs(1);
    /// Caches are warm by then.
    pub const DEFAULT_SLOW_START: Duration = Duration::from_secs(30);
    /// Envoy's number.
    pub const DEFAULT_SLOW_START_LEAST: f64 = 0.1;
    /// Two of them may be ill at the same time; more is an outage that trying on does not end.
    pub const DEFAULT_TRIES: u32 = 3;
    /// The life of a common DNS record.
    pub const DEFAULT_DISCOVER_INTERVAL: Duration = Duration::from_secs(30);
    /// With `fall` 3, a writer that is gone is noticed within a quarter of a minute.
    pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(5);
    /// A probe is one round trip, after a connect at worst.
    pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(2);
    /// Once may be luck.
    pub const DEFAULT_RISE: u32 = 2;
    /// Twice may be bad luck.
    pub const DEFAULT_FALL: u32 = 3;

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        checks::times(&[
            ("decay", Some(self.decay)),
            ("discover_interval", Some(self.discover_interval)),
            ("probe_interval", Some(self.probe_interval)),
            ("probe_timeout", Some(self.probe_timeout)),
        ])?;
        if !(0.0..=1.0).contains(&self.slow_start_least) {
            return Err(InvalidConfig::new("slow_start_least", self.slow_start_least, "0 to 1"));
        }
        if !(0.1..=10.0).contains(&self.slow_start_aggression) {
            return Err(InvalidConfig::new("slow_start_aggression", self.slow_start_aggression, "0.1 to 10"));
        }
        if self.subset == Some(0) {
            return Err(InvalidConfig::new("subset", 0, "at least 1"));
        }
        for (field, value) in [("tries", self.tries), ("rise", self.rise), ("fall", self.fall)] {
            if value == 0 {
                return Err(InvalidConfig::new(field, value, "at least 1"));
            }
        }
        self.ejector.validate().map_err(|error| error.within("ejector"))
    }
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            default_rtt: Self::DEFAULT_RTT,
            decay: Self::DEFAULT_DECAY,
            penalty: Self::DEFAULT_PENALTY,
            slow_start: Self::DEFAULT_SLOW_START,
            slow_start_least: Self::DEFAULT_SLOW_START_LEAST,
            slow_start_aggression: 1.0,
            subset: None,
            tries: Self::DEFAULT_TRIES,
            discover_interval: Self::DEFAULT_DISCOVER_INTERVAL,
            probe_interval: Self::DEFAULT_PROBE_INTERVAL,
            probe_timeout: Self::DEFAULT_PROBE_TIMEOUT,
            rise: Self::DEFAULT_RISE,
            fall: Self::DEFAULT_FALL,
            ejector: EjectorConfig::default(),
        }
    }
}
