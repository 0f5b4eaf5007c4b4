//! The tests the detector is made of: each says how improbable the present value is, in powers of ten.

/// Phases of a period: half-hours of a day.
const PHASES: usize = 48;

/// Values a phase must have seen before its baseline means anything.
const PHASE_WARM_UP: u32 = 6;

/// How quickly a phase's baseline follows.
const PHASE_FOLLOW: f64 = 0.1;

/// How quickly the prediction follows the values.
const FOLLOW: f64 = 0.05;

/// How quickly the recent error follows the errors: a memory of twenty values.
const RECENT: f64 = 0.05;

/// How slowly the usual error follows the errors: a memory of a thousand values.
const USUAL: f64 = 0.001;

/// The same two for errors against the season, which come from a better baseline and need less smoothing.
const SEASON_RECENT: f64 = 0.15;
const SEASON_USUAL: f64 = 0.003;

/// Errors against a season are correlated, because a day is as a whole above or below the others; so are slow movements.
/// Their deviations count this much.
const CORRELATED: f64 = 0.7;

/// A single value is the least reliable witness of all: the best of a thousand is far out by nature.
const SINGLE: f64 = 0.4;

/// How quickly the changes from value to value are averaged, for the recent ones and for the usual.
const CHANGE_RECENT: f64 = 0.05;
const CHANGE_USUAL: f64 = 0.002;

/// How quickly the level of the last fifty values and that of the last five hundred follow.
const TREND_RECENT: f64 = 0.02;
const TREND_USUAL: f64 = 0.002;

/// How quickly the tail of a smoothed deviation is learned, and of a single one, which comes and goes faster.
const TAIL_SMOOTHED: f64 = 0.01;
const TAIL_SINGLE: f64 = 0.03;

/// Level and single value: the error of a short-sighted prediction, smoothed and as it is.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) predicted: f64,
    error: Drift,
    smoothed: Tail,
    single: Tail,
}

impl Level {
    pub(super) fn new() -> Self {
        let (smoothed, single) = (Tail::new(TAIL_SMOOTHED), Tail::new(TAIL_SINGLE));
        Self { predicted: 0.0, error: Drift::default(), smoothed, single }
    }

    /// The evidence of the recent errors, and of this one alone. `early` is one divided by the number of values.
    pub(super) fn step(&mut self, value: f64, early: f64, floor: f64) -> (f64, f64) {
        let error = (value - self.predicted).abs();
        self.predicted += FOLLOW.max(early) * (value - self.predicted);
        let alone = self.error.deviation(error, floor);
        let recent = self.error.step(error, RECENT.max(early), USUAL.max(early), floor);
        let (recent, alone) = (self.smoothed.tamed(recent), SINGLE * self.single.tamed(alone));
        (improbability(recent), improbability(alone))
    }

    /// How far values usually are from what is expected.
    pub(super) fn band(&self) -> f64 {
        self.error.mean + 3.0 * self.error.variance.sqrt()
    }
}

/// The distance from the same time of earlier days.
#[derive(Clone, Debug)]
pub(super) struct Season {
    phases: Box<[Phase; PHASES]>,
    judged: u64,
    error: Drift,
    tail: Tail,
}

#[derive(Clone, Copy, Debug, Default)]
struct Phase {
    mean: f64,
    seen: u32,
}

impl Season {
    pub(super) fn new() -> Self {
        Self {
            phases: Box::new([Phase::default(); PHASES]),
            judged: 0,
            error: Drift::default(),
            tail: Tail::new(TAIL_SMOOTHED),
        }
    }

    /// The evidence at `within`, a share of the period; none until this time of day is known.
    pub(super) fn step(&mut self, value: f64, within: f64, floor: f64) -> f64 {
        let phase = &mut self.phases[((within * PHASES as f64) as usize).min(PHASES - 1)];
        let known = phase.seen >= PHASE_WARM_UP;
        let error = (value - phase.mean).abs();
        phase.seen = phase.seen.saturating_add(1);
        phase.mean += PHASE_FOLLOW.max(1.0 / f64::from(phase.seen)) * (value - phase.mean);
        if !known {
            return 0.0;
        }
        self.judged += 1;
        let early = 1.0 / self.judged as f64;
        let deviation =
            self.error.step(error, SEASON_RECENT.max(early), SEASON_USUAL.max(early), floor * 10.0);
        improbability(self.tail.tamed(CORRELATED * deviation))
    }
}

/// A line that goes flat: changes from value to value that are far smaller than they used to be.
#[derive(Clone, Debug)]
pub(super) struct Stillness {
    last: f64,
    recent: f64,
    usual: f64,
    tail: Tail,
}

impl Stillness {
    pub(super) fn new() -> Self {
        Self { last: f64::NAN, recent: 0.0, usual: 0.0, tail: Tail::new(TAIL_SMOOTHED) }
    }

    pub(super) fn step(&mut self, value: f64, early: f64, floor: f64) -> f64 {
        let change = if self.last.is_nan() { 0.0 } else { (value - self.last).abs() };
        self.last = value;
        self.recent += CHANGE_RECENT.max(early) * (change - self.recent);
        self.usual += CHANGE_USUAL.max(early) * (change - self.usual);
        // A series that never moves cannot stop.
        if self.usual <= floor {
            return 0.0;
        }
        improbability(self.tail.tamed(-(self.recent / self.usual).max(1e-3).ln()))
    }
}

/// A slow drift: the level of the last fifty values leaves that of the last five hundred.
#[derive(Clone, Debug)]
pub(super) struct Trend {
    recent: f64,
    usual: f64,
    distance: Drift,
    tail: Tail,
}

impl Trend {
    pub(super) fn new() -> Self {
        Self { recent: 0.0, usual: 0.0, distance: Drift::default(), tail: Tail::new(TAIL_SMOOTHED) }
    }

    pub(super) fn step(&mut self, value: f64, early: f64, floor: f64) -> f64 {
        self.recent += TREND_RECENT.max(early) * (value - self.recent);
        self.usual += TREND_USUAL.max(early) * (value - self.usual);
        let distance = (self.recent - self.usual).abs();
        let deviation = self.distance.deviation(distance, floor);
        self.distance.learn(distance, USUAL.max(early));
        improbability(self.tail.tamed(CORRELATED * deviation))
    }
}

/// Recent errors against the usual ones.
#[derive(Clone, Copy, Debug, Default)]
struct Drift {
    recent: f64,
    mean: f64,
    variance: f64,
}

impl Drift {
    /// Takes in an error and says by how many standard deviations the recent ones exceed the usual.
    fn step(&mut self, error: f64, recent: f64, usual: f64, floor: f64) -> f64 {
        self.recent += recent * (error - self.recent);
        let deviation = self.deviation(self.recent, floor);
        self.learn(error, usual);
        deviation
    }

    fn deviation(&self, error: f64, floor: f64) -> f64 {
        (error - self.mean) / (self.variance.sqrt() + floor)
    }

    fn learn(&mut self, error: f64, usual: f64) {
        let difference = error - self.mean;
        self.mean += usual * difference;
        self.variance = (1.0 - usual) * (self.variance + usual * difference * difference);
    }
}

/// Deviations of a series with heavy tails are far out all the time. What one in two hundred of its own deviations
/// exceeds takes the place of what one in two hundred normal ones does; a tail lighter than the normal changes nothing.
#[derive(Clone, Copy, Debug)]
struct Tail {
    rare: f64,
    rate: f64,
}

impl Tail {
    /// Share of deviations that are rare.
    const SHARE: f64 = 0.005;

    /// What that share of normal deviations exceeds.
    const NORMAL: f64 = 2.6;

    const fn new(rate: f64) -> Self {
        Self { rare: Self::NORMAL, rate }
    }

    /// The deviation on a normal scale. The quantile is tracked by steps up and down whose sizes balance where exactly
    /// the share lies above: constant memory, and one absurd value moves it no further than a small one.
    fn tamed(&mut self, deviation: f64) -> f64 {
        let tamed = deviation / (self.rare / Self::NORMAL).max(1.0);
        if deviation > self.rare {
            self.rare *= 1.0 + self.rate * (1.0 - Self::SHARE);
        } else {
            self.rare = (self.rare * (1.0 - self.rate * Self::SHARE)).max(Self::NORMAL / 2.0);
        }
        tamed
    }
}

/// About `−log10` of the share of a normal distribution above `z`.
fn improbability(z: f64) -> f64 {
    if z.is_nan() || z <= 0.0 {
        return 0.0;
    }
    0.5 * z * z / std::f64::consts::LN_10 + 0.8 * (1.0 + z * 2.506_6).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    #[test]
    fn a_heavy_tail_is_told_from_a_normal_one() {
        let mut rng = Rng::seeded(3);
        let (mut light, mut heavy) = (Tail::new(0.01), Tail::new(0.01));
        for _ in 0..50_000 {
            let normal = (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
            light.tamed(normal);
            heavy.tamed(normal.powi(3));
        }
        assert!((0.9..1.3).contains(&(light.rare / Tail::NORMAL)), "{light:?}");
        assert!((4.0..9.0).contains(&(heavy.rare / Tail::NORMAL)), "{heavy:?}");
    }

    #[test]
    fn improbability_is_close_to_that_of_the_normal_distribution() {
        for (z, share) in [(1.0, 0.158_7_f64), (2.0, 0.022_75), (3.0, 1.35e-3), (5.0, 2.87e-7)] {
            assert!((improbability(z) + share.log10()).abs() < 0.3, "{z}: {}", improbability(z));
        }
        assert_eq!((improbability(0.0), improbability(-3.0), improbability(f64::NAN)), (0.0, 0.0, 0.0));
    }
}
