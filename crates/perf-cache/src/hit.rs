//! What a read gives back.

use crate::clock::tick;
use crate::engine::Held;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A value from the cache. It is borrowed from the entry itself: nothing is cloned, and the value stays alive as long as
/// the hit does, even when the entry is invalidated meanwhile.
///
/// ```
/// # use perf_cache::{Cache, CacheSpace, Freshness};
/// let space = CacheSpace::in_process("shop");
/// let users: Cache<u64, String> = space.cache("users").build().unwrap();
/// users.insert(7, String::from("Ada"));
///
/// let user = users.get(&7).unwrap();
/// assert_eq!(user.len(), 3);
/// assert_eq!(user.freshness(), &Freshness::Fresh);
/// ```
pub struct Hit<K, V> {
    /// Without a note it is fresh.
    held: Held<K, V>,
}

static FRESH: Freshness = Freshness::Fresh;

/// How good the value of a [`Hit`] is. A stale value is never silent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Within its life, or just loaded.
    Fresh,
    /// Past its life, within `stale_while_revalidate`; a refresh is running or about to.
    Refreshing,
    /// Past its life; the load goes on, but was not done within the soft timeout.
    StaleTimeout,
    /// Past its life; the load failed with this message.
    StaleError(Arc<str>),
    /// Loaded for this caller, but an invalidation overtook the load: the value is not stored.
    Superseded,
}

impl Freshness {
    /// Whether the value is past its life.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Refreshing | Self::StaleTimeout | Self::StaleError(_))
    }

    /// What a hit keeps of it. Only a failure's message is new memory: a stale hit allocates no more than a fresh one.
    fn noted(self) -> Option<Arc<Self>> {
        static REFRESHING: LazyLock<Arc<Freshness>> = LazyLock::new(|| Arc::new(Freshness::Refreshing));
        static TIMEOUT: LazyLock<Arc<Freshness>> = LazyLock::new(|| Arc::new(Freshness::StaleTimeout));
        static SUPERSEDED: LazyLock<Arc<Freshness>> = LazyLock::new(|| Arc::new(Freshness::Superseded));
        match self {
            Self::Fresh => None,
            Self::Refreshing => Some(Arc::clone(&REFRESHING)),
            Self::StaleTimeout => Some(Arc::clone(&TIMEOUT)),
            Self::Superseded => Some(Arc::clone(&SUPERSEDED)),
            Self::StaleError(_) => Some(Arc::new(self)),
        }
    }
}

/// What the cache knows about a key: [`Cache::lookup`](crate::Cache::lookup).
#[derive(Debug)]
pub enum Lookup<K, V> {
    /// It holds the value.
    Found(Hit<K, V>),
    /// It remembers that there is nothing.
    Nothing,
    /// It knows nothing.
    Unknown,
}

impl<K, V> Lookup<K, V> {
    /// The value, if there is one.
    #[must_use]
    pub fn hit(self) -> Option<Hit<K, V>> {
        match self {
            Self::Found(hit) => Some(hit),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

impl<K, V> Hit<K, V> {
    /// `None` when the entry remembers that there is nothing.
    pub(crate) fn new(held: Held<K, V>, freshness: Freshness) -> Option<Self> {
        let hit = Self::fresh(held)?;
        Some(match freshness.noted() {
            Some(note) => Self { held: hit.held.with_note(note) },
            None => hit,
        })
    }

    /// Of an entry that is known to have a value.
    #[inline(always)]
    pub(crate) const fn of_value(held: Held<K, V>) -> Self {
        Self { held }
    }

    /// `None` when the entry remembers that there is nothing.
    #[inline]
    pub(crate) fn fresh(held: Held<K, V>) -> Option<Self> {
        if held.value.is_some() { Some(Self { held }) } else { None }
    }

    /// How good the value is.
    #[must_use]
    pub fn freshness(&self) -> &Freshness {
        self.held.note().unwrap_or(&FRESH)
    }

    /// Time since the value was loaded or confirmed.
    #[must_use]
    pub fn age(&self) -> Duration {
        tick().since(self.held.stored_at())
    }

    /// The key as the cache holds it.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.held.key
    }

    /// The entity tag that the loader gave, if it did.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.held.etag.as_deref()
    }
}

impl<K, V> Deref for Hit<K, V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        match &self.held.value {
            Some(value) => value,
            // Entries without a value never become a hit, and the value of an entry never changes.
            None => unreachable!("a hit is never made of an entry without a value"),
        }
    }
}

impl<K, V> AsRef<V> for Hit<K, V> {
    fn as_ref(&self) -> &V {
        self
    }
}

impl<K, V> Clone for Hit<K, V> {
    fn clone(&self) -> Self {
        Self { held: self.held.clone() }
    }
}

impl<K, V: fmt::Debug> fmt::Debug for Hit<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hit").field("value", &**self).field("freshness", self.freshness()).finish()
    }
}

impl<K, V: fmt::Display> fmt::Display for Hit<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<K, V: PartialEq> PartialEq<V> for Hit<K, V> {
    fn eq(&self, other: &V) -> bool {
        **self == *other
    }
}
