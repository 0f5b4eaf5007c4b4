//! What a load test is to do: the model, the stages, the limits.

mod arrivals;
mod profile;

pub use arrivals::{Arrivals, Planned, Schedule};
pub(crate) use profile::Profile;
pub use profile::Stage;

use perf_core::time::Duration;
use perf_core::{InvalidConfig, Name};

/// 30 s: never infinite, and long enough that a slow answer is measured rather than cut.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// 5 s: one lost SYN is repeated after 1 s and again after 3 s.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// 10 s: enough for ten intervals of a timeline.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// The seed unless another is given, so that two runs of one command send the same requests.
pub const DEFAULT_SEED: u64 = 42;

/// 16 MiB: no answer that a check looks at is larger in practice, and one that is shall not fill the memory.
pub const DEFAULT_MAX_KEPT_BODY: usize = 16 * 1024 * 1024;

/// Fewer than this many requests in flight would make bursts wait that the target could serve.
pub const MIN_DEFAULT_IN_FLIGHT: usize = 1_000;

/// More need more open files and local ports than a system gives without being asked.
pub const MAX_DEFAULT_IN_FLIGHT: usize = 20_000;

/// The most users and the most requests in flight that a plan may ask for.
pub const MAX_CONCURRENCY: usize = 1_000_000;

/// The highest rate a plan may ask for, in requests per second.
pub const MAX_RATE: f64 = 10_000_000.0;

/// What happens to a request of an open load that is due while the most requests allowed are in flight. The run is marked
/// *saturated* either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It waits; its response time counts from the planned instant all the same.
    #[default]
    Queue,
    /// It is dropped and counted as [`generator_overflow`](crate::ErrorKind::GeneratorOverflow).
    Drop,
}

/// Where the generator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// On this many threads of its own, each with a single-threaded runtime. Recommended: a busy runtime of the host, above all one
    /// that serves the requests, delays the generator's own clock readings.
    Own(usize),
    /// On the runtime that starts the run.
    Caller,
}

/// How planned instants are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pacing {
    /// With the system's high-resolution timer (Linux), which fires within microseconds and does not spin; elsewhere as
    /// [`Pacing::Timer`].
    #[default]
    Precise,
    /// With tokio's timer, whose resolution is 1 ms: for tests that pause the clock.
    Timer,
}

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Closed,
    Open(Arrivals),
}

/// The plan of a load test, and its builder.
///
/// | setting | default |
/// |---|---|
/// | [`duration`](Load::duration) | 10 s |
/// | [`warmup`](Load::warmup) | none |
/// | [`seed`](Load::seed) | 42 |
/// | [`timeout`](Load::timeout), [`connect_timeout`](Load::connect_timeout) | 30 s, 5 s |
/// | [`grace`](Load::grace) | the timeout |
/// | [`max_in_flight`](Load::max_in_flight) | the rate's one second, at least 1,000 and at most 20,000 |
/// | [`overflow`](Load::overflow) | [`Overflow::Queue`] |
/// | [`threads`](Load::threads) | 1 thread of its own |
/// | [`keep_alive`](Load::keep_alive) | yes |
///
/// ```
/// use perf_load::{Arrivals, Load};
/// use std::time::Duration;
///
/// let plan = Load::open(Arrivals::Poisson).rate(800.0).duration(Duration::from_secs(30)).seed(7);
/// assert!(plan.validate().is_ok());
/// assert!(Load::closed(0).validate().is_err());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing until it is run"]
pub struct Load {
    pub(crate) name: Name,
    pub(crate) model: Model,
    level: f64,
    stages: Vec<Stage>,
    duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) seed: u64,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    grace: Option<Duration>,
    max_in_flight: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) threads: Threads,
    pub(crate) pacing: Pacing,
    pub(crate) keep_alive: bool,
    pub(crate) max_kept_body: usize,
    pub(crate) preflight: bool,
}

impl Load {
    /// A fixed number of users, each of which waits for its answer before it asks again. Latencies of a closed load do not describe an
    /// open population: a slow target slows its own users down. Use it to find the throughput.
    pub const fn closed(users: usize) -> Self {
        Self::new(Model::Closed, users as f64)
    }

    /// Requests at a rate that does not depend on the answers, as from many independent people. Set [`rate`](Load::rate) or
    /// [`stage`](Load::stage)s.
    pub const fn open(arrivals: Arrivals) -> Self {
        Self::new(Model::Open(arrivals), 0.0)
    }

    const fn new(model: Model, level: f64) -> Self {
        Self {
            name: Name::from_static("load"),
            model,
            level,
            stages: Vec::new(),
            duration: DEFAULT_DURATION,
            warmup: Duration::ZERO,
            seed: DEFAULT_SEED,
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            grace: None,
            max_in_flight: None,
            overflow: Overflow::Queue,
            threads: Threads::Own(1),
            pacing: Pacing::Precise,
            keep_alive: true,
            max_kept_body: DEFAULT_MAX_KEPT_BODY,
            preflight: true,
        }
    }

    /// Tells runs apart in metrics; `load` unless set.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Requests per second of an open load without stages.
    pub const fn rate(mut self, per_second: f64) -> Self {
        self.level = per_second;
        self
    }

    /// Adds a stage. With stages, their levels are requests per second (open) or users (closed), the plan lasts as long as they do,
    /// and [`rate`](Load::rate) and [`duration`](Load::duration) are not used.
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// How long to measure, after the warm-up.
    pub const fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Requests planned in the first part of the run are sent but not counted. It precedes [`duration`](Load::duration); with stages
    /// it is the first part of them.
    pub const fn warmup(mut self, warmup: Duration) -> Self {
        self.warmup = warmup;
        self
    }

    /// Determines the schedule and every random number of the scenario.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The limit on one request, from the moment it is taken up by a connection to the end of its answer.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The limit on making a connection, name look-up included.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long answers are awaited after the plan's end. What is still missing then counts as
    /// [`cancelled`](crate::ErrorKind::Cancelled), censored at its age.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// The most requests of an open load in flight at once, over all threads.
    pub const fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = Some(requests);
        self
    }

    /// What happens at [`max_in_flight`](Load::max_in_flight).
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many threads of its own the generator has.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Threads::Own(threads);
        self
    }

    /// Runs on the caller's runtime instead of threads of its own; see [`Threads`].
    pub const fn on_caller_runtime(mut self) -> Self {
        self.threads = Threads::Caller;
        self
    }

    /// How planned instants are waited for.
    pub const fn pacing(mut self, pacing: Pacing) -> Self {
        self.pacing = pacing;
        self
    }

    /// Whether a connection carries more than one request.
    pub const fn keep_alive(mut self, keep: bool) -> Self {
        self.keep_alive = keep;
        self
    }

    /// The most bytes of a body kept for a check; longer bodies are cut, and counted in full.
    pub const fn max_kept_body(mut self, bytes: usize) -> Self {
        self.max_kept_body = bytes;
        self
    }

    /// Whether the run refuses to start, with [`Error::Unreachable`](crate::Error::Unreachable), when nothing listens at the target.
    pub const fn preflight(mut self, check: bool) -> Self {
        self.preflight = check;
        self
    }

    /// Says what cannot be done.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the setting, its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.validate_levels()?;
        let length = self.profile().length();
        if length.is_zero() || length > MAX_LENGTH {
            return Err(InvalidConfig::new(
                "duration",
                format_args!("{length:?}"),
                "above 0s, at most 30 days",
            ));
        }
        if self.warmup >= length {
            return Err(InvalidConfig::new(
                "warmup",
                format_args!("{:?}", self.warmup),
                "less than the plan's length",
            ));
        }
        for (field, value) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if value.is_zero() || value > crate::stats::LONGEST {
                return Err(InvalidConfig::new(field, format_args!("{value:?}"), "above 0s, at most 1h"));
            }
        }
        if self.drain_limit() > crate::stats::LONGEST {
            return Err(InvalidConfig::new("grace", format_args!("{:?}", self.drain_limit()), "at most 1h"));
        }
        let (in_flight, threads) = (self.in_flight(), self.shards());
        if in_flight == 0 || in_flight > MAX_CONCURRENCY {
            return Err(InvalidConfig::new("max_in_flight", in_flight, "1 to 1000000"));
        }
        if threads == 0 || threads > MAX_THREADS {
            return Err(InvalidConfig::new("threads", threads, "1 to 256"));
        }
        Ok(())
    }

    fn validate_levels(&self) -> Result<(), InvalidConfig> {
        let (field, allowed, most) = match self.model {
            Model::Closed => ("users", "1 to 1000000", MAX_CONCURRENCY as f64),
            Model::Open(_) => ("rate", "above 0, at most 10000000", MAX_RATE),
        };
        for stage in &self.stages {
            for level in [stage.from.unwrap_or(0.0), stage.to] {
                if !(0.0..=most).contains(&level) {
                    return Err(InvalidConfig::new("stage", level, format!("0 to {most}")));
                }
            }
        }
        let peak = if self.stages.is_empty() { self.level } else { self.profile().peak() };
        if peak > 0.0 && peak <= most { Ok(()) } else { Err(InvalidConfig::new(field, peak, allowed)) }
    }

    pub(crate) fn profile(&self) -> Profile {
        if self.stages.is_empty() {
            let length = self.warmup.saturating_add(self.duration);
            Profile::new(&[Stage::hold(
                self.level,
                if self.duration.is_zero() { self.duration } else { length },
            )])
        } else {
            Profile::new(&self.stages)
        }
    }

    pub(crate) fn drain_limit(&self) -> Duration {
        self.grace.unwrap_or(self.timeout)
    }

    pub(crate) const fn shards(&self) -> usize {
        match self.threads {
            Threads::Own(threads) => threads,
            Threads::Caller => 1,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight.unwrap_or_else(|| {
            (self.profile().peak() as usize).clamp(MIN_DEFAULT_IN_FLIGHT, MAX_DEFAULT_IN_FLIGHT)
        })
    }
}

const MAX_LENGTH: Duration = Duration::from_secs(30 * 86_400);

/// More threads than any machine this is made for has cores.
const MAX_THREADS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn impossible_plans_are_refused_by_name() {
        let open = || Load::open(Arrivals::Constant).rate(10.0);
        for (plan, field) in [
            (Load::closed(0), "users"),
            (Load::open(Arrivals::Constant), "rate"),
            (open().rate(f64::NAN), "rate"),
            (open().rate(-1.0), "rate"),
            (open().duration(Duration::ZERO), "duration"),
            (open().duration(Duration::MAX), "duration"),
            (open().timeout(Duration::ZERO), "timeout"),
            (open().connect_timeout(secs(86_400)), "connect_timeout"),
            (open().grace(secs(86_400)), "grace"),
            (open().max_in_flight(0), "max_in_flight"),
            (open().threads(0), "threads"),
            (open().stage(Stage::hold(-5.0, secs(1))), "stage"),
            (open().stage(Stage::ramp(f64::INFINITY, secs(1))), "stage"),
            (open().stage(Stage::hold(5.0, secs(1))).warmup(secs(1)), "warmup"),
        ] {
            assert_eq!(plan.validate().unwrap_err().field(), field, "{plan:?}");
        }
    }

    #[test]
    fn the_warm_up_precedes_the_duration() {
        let plan = Load::closed(5).duration(secs(10)).warmup(secs(3));
        assert_eq!(plan.profile().length(), secs(13));
        let staged = plan.stage(Stage::ramp(5.0, secs(4)));
        assert_eq!(staged.profile().length(), secs(4));
        assert!(staged.validate().is_ok());
    }

    #[test]
    fn the_most_in_flight_follows_the_rate() {
        let of = |rate| Load::open(Arrivals::Poisson).rate(rate).in_flight();
        assert_eq!([of(10.0), of(5_000.0), of(1e6)], [1_000, 5_000, 20_000]);
    }
}
