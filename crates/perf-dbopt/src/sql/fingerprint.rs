use super::Dialect;
use super::canon::{Emit, walk};
use super::words::{head, load};
use std::fmt;
use std::ops::Range;

/// The version of the algorithm behind [`fingerprint`]. Fingerprints of different versions must not be compared.
pub const FINGERPRINT_VERSION: u32 = 1;

/// What is the same for all statements that differ only in their values, white space, comments and letter case.
///
/// Version 1 of the algorithm: the normal form of [`normalize`](crate::normalize()), piece by piece, each piece as its length and kind
/// followed by its bytes in groups of eight, each multiplied into the state (64 × 64 → 128 bits, folded). It is the same
/// on every machine and in every release with the same [`FINGERPRINT_VERSION`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The fingerprint of a statement. Reads it once and allocates nothing.
///
/// ```
/// use perf_dbopt::{Dialect, fingerprint};
///
/// let a = fingerprint("SELECT * FROM orders WHERE id IN (1, 2, 3)", Dialect::Sqlite);
/// let b = fingerprint("select *\nfrom orders where id in (?) -- one", Dialect::Sqlite);
/// assert_eq!(a, b);
/// assert_ne!(a, fingerprint("select * from orders where id = ?", Dialect::Sqlite));
/// ```
#[must_use]
pub fn fingerprint(sql: &str, dialect: Dialect) -> Fingerprint {
    Fingerprint(walk(sql, dialect, Print(SEED)).0)
}

/// The state of the hash.
struct Print(u64);

impl<'a> Emit<'a> for Print {
    #[inline(always)]
    fn word(&mut self, sql: &'a [u8], word: Range<usize>, head: u64) {
        // The first group also carries the length, so most words cost one multiplication.
        let len = word.end - word.start;
        self.0 = mix(self.0.rotate_left(23) ^ len as u64, head);
        if len > 8 {
            self.0 = rest(self.0, sql, word.start + 8, word.end);
        }
    }

    #[inline(always)]
    fn exact(&mut self, bytes: &'a [u8]) {
        self.0 = exact(self.0, bytes);
    }

    #[inline(always)]
    fn value(&mut self) {
        self.0 = mix(self.0, VALUE);
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
const VALUE: u64 = 0x5bd1_e995_0000_0001;
const EXACT: u64 = 1 << 63;

#[inline]
fn mix(state: u64, value: u64) -> u64 {
    let product = u128::from(state ^ value).wrapping_mul(u128::from(FACTOR));
    (product as u64) ^ ((product >> 64) as u64)
}

/// The groups of a longer word after the first.
#[inline(never)]
fn rest(mut state: u64, sql: &[u8], mut at: usize, end: usize) -> u64 {
    while at < end {
        state = mix(state, head(sql, at, end - at));
        at += 8;
    }
    state
}

#[inline]
fn exact(state: u64, bytes: &[u8]) -> u64 {
    let state = state.rotate_left(23) ^ EXACT ^ bytes.len() as u64;
    // Punctuation, nearly always.
    if let [byte] = bytes {
        return mix(state, u64::from(*byte));
    }
    groups(state, bytes)
}

#[inline(never)]
fn groups(mut state: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        state = mix(state, load(bytes, at, bytes.len() - at));
        at += 8;
    }
    state
}
