//! Why an entry is gone.

use std::fmt;

/// Why a cache let an entry go: [`CacheBuilder::on_removal`](crate::CacheBuilder::on_removal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Other entries needed the room more.
    Room,
    /// It was of no use to anyone any more, not even for failures.
    Expired,
    /// Its key got a newer value.
    Replaced,
    /// Its key was invalidated, or the cache was cleared.
    Invalidated,
}

impl Cause {
    /// The word that the numbers use for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Invalidated => "invalidated",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
