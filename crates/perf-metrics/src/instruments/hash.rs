//! A quick hash of label values. It is never an identity: values are compared as well.

use std::hash::{BuildHasher, BuildHasherDefault, RandomState};

/// A map whose keys are hashes already.
pub(super) type HashMap<V> = std::collections::HashMap<u64, V, BuildHasherDefault<Itself>>;

/// Passes a hash on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Itself(u64);

impl std::hash::Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Seeded at random, so that nobody outside can make values collide on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher(u64);

impl Default for Hasher {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }
}

/// Odd, with as many ones as zeros: the fractional part of the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher {
    pub(crate) fn hash(&self, values: &[&str]) -> u64 {
        values.iter().fold(self.0, |state, value| text(state, value.as_bytes()))
    }
}

fn text(mut state: u64, bytes: &[u8]) -> u64 {
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    state = fold(state ^ bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = fold(state ^ word);
    }
    let tail = words.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    fold(state ^ tail)
}

/// Multiplies to 128 bits and folds the halves, so that every bit reaches every other.
fn fold(state: u64) -> u64 {
    let product = u128::from(state ^ MIX.rotate_left(17)) * u128::from(MIX);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_hundred_thousand_routes_do_not_collide() {
        let hasher = Hasher::default();
        let hashes: HashSet<u64> =
            (0..100_000).map(|n| hasher.hash(&[&format!("/orders/{n}"), "GET"])).collect();
        assert!(hashes.len() >= 99_999);
        assert_ne!(hasher.hash(&["ab", "c"]), hasher.hash(&["a", "bc"]));
    }
}
