//! Classic `le` buckets. The bounds are powers of two, which are edges of the exponential buckets: the counts are exact.

use super::number;
use perf_core::Unit;
use std::sync::OnceLock;

/// Exponents of the bounds for a unit: the lowest, the highest and the step between them.
const fn exponents(unit: Unit) -> (i32, i32, usize) {
    match unit {
        // 122 µs to 16 s.
        Unit::Seconds => (-13, 4, 1),
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

/// The exponents of all units lie in this range.
const EXPONENTS: std::ops::RangeInclusive<i32> = -13..=32;

/// The bound `2^exponent` as text, and what follows it in a line of Prometheus text: the quote, the brace and a space.
fn ended(exponent: i32) -> (&'static [u8], usize) {
    static BOUNDS: OnceLock<Vec<(Vec<u8>, usize)>> = OnceLock::new();
    let bounds = BOUNDS.get_or_init(|| {
        EXPONENTS
            .map(|exponent| {
                let mut text = Vec::new();
                number::float(&mut text, f64::from(exponent).exp2());
                let length = text.len();
                text.extend_from_slice(b"\"} ");
                (text, length)
            })
            .collect()
    });
    let found = bounds.get((exponent - EXPONENTS.start()) as usize);
    found.map_or((b"", 0), |(text, length)| (text.as_slice(), *length))
}

/// The bound `2^exponent` as text.
pub(super) fn bound(exponent: i32) -> &'static [u8] {
    let (text, length) = ended(exponent);
    &text[..length]
}

/// The bound `2^exponent` as text, with the end of the label set after it.
pub(super) fn bound_end(exponent: i32) -> &'static [u8] {
    ended(exponent).0
}

/// How many values there are.
pub(super) fn count(zeros: u64, buckets: &[(i32, u64)]) -> u64 {
    zeros + buckets.iter().map(|(_, count)| count).sum::<u64>()
}
