//! Invalidations that belong to a transaction.

use crate::cache::Cache;
use crate::space::CacheSpace;
use crate::{Invalidating, Key, Tag};
use std::fmt;

/// Invalidations collected while a transaction runs and published after it has committed. Dropped without
/// [`Collector::publish`], as after a rollback, it does nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perf_cache::{Cache, CacheSpace, Loaded, tag};
/// # let space = CacheSpace::in_process("shop");
/// # let users: Cache<u64, String> = space.cache("users").build()?;
/// # users.insert(7, String::from("Ada"));
/// let invalidations = space.collector().tag(tag!("org", 3)).key(&users, 7);
/// // … the transaction commits …
/// invalidations.publish().await;
/// assert!(users.get(&7).is_none());
/// # Ok(()) }
/// ```
#[must_use = "nothing is invalidated until `publish`"]
pub struct Collector {
    space: CacheSpace,
    tags: Vec<Tag>,
    keys: Vec<Box<dyn FnOnce() + Send>>,
}

impl Collector {
    pub(crate) const fn new(space: CacheSpace) -> Self {
        Self { space, tags: Vec::new(), keys: Vec::new() }
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Adds tags.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.tags.extend(tags);
        self
    }

    /// Adds a key of a cache.
    pub fn key<K: Key, V: Send + Sync + 'static>(mut self, cache: &Cache<K, V>, key: K) -> Self {
        let cache = cache.clone();
        self.keys.push(Box::new(move || cache.invalidate(&key).detach()));
        self
    }

    /// Invalidates everything that was collected. The local effect is there when this returns.
    pub fn publish(self) -> Invalidating {
        self.keys.into_iter().for_each(|invalidate| invalidate());
        self.space.invalidate_tags(self.tags)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("tags", &self.tags).field("keys", &self.keys.len()).finish()
    }
}
