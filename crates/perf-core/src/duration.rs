//! Durations as people write them: `"250ms"`, `"1.5s"`, `"10m"`, `"2h"`.
//!
//! With feature `serde`, `#[serde(with = "perf_core::duration")]` reads and writes a [`Duration`] field in this form, and
//! `#[serde(with = "perf_core::duration::option")]` an optional one.
//!
//! ```
//! use perf_core::duration;
//! use std::time::Duration;
//!
//! assert_eq!(duration::parse("250ms").unwrap(), Duration::from_millis(250));
//! assert_eq!(duration::format(Duration::from_secs(90)), "90s");
//! assert_eq!(duration::parse("ten").unwrap_err().to_string(), "`ten` is not a duration: write a number and a unit (ns, us, ms, s, m, h, d), such as 250ms");
//! ```

use std::time::Duration;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and a unit (ns, us, ms, s, m, h, d), such as 250ms")]
pub struct ParseDurationError(String);

/// The units, largest first, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units [`format`] uses: minutes and above read worse than seconds in a log line.
const WRITTEN: [(&str, u128); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Reads a non-negative decimal number followed by a unit; a bare `0` needs none.
///
/// # Errors
/// [`ParseDurationError`] for anything else, and for values beyond [`Duration::MAX`].
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let refused = || ParseDurationError(text.to_owned());
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let split = trimmed.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').ok_or_else(refused)?;
    let (number, unit) = trimmed.split_at(split);
    let unit = if unit == "µs" { "us" } else { unit };
    let &(_, nanos_per_unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    let nanos = decimal_times(number.trim_end(), nanos_per_unit).ok_or_else(refused)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| refused())?;
    let below = u32::try_from(nanos % 1_000_000_000).map_err(|_| refused())?;
    Ok(Duration::new(seconds, below))
}

/// Writes a duration exactly, in the largest unit that leaves at most three decimals.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (name, unit) in WRITTEN {
        let thousandth = unit / 1000;
        if nanos >= unit && (thousandth == 0 || nanos.is_multiple_of(thousandth)) {
            let (whole, rest) = (nanos / unit, nanos % unit);
            if rest == 0 {
                return format!("{whole}{name}");
            }
            let decimals = format!("{:03}", rest / thousandth);
            return format!("{whole}.{}{name}", decimals.trim_end_matches('0'));
        }
    }
    format!("{nanos}ns")
}

/// `number × factor` for a decimal number, without floating point; digits below one are dropped.
fn decimal_times(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    let mut total = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    let mut place = factor;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some(total)
}

/// Writes the duration as text.
///
/// # Errors
/// Those of the serializer.
#[cfg(feature = "serde")]
pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads a duration from text.
///
/// # Errors
/// A text that is not a duration, or those of the deserializer.
#[cfg(feature = "serde")]
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for `Option<Duration>`.
#[cfg(feature = "serde")]
pub mod option {
    use super::{Duration, parse};

    /// Writes the duration as text, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: serde::Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration from text, when there is one.
    ///
    /// # Errors
    /// A text that is not a duration, or those of the deserializer.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = <Option<String> as serde::Deserialize>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_spellings_are_read() {
        for (text, nanos) in [
            ("1.5s", 1_500_000_000),
            ("10 ms", 10_000_000),
            ("2h", 7_200_000_000_000),
            ("0", 0),
            ("3µs", 3_000),
        ] {
            assert_eq!(parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in
            ["", "ms", "5", "-1s", "1,5s", "1.s", ".5s", "1e3s", "5 years", "99999999999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_exactly(seconds in 0..u64::MAX, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }
}
