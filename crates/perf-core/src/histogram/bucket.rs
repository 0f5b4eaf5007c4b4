//! Which bucket a value belongs to: Prometheus' and OpenTelemetry's base-2 exponential layout.
//!
//! Bucket *i* of schema *s* covers `(γ^(i−1), γ^i]` with `γ = 2^(2^−s)`. Each power of two is an octave of `2^s` buckets,
//! so the exponent bits of the value give the octave, and a search among the octave's bounds gives the bucket: exact, and
//! without a logarithm.

use std::sync::OnceLock;

/// The schema of live histograms: 32 buckets per octave, relative error at most 1.083 %.
pub(super) const SCHEMA: u8 = 5;

/// Buckets in an octave of the live schema.
pub(super) const PER_OCTAVE: usize = 1 << SCHEMA;

/// Octaves run from `(2^-128, 2^-127]` to `(2^127, 2^128]`; what is at or below `2^-128` counts as zero, as in Prometheus.
pub(super) const LOWEST_OCTAVE: i32 = -128;

/// How many octaves there are.
pub(super) const OCTAVES: usize = 256;

/// Values at or below this are counted in the zero bucket.
pub(super) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Upper bounds of the buckets of one octave as mantissas: `2^(k/32)` for k in 1..=32, over (1, 2].
fn mantissas() -> &'static [f64; PER_OCTAVE] {
    static BOUNDS: OnceLock<[f64; PER_OCTAVE]> = OnceLock::new();
    BOUNDS.get_or_init(|| std::array::from_fn(|k| ((k + 1) as f64 / PER_OCTAVE as f64).exp2()))
}

/// The bucket index of a finite value above [`ZERO_THRESHOLD`]; values beyond the top octave count in the top bucket.
#[inline]
pub(super) fn index_of(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as i32 - 1023;
    let mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    let step = PER_OCTAVE as i32;
    // A power of two is the closing bound of the octave below it.
    let within =
        if mantissa == 1.0 { -1 } else { mantissas().partition_point(|bound| *bound < mantissa) as i32 };
    let index = exponent * step + within + 1;
    index.min((LOWEST_OCTAVE + OCTAVES as i32) * step)
}

/// Where a bucket index is stored: its octave's page and the slot in it.
#[inline]
pub(super) fn place_of(index: i32) -> (usize, usize) {
    let from_lowest = (index - 1 - LOWEST_OCTAVE * PER_OCTAVE as i32).max(0) as usize;
    (from_lowest / PER_OCTAVE, from_lowest % PER_OCTAVE)
}

/// The bucket index stored at `slot` of `page`.
pub(super) fn index_at(page: usize, slot: usize) -> i32 {
    (page * PER_OCTAVE + slot) as i32 + 1 + LOWEST_OCTAVE * PER_OCTAVE as i32
}

/// The upper bound of a bucket of any schema.
pub(super) fn upper_bound(index: i32, schema: i8) -> f64 {
    (f64::from(index) * f64::from(-i32::from(schema)).exp2()).exp2()
}

/// The bucket index after lowering the schema by one: two neighbours become one.
pub(super) fn halved(index: i32) -> i32 {
    (index + 1).div_euclid(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_close_their_octave() {
        for exponent in [-127, -10, -1, 0, 1, 10, 127] {
            let index = index_of(f64::from(exponent).exp2());
            assert_eq!(index, exponent * PER_OCTAVE as i32);
            assert_eq!(upper_bound(index, 5), f64::from(exponent).exp2());
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(exponent in -120.0..120.0_f64) {
            let value = exponent.exp2();
            let index = index_of(value);
            prop_assert!(value <= upper_bound(index, 5) * (1.0 + 1e-12));
            prop_assert!(value > upper_bound(index - 1, 5) * (1.0 - 1e-12));
        }

        #[test]
        fn places_and_indices_are_one_to_one(page in 0..OCTAVES, slot in 0..PER_OCTAVE) {
            prop_assert_eq!(place_of(index_at(page, slot)), (page, slot));
        }

        #[test]
        fn a_halved_bucket_contains_its_parts(index in -4000..4000_i32) {
            let parent = halved(index);
            prop_assert!(upper_bound(index, 5) <= upper_bound(parent, 4) * (1.0 + 1e-12));
            prop_assert!(upper_bound(index - 1, 5) >= upper_bound(parent - 1, 4) * (1.0 - 1e-12));
        }
    }
}
