//! Values that are used but never shown.

use std::fmt;

/// A value that is never printed, logged or serialised: `Debug` and `Display` show `***`.
///
/// With feature `serde` a secret can be *read* from configuration. It deliberately cannot be written.
///
/// ```
/// use perf_core::Secret;
///
/// let token = Secret::new("hunter2");
/// assert_eq!(format!("{token} {token:?}"), "*** Secret(***)");
/// assert_eq!(*token.expose(), "hunter2");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Takes the value in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, giving up the protection.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T: AsRef<[u8]>> Secret<T> {
    /// Compares in time that depends on the length of `other` only, so that a guess learns nothing from the clock.
    pub fn matches(&self, other: &[u8]) -> bool {
        let own = self.0.as_ref();
        let mut difference = u8::from(own.len() != other.len());
        for (index, byte) in other.iter().enumerate() {
            difference |= byte ^ own.get(index).copied().unwrap_or(!byte);
        }
        std::hint::black_box(difference) == 0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(feature = "serde")]
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_value_matches() {
        let token = Secret::new(String::from("abc"));
        assert!(token.matches(b"abc"));
        for guess in [&b""[..], b"ab", b"abd", b"abcd", b"ABC"] {
            assert!(!token.matches(guess), "{guess:?}");
        }
    }
}
