//! Tags: what an entry depends on, so that it can be invalidated without knowing its key.

use std::fmt::{self, Write};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keeps hashes of tags apart from those of keys.
const SEED: u64 = 0x7461_6773;

/// The name of a dependency, such as a table or a customer, kept as a 64-bit hash that is the same in every process.
///
/// Two names that hash alike would be invalidated together, which costs a load and is never wrong.
///
/// ```
/// use perf_cache::{Tag, tag};
///
/// assert_eq!(tag!("org", 7), Tag::new("org:7"));
/// assert_ne!(tag!("org", 7), tag!("org", 8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub(crate) u64);

impl Tag {
    /// The tag of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), SEED))
    }

    /// The tag whose name these arguments write, made without an allocation up to 128 bytes. See [`tag!`](crate::tag).
    #[must_use]
    pub fn from_fmt(name: fmt::Arguments<'_>) -> Self {
        if let Some(name) = name.as_str() {
            return Self::new(name);
        }
        let mut buffer = Buffer { bytes: [0; 128], used: 0 };
        match buffer.write_fmt(name) {
            Ok(()) => Self(xxh3_64_with_seed(&buffer.bytes[..buffer.used], SEED)),
            Err(fmt::Error) => Self::new(&name.to_string()),
        }
    }

    /// The stable hash.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.0
    }
}

impl From<&str> for Tag {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:016x})", self.0)
    }
}

/// The [`Tag`](crate::Tag) `name` or `name:value`; values are written with `Display`.
///
/// ```
/// use perf_cache::{Tag, tag};
///
/// assert_eq!(tag!("orders"), Tag::new("orders"));
/// assert_eq!(tag!("order", 7, "lines"), Tag::new("order:7:lines"));
/// ```
#[macro_export]
macro_rules! tag {
    // The arguments end with the `let`: held across an await they would keep a future from being sent between threads.
    ($name:expr) => {{
        let tag = $crate::Tag::from_fmt(::core::format_args!("{}", $name));
        tag
    }};
    ($name:expr, $a:expr) => {{
        let tag = $crate::Tag::from_fmt(::core::format_args!("{}:{}", $name, $a));
        tag
    }};
    ($name:expr, $a:expr, $b:expr) => {{
        let tag = $crate::Tag::from_fmt(::core::format_args!("{}:{}:{}", $name, $a, $b));
        tag
    }};
}

struct Buffer {
    bytes: [u8; 128],
    used: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// A few tags without an allocation, or many with one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    few: [u64; Self::FEW],
    used: u8,
    more: Vec<u64>,
}

impl Tags {
    const FEW: usize = 4;
    pub(crate) const NONE: Self = Self { few: [0; Self::FEW], used: 0, more: Vec::new() };

    pub(crate) fn push(&mut self, tag: Tag) {
        if self.iter().any(|held| held == tag.0) {
            return;
        }
        match self.few.get_mut(usize::from(self.used)) {
            Some(place) => {
                *place = tag.0;
                self.used += 1;
            }
            None => self.more.push(tag.0),
        }
    }

    pub(crate) fn extend(&mut self, tags: impl IntoIterator<Item = Tag>) {
        tags.into_iter().for_each(|tag| self.push(tag));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.few.iter().take(usize::from(self.used)).chain(&self.more).copied()
    }

    pub(crate) fn to_boxed(&self) -> Box<[u64]> {
        self.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_hashes_alike_however_it_was_written() {
        let long = "x".repeat(300);
        assert_eq!(tag!("k", long), Tag::new(&format!("k:{long}")));
        assert_eq!(tag!("a", 1, 'b'), Tag::from("a:1:b"));
    }

    #[test]
    fn more_tags_than_fit_inline_are_all_kept_once() {
        let mut tags = Tags::default();
        tags.extend((0..9).chain(0..9).map(|n| tag!("t", n)));
        assert_eq!(tags.to_boxed().len(), 9);
    }
}
