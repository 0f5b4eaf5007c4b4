//! Classic `le` buckets. The bounds are powers of two, which are edges of the exponential buckets: the counts are exact.

use super::number;
use perf_core::Unit;

/// Exponents of the bounds for a unit: the lowest, the highest and the step between them.
const fn exponents(unit: Unit) -> (i32, i32, usize) {
    match unit {
        // 61 µs to 64 s.
        Unit::Seconds => (-14, 6, 1),
        // 64 B to 4 GiB.
        Unit::Bytes => (6, 32, 2),
        // 1/256 to 1.
        Unit::Ratio => (-8, 0, 1),
        // 1 to 65,536.
        _ => (0, 16, 1),
    }
}

/// The buckets of one distribution: each bound and how many values are at most it.
pub(super) fn cumulative<'a>(
    unit: Unit,
    schema: i8,
    zeros: u64,
    buckets: &'a [(i32, u64)],
) -> impl Iterator<Item = (i32, u64)> + 'a {
    let (lowest, highest, step) = exponents(unit);
    let mut below = zeros;
    let mut rest = buckets;
    (lowest..=highest).step_by(step).map(move |exponent| {
        // `2^exponent` closes bucket `exponent × 2^schema`.
        let last = exponent << schema.max(0);
        while let Some(((index, count), tail)) = rest.split_first()
            && *index <= last
        {
            below += count;
            rest = tail;
        }
        (exponent, below)
    })
}

/// Writes the bound `2^exponent`.
pub(super) fn write_bound(out: &mut Vec<u8>, exponent: i32) {
    number::float(out, f64::from(exponent).exp2());
}

/// How many values there are.
pub(super) fn count(zeros: u64, buckets: &[(i32, u64)]) -> u64 {
    zeros + buckets.iter().map(|(_, count)| count).sum::<u64>()
}
