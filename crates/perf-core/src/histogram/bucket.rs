//! Which bucket a value belongs to: Prometheus' and OpenTelemetry's base-2 exponential layout.
//!
//! Bucket *i* of schema *s* covers `(γ^(i−1), γ^i]` with `γ = 2^(2^−s)`. Each power of two is an octave of `2^s` buckets,
//! so the exponent bits of the value give the octave, and a search among the octave's bounds gives the bucket: exact, and
//! without a logarithm.

/// The schema of live histograms: 32 buckets per octave, relative error at most 1.083 %.
pub(super) const SCHEMA: u8 = 5;

/// Buckets in an octave of the live schema.
pub(super) const PER_OCTAVE: usize = 1 << SCHEMA;

/// Octaves run from `(2^-128, 2^-127]` to `(2^127, 2^128]`; what is at or below `2^-128` counts as zero, as in Prometheus.
pub(super) const LOWEST_OCTAVE: i32 = -128;

/// How many octaves there are.
pub(super) const OCTAVES: usize = GROUPS * PER_GROUP;

/// Octaves are kept in groups, so that an empty histogram is small: latencies usually touch two groups.
pub(super) const GROUPS: usize = 16;

/// Octaves in a group.
pub(super) const PER_GROUP: usize = 16;

/// Values at or below this are counted in the zero bucket.
pub(super) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Bits of a number's fraction.
const FRACTION_BITS: u32 = 52;

/// The fraction bits of `2^(k/32)` for k in 0..32, correctly rounded, and an end no fraction reaches.
const BOUNDS: [u64; PER_OCTAVE + 1] = [
    0x0000_0000_0000_0000,
    0x0000_59B0_D315_8574,
    0x0000_B558_6CF9_890F,
    0x0001_1301_D012_5B51,
    0x0001_72B8_3C7D_517B,
    0x0001_D487_3168_B9AA,
    0x0002_387A_6E75_6238,
    0x0002_9E9D_F51F_DEE1,
    0x0003_06FE_0A31_B715,
    0x0003_71A7_373A_A9CB,
    0x0003_DEA6_4C12_3422,
    0x0004_4E08_6061_892D,
    0x0004_BFDA_D536_2A27,
    0x0005_342B_569D_4F82,
    0x0005_AB07_DD48_5429,
    0x0006_247E_B03A_5585,
    0x0006_A09E_667F_3BCD,
    0x0007_1F75_E8EC_5F74,
    0x0007_A114_73EB_0187,
    0x0008_2589_994C_CE13,
    0x0008_ACE5_422A_A0DB,
    0x0009_3737_B0CD_C5E5,
    0x0009_C491_82A3_F090,
    0x000A_5503_B23E_255D,
    0x000A_E89F_995A_D3AD,
    0x000B_7F76_F2FB_5E47,
    0x000C_199B_DD85_529C,
    0x000C_B720_DCEF_9069,
    0x000D_5818_DCFB_A487,
    0x000D_FC97_337B_9B5F,
    0x000E_A4AF_A2A4_90DA,
    0x000F_5076_5B6E_4540,
    u64::MAX,
];

/// The upper bits of a fraction choose one of 64 equal slices. A slice is narrower than the narrowest bucket, so at most
/// one bound lies within it, and one comparison settles the bucket.
const SLICE_BITS: u32 = 6;

/// How many bounds lie below the start of each slice.
const BELOW_SLICE: [u8; 1 << SLICE_BITS] = {
    let mut below = [0; 1 << SLICE_BITS];
    let mut slice = 0;
    while slice < below.len() {
        let start = (slice as u64) << (FRACTION_BITS - SLICE_BITS);
        let mut bound = 0;
        while BOUNDS[bound] < start {
            bound += 1;
        }
        below[slice] = bound as u8;
        slice += 1;
    }
    below
};

/// The bucket index of a finite value above [`ZERO_THRESHOLD`]; values beyond the top octave count in the top bucket.
#[inline]
pub(super) fn index_of(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - 1023;
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let below = usize::from(BELOW_SLICE[(fraction >> (FRACTION_BITS - SLICE_BITS)) as usize]);
    // The bounds of the octave that are below the value; a power of two has none and closes the octave before.
    let within = below as i32 + i32::from(BOUNDS[below] < fraction);
    let index = exponent * PER_OCTAVE as i32 + within;
    index.min((LOWEST_OCTAVE + OCTAVES as i32) * PER_OCTAVE as i32)
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

    #[test]
    fn the_bounds_of_an_octave_are_the_roots_of_two() {
        for (k, bound) in BOUNDS[..PER_OCTAVE].iter().enumerate() {
            let root = (k as f64 / PER_OCTAVE as f64).exp2();
            let written = f64::from_bits(bound | 1.0_f64.to_bits());
            assert!((root - written).abs() <= f64::EPSILON, "{k}");
            // Each bound belongs to the bucket it closes, the next number to the one above.
            assert_eq!(index_of(written), k as i32);
            assert_eq!(index_of(f64::from_bits(written.to_bits() + 1)), k as i32 + 1);
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
