use std::fmt;
use std::str::FromStr;

const DAY: u16 = 24 * 60;

/// A part of the day, in UTC, in which a database may be changed: `02:00-05:00`. It may span midnight: `22:00-04:30`.
///
/// ```
/// use perf_dbopt::Window;
///
/// let night: Window = "22:00-04:30".parse()?;
/// assert!(night.contains(23 * 60) && night.contains(4 * 60 + 29) && !night.contains(4 * 60 + 30));
/// assert_eq!(night.to_string(), "22:00-04:30");
/// # Ok::<_, perf_dbopt::InvalidWindow>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    from: u16,
    to: u16,
}

/// A text that is no [`Window`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part of the day, expected two different times like 02:00-05:00")]
pub struct InvalidWindow(String);

impl Window {
    /// Whether a minute of the day, counted from midnight UTC, lies in it. Its end does not.
    #[must_use]
    pub const fn contains(self, minute: u16) -> bool {
        let minute = minute % DAY;
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            self.from <= minute || minute < self.to
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
    let (hour, minute) = (two(hour)?, two(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (from, to) = text.split_once('-')?;
            let window = Self { from: minute(from)?, to: minute(to)? };
            (window.from != window.to).then_some(window)
        };
        read().ok_or_else(|| InvalidWindow(text.to_owned()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_part_of_the_day_is_refused() {
        for text in
            ["", "02:00", "2:00-05:00", "24:00-05:00", "02:60-05:00", "02:00-02:00", "a-b", "-1:00-02:00"]
        {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_and_its_opposite_share_the_day() {
        let (night, day): (Window, Window) = ("22:00-04:30".parse().unwrap(), "04:30-22:00".parse().unwrap());
        assert!((0..DAY).all(|minute| night.contains(minute) != day.contains(minute)));
    }
}
