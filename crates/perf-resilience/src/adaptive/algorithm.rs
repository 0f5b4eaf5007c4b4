//! The algorithms, pure: a sample in, a limit out.

use perf_core::time::Duration;

/// One observation: a call, or the calls of a short stretch of time taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How long the call took.
    pub rtt: Duration,
    /// How many calls were in flight when it began, itself included.
    pub in_flight: u32,
    /// Whether the dependency refused it, or it timed out.
    pub dropped: bool,
}

/// The bounds of a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Where it starts.
    pub initial: f64,
    /// It never goes below.
    pub min: f64,
    /// It never goes above.
    pub max: f64,
}

/// What each algorithm keeps, and how it reacts.
#[derive(Clone, Debug)]
pub enum Algorithm {
    /// Additive increase, multiplicative decrease.
    Aimd(Aimd),
    /// Keeps the queue at the dependency short, judged from the shortest time ever seen.
    Vegas(Vegas),
    /// Follows the ratio of the long to the short average of the time.
    Gradient2(Gradient2),
    /// Always this limit.
    Fixed(f64),
}

impl Algorithm {
    /// Takes in a sample and gives the limit.
    pub fn update(&mut self, sample: Sample) -> f64 {
        match self {
            Self::Aimd(aimd) => aimd.update(sample),
            Self::Vegas(vegas) => vegas.update(sample),
            Self::Gradient2(gradient) => gradient.update(sample),
            Self::Fixed(limit) => *limit,
        }
    }

    /// The present limit; whole at use.
    #[must_use]
    pub const fn limit(&self) -> f64 {
        match self {
            Self::Aimd(aimd) => aimd.limit,
            Self::Vegas(vegas) => vegas.limit,
            Self::Gradient2(gradient) => gradient.limit,
            Self::Fixed(limit) => *limit,
        }
    }
}

/// Calls in flight that use less than half of the limit say nothing about it.
fn application_limited(in_flight: u32, limit: f64) -> bool {
    f64::from(in_flight) * 2.0 < limit
}

/// One more after each good call at the limit, a tenth less after each bad one.
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    limit: f64,
    backoff: f64,
    timeout: Duration,
}

impl Aimd {
    /// With `backoff` in `(0, 1)` and calls longer than `timeout` taken as dropped.
    #[must_use]
    pub const fn new(bounds: Bounds, backoff: f64, timeout: Duration) -> Self {
        Self { bounds, limit: bounds.initial, backoff, timeout }
    }

    fn update(&mut self, sample: Sample) -> f64 {
        if sample.dropped || sample.rtt > self.timeout {
            self.limit = (self.limit * self.backoff).floor();
        } else if !application_limited(sample.in_flight, self.limit) {
            self.limit += 1.0;
        }
        self.limit = self.limit.clamp(self.bounds.min, self.bounds.max);
        self.limit
    }
}

/// The steps of [`Vegas`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steps {
    /// So many calls may queue at the dependency before the limit stops growing, and before it shrinks; the limit grows
    /// by the second number while hardly any do.
    Fixed(u32, u32),
    /// Three and six times the logarithm of the limit.
    Logarithmic,
}

/// TCP Vegas on concurrency.
#[derive(Clone, Debug)]
pub struct Vegas {
    bounds: Bounds,
    limit: f64,
    shortest: Option<f64>,
    smoothing: f64,
    steps: Steps,
    /// Whether the limit grows by the larger step while there is no queue at all.
    leap: bool,
    decrease: Decrease,
}

/// How far [`Vegas`] steps down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decrease {
    /// By the logarithm of the limit.
    Logarithmic,
    /// To this share of the limit.
    Share(f64),
}

impl Vegas {
    /// As Netflix's limiter: leaps up while there is no queue.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            limit: bounds.initial,
            shortest: None,
            smoothing: 1.0,
            steps: Steps::Logarithmic,
            leap: true,
            decrease: Decrease::Logarithmic,
        }
    }

    /// How many calls may queue.
    #[must_use]
    pub const fn steps(mut self, steps: Steps) -> Self {
        self.steps = steps;
        self
    }

    /// How much of each change is taken over, in `(0, 1]`.
    #[must_use]
    pub const fn smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// How far it steps down.
    #[must_use]
    pub const fn decrease(mut self, decrease: Decrease) -> Self {
        self.decrease = decrease;
        self
    }

    /// Grows by single steps only, from the first sample on.
    #[must_use]
    pub const fn steady(mut self) -> Self {
        self.leap = false;
        self
    }

    /// Starts from a known shortest time.
    #[must_use]
    pub const fn baseline(mut self, rtt: Duration) -> Self {
        self.shortest = Some(rtt.as_secs_f64());
        self
    }

    /// The shortest time seen, which the drift guard may raise.
    pub(super) const fn baseline_mut(&mut self) -> &mut Option<f64> {
        &mut self.shortest
    }

    fn update(&mut self, sample: Sample) -> f64 {
        let rtt = sample.rtt.as_secs_f64().max(1e-9);
        let shortest = match self.shortest {
            Some(shortest) if rtt >= shortest => shortest,
            seen => {
                self.shortest = Some(rtt);
                if self.leap || seen.is_none() {
                    return self.limit;
                }
                rtt
            }
        };
        let log = log10(self.limit);
        let queue = (self.limit * (1.0 - shortest / rtt)).ceil();
        let (alpha, beta) = match self.steps {
            Steps::Fixed(alpha, beta) => (f64::from(alpha), f64::from(beta)),
            Steps::Logarithmic => (3.0 * log, 6.0 * log),
        };
        let next = if sample.dropped {
            self.lower(log)
        } else if application_limited(sample.in_flight, self.limit) {
            return self.limit;
        } else if self.leap && queue <= log {
            self.limit + beta
        } else if queue < alpha {
            self.limit + log
        } else if queue > beta {
            self.lower(log)
        } else {
            return self.limit;
        };
        let next = next.clamp(self.bounds.min, self.bounds.max);
        self.limit = (1.0 - self.smoothing) * self.limit + self.smoothing * next;
        self.limit
    }

    fn lower(&self, log: f64) -> f64 {
        match self.decrease {
            Decrease::Logarithmic => self.limit - log,
            Decrease::Share(share) => self.limit * share,
        }
    }
}

/// Netflix's second gradient: short and long averages of the time.
#[derive(Clone, Debug)]
pub struct Gradient2 {
    bounds: Bounds,
    limit: f64,
    long: Average,
    tolerance: f64,
    smoothing: f64,
    queue: f64,
    /// Set by the drift guard: the long average may not rise.
    pub(super) hold: bool,
}

impl Gradient2 {
    /// The long window of the published limiter, in samples.
    const LONG_WINDOW: f64 = 600.0;

    /// With the published numbers: tolerance 1.5, smoothing 0.2, four calls queueing.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        let long = Average { value: 0.0, seen: 0, window: Self::LONG_WINDOW };
        Self { bounds, limit: bounds.initial, long, tolerance: 1.5, smoothing: 0.2, queue: 4.0, hold: false }
    }

    /// How many times the long average the time may be before the limit shrinks, at least 1.
    #[must_use]
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The long average, in seconds.
    #[must_use]
    pub const fn baseline(&self) -> f64 {
        self.long.value
    }

    fn update(&mut self, sample: Sample) -> f64 {
        let short = sample.rtt.as_secs_f64().max(1e-9);
        let before = self.long.value;
        let mut long = self.long.add(short);
        if self.hold && before > 0.0 && long > before {
            self.long.value = before;
            long = before;
        }
        // After a spell of slowness the long average comes down faster than it would by itself.
        if long / short > 2.0 {
            self.long.value *= 0.95;
        }
        if application_limited(sample.in_flight, self.limit) {
            return self.limit;
        }
        // Where more calls in flight do not get more done, waiting longer than usual is for nothing.
        let tolerance = if self.hold { 1.0 } else { self.tolerance };
        let gradient = if sample.dropped { 0.5 } else { (tolerance * long / short).clamp(0.5, 1.0) };
        let room = if self.hold { 0.0 } else { self.queue };
        let next = self.limit * gradient + room;
        let next = self.limit * (1.0 - self.smoothing) + next * self.smoothing;
        self.limit = next.clamp(self.bounds.min, self.bounds.max);
        self.limit
    }
}

/// An average that is plain over the first ten samples and exponential after.
#[derive(Clone, Debug)]
struct Average {
    value: f64,
    seen: u32,
    window: f64,
}

impl Average {
    fn add(&mut self, sample: f64) -> f64 {
        if self.seen < 10 {
            self.value = (self.value * f64::from(self.seen) + sample) / f64::from(self.seen + 1);
            self.seen += 1;
        } else {
            let factor = 2.0 / (self.window + 1.0);
            self.value = self.value * (1.0 - factor) + sample * factor;
        }
        self.value
    }
}

/// The whole part of the logarithm, at least 1.
fn log10(limit: f64) -> f64 {
    limit.max(1.0).log10().floor().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const fn sample(rtt: Duration, in_flight: u32) -> Sample {
        Sample { rtt, in_flight, dropped: false }
    }

    const fn bounds(initial: f64, max: f64) -> Bounds {
        Bounds { initial, min: 1.0, max }
    }

    fn whole(limit: f64) -> u32 {
        limit as u32
    }

    fn netflix() -> Vegas {
        Vegas::new(bounds(10.0, 20.0)).steps(Steps::Fixed(3, 6))
    }

    #[test]
    fn l04_vegas_as_netflix_tests_it() {
        for (rtt, in_flight, expected) in [(10, 11, 16), (50, 11, 9), (14, 14, 10)] {
            let mut vegas = netflix();
            assert_eq!(whole(vegas.update(sample(MS * 10, 10))), 10);
            assert_eq!(whole(vegas.update(sample(MS * rtt, in_flight))), expected);
        }
    }

    #[test]
    fn l04_vegas_takes_large_steps_at_large_limits() {
        let mut vegas = Vegas::new(bounds(10_000.0, 20_000.0));
        assert_eq!(whole(vegas.update(sample(MS * 10_000, 5000))), 10_000);
        assert_eq!(whole(vegas.update(sample(MS * 10_000, 6000))), 10_024);
    }

    #[test]
    fn l04_vegas_smooths_its_way_down() {
        for (smoothing, expected) in [(0.5, [75, 56]), (1.0, [50, 25])] {
            let mut vegas =
                Vegas::new(bounds(100.0, 200.0)).smoothing(smoothing).decrease(Decrease::Share(0.5));
            assert_eq!(whole(vegas.update(sample(MS * 10, 100))), 100);
            for limit in expected {
                assert_eq!(whole(vegas.update(sample(MS * 20, 100))), limit);
            }
        }
    }

    #[test]
    fn l04_the_table_of_failsafe_go() {
        let limiter = || Vegas::new(bounds(20.0, 200.0)).steady().baseline(MS * 1000);
        let mut up = limiter();
        assert_eq!(whole(up.update(sample(MS * 1000, 20))), 21);
        assert_eq!(whole(up.update(sample(MS * 500, 21))), 22);
        let mut down = limiter();
        assert_eq!(whole(down.update(sample(MS * 2000, 20))), 19);
        assert_eq!(whole(down.update(sample(MS * 2000, 20))), 18);
        assert_eq!(whole(limiter().update(sample(MS * 1300, 20))), 20);
    }

    #[test]
    fn l04_aimd_grows_by_one_and_shrinks_by_a_tenth() {
        let mut up = Aimd::new(bounds(20.0, 200.0), 0.9, MS * 5000);
        assert_eq!(up.update(sample(MS, 10)), 21.0);
        let mut down = Aimd::new(bounds(30.0, 200.0), 0.9, MS * 5000);
        assert_eq!(down.update(Sample { dropped: true, ..sample(MS, 10) }), 27.0);
        assert_eq!(down.update(sample(MS * 6000, 27)), 24.0, "too long counts as dropped");
    }

    #[test]
    fn l04_gradient_follows_its_formula() {
        let mut gradient = Gradient2::new(Bounds { initial: 100.0, min: 20.0, max: 200.0 });
        // long = short: gradient 1, so the limit grows by the queue times the smoothing.
        assert!((gradient.update(sample(MS * 10, 100)) - 100.8).abs() < 1e-9);
        // short = 10 × the average of 10 and 100: 1.5 × 55 / 100 = 0.825.
        let expected = 100.8 * 0.8 + (100.8 * 0.825 + 4.0) * 0.2;
        assert!((gradient.update(sample(MS * 100, 100)) - expected).abs() < 1e-9);
    }

    #[test]
    fn l03_without_load_nothing_grows() {
        let limits = Bounds { initial: 50.0, min: 1.0, max: 200.0 };
        for mut algorithm in [
            Algorithm::Aimd(Aimd::new(limits, 0.9, MS * 100)),
            Algorithm::Vegas(Vegas::new(limits)),
            Algorithm::Gradient2(Gradient2::new(limits)),
        ] {
            for _ in 0..1000 {
                algorithm.update(sample(MS, 24));
            }
            assert_eq!(algorithm.limit(), 50.0);
        }
    }

    #[test]
    fn limits_stay_within_their_bounds() {
        let limits = Bounds { initial: 10.0, min: 5.0, max: 12.0 };
        for mut algorithm in [
            Algorithm::Aimd(Aimd::new(limits, 0.9, MS * 100)),
            Algorithm::Vegas(Vegas::new(limits)),
            Algorithm::Gradient2(Gradient2::new(limits)),
        ] {
            for step in 0..2000_u32 {
                let rtt = if step % 400 < 200 { MS } else { MS * 500 };
                let limit = algorithm.update(sample(rtt, 12));
                assert!((5.0..=12.0).contains(&limit), "{limit}");
            }
        }
    }
}
