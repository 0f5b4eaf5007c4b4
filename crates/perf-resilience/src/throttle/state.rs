use super::{DEFAULT_K, DEFAULT_MAX_REJECT, DEFAULT_MIN_REQUESTS, DEFAULT_WINDOW};
use perf_core::time::{Duration, Instant};
use perf_core::{InvalidConfig, Outcome, Rng, Tally, TimeWindow};

/// Buckets of the window.
const BUCKETS: usize = 10;
/// How fast the estimate of the 99th percentile moves, as a share of itself.
const STEP: f64 = 0.1;
/// No window is longer: after a minute the past says nothing about now.
const LONGEST: Duration = Duration::from_secs(60);

/// What a configuration file can say about a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ThrottleConfig {
    /// How many times what is accepted may be sent, at least 1; default [`DEFAULT_K`].
    pub k: f64,
    /// The shortest window; default [`DEFAULT_WINDOW`].
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub window: Duration,
    /// The largest share held back, 0 to 1; default [`DEFAULT_MAX_REJECT`].
    pub max_reject: f64,
    /// Nothing is held back with fewer requests in the window: a few that are still under way are no sign of trouble.
    /// Default [`DEFAULT_MIN_REQUESTS`].
    pub min_requests: u64,
    /// Whether calls held back here count as requests, as in the SRE book; default no.
    pub count_local: bool,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            k: DEFAULT_K,
            window: DEFAULT_WINDOW,
            max_reject: DEFAULT_MAX_REJECT,
            min_requests: DEFAULT_MIN_REQUESTS,
            count_local: false,
        }
    }
}

impl ThrottleConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(self.k.is_finite() && self.k >= 1.0) {
            return Err(InvalidConfig::new("k", self.k, "a finite number of at least 1"));
        }
        if !(0.0..=1.0).contains(&self.max_reject) {
            return Err(InvalidConfig::new("max_reject", self.max_reject, "0 to 1"));
        }
        if self.window.is_zero() || self.window > LONGEST {
            let found = perf_core::duration::format(self.window);
            return Err(InvalidConfig::new("window", found, "longer than nothing, at most 60s"));
        }
        Ok(())
    }
}

/// The probability of refusal: `max(0, (requests − k·accepts) / (requests + 1))`, at most `max_reject`.
///
/// ```
/// use perf_resilience::throttle::rejection;
///
/// assert_eq!(rejection(100, 60, 2.0, 0.9), 0.0);
/// assert_eq!(rejection(99, 0, 2.0, 0.9), 0.9);
/// ```
#[must_use]
pub fn rejection(requests: u64, accepts: u64, k: f64, max_reject: f64) -> f64 {
    let probability = (requests as f64 - k * accepts as f64) / (requests as f64 + 1.0);
    probability.clamp(0.0, max_reject)
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: u64,
    accepts: u64,
}

impl Tally for Seen {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.accepts += other.accepts;
    }

    fn subtract(&mut self, other: Self) {
        self.requests -= other.requests;
        self.accepts -= other.accepts;
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    config: ThrottleConfig,
    window: TimeWindow<Seen>,
    span: Duration,
    /// The 99th percentile of call times, estimated by small steps up and down.
    p99: f64,
    rng: Rng,
}

impl Machine {
    pub(super) fn new(config: ThrottleConfig, rng: Rng, now: Instant) -> Self {
        let window = TimeWindow::new(config.window, BUCKETS, now);
        Self { config, window, span: config.window, p99: 0.0, rng }
    }

    pub(super) fn rejection(&mut self, now: Instant) -> f64 {
        let Seen { requests, accepts } = self.window.total(now);
        if requests < self.config.min_requests {
            return 0.0;
        }
        rejection(requests, accepts.min(requests), self.config.k, self.config.max_reject)
    }

    pub(super) fn enter(&mut self, now: Instant) -> Result<(), f64> {
        let probability = self.rejection(now);
        let refused = probability > 0.0 && self.rng.chance(probability);
        if !refused || self.config.count_local {
            self.window.record(Seen { requests: 1, accepts: 0 }, now);
        }
        if refused { Err(probability) } else { Ok(()) }
    }

    pub(super) fn leave(&mut self, outcome: Outcome, took: Duration, now: Instant) {
        match outcome {
            // A call that says nothing must not look like a refusal, which is what a request without an accept is.
            Outcome::Success | Outcome::Ignored | Outcome::Cancelled => {
                self.window.record(Seen { requests: 0, accepts: 1 }, now);
            }
            _ => {}
        }
        if outcome != Outcome::Cancelled {
            self.learn(took.as_secs_f64(), now);
        }
    }

    /// Follows the 99th percentile: up by 99 steps when a call is longer, down by one when it is not.
    fn learn(&mut self, took: f64, now: Instant) {
        let step = STEP * self.p99.max(took);
        self.p99 = f64::max(0.0, self.p99 + if took > self.p99 { 0.99 * step } else { -0.01 * step });
        let wanted =
            Duration::from_secs_f64((2.0 * self.p99).min(LONGEST.as_secs_f64())).max(self.config.window);
        // Counts start afresh in a window of another size, so it changes only when the times have changed for good.
        let shrinks = wanted < self.span.mul_f64(0.5);
        let back = wanted == self.config.window && self.span > wanted;
        if wanted > self.span.mul_f64(1.5) || shrinks || back {
            let total = self.window.total(now);
            self.window = TimeWindow::new(wanted, BUCKETS, now);
            self.window.record(total, now);
            self.span = wanted;
        }
    }

    #[cfg(test)]
    pub(super) const fn span(&self) -> Duration {
        self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time::now;

    #[test]
    fn s05_the_table_of_failsafe_go() {
        let at = |requests, accepts| rejection(requests, accepts, 1.0 / 0.9, 0.8);
        assert_eq!(at(100, 95), 0.0);
        assert!((at(120, 90) - 20.0 / 121.0).abs() < 1e-9);
        assert!((0.7..0.8).contains(&at(200, 50)));
        assert_eq!(at(1000, 10), 0.8);
        assert_eq!(at(0, 0), 0.0);
        assert_eq!(at(100, 0), 0.8);
    }

    #[test]
    fn s01_a_request_counts_when_it_begins_and_its_acceptance_when_it_ends() {
        let start = now();
        let mut machine = Machine::new(ThrottleConfig::default(), Rng::seeded(1), start);
        let enough = ThrottleConfig::default().min_requests;
        let mut inside = 0;
        while inside < enough {
            inside += u64::from(machine.enter(start).is_ok());
        }
        // Nobody has answered: all of them count, and the most that may be held back is.
        assert_eq!(machine.rejection(start), DEFAULT_MAX_REJECT);
        let half = start + DEFAULT_WINDOW / 2;
        (0..enough).for_each(|_| machine.leave(Outcome::Success, DEFAULT_WINDOW / 2, half));
        assert_eq!(machine.rejection(half), 0.0);
        // A failure is a request that was never accepted, whenever it ends.
        let mut failing = Machine::new(ThrottleConfig::default(), Rng::seeded(1), start);
        for _ in 0..1000 {
            if failing.enter(start).is_ok() {
                failing.leave(Outcome::Overload, Duration::ZERO, start);
            }
        }
        assert_eq!(failing.rejection(start), DEFAULT_MAX_REJECT);
    }

    #[test]
    fn s02_the_window_grows_to_see_slow_calls_and_shrinks_again() {
        let start = now();
        let mut machine = Machine::new(ThrottleConfig::default(), Rng::seeded(1), start);
        for _ in 0..1000 {
            machine.leave(Outcome::Success, Duration::from_secs(3), start);
        }
        assert!(machine.span() > Duration::from_secs(4), "{:?}", machine.span());
        for _ in 0..20_000 {
            machine.leave(Outcome::Success, Duration::from_millis(3), start);
        }
        assert_eq!(machine.span(), DEFAULT_WINDOW);
    }

    #[test]
    fn s03_refusals_of_its_own_never_keep_the_gate_closed() {
        for count_local in [false, true] {
            let config = ThrottleConfig { count_local, ..ThrottleConfig::default() };
            let (mut machine, start) = (Machine::new(config, Rng::seeded(1), now()), now());
            let mut at = start;
            let mut through_after = 0;
            for step in 0..20_000_u32 {
                at = start + Duration::from_millis(u64::from(step));
                let back = step >= 10_000;
                if machine.enter(at).is_ok() {
                    machine.leave(if back { Outcome::Success } else { Outcome::Failure }, Duration::ZERO, at);
                    through_after += u32::from(step >= 19_000);
                }
            }
            assert!(machine.rejection(at) < 0.05 && through_after > 900, "{count_local} {through_after}");
        }
    }

    #[test]
    fn s04_one_seed_gives_one_sequence() {
        let run = || {
            let start = now();
            let mut machine = Machine::new(ThrottleConfig::default(), Rng::seeded(9), start);
            (0..500).map(|_| machine.enter(start).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn in_steady_state_the_dependency_gets_k_times_what_it_takes() {
        for share in [0.1, 0.25, 0.4, 0.5] {
            let config = ThrottleConfig { count_local: true, max_reject: 1.0, ..ThrottleConfig::default() };
            let (mut machine, start) = (Machine::new(config, Rng::seeded(3), now()), now());
            let (mut room, mut refused) = (0.0, 0_u32);
            for step in 0..60_000_u32 {
                let at = start + Duration::from_millis(u64::from(step));
                room = f64::min(room + share, 100.0);
                if machine.enter(at).is_err() {
                    refused += u32::from(step >= 20_000);
                } else if room >= 1.0 {
                    room -= 1.0;
                    machine.leave(Outcome::Success, Duration::ZERO, at);
                } else {
                    machine.leave(Outcome::Overload, Duration::ZERO, at);
                }
            }
            let (found, expected) = (f64::from(refused) / 40_000.0, f64::max(0.0, 1.0 - 2.0 * share));
            assert!((found - expected).abs() < 0.05, "{share}: {found} {expected}");
        }
    }
}
