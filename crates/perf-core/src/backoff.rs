//! How long to wait before trying again.
//!
//! Jitter matters more than shape: with 100 contending clients, full jitter needs less than half the calls that plain
//! exponential backoff needs ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so it is the default here.

use crate::{InvalidConfig, Rng, duration};
use std::time::Duration;

/// How a delay is spread, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// Exactly the computed delay.
    None,
    /// Uniform in `[0, delay]`: fewest calls under contention, the default.
    #[default]
    Full,
    /// Uniform in `[delay / 2, delay]`: keeps a floor.
    Equal,
    /// Uniform in `[delay × (1 − share), delay × (1 + share)]`, capped; `share` in `[0, 1]`.
    Proportional(f64),
}

/// How the delay grows from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant,
    Linear,
    Exponential(f64),
    Fibonacci,
    Decorrelated,
}

/// A sequence of delays: a shape, a first delay, a cap and jitter. Plain data; the randomness is passed in.
///
/// ```
/// use perf_core::{Backoff, Jitter};
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let doubling = Backoff::exponential(ms(10)).cap(ms(60)).jitter(Jitter::None);
/// let first_four: Vec<_> = doubling.delays(0).take(4).collect();
/// assert_eq!(first_four, [ms(10), ms(20), ms(40), ms(60)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    shape: Shape,
    base: Duration,
    cap: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// No delay grows beyond this unless said otherwise: long enough for a restart, short enough for a person.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(30);

    const fn new(shape: Shape, base: Duration) -> Self {
        Self { shape, base, cap: Self::DEFAULT_CAP, jitter: Jitter::Full }
    }

    /// `base` every time.
    #[must_use]
    pub const fn constant(base: Duration) -> Self {
        Self::new(Shape::Constant, base)
    }

    /// `base`, `2 × base`, `3 × base`, …
    #[must_use]
    pub const fn linear(base: Duration) -> Self {
        Self::new(Shape::Linear, base)
    }

    /// `base`, `2 × base`, `4 × base`, …
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        Self::new(Shape::Exponential(2.0), base)
    }

    /// `base`, `base`, `2 × base`, `3 × base`, `5 × base`, …
    #[must_use]
    pub const fn fibonacci(base: Duration) -> Self {
        Self::new(Shape::Fibonacci, base)
    }

    /// Uniform in `[base, 3 × previous]` (AWS's "decorrelated jitter"): faster than full jitter, a quarter more calls.
    /// It carries its own randomness; [`Backoff::jitter`] does not change it.
    #[must_use]
    pub const fn decorrelated(base: Duration) -> Self {
        Self::new(Shape::Decorrelated, base)
    }

    /// The numbers of the unmaintained `backoff` crate's default: 500 ms × 1.5, ±50 %, at most 60 s.
    #[must_use]
    pub const fn classic() -> Self {
        Self::new(Shape::Exponential(1.5), Duration::from_millis(500))
            .cap(Duration::from_secs(60))
            .jitter(Jitter::Proportional(0.5))
    }

    /// Growth per attempt of an exponential sequence, 2 by default. Other shapes ignore it.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        if let Shape::Exponential(_) = self.shape {
            self.shape = Shape::Exponential(factor);
        }
        self
    }

    /// No delay is longer than this, jitter included.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How the delay is spread.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The first delay before jitter.
    #[must_use]
    pub const fn base(&self) -> Duration {
        self.base
    }

    /// The longest delay.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.cap
    }

    /// Checks what the setters take as it comes.
    ///
    /// # Errors
    /// A cap below the base, a factor below 1 or not finite, a proportional share outside `[0, 1]`.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.cap < self.base {
            let allowed = format!("at least the base, {}", duration::format(self.base));
            return Err(InvalidConfig::new("cap", duration::format(self.cap), allowed));
        }
        match self.shape {
            Shape::Exponential(factor) if !(factor.is_finite() && factor >= 1.0) => {
                return Err(InvalidConfig::new("factor", factor, "a finite number of at least 1"));
            }
            _ => {}
        }
        match self.jitter {
            Jitter::Proportional(share) if !(0.0..=1.0).contains(&share) => {
                Err(InvalidConfig::new("jitter.proportional", share, "0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// The delay after attempt `attempt` (the first is 1) before jitter, capped, computed without overflow.
    /// For the decorrelated shape it is the base.
    #[must_use]
    pub fn plain(&self, attempt: u32) -> Duration {
        let steps = attempt.saturating_sub(1);
        let factor = match self.shape {
            Shape::Constant | Shape::Decorrelated => 1.0,
            Shape::Linear => f64::from(steps) + 1.0,
            Shape::Exponential(factor) => factor.powi(i32::try_from(steps).unwrap_or(i32::MAX)),
            Shape::Fibonacci => fibonacci(steps),
        };
        scale(self.base, factor).min(self.cap)
    }

    /// The delay after attempt `attempt` (the first is 1). `previous` is the delay before it, zero at first; only the
    /// decorrelated shape looks at it.
    pub fn delay(&self, attempt: u32, previous: Duration, rng: &mut Rng) -> Duration {
        if self.shape == Shape::Decorrelated {
            let ceiling = scale(previous.max(self.base), 3.0).min(self.cap);
            let spread = ceiling.saturating_sub(self.base);
            return (self.base + scale(spread, rng.unit())).min(self.cap);
        }
        let delay = self.plain(attempt);
        let jittered = match self.jitter {
            Jitter::None => delay,
            Jitter::Full => scale(delay, rng.unit()),
            Jitter::Equal => scale(delay, 0.5 + 0.5 * rng.unit()),
            Jitter::Proportional(share) => scale(delay, 1.0 - share + 2.0 * share * rng.unit()),
        };
        jittered.min(self.cap)
    }

    /// The endless sequence of delays that `seed` determines.
    #[must_use]
    pub fn delays(self, seed: u64) -> Delays {
        Delays { backoff: self, attempt: 0, previous: Duration::ZERO, rng: Rng::seeded(seed) }
    }
}

impl Default for Backoff {
    /// Exponential from 50 ms, full jitter, capped at [`Backoff::DEFAULT_CAP`].
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50))
    }
}

/// The delays of one series of attempts: endless, so the caller decides when to stop.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    attempt: u32,
    previous: Duration,
    rng: Rng,
}

impl Delays {
    /// Starts over at the first delay; the random sequence goes on.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.previous = Duration::ZERO;
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.attempt = self.attempt.saturating_add(1);
        self.previous = self.backoff.delay(self.attempt, self.previous, &mut self.rng);
        Some(self.previous)
    }
}

/// `duration × factor`, saturating, with nonsense factors read as zero.
fn scale(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn fibonacci(steps: u32) -> f64 {
    // Beyond 1,500 steps the number no longer fits an f64, and every cap has been reached long before.
    let (mut a, mut b) = (1.0_f64, 1.0_f64);
    for _ in 0..steps.min(1500) {
        (a, b) = (b, a + b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn millis(backoff: Backoff, n: usize) -> Vec<u128> {
        backoff.jitter(Jitter::None).delays(1).take(n).map(|d| d.as_millis()).collect()
    }

    #[test]
    fn shapes_grow_as_their_names_say() {
        assert_eq!(millis(Backoff::constant(MS * 5), 3), [5, 5, 5]);
        assert_eq!(millis(Backoff::linear(MS * 5), 4), [5, 10, 15, 20]);
        assert_eq!(millis(Backoff::exponential(MS * 5), 4), [5, 10, 20, 40]);
        assert_eq!(millis(Backoff::exponential(MS * 5).factor(3.0), 3), [5, 15, 45]);
        assert_eq!(millis(Backoff::fibonacci(MS), 6), [1, 1, 2, 3, 5, 8]);
    }

    #[test]
    fn the_default_cap_holds_after_any_number_of_attempts() {
        for backoff in [Backoff::exponential(MS), Backoff::linear(MS * 20), Backoff::fibonacci(MS)] {
            assert_eq!(backoff.plain(u32::MAX), Backoff::DEFAULT_CAP);
        }
    }

    #[test]
    fn impossible_settings_are_named() {
        let field = |backoff: Backoff| backoff.validate().unwrap_err().field().to_owned();
        assert_eq!(field(Backoff::constant(MS * 2).cap(MS)), "cap");
        assert_eq!(field(Backoff::exponential(MS).factor(f64::NAN)), "factor");
        assert_eq!(field(Backoff::constant(MS).jitter(Jitter::Proportional(1.5))), "jitter.proportional");
    }

    #[test]
    fn classic_stays_within_the_bounds_of_the_crate_it_is_named_after() {
        let mut delays = Backoff::classic().delays(3);
        let mut plain = 0.5_f64;
        for _ in 0..10_000 {
            let delay = delays.next().unwrap().as_secs_f64();
            assert!(
                delay >= plain * 0.5 - 1e-9 && delay <= (plain * 1.5).min(60.0) + 1e-9,
                "{delay} {plain}"
            );
            plain = (plain * 1.5).min(60.0);
        }
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(seed: u64, base_ms in 1..10_000_u64, cap_ms in 10_000..100_000_u64, attempt in 1..200_u32) {
            let (base, cap) = (MS * base_ms as u32, MS * cap_ms as u32);
            let mut rng = Rng::seeded(seed);
            let full = Backoff::exponential(base).cap(cap);
            let plain = full.plain(attempt);
            prop_assert!(full.delay(attempt, base, &mut rng) <= plain);
            let equal = full.jitter(Jitter::Equal).delay(attempt, base, &mut rng);
            prop_assert!(equal <= plain && equal + MS / 1000 >= plain / 2);
            let decorrelated = Backoff::decorrelated(base).cap(cap).delay(attempt, base, &mut rng);
            prop_assert!(decorrelated >= base && decorrelated <= cap.min(base * 3));
        }

        #[test]
        fn one_seed_gives_one_sequence(seed: u64) {
            let take = || Backoff::default().delays(seed).take(20).collect::<Vec<_>>();
            prop_assert_eq!(take(), take());
        }
    }
}
