//! Since when: E-divisive change points with a t-test instead of permutations, so that one input has one answer.

use crate::math::student_two_sided;

/// Values each side of a change must have.
const SIDE: usize = 5;

/// How improbable a change must be to be kept, after the correction for having chosen the best cut of many.
const SIGNIFICANCE: f64 = 0.01;

/// Longest series looked at in one piece; the cost grows with the square.
const LONGEST: usize = 2_000;

/// The values before and after differ.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ChangePoint {
    /// Position of the first value after the change.
    pub index: usize,
    /// Mean of the stretch before.
    pub before: f64,
    /// Mean of the stretch after.
    pub after: f64,
    /// How probable such a difference is when nothing changed.
    pub p: f64,
}

/// The positions at which the distribution of the values changed, in rising order. Looks at the newest 2,000 values and
/// skips what is not finite.
///
/// ```
/// let values: Vec<f64> = (0..60).map(|n| if n < 40 { 10.0 } else { 12.0 } + f64::from(n % 3) * 0.1).collect();
/// let changes = perf_metrics::change_points(&values);
/// assert_eq!((changes.len(), changes[0].index), (1, 40));
/// ```
#[must_use]
pub fn change_points(values: &[f64]) -> Vec<ChangePoint> {
    let skipped = values.len().saturating_sub(LONGEST);
    let values: Vec<f64> = values[skipped..].iter().copied().filter(|value| value.is_finite()).collect();
    let mut cuts = vec![0, values.len()];
    // Weak points first: a strong change may only show once a weak one has separated its neighbours.
    while let Some(cut) = strongest(&values, &cuts) {
        cuts.push(cut);
        cuts.sort_unstable();
    }
    let found = cuts.windows(3).map(|cut| judged(&values, cut[0], cut[1], cut[2]));
    let kept = found.filter(|change| change.p < SIGNIFICANCE);
    kept.map(|change| ChangePoint { index: change.index + skipped, ..change }).collect()
}

/// The most significant cut in any of the pieces.
fn strongest(values: &[f64], cuts: &[usize]) -> Option<usize> {
    let candidates = cuts.windows(2).filter_map(|piece| {
        let at = best_cut(&values[piece[0]..piece[1]])? + piece[0];
        Some(judged(values, piece[0], at, piece[1]))
    });
    let significant = candidates.filter(|change| change.p < SIGNIFICANCE);
    significant.min_by(|a, b| a.p.total_cmp(&b.p)).map(|change| change.index)
}

/// The cut with the largest energy distance between its sides.
fn best_cut(values: &[f64]) -> Option<usize> {
    let n = values.len();
    if n < 2 * SIDE {
        return None;
    }
    // Moving one value across the cut changes the sums of distances by that value's distances alone.
    let (mut left, mut between) = (0.0, 0.0);
    let mut right: f64 =
        (0..n).map(|i| values[i + 1..].iter().map(|x| (x - values[i]).abs()).sum::<f64>()).sum();
    let mut best = (0.0, None);
    for cut in 1..n {
        let moved = values[cut - 1];
        let distance = |side: &[f64]| side.iter().map(|x| (x - moved).abs()).sum::<f64>();
        let (to_left, to_right) = (distance(&values[..cut - 1]), distance(&values[cut..]));
        left += to_left;
        right -= to_right;
        between += to_right - to_left;
        if cut < SIDE || n - cut < SIDE {
            continue;
        }
        let (l, r) = (cut as f64, (n - cut) as f64);
        let pairs = |m: f64| m * (m - 1.0) / 2.0;
        let energy = 2.0 * between / (l * r) - left / pairs(l) - right / pairs(r);
        let weighted = energy * l * r / (l + r);
        if weighted > best.0 {
            best = (weighted, Some(cut));
        }
    }
    best.1
}

/// Welch's t-test of the two sides of a cut.
fn judged(values: &[f64], start: usize, index: usize, end: usize) -> ChangePoint {
    let (before, after) = (Side::of(&values[start..index]), Side::of(&values[index..end]));
    let (a, b) = (before.variance / before.count, after.variance / after.count);
    let spread = (a + b).sqrt();
    let difference = (after.mean - before.mean).abs();
    let t = if spread > 0.0 {
        difference / spread
    } else if difference > 0.0 {
        f64::INFINITY
    } else {
        0.0
    };
    let freedom = (a + b).powi(2) / (a * a / (before.count - 1.0) + b * b / (after.count - 1.0));
    let freedom = if freedom.is_finite() { freedom } else { 1.0 };
    // The cut is the best of as many as there are values.
    let p = (student_two_sided(t, freedom) * (before.count + after.count)).min(1.0);
    ChangePoint { index, before: before.mean, after: after.mean, p }
}

struct Side {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Side {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Self { count, mean, variance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    fn noisy(levels: &[(usize, f64)], seed: u64) -> Vec<f64> {
        let mut rng = Rng::seeded(seed);
        levels
            .iter()
            .flat_map(|(count, level)| vec![*level; *count])
            .map(|level| level + rng.unit())
            .collect()
    }

    #[test]
    fn two_changes_are_found_where_they_are() {
        let found = change_points(&noisy(&[(50, 10.0), (50, 12.0), (50, 9.0)], 1));
        let indices: Vec<usize> = found.iter().map(|change| change.index).collect();
        assert_eq!(indices, [50, 100]);
        assert!((found[0].before - 10.5).abs() < 0.2 && (found[0].after - 12.5).abs() < 0.2);
    }

    #[test]
    fn noise_alone_hardly_ever_changes() {
        let found: usize = (0..200).map(|seed| change_points(&noisy(&[(100, 5.0)], seed)).len()).sum();
        assert!(found <= 8, "{found}");
    }

    #[test]
    fn a_step_without_noise_and_series_too_short_are_handled() {
        assert_eq!(change_points(&[1.0; 100]), []);
        assert_eq!(change_points(&[1.0, 2.0, f64::NAN]), []);
        let step: Vec<f64> = (0..40).map(|n| f64::from(u8::from(n >= 20))).collect();
        assert_eq!(change_points(&step)[0].index, 20);
    }
}
