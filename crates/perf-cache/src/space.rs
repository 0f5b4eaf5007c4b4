//! A space: the caches of one application, and the tags they share.

use crate::builder::CacheBuilder;
use crate::collector::Collector;
use crate::fence::Fences;
use crate::{Invalidating, Key, Tag};
use perf_core::{InvalidConfig, Name};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The caches of one application. Tags are shared by all caches of a space. Cheap to clone; clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_cache::{Cache, CacheSpace, Loaded, tag};
///
/// let space = CacheSpace::builder("shop").build().await?;
/// let users: Cache<u64, String> = space.cache("users").build()?;
/// users.insert_with(7, Loaded::new(String::from("Ada")).tag(tag!("org", 3)));
///
/// space.invalidate_tags([tag!("org", 3)]).await;
/// assert!(users.get(&7).is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CacheSpace(Arc<SpaceInner>);

/// What the caches of a space share.
pub(crate) struct SpaceInner {
    name: Name,
    pub(crate) fences: Fences,
    names: Mutex<BTreeSet<String>>,
}

impl CacheSpace {
    /// A builder for the space of this name.
    pub fn builder(name: impl Into<Name>) -> CacheSpaceBuilder {
        CacheSpaceBuilder { name: name.into(), max_fences: Fences::LIMIT }
    }

    /// A space within this process, with the defaults.
    pub fn in_process(name: impl Into<Name>) -> Self {
        Self::builder(name).assemble()
    }

    /// A builder for the cache of this name within the space.
    pub fn cache<K: Key, V: Send + Sync + 'static>(&self, name: impl Into<String>) -> CacheBuilder<K, V> {
        CacheBuilder::new(self.clone(), name.into())
    }

    /// Invalidates every entry, in every cache of the space, whose latest write has one of these tags; loads under way
    /// whose results turn out to have one are not stored. All of them at one moment.
    ///
    /// The cost does not depend on how many entries have the tags. The local effect is there when this returns.
    pub fn invalidate_tags(&self, tags: impl IntoIterator<Item = Tag>) -> Invalidating {
        self.0.fences.tags(tags.into_iter().map(Tag::hash));
        Invalidating::local()
    }

    /// Collects invalidations to be published together, after a transaction commits.
    pub fn collector(&self) -> Collector {
        Collector::new(self.clone())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Tags whose invalidation is remembered one by one.
    #[must_use]
    pub fn fences(&self) -> usize {
        self.0.fences.len()
    }

    pub(crate) fn inner(&self) -> Arc<SpaceInner> {
        Arc::clone(&self.0)
    }

    /// Takes a cache name for good.
    pub(crate) fn claim(&self, name: &str) -> Result<(), InvalidConfig> {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(InvalidConfig::new("name", name, "a name that no other cache of the space has"))
        }
    }
}

impl fmt::Debug for CacheSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheSpace").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Builds a [`CacheSpace`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct CacheSpaceBuilder {
    name: Name,
    max_fences: usize,
}

impl CacheSpaceBuilder {
    /// Tags whose invalidation is remembered one by one, 65,536 by default. When there are more, the older half is
    /// forgotten, and whatever was loaded before those is loaded again.
    pub const fn max_fences(mut self, fences: usize) -> Self {
        self.max_fences = fences;
        self
    }

    /// The space.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range.
    pub async fn build(self) -> Result<CacheSpace, InvalidConfig> {
        if self.max_fences < 2 {
            return Err(InvalidConfig::new("max_fences", self.max_fences, "2 or more"));
        }
        Ok(self.assemble())
    }

    fn assemble(self) -> CacheSpace {
        CacheSpace(Arc::new(SpaceInner {
            name: self.name,
            fences: Fences::new(self.max_fences),
            names: Mutex::default(),
        }))
    }
}
