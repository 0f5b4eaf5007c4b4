//! Pins.

/// How an entry ranks against others when there is no room.
///
/// It belongs to the entry: whoever writes the key again says it again, while a loader that answers `not_modified` leaves
/// it as it is. It is not kept in the second tier, so what comes from there is [`Priority::Normal`]. In a cache whose
/// [`priorities`](crate::CacheConfig::priorities) are off, as the engine `moka` asks for, all entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// It goes before all others, however often it was asked for: it only has room that nobody else wants. In a cache that
    /// is full it takes the place of another low one, or is not kept at all.
    Low,
    /// The policy decides.
    #[default]
    Normal,
    /// It goes only when nothing else is left. At most half of the capacity (of each shard of it) can be pinned so; beyond
    /// that, the high entry that was not used for longest becomes a normal one.
    High,
}
