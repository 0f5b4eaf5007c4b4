//! Invalidations that belong to a transaction.

use crate::cache::Cache;
use crate::clock::{Tick, tick};
use crate::space::CacheSpace;
use crate::{Invalidating, Key, Tag};
use perf_core::time;
use std::fmt;
use std::time::Duration;

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
    keys: Vec<KeyOf>,
    hold: Duration,
}

/// A key of some cache.
type KeyOf = Box<dyn Fn(Step) -> Option<u64> + Send + Sync>;

/// What is to be done with a key.
#[derive(Clone, Copy)]
enum Step {
    /// Say how other nodes name it.
    Name,
    /// Remove it here.
    Forget,
    Hold(Tick, Tick),
}

impl Collector {
    pub(crate) const fn new(space: CacheSpace) -> Self {
        Self { space, tags: Vec::new(), keys: Vec::new(), hold: Duration::ZERO }
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
        self.keys.push(Box::new(move |step| {
            let inner = &cache.0;
            match step {
                Step::Name => return inner.identity.as_ref().map(|identity| identity.key(&key)),
                Step::Forget => inner.forget(&key),
                Step::Hold(now, until) => {
                    inner.space.holds.hold([inner.hold_of(inner.hash(&key))], now, until);
                }
            }
            None
        }));
        self
    }

    /// For this long after the publication, whatever a load gives that has one of the tags or keys is returned but not
    /// kept, because a replica that lags may still give the old state; default zero.
    ///
    /// Other nodes do not know of the hold-off. When it ends everything is invalidated a second time, here and there, so
    /// what they loaded from such a replica ends with it.
    pub const fn hold_off(mut self, window: Duration) -> Self {
        self.hold = window;
        self
    }

    /// Invalidates everything that was collected. The local effect is there when this returns.
    ///
    /// With a hold-off this must run within a tokio runtime; outside of one there is no second invalidation.
    pub fn publish(self) -> Invalidating {
        let Self { space, tags, keys, hold } = self;
        if !hold.is_zero() {
            let now = tick();
            let until = now.after(hold);
            // Held before it is fenced: a load that begins between the two is refused by one of them.
            space.inner().holds.hold(tags.iter().map(|tag| tag.hash()), now, until);
            keys.iter().for_each(|key| _ = key(Step::Hold(now, until)));
        }
        let published = invalidate(&space, &tags, &keys);
        if !hold.is_zero()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // It owns a clone of the space, and ends with the hold-off.
            drop(runtime.spawn(async move {
                time::sleep(hold).await;
                invalidate(&space, &tags, &keys).detach();
            }));
        }
        published
    }
}

/// Everything at once, so that one receipt stands for all of it.
fn invalidate(space: &CacheSpace, tags: &[Tag], keys: &[KeyOf]) -> Invalidating {
    let tags: Vec<u64> = tags.iter().map(|tag| tag.hash()).collect();
    let named = keys.iter().filter_map(|key| key(Step::Name));
    let fences: Vec<u64> = tags.iter().copied().chain(named).collect();
    let inner = space.inner();
    // What the second tier holds must be refused before memory can ask it again.
    let published = inner.publish(&fences);
    if !tags.is_empty() {
        inner.fences.tags(tags);
    }
    keys.iter().for_each(|key| _ = key(Step::Forget));
    published
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("tags", &self.tags)
            .field("keys", &self.keys.len())
            .field("hold_off", &self.hold)
            .finish_non_exhaustive()
    }
}
