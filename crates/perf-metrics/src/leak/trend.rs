//! Mann–Kendall and Theil–Sen: a trend and its slope, without assumptions about the noise.

use super::MIN_BUCKETS;
use crate::math::{median, normal_tail};

/// Most buckets looked at; the cost grows with the square.
const MAX_BUCKETS: usize = 120;

/// The smallest value of each bucket, and how many samples a bucket has.
pub(super) fn lower_envelope(samples: &[f64]) -> (Vec<f64>, usize) {
    let per_bucket = (samples.len() / MIN_BUCKETS.max(MAX_BUCKETS.min(samples.len() / 10))).max(1);
    let smallest = |bucket: &[f64]| bucket.iter().copied().fold(f64::INFINITY, f64::min);
    let envelope = samples.chunks_exact(per_bucket).map(smallest).filter(|value| value.is_finite()).collect();
    (envelope, per_bucket)
}

/// How probable a rise like this is when the values have no trend. Ties and autocorrelation widen the variance (Hamed
/// and Rao), because neighbours that resemble each other look like a trend.
pub(super) fn mann_kendall(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mut score = 0.0;
    for (i, a) in values.iter().enumerate() {
        score += values[i + 1..].iter().map(|b| sign(b - a)).sum::<f64>();
    }
    let ties: f64 = tie_groups(values).map(|t| t * (t - 1.0) * (2.0 * t + 5.0)).sum();
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - ties) / 18.0 * autocorrelation_factor(values);
    if score <= 0.0 || variance <= 0.0 {
        return 1.0;
    }
    normal_tail((score - 1.0) / variance.sqrt())
}

fn sign(difference: f64) -> f64 {
    if difference > 0.0 {
        1.0
    } else if difference < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn tie_groups(values: &[f64]) -> impl Iterator<Item = f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let groups: Vec<f64> = sorted.chunk_by(|a, b| a == b).map(|group| group.len() as f64).collect();
    groups.into_iter().filter(|count| *count > 1.0)
}

/// By how much correlated neighbours widen the variance, from the ranks of what is left without the trend.
fn autocorrelation_factor(values: &[f64]) -> f64 {
    let n = values.len();
    let slope = theil_sen(values).0;
    let rest: Vec<f64> = values.iter().enumerate().map(|(i, value)| value - slope * i as f64).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| rest[*a].total_cmp(&rest[*b]));
    let mut ranks = vec![0.0; n];
    // What differs by rounding only is equal, and equal values share a rank.
    let extent = values.iter().fold(0.0_f64, |extent, value| extent.max(value.abs()));
    let mut below = 0;
    for group in order.chunk_by(|a, b| (rest[*a] - rest[*b]).abs() <= 1e-9 * extent) {
        let rank = below as f64 + (group.len() as f64 - n as f64) / 2.0;
        group.iter().for_each(|at| ranks[*at] = rank);
        below += group.len();
    }
    let energy: f64 = ranks.iter().map(|rank| rank * rank).sum();
    if energy == 0.0 {
        return 1.0;
    }
    let size = n as f64;
    let significant = 1.96 / size.sqrt();
    let mut factor = 0.0;
    for lag in 1..n / 2 {
        let correlation = ranks.iter().zip(&ranks[lag..]).map(|(a, b)| a * b).sum::<f64>() / energy;
        // Beyond the first lag without correlation there is only noise.
        if correlation < significant {
            break;
        }
        let l = lag as f64;
        factor += (size - l) * (size - l - 1.0) * (size - l - 2.0) * correlation;
    }
    1.0 + 2.0 / (size * (size - 1.0) * (size - 2.0)) * factor
}

/// The median of the slopes of all pairs, per bucket, and the bounds within which the true one lies nineteen times of
/// twenty.
pub(super) fn theil_sen(values: &[f64]) -> (f64, (f64, f64)) {
    let mut slopes = Vec::with_capacity(values.len() * values.len() / 2);
    for (i, a) in values.iter().enumerate() {
        slopes.extend(values[i + 1..].iter().enumerate().map(|(j, b)| (b - a) / (j + 1) as f64));
    }
    let middle = median(&mut slopes);
    if slopes.is_empty() {
        return (0.0, (0.0, 0.0));
    }
    let n = values.len() as f64;
    let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let count = slopes.len() as f64;
    let at = |position: f64| slopes[(position.max(0.0) as usize).min(slopes.len() - 1)];
    (middle, (at((count - spread) / 2.0), at((count + spread) / 2.0)))
}
