//! Loaders: what fills a cache, in the three forms callers may write them.

use super::LoadFuture;
use crate::engine::{Held, Priority};
use crate::error::Erased;
use crate::tag::{Tag, Tags};
use std::fmt;
use std::time::Duration;

/// What a loader found, and how it is to be kept.
///
/// ```
/// use perf_cache::{Loaded, tag};
/// use std::time::Duration;
///
/// let row = Loaded::new("Ada").tag(tag!("org", 7)).fresh(Duration::from_secs(5)).etag("v3");
/// let gone: Loaded<&str> = Loaded::nothing();
/// # drop((row, gone));
/// ```
#[derive(Debug)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) found: Found<V>,
    pub(crate) tags: Tags,
    pub(crate) fresh: Option<Duration>,
    pub(crate) etag: Option<Box<str>>,
    pub(crate) priority: Priority,
    pub(crate) store: bool,
}

/// A value alone: with the tags and the life of the call.
impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

#[derive(Debug)]
pub(crate) enum Found<V> {
    Value(V),
    Nothing,
    NotModified,
}

impl<V> Loaded<V> {
    const fn of(found: Found<V>) -> Self {
        Self { found, tags: Tags::NONE, fresh: None, etag: None, priority: Priority::Normal, store: true }
    }

    /// A value.
    pub const fn new(value: V) -> Self {
        Self::of(Found::Value(value))
    }

    /// The source has nothing under this key, which is remembered for the negative life.
    pub const fn nothing() -> Self {
        Self::of(Found::Nothing)
    }

    /// The value the cache still holds ([`LoadContext::stale`]) is the right one: it keeps its bytes and gets a new life.
    /// Without such a value this is a failed load.
    pub const fn not_modified() -> Self {
        Self::of(Found::NotModified)
    }

    /// Adds a tag to those the call gave.
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Adds tags to those the call gave.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.tags.extend(tags);
        self
    }

    /// The life of this value, or of the knowledge that there is none, instead of the configured one.
    pub const fn fresh(mut self, life: Duration) -> Self {
        self.fresh = Some(life);
        self
    }

    /// An entity tag, offered to the next load of this key.
    pub fn etag(mut self, etag: impl Into<Box<str>>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// How early the value goes when there is no room; [`Priority::Normal`] when nothing is said, and where the cache's
    /// [`priorities`](crate::CacheConfig::priorities) are off.
    ///
    /// ```
    /// use perf_cache::{CacheSpace, Entries, Loaded, Priority};
    ///
    /// let cache = CacheSpace::in_process("app").cache("rates").capacity(Entries(4)).build()?;
    /// cache.insert_with(0, Loaded::new("kept").priority(Priority::High));
    /// (1..100).for_each(|key| cache.insert(key, "one of many"));
    /// assert!(cache.get(&0).is_some());
    /// # Ok::<(), perf_core::InvalidConfig>(())
    /// ```
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Returns the value to those who wait and keeps nothing.
    pub const fn no_store(mut self) -> Self {
        self.store = false;
        self
    }
}

/// What an adaptive loader is told about the load.
pub struct LoadContext<K, V> {
    pub(crate) key: K,
    pub(crate) base: Option<Held<K, V>>,
}

impl<K, V> LoadContext<K, V> {
    /// The key to load.
    #[must_use]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// The value past its life that the cache still holds. One that was invalidated is not offered, unless
    /// [`allow_invalidated_base`](crate::CacheConfig::allow_invalidated_base) says so.
    #[must_use]
    pub fn stale(&self) -> Option<&V> {
        self.base.as_ref()?.value.as_ref()
    }

    /// The entity tag of that value.
    #[must_use]
    pub fn stale_etag(&self) -> Option<&str> {
        self.base.as_ref()?.etag.as_deref()
    }
}

impl<K: fmt::Debug, V> fmt::Debug for LoadContext<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext").field("key", &self.key).field("stale", &self.base.is_some()).finish()
    }
}

/// A loader as a call site wrote it. Sealed: the methods of [`Cache`](crate::Cache) make the three forms.
pub trait Loader<K, V>: Send + 'static {
    /// The loader's own error.
    type Error: Send + Sync + 'static;

    #[doc(hidden)]
    fn start(self, context: LoadContext<K, V>) -> LoadFuture<V>;
}

/// `|| async { Ok(value) }`.
#[derive(Debug)]
pub struct Plain<F>(pub(crate) F);

/// `|| async { Ok(Some(value)) }`, where `None` is remembered.
#[derive(Debug)]
pub struct Optional<F>(pub(crate) F);

/// `|context| async { Ok(Loaded::new(value).tag(tag)) }`.
#[derive(Debug)]
pub struct Adaptive<F>(pub(crate) F);

impl<K, V, F, Fut, E> Loader<K, V> for Plain<F>
where
    K: Send + 'static,
    V: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: fmt::Display + Send + Sync + 'static,
{
    type Error = E;

    fn start(self, _: LoadContext<K, V>) -> LoadFuture<V> {
        Box::pin(async move { (self.0)().await.map(Loaded::new).map_err(Erased::new) })
    }
}

impl<K, V, F, Fut, E> Loader<K, V> for Optional<F>
where
    K: Send + 'static,
    V: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
    E: fmt::Display + Send + Sync + 'static,
{
    type Error = E;

    fn start(self, _: LoadContext<K, V>) -> LoadFuture<V> {
        Box::pin(async move {
            let found = (self.0)().await.map_err(Erased::new)?;
            Ok(found.map_or_else(Loaded::nothing, Loaded::new))
        })
    }
}

impl<K, V, F, Fut, E> Loader<K, V> for Adaptive<F>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext<K, V>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    E: fmt::Display + Send + Sync + 'static,
{
    type Error = E;

    fn start(self, context: LoadContext<K, V>) -> LoadFuture<V> {
        Box::pin(async move { (self.0)(context).await.map_err(Erased::new) })
    }
}
