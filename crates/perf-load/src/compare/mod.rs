//! Is one run faster than another, or is it noise? Asked of whole distributions, answered with intervals.

mod bootstrap;

use crate::Error;
use crate::report::RunReport;
use bootstrap::Interval;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fewer seconds than this in either run prove nothing.
pub const MIN_BLOCKS: usize = 10;

/// How sure a difference must be over all metrics together: one comparison in twenty of equal runs may claim one.
const ERROR_RATE: f64 = 0.05;

/// How many times the seconds are drawn anew.
const RESAMPLES: usize = 10_000;

/// Two runs side by side.
///
/// Each second of a run is one observation of its throughput, error share and percentiles. The change of each metric gets a
/// confidence interval by circular block bootstrap (seconds next to each other are not independent), widened for asking several
/// metrics at once. Words follow from the interval alone: a change that matters is named only when it is proven to be one.
///
/// Two runs one after the other also differ by what else the machine did; alternate them when it matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Relative changes smaller than this do not matter.
    pub min_effect: f64,
    /// What was compared.
    pub changes: Vec<Change>,
    /// Why the runs should not be compared, if anything.
    pub warnings: Vec<String>,
}

/// One metric of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The metric.
    pub metric: String,
    /// The mean of its seconds before.
    pub before: f64,
    /// And after.
    pub after: f64,
    /// The relative change: 0.05 is five per cent more. For `error share` the difference of the shares.
    pub change: f64,
    /// The lower end of the confidence interval of the change.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What that means.
    pub judgement: Judgement,
    /// How many seconds each run would need for a sharper answer; only when inconclusive.
    pub seconds_needed: Option<u64>,
}

/// What an interval of change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Judgement {
    /// A change for the better that matters.
    Better,
    /// A change for the worse that matters.
    Worse,
    /// No change that matters.
    Equivalent,
    /// It cannot be said from these runs.
    Inconclusive,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Inconclusive => "inconclusive",
        })
    }
}

struct Metric {
    name: &'static str,
    more_is_better: bool,
    /// Differences of this metric are absolute, because it may be zero.
    absolute: bool,
    of: fn(&Second) -> Option<f64>,
}

const METRICS: [Metric; 4] = [
    Metric { name: "throughput", more_is_better: true, absolute: false, of: |s| Some(s.ok / s.width) },
    Metric {
        name: "error share",
        more_is_better: false,
        absolute: true,
        of: |s| Some(s.errors / (s.ok + s.errors).max(1.0)),
    },
    Metric { name: "p50, ms", more_is_better: false, absolute: false, of: |s| (s.ok > 0.0).then_some(s.p50) },
    Metric { name: "p99, ms", more_is_better: false, absolute: false, of: |s| (s.ok > 0.0).then_some(s.p99) },
];

struct Second {
    width: f64,
    ok: f64,
    errors: f64,
    p50: f64,
    p99: f64,
}

impl Comparison {
    /// Compares two runs; changes smaller than `min_effect` (0.03 is three per cent) do not matter.
    #[must_use]
    pub fn of(before: &RunReport, after: &RunReport, min_effect: f64) -> Self {
        Self::with_resamples(before, after, min_effect, RESAMPLES)
    }

    fn with_resamples(before: &RunReport, after: &RunReport, min_effect: f64, resamples: usize) -> Self {
        let (a, b) = (seconds(before), seconds(after));
        let pick =
            |seconds: &[Second], metric: &Metric| seconds.iter().filter_map(metric.of).collect::<Vec<f64>>();
        let changes = METRICS
            .iter()
            .map(|metric| change(metric, &pick(&a, metric), &pick(&b, metric), min_effect, resamples))
            .collect();
        Self { min_effect, changes, warnings: warnings(before, after) }
    }

    /// Whether any metric became worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.changes.iter().any(|change| change.judgement == Judgement::Worse)
    }

    /// The change of a metric.
    #[must_use]
    pub fn change(&self, metric: &str) -> Option<&Change> {
        self.changes.iter().find(|change| change.metric == metric)
    }

    /// As JSON.
    ///
    /// # Errors
    /// [`Error::Text`] when a number cannot be written, which no comparison of two runs causes.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::Text { what: "the comparison", detail: error.to_string() })
    }
}

/// The whole intervals of the measured part.
fn seconds(report: &RunReport) -> Vec<Second> {
    let timeline = &report.timeline;
    let width = timeline.interval_s;
    let from = (report.load.warmup_s / width).ceil() as usize;
    let end = ((report.load.warmup_s + report.duration_s) / width + 1e-9).floor() as usize;
    let at = |values: &[f64], index: usize| values.get(index).copied().unwrap_or(0.0);
    let count = |values: &[u64], index: usize| values.get(index).map_or(0.0, |count| *count as f64);
    (from..end.min(timeline.ok.len()))
        .map(|index| Second {
            width,
            ok: count(&timeline.ok, index),
            errors: count(&timeline.errors, index),
            p50: at(&timeline.p50_ms, index),
            p99: at(&timeline.p99_ms, index),
        })
        .collect()
}

fn change(metric: &Metric, before: &[f64], after: &[f64], min_effect: f64, resamples: usize) -> Change {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (a, b) = (mean(before), mean(after));
    let effect = |a: f64, b: f64| match (metric.absolute, a > 0.0) {
        (true, _) => b - a,
        (false, true) => b / a - 1.0,
        (false, false) => 0.0,
    };
    let level = 1.0 - ERROR_RATE / METRICS.len() as f64;
    let blocks = before.len().min(after.len());
    let Interval { low, high } = bootstrap::interval(before, after, effect, level, resamples);
    let judgement = if blocks < MIN_BLOCKS {
        Judgement::Inconclusive
    } else {
        judge(low, high, min_effect, metric.more_is_better)
    };
    // An interval narrows with the square root of the number of seconds.
    let half = (high - low) / 2.0;
    let factor = (half / min_effect.max(1e-6)).powi(2).max(2.0);
    let needed = (blocks.max(MIN_BLOCKS) as f64 * factor).ceil() as u64;
    let seconds_needed = (judgement == Judgement::Inconclusive).then_some(needed);
    Change {
        metric: metric.name.to_owned(),
        before: a,
        after: b,
        change: effect(a, b),
        low,
        high,
        judgement,
        seconds_needed,
    }
}

fn judge(low: f64, high: f64, min_effect: f64, more_is_better: bool) -> Judgement {
    let middle = (low + high) / 2.0;
    if low >= -min_effect && high <= min_effect {
        Judgement::Equivalent
    } else if (low > 0.0 || high < 0.0) && middle.abs() >= min_effect {
        if (middle > 0.0) == more_is_better { Judgement::Better } else { Judgement::Worse }
    } else {
        Judgement::Inconclusive
    }
}

fn warnings(before: &RunReport, after: &RunReport) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, report) in [("first", before), ("second", after)] {
        if report.health.verdict != crate::Verdict::Valid {
            warnings.push(format!("the {name} run is {}", report.health.verdict));
        }
        if report.interrupted {
            warnings.push(format!("the {name} run was stopped early"));
        }
    }
    if before.load != after.load {
        warnings.push("the runs had different loads or seeds".to_owned());
    }
    warnings
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14}{:>12}{:>12}{:>10}   {:<22}result", "", "before", "after", "change", "interval")?;
        for change in &self.changes {
            let percent = |value: f64| format!("{:+.1} %", value * 100.0);
            let interval = format!("{} to {}", percent(change.low), percent(change.high));
            write!(
                f,
                "{:<14}{:>12.3}{:>12.3}{:>10}   {interval:<22}{}",
                change.metric,
                change.before,
                change.after,
                percent(change.change),
                change.judgement
            )?;
            match change.seconds_needed {
                Some(seconds) => writeln!(f, ", try {seconds} s")?,
                None => writeln!(f)?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use perf_core::Rng;

    /// A run of a minute whose seconds scatter by 8 % and depend on each other, as those of a real service do.
    fn run(seed: u64, p99_factor: f64) -> RunReport {
        run_of(60, seed, p99_factor)
    }

    fn run_of(seconds: usize, seed: u64, p99_factor: f64) -> RunReport {
        let mut rng = Rng::seeded(seed);
        let mut report = report(100, 0);
        report.duration_s = seconds as f64;
        let mut drift = 0.0;
        let mut noise = || {
            let fresh: f64 = (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
            drift = 0.4 * drift + 0.08 * fresh;
            1.0 + drift
        };
        let timeline = &mut report.timeline;
        timeline.ok = (0..seconds).map(|_| (500.0 * noise()) as u64).collect();
        timeline.errors = vec![0; seconds];
        timeline.p50_ms = (0..seconds).map(|_| 10.0 * noise()).collect();
        timeline.p99_ms = (0..seconds).map(|_| 40.0 * noise() * p99_factor).collect();
        report
    }

    // L14: equal runs are called different in at most one comparison of twenty.
    #[test]
    fn equal_runs_are_rarely_called_different() {
        let different = (0..200)
            .filter(|pair| {
                let (a, b) = (run(2 * pair, 1.0), run(2 * pair + 1, 1.0));
                let comparison = Comparison::with_resamples(&a, &b, 0.03, 250);
                comparison.changes.iter().any(|c| matches!(c.judgement, Judgement::Better | Judgement::Worse))
            })
            .count();
        assert!(different <= 10, "{different} of 200");
    }

    #[test]
    fn a_slower_run_is_found() {
        let found = (0..50)
            .filter(|pair| {
                let (a, b) = (run(2 * pair, 1.0), run(2 * pair + 1, 1.15));
                let comparison = Comparison::with_resamples(&a, &b, 0.03, 250);
                comparison.is_worse() && comparison.change("p99, ms").unwrap().judgement == Judgement::Worse
            })
            .count();
        assert!(found >= 45, "{found} of 50");
    }

    // L14: five per cent of p99 take five minutes to see where seconds scatter by 8 %.
    #[test]
    fn five_per_cent_more_are_found_in_five_minutes() {
        let found = (0..25)
            .filter(|pair| {
                let (a, b) = (run_of(300, 2 * pair, 1.0), run_of(300, 2 * pair + 1, 1.05));
                let comparison = Comparison::with_resamples(&a, &b, 0.03, 200);
                comparison.change("p99, ms").unwrap().judgement == Judgement::Worse
            })
            .count();
        assert!(found >= 20, "{found} of 25");
    }

    #[test]
    fn the_same_run_twice_is_equivalent_and_less_is_better() {
        let a = run(1, 1.0);
        let same = Comparison::with_resamples(&a, &a, 0.1, 2_000);
        assert!(!same.is_worse() && same.warnings.is_empty());
        assert!(same.changes.iter().all(|change| change.judgement == Judgement::Equivalent), "{same}");
        let better = Comparison::with_resamples(&a, &run(1, 0.5), 0.03, 400);
        assert_eq!(better.change("p99, ms").unwrap().judgement, Judgement::Better, "{better}");
        assert!((better.change("p99, ms").unwrap().change + 0.5).abs() < 1e-9);
    }

    #[test]
    fn short_runs_prove_nothing_and_say_what_would() {
        let comparison = Comparison::of(&report(985, 15), &report(985, 0), 0.03);
        for change in &comparison.changes {
            assert_eq!(change.judgement, Judgement::Inconclusive);
            assert!(change.seconds_needed.unwrap() >= 10, "{change:?}");
        }
        let json = comparison.to_json().unwrap();
        assert!(serde_json::from_str::<Comparison>(&json).unwrap() == comparison);
        let empty = Comparison::of(&report(0, 0), &report(0, 0), 0.03);
        assert_eq!(empty.warnings.len(), 2, "{empty}");
    }
}
