//! An online detector in constant memory: onsets, not points.

use perf_core::InvalidConfig;
use std::time::Duration;

/// Phases of a period: half-hours of a day.
const PHASES: usize = 48;

/// Values a phase must have seen before its baseline means anything.
const PHASE_WARM_UP: u32 = 6;

/// How quickly the prediction follows the values.
const FOLLOW: f64 = 0.05;

/// How quickly the recent error follows the errors.
const RECENT: f64 = 0.05;

/// How slowly the usual error follows the errors.
const USUAL: f64 = 0.001;

/// The same two for errors against the season.
const SEASON_RECENT: f64 = 0.15;
const SEASON_USUAL: f64 = 0.003;

/// Weight of the season's evidence beside the prediction's.
const SEASON_WEIGHT: f64 = 1.5;

/// How quickly a phase's baseline follows.
const PHASE_FOLLOW: f64 = 0.1;

/// How an anomaly is told from the usual.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct DetectorConfig {
    /// Evidence for an onset, in powers of ten of improbability; 3 by default, from 1 to 100.
    pub threshold: f64,
    /// Values before the first onset may be reported; 300 by default. A first deploy is no anomaly.
    pub warm_up: u32,
    /// Values after an onset in which only a stronger one is reported; 200 by default.
    pub refractory: u32,
    /// Length of the season; a day by default.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub period: Duration,
    /// Onsets a week that are too many: each raises the threshold by half, and it sinks back in the time that one onset
    /// of the budget may take. 7 by default.
    pub budget_per_week: f64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            threshold: 3.0,
            warm_up: 300,
            refractory: 200,
            period: Duration::from_secs(86_400),
            budget_per_week: 7.0,
        }
    }
}

impl DetectorConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field out of range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1.0..=100.0).contains(&self.threshold) {
            return Err(InvalidConfig::new("threshold", self.threshold, "1 to 100"));
        }
        if self.period < Duration::from_secs(60) {
            return Err(InvalidConfig::new(
                "period",
                perf_core::duration::format(self.period),
                "at least 60s",
            ));
        }
        if !(self.budget_per_week > 0.0 && self.budget_per_week.is_finite()) {
            return Err(InvalidConfig::new("budget_per_week", self.budget_per_week, "above 0"));
        }
        Ok(())
    }
}

/// Watches one series, a value at a time. Takes a fraction of a microsecond and 900 bytes, however long it runs.
///
/// It compares the error of a short-sighted prediction, and the distance from the same time of earlier days, with what
/// both usually are. It reports the moment at which something starts, not every point that is unusual.
///
/// ```
/// use perf_metrics::{Detector, DetectorConfig};
/// use std::time::Duration;
///
/// let mut detector = Detector::new(DetectorConfig::default()).unwrap();
/// let mut onsets = 0;
/// for second in 0..2_000_u32 {
///     let value = if second < 1_500 { 10.0 + f64::from(second % 3) } else { 40.0 };
///     onsets += usize::from(detector.observe(value, Duration::from_secs(second.into())).onset.is_some());
/// }
/// assert_eq!(onsets, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Detector {
    config: DetectorConfig,
    count: u64,
    predicted: f64,
    error: Drift,
    season: Drift,
    phases: Box<[Phase; PHASES]>,
    /// The strongest evidence of the last onset, and for how many values it still counts.
    held: (f64, u32),
    threshold: f64,
    last_at: Duration,
}

/// The recent error against the usual one.
#[derive(Clone, Copy, Debug, Default)]
struct Drift {
    recent: f64,
    mean: f64,
    variance: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Phase {
    mean: f64,
    seen: u32,
}

/// What the detector thinks of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// In [0, 1): how strong the evidence for an onset at this value is; 0 when nothing starts here.
    pub score: f64,
    /// What was expected.
    pub baseline: f64,
    /// How far from it values usually are, at most.
    pub band: f64,
    /// How many values the judgement rests on.
    pub count: u64,
    /// The onset, when the evidence is above the threshold and the warm-up is over.
    pub onset: Option<Onset>,
}

/// Something unusual starts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Onset {
    /// The value.
    pub value: f64,
    /// What was expected.
    pub baseline: f64,
    /// How far from it values usually are.
    pub band: f64,
    /// The evidence, in powers of ten of improbability.
    pub evidence: f64,
    /// Which test spoke the loudest: `level` (the values moved) or `season` (this is not what this time of day is like).
    pub test: &'static str,
    /// How many values the judgement rests on.
    pub count: u64,
}

impl Detector {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range.
    pub fn new(config: DetectorConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self {
            threshold: config.threshold,
            config,
            count: 0,
            predicted: 0.0,
            error: Drift::default(),
            season: Drift::default(),
            phases: Box::new([Phase::default(); PHASES]),
            held: (0.0, 0),
            last_at: Duration::ZERO,
        })
    }

    /// Takes in a value. `at` is the time since any fixed origin; a value that is not finite is passed over.
    pub fn observe(&mut self, value: f64, at: Duration) -> Observation {
        let baseline = self.predicted;
        if !value.is_finite() {
            return Observation { score: 0.0, baseline, band: self.band(), count: self.count, onset: None };
        }
        self.count += 1;
        if self.count == 1 {
            self.predicted = value;
        }
        self.relax(at);
        // Differences below a thousandth of the level are noise to anyone who looks.
        let floor = 1e-9 + 1e-4 * self.predicted.abs();
        let level = self.level(value, floor);
        let season = self.seasonal(value, at, floor);
        let evidence = level + SEASON_WEIGHT * season;
        let strength = self.emerging(evidence);
        let band = self.band();
        let warm = self.count > u64::from(self.config.warm_up);
        let test = if level >= SEASON_WEIGHT * season { "level" } else { "season" };
        let onset = (warm && strength >= self.threshold).then_some(Onset {
            value,
            baseline,
            band,
            evidence: strength,
            test,
            count: self.count,
        });
        if onset.is_some() {
            self.threshold *= 1.5;
        }
        Observation {
            score: strength / (strength + self.config.threshold),
            baseline,
            band,
            count: self.count,
            onset,
        }
    }

    /// How far values usually are from what is expected.
    fn band(&self) -> f64 {
        self.error.mean + 3.0 * self.error.variance.sqrt()
    }

    /// The threshold sinks back to its setting in the time the budget allows an onset.
    fn relax(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.last_at).as_secs_f64();
        self.last_at = at;
        let allowed = 7.0 * 86_400.0 / self.config.budget_per_week;
        let above = self.threshold - self.config.threshold;
        self.threshold = self.config.threshold + above * (-passed / allowed).exp();
    }

    fn level(&mut self, value: f64, floor: f64) -> f64 {
        let early = 1.0 / self.count as f64;
        let error = (value - self.predicted).abs();
        self.predicted += FOLLOW.max(early) * (value - self.predicted);
        improbability(self.error.step(error, RECENT.max(early), USUAL.max(early), floor))
    }

    fn seasonal(&mut self, value: f64, at: Duration, floor: f64) -> f64 {
        let within = (at.as_secs_f64() / self.config.period.as_secs_f64()).fract();
        let phase = &mut self.phases[((within * PHASES as f64) as usize).min(PHASES - 1)];
        let known = phase.seen >= PHASE_WARM_UP;
        let error = (value - phase.mean).abs();
        phase.seen = phase.seen.saturating_add(1);
        phase.mean += PHASE_FOLLOW.max(1.0 / f64::from(phase.seen)) * (value - phase.mean);
        if !known {
            return 0.0;
        }
        improbability(0.7 * self.season.step(error, SEASON_RECENT, SEASON_USUAL, floor * 10.0))
    }

    /// The evidence, when it is stronger than what has been reported lately.
    fn emerging(&mut self, evidence: f64) -> f64 {
        let (held, left) = self.held;
        let held = if left == 0 { 0.0 } else { held };
        if evidence > held {
            self.held = (evidence, self.config.refractory);
            evidence
        } else {
            self.held = (held, left.saturating_sub(1));
            0.0
        }
    }
}

impl Drift {
    /// Takes in an error and says by how many standard deviations the recent ones exceed the usual.
    fn step(&mut self, error: f64, recent: f64, usual: f64, floor: f64) -> f64 {
        self.recent += recent * (error - self.recent);
        let z = (self.recent - self.mean) / (self.variance.sqrt() + floor);
        let difference = error - self.mean;
        self.mean += usual * difference;
        self.variance = (1.0 - usual) * (self.variance + usual * difference * difference);
        z
    }
}

/// About `−log10` of the share of a normal distribution above `z`.
fn improbability(z: f64) -> f64 {
    if z <= 0.0 {
        return 0.0;
    }
    0.5 * z * z / std::f64::consts::LN_10 + 0.8 * (1.0 + z * 2.506_6).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    /// Onsets of 20,000 values a minute apart.
    fn onsets(mut value: impl FnMut(u32, &mut Rng) -> f64) -> Vec<(u32, Onset)> {
        let mut detector = Detector::new(DetectorConfig::default()).unwrap();
        let mut rng = Rng::seeded(5);
        (0..20_000)
            .filter_map(|n| {
                let seen = detector.observe(value(n, &mut rng), Duration::from_secs(60 * u64::from(n)));
                seen.onset.map(|onset| (n, onset))
            })
            .collect()
    }

    #[test]
    fn constant_series_and_sparse_counts_do_not_alarm() {
        assert_eq!(onsets(|_, _| 7.0).len(), 0);
        assert_eq!(onsets(|_, _| 0.0).len(), 0);
        let sparse = onsets(|_, rng| f64::from(u8::from(rng.chance(0.02))));
        assert!(sparse.len() <= 2, "{sparse:?}");
        assert!(onsets(|_, rng| 100.0 + rng.unit()).len() <= 2);
    }

    #[test]
    fn a_daily_wave_does_not_alarm_and_the_day_it_is_missing_does() {
        let wave = |n: u32| 100.0 + 50.0 * (f64::from(n) / 1440.0 * std::f64::consts::TAU).sin();
        assert!(onsets(|n, rng| wave(n) + rng.unit()).len() <= 2);
        let flat = onsets(|n, rng| if (10_000..11_400).contains(&n) { 100.0 } else { wave(n) } + rng.unit());
        assert!(
            flat.iter().any(|(n, onset)| (10_000..11_500).contains(n) && onset.baseline > 0.0),
            "{flat:?}"
        );
    }

    #[test]
    fn a_step_is_one_onset_with_its_baseline() {
        let found = onsets(|n, rng| if n < 12_000 { 10.0 } else { 30.0 } + rng.unit());
        let (at, onset) = found.iter().find(|(n, _)| *n >= 12_000).unwrap();
        assert!((12_000..12_005).contains(at) && (onset.baseline - 10.5).abs() < 1.0, "{found:?}");
        assert!(found.len() <= 3, "{found:?}");
    }

    #[test]
    fn values_that_are_no_numbers_change_nothing() {
        let mut detector = Detector::new(DetectorConfig::default()).unwrap();
        for value in [f64::NAN, f64::INFINITY, 1.0] {
            assert_eq!(detector.observe(value, Duration::ZERO).onset, None);
        }
        assert_eq!(detector.observe(1.0, Duration::ZERO).count, 2);
        let config = DetectorConfig { threshold: 0.0, ..DetectorConfig::default() };
        assert!(Detector::new(config).is_err());
    }

    #[test]
    fn the_budget_bounds_the_alarms() {
        // A jump every 300 minutes for two weeks would be 67 onsets.
        let found = onsets(|n, rng| f64::from(n / 300 % 7) * 100.0 + rng.unit());
        assert!(found.len() <= 24, "{}", found.len());
    }
}
