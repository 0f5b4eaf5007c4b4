//! Whether an index helped: calls before and after, compared by the blocks they touched, then by time (B5.8).

use crate::Fingerprint;
use perf_core::InvalidConfig;
use std::collections::BTreeMap;

/// What is measured of one statement over a while: the calls, and mean and variance of what one call costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Baseline {
    /// Calls.
    pub calls: u64,
    /// Mean time of a call in milliseconds.
    pub mean_ms: f64,
    /// Variance of that time.
    pub variance: f64,
    /// Blocks a call read from memory or disk, on average.
    pub blocks: f64,
}

impl Baseline {
    /// Two stretches of time as one (Chan, Golub and LeVeque's formula).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (a, b) = (self.calls as f64, other.calls as f64);
        let n = a + b;
        if n == 0.0 {
            return Self::default();
        }
        let delta = other.mean_ms - self.mean_ms;
        let squares = self.variance * a + other.variance * b + delta * delta * a * b / n;
        Self {
            calls: self.calls + other.calls,
            mean_ms: self.mean_ms + delta * b / n,
            variance: squares / n,
            blocks: (self.blocks * a + other.blocks * b) / n,
        }
    }
}

/// When a difference counts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct VerifyPolicy {
    /// Calls needed on each side before a statement says anything, at least 2. `30`: where the normal distribution begins to hold.
    pub min_calls: u64,
    /// The least change that counts, as a share, 0 to 1. `0.05`.
    pub min_effect: f64,
    /// How much slower the whole may become, as a share, before everything is taken back; 0 or more. `0.1`.
    pub max_regression: f64,
    /// The test statistic from which a difference in time is no accident, above 0. `2.58`: 1 % by chance.
    pub significance: f64,
}

impl Default for VerifyPolicy {
    fn default() -> Self {
        Self { min_calls: 30, min_effect: 0.05, max_regression: 0.1, significance: 2.58 }
    }
}

impl VerifyPolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.min_calls < 2 {
            return Err(InvalidConfig::new("min_calls", self.min_calls, "2 or more"));
        }
        if !(0.0..=1.0).contains(&self.min_effect) {
            return Err(InvalidConfig::new("min_effect", self.min_effect, "0 to 1"));
        }
        if !(0.0..f64::INFINITY).contains(&self.max_regression) {
            return Err(InvalidConfig::new("max_regression", self.max_regression, "0 or more"));
        }
        if !(self.significance > 0.0 && self.significance.is_finite()) {
            return Err(InvalidConfig::new("significance", self.significance, "above 0"));
        }
        Ok(())
    }
}

/// How one statement changed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatementChange {
    /// The statement.
    pub fingerprint: Fingerprint,
    /// The cost of a call afterwards as a share of before: blocks where they changed, otherwise time.
    pub ratio: f64,
    /// Its share of the time of all statements compared.
    pub weight: f64,
}

/// What measuring says of an index.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Verdict {
    /// It helped, and nothing suffered.
    Improved(Vec<StatementChange>),
    /// Nothing changed that counts: it is only a burden on writes.
    Neutral,
    /// Statements became slower.
    Regressed(Vec<StatementChange>),
    /// No plan used it.
    Unused,
    /// Not enough was measured yet.
    Undecided,
}

impl Verdict {
    /// Whether the index should be taken back.
    #[must_use]
    pub const fn calls_for_revert(&self) -> bool {
        matches!(self, Self::Neutral | Self::Regressed(_) | Self::Unused)
    }
}

/// Compares what was measured before an index with what was measured after. `scans` is how often it was used meanwhile.
///
/// ```
/// use perf_dbopt::Fingerprint;
/// use perf_dbopt::postgres::{Baseline, Verdict, VerifyPolicy, judge};
/// use std::collections::BTreeMap;
///
/// let before = Baseline { calls: 100, mean_ms: 8.0, variance: 1.0, blocks: 900.0 };
/// let after = Baseline { calls: 100, mean_ms: 0.2, variance: 0.1, blocks: 6.0 };
/// let one = |baseline| BTreeMap::from([(Fingerprint(7), baseline)]);
/// let verdict = judge(&one(before), &one(after), 100, VerifyPolicy::default());
/// assert!(matches!(verdict, Verdict::Improved(_)));
/// ```
#[must_use]
pub fn judge(
    before: &BTreeMap<Fingerprint, Baseline>,
    after: &BTreeMap<Fingerprint, Baseline>,
    scans: u64,
    policy: VerifyPolicy,
) -> Verdict {
    let pairs: Vec<_> = before
        .iter()
        .filter_map(|(print, old)| after.get(print).map(|new| (*print, *old, *new)))
        .filter(|(_, old, new)| old.calls.min(new.calls) >= policy.min_calls)
        .collect();
    if pairs.is_empty() {
        return Verdict::Undecided;
    }
    if scans == 0 {
        return Verdict::Unused;
    }
    // Weights are by the calls afterwards, at the old price: what the host would have paid.
    let total: f64 = pairs.iter().map(|(_, old, new)| old.mean_ms * new.calls as f64).sum();
    let mut changes = Vec::new();
    for (fingerprint, old, new) in pairs {
        let weight = old.mean_ms * new.calls as f64 / total.max(f64::MIN_POSITIVE);
        if let Some(ratio) = ratio(old, new, policy) {
            changes.push(StatementChange { fingerprint, ratio, weight });
        }
    }
    let weighted: f64 = changes.iter().map(|change| (change.ratio - 1.0) * change.weight).sum();
    let worse: Vec<_> =
        changes.iter().copied().filter(|change| change.ratio > 1.0 + policy.max_regression).collect();
    let suffers = worse.iter().any(|change| (change.ratio - 1.0) * change.weight > policy.max_regression);
    if suffers || weighted > policy.max_regression || (!worse.is_empty() && weighted >= 0.0) {
        return Verdict::Regressed(worse);
    }
    if weighted < -policy.min_effect * 0.1 && changes.iter().any(|change| change.ratio < 1.0) {
        return Verdict::Improved(changes);
    }
    Verdict::Neutral
}

/// How a statement's cost changed, when that is no accident. Blocks first: the same plan touches the same blocks, while time
/// varies with everything else on the machine.
fn ratio(old: Baseline, new: Baseline, policy: VerifyPolicy) -> Option<f64> {
    let counts = |ratio: f64| (ratio - 1.0).abs() >= policy.min_effect;
    // A page more or less is noise.
    if old.blocks.max(new.blocks) >= 4.0 && (old.blocks - new.blocks).abs() > 2.0 {
        let blocks = new.blocks.max(1.0) / old.blocks.max(1.0);
        if counts(blocks) {
            return Some(blocks);
        }
    }
    let time = new.mean_ms / old.mean_ms.max(f64::MIN_POSITIVE);
    let error = (old.variance / old.calls as f64 + new.variance / new.calls as f64).sqrt();
    let welch = (new.mean_ms - old.mean_ms).abs() / error.max(f64::MIN_POSITIVE);
    (counts(time) && welch > policy.significance).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(calls: u64, mean_ms: f64, blocks: f64) -> Baseline {
        Baseline { calls, mean_ms, variance: (mean_ms * 0.1).powi(2), blocks }
    }

    fn one(baseline: Baseline) -> BTreeMap<Fingerprint, Baseline> {
        BTreeMap::from([(Fingerprint(1), baseline)])
    }

    fn verdict(before: Baseline, after: Baseline, scans: u64) -> Verdict {
        judge(&one(before), &one(after), scans, VerifyPolicy::default())
    }

    #[test]
    fn b5_8_each_verdict_has_its_evidence() {
        assert!(matches!(verdict(base(100, 8.0, 900.0), base(100, 0.5, 8.0), 5), Verdict::Improved(_)));
        assert!(matches!(verdict(base(100, 1.0, 90.0), base(100, 4.0, 400.0), 5), Verdict::Regressed(_)));
        assert_eq!(verdict(base(100, 1.0, 90.0), base(100, 1.01, 90.0), 5), Verdict::Neutral);
        assert_eq!(verdict(base(100, 8.0, 900.0), base(100, 0.5, 8.0), 0), Verdict::Unused);
        assert_eq!(verdict(base(100, 8.0, 900.0), base(29, 0.5, 8.0), 5), Verdict::Undecided);
        assert!(Verdict::Neutral.calls_for_revert() && !Verdict::Undecided.calls_for_revert());
    }

    #[test]
    fn blocks_decide_where_time_is_noise() {
        // Time went up by accident; the statement reads a tenth of the blocks.
        let noisy = Baseline { calls: 50, mean_ms: 1.2, variance: 9.0, blocks: 40.0 };
        assert!(matches!(verdict(base(50, 1.0, 400.0), noisy, 5), Verdict::Improved(_)));
    }

    proptest! {
        #[test]
        fn merging_is_as_if_all_calls_were_measured_at_once(values in prop::collection::vec(0.0..100.0_f64, 2..60), cut in 1..60_usize) {
            let of = |v: &[f64]| {
                let n = v.len().max(1) as f64;
                let mean_ms = v.iter().sum::<f64>() / n;
                let variance = v.iter().map(|x| (x - mean_ms).powi(2)).sum::<f64>() / n;
                Baseline { calls: v.len() as u64, mean_ms, variance, blocks: mean_ms }
            };
            let cut = cut.min(values.len() - 1);
            let (merged, whole) = (of(&values[..cut]).merge(of(&values[cut..])), of(&values));
            prop_assert_eq!(merged.calls, whole.calls);
            prop_assert!((merged.mean_ms - whole.mean_ms).abs() < 1e-9);
            prop_assert!((merged.variance - whole.variance).abs() < 1e-6);
        }
    }
}
