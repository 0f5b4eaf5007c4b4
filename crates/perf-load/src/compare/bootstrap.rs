//! Confidence intervals by drawing blocks of neighbouring seconds anew (Politis and Romano's circular block bootstrap, 1992).

use perf_core::Rng;

/// The comparison of two stored runs is the same each time it is made.
const SEED: u64 = 0x5EED;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The interval that holds the effect of the two series' means with probability `level`.
pub(super) fn interval(
    before: &[f64],
    after: &[f64],
    effect: impl Fn(f64, f64) -> f64,
    level: f64,
    resamples: usize,
) -> Interval {
    if before.is_empty() || after.is_empty() {
        return Interval { low: 0.0, high: 0.0 };
    }
    let mut rng = Rng::seeded(SEED);
    let mut effects: Vec<f64> =
        (0..resamples).map(|_| effect(drawn_mean(before, &mut rng), drawn_mean(after, &mut rng))).collect();
    effects.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * effects.len() as f64) as usize;
        effects.get(rank.min(effects.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let tail = (1.0 - level) / 2.0;
    let (low, high) = (at(tail), at(1.0 - tail));
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0 * widening(before.len().min(after.len())));
    Interval { low: middle - half, high: middle + half }
}

/// A bootstrap of few blocks is as overconfident as a normal quantile in place of Student's, and blocks miss the
/// dependence across their borders. Both shrink with the number of blocks; the factor was set by simulating equal runs.
fn widening(count: usize) -> f64 {
    1.0 + 3.0 * block_length(count) as f64 / count as f64
}

/// A block's length grows with the cube root of the series, which is the best rate for a mean.
fn block_length(count: usize) -> usize {
    ((count as f64).cbrt() * 1.5).ceil() as usize
}

/// The mean of as many values, drawn in blocks that wrap round at the end.
fn drawn_mean(values: &[f64], rng: &mut Rng) -> f64 {
    let count = values.len();
    let block = block_length(count);
    let (mut sum, mut drawn) = (0.0, 0);
    while drawn < count {
        let start = rng.below(count as u64) as usize;
        for offset in 0..block.min(count - drawn) {
            sum += values[(start + offset) % count];
        }
        drawn += block;
    }
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_effect_and_narrows_with_more_data() {
        let series = |count: usize, mean: f64| -> Vec<f64> {
            let mut rng = Rng::seeded(3);
            (0..count).map(|_| mean + rng.unit() - 0.5).collect()
        };
        let difference = |a: f64, b: f64| b - a;
        let short = interval(&series(30, 10.0), &series(30, 12.0), difference, 0.95, 2_000);
        let long = interval(&series(900, 10.0), &series(900, 12.0), difference, 0.95, 2_000);
        assert!(short.low < 2.0 && short.high > 2.0, "{short:?}");
        assert!(long.high - long.low < (short.high - short.low) / 3.0, "{long:?}");
        assert_eq!(interval(&[], &[1.0], difference, 0.95, 10), Interval { low: 0.0, high: 0.0 });
    }
}
