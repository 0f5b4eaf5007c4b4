//! Engines of the first tier: where entries are kept and which of them are evicted. Freshness is not their business.

mod moka;

use crate::entry::Entry;
use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

pub(crate) use moka::Moka;

/// An entry taken out of an engine for reading.
#[derive(Debug)]
pub(crate) enum Held<K, V> {
    Owned(Arc<Entry<K, V>>),
}

impl<K, V> Held<K, V> {
    pub(crate) fn to_arc(&self) -> Arc<Entry<K, V>> {
        match self {
            Self::Owned(entry) => Arc::clone(entry),
        }
    }
}

impl<K, V> Deref for Held<K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        match self {
            Self::Owned(entry) => entry,
        }
    }
}

impl<K, V> Clone for Held<K, V> {
    fn clone(&self) -> Self {
        Self::Owned(self.to_arc())
    }
}

/// What a cache asks of its engine. Sealed: it is not part of the public interface.
pub(crate) trait Engine<K, V>: Send + Sync {
    /// The entry of this key, if the engine holds one.
    fn get<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Puts the entry in the place of an older one with the same key.
    fn insert(&self, entry: Arc<Entry<K, V>>);

    /// Takes the entry out.
    fn remove<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Drops everything.
    fn clear(&self);

    /// Entries held; may lag a moment behind.
    fn len(&self) -> u64;

    /// Their weight; may lag a moment behind.
    fn weight(&self) -> u64;

    /// Entries evicted for room so far.
    fn evicted(&self) -> u64;
}
