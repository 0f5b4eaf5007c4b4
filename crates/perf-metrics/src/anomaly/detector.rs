//! An online detector in constant memory: onsets, not points.

use super::evidence::{Level, Season, Stillness, Trend};
use perf_core::InvalidConfig;
use std::time::Duration;

/// Weight of the season's evidence beside the prediction's.
const SEASON_WEIGHT: f64 = 1.5;

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
    /// Onsets a week that may be false: each onset doubles the threshold, and it sinks back in the time that one onset of
    /// the budget may take. 1 by default.
    pub budget_per_week: f64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            threshold: 3.0,
            warm_up: 300,
            refractory: 200,
            period: Duration::from_secs(86_400),
            budget_per_week: 1.0,
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

/// Watches one series, a value at a time. Takes a fraction of a microsecond and a kilobyte, however long it runs.
///
/// Five tests look at each value and compare it with what is usual for this series:
///
/// | test | what it sees |
/// |---|---|
/// | `level` | a short-sighted prediction has become wrong: steps, bursts, a wider spread |
/// | `season` | this is not what this time of day is like: missing, weaker or stronger waves |
/// | `spike` | one value is far out |
/// | `flat` | values hardly change any more |
/// | `drift` | the level of the last fifty values leaves that of the last five hundred |
///
/// Level and season speak together, because most anomalies show in both; of the others the loudest counts. Each is
/// measured by its own past, so that a series which is wild by nature has to become wilder. What is reported is the
/// moment at which something starts, not every point that is unusual.
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
    level: Level,
    season: Season,
    stillness: Stillness,
    trend: Trend,
    /// The strongest evidence of the last onset, and for how many values it still counts.
    held: (f64, u32),
    threshold: f64,
    last_at: Duration,
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
    /// Which test spoke the loudest: `level`, `season`, `spike`, `flat` or `drift`; see [`Detector`].
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
            level: Level::new(),
            season: Season::new(),
            stillness: Stillness::new(),
            trend: Trend::new(),
            held: (0.0, 0),
            last_at: Duration::ZERO,
        })
    }

    /// Takes in a value. `at` is the time since any fixed origin; a value that is not finite is passed over, and one beyond
    /// 10¹⁵⁰ taken for that.
    pub fn observe(&mut self, value: f64, at: Duration) -> Observation {
        let baseline = self.level.predicted;
        if !value.is_finite() {
            return Observation { score: 0.0, baseline, band: self.band(), count: self.count, onset: None };
        }
        // Squares of deviations must stay finite, or one value would end all judgement.
        let value = value.clamp(-1e150, 1e150);
        self.count += 1;
        self.relax(at);
        let (evidence, test) = self.evidence(value, at);
        let strength = self.emerging(evidence);
        let band = self.band();
        let warm = self.count > u64::from(self.config.warm_up);
        let onset = (warm && strength >= self.threshold).then_some(Onset {
            value,
            baseline,
            band,
            evidence: strength,
            test,
            count: self.count,
        });
        if onset.is_some() {
            self.threshold *= 2.0;
        }
        Observation {
            score: strength / (strength + self.config.threshold),
            baseline,
            band,
            count: self.count,
            onset,
        }
    }

    /// How improbable the value is, and which test says so.
    fn evidence(&mut self, value: f64, at: Duration) -> (f64, &'static str) {
        let early = 1.0 / self.count as f64;
        if self.count == 1 {
            self.level.predicted = value;
        }
        // Differences below a ten-thousandth of the level are noise to anyone who looks.
        let floor = 1e-9 + 1e-4 * self.level.predicted.abs();
        let (recent, alone) = self.level.step(value, early, floor);
        let within = (at.as_secs_f64() / self.config.period.as_secs_f64()).fract();
        let season = SEASON_WEIGHT * self.season.step(value, within, floor);
        let together = (recent + season, if recent >= season { "level" } else { "season" });
        let flat = (self.stillness.step(value, early, floor), "flat");
        let drift = (self.trend.step(value, early, floor), "drift");
        let louder = |a: (f64, &'static str), b: (f64, &'static str)| if b.0 > a.0 { b } else { a };
        [(alone, "spike"), flat, drift].into_iter().fold(together, louder)
    }

    /// How far values usually are from what is expected.
    fn band(&self) -> f64 {
        self.level.band()
    }

    /// The threshold sinks back to its setting in the time the budget allows an onset.
    fn relax(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.last_at).as_secs_f64();
        self.last_at = at;
        let allowed = 7.0 * 86_400.0 / self.config.budget_per_week;
        let above = self.threshold - self.config.threshold;
        self.threshold = self.config.threshold + above * (-passed / allowed).exp();
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
        for n in 0..2_000_u64 {
            detector.observe(if n == 50 { f64::MAX } else { 1.0 }, Duration::from_secs(n));
        }
        let seen = detector.observe(-f64::MAX, Duration::from_secs(2_000));
        assert!(seen.baseline.is_finite() && seen.band.is_finite() && seen.score > 0.0);
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
