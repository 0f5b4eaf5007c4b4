//! Why a key is answered as it is.

use crate::Key;
use crate::cache::Cache;
use crate::clock::tick;
use crate::engine::Held;
use crate::entry::Age;
use crate::remote::shared::Answer;
use crate::tag::Tag;
use std::fmt;
use std::time::Duration;

/// What a cache knows about one key, tier by tier: [`Cache::explain`]. Its `Display` is for people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The cache.
    pub cache: String,
    /// What is held in memory.
    pub entry: Option<EntryState>,
    /// The load that is under way.
    pub loading: Option<Loading>,
    /// The error of the last load, if it is remembered.
    pub error: Option<String>,
    /// Whether a hold-off forbids to keep what is loaded now, as far as key and tags are known.
    pub held_off: bool,
    /// Whether the invalidation log is followed; otherwise values live for `degraded_ttl` at most.
    pub coherent: bool,
    /// What is left of the life in the second tier, if that holds a valid value; asked only when there is such a tier.
    pub remote: Option<Duration>,
}

/// An entry in memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntryState {
    /// Whether a read is answered from it.
    pub served: bool,
    /// How good it is: `fresh`, `refresh due`, `stale until the next attempt` (a load has failed), `stale`,
    /// `for failures only`, `dead`.
    pub age_class: &'static str,
    /// Whether it remembers that there is nothing.
    pub nothing: bool,
    /// Time since it was loaded or confirmed.
    pub age: Duration,
    /// What is left of its life.
    pub fresh_for: Duration,
    /// Whether its life was ended by hand.
    pub expired: bool,
    /// Its weight, in the unit of the capacity.
    pub weight: u64,
    /// The tags of its latest write, and on several nodes the fences of its cache and key.
    pub tags: Vec<Tag>,
    /// The entity tag that the loader gave.
    pub etag: Option<String>,
    /// The number of the newest fence at which it was known to be valid.
    pub as_of: u64,
    /// What invalidated it, if anything did.
    pub fenced: Option<Fenced>,
}

/// What invalidated an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fenced {
    /// One of its tags.
    Tag(Tag),
    /// A clear of the cache.
    Clear,
    /// Everything older was given up: too many fences to remember, or a gap in the log.
    Everything,
}

/// A load under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loading {
    /// Callers that wait for it.
    pub waiting: u32,
    /// The number of the newest fence when it began.
    pub as_of: u64,
}

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// What is known about a key, and why it is answered as it is. Not counted as a read; it asks the second tier, if there
    /// is one, and so is for people and not for hot paths.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, Fenced, Loaded, tag};
    /// # let space = CacheSpace::in_process("shop");
    /// # let users: Cache<u64, String> = space.cache("users").build()?;
    /// users.insert_with(7, Loaded::new(String::from("Ada")).tag(tag!("org", 3)));
    /// space.invalidate_tags([tag!("org", 3)]).await;
    ///
    /// let entry = users.explain(&7).await.entry.ok_or("it is still in memory, but not served")?;
    /// assert!(!entry.served && entry.fenced == Some(Fenced::Tag(tag!("org", 3))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn explain(&self, key: &K) -> Explanation {
        let inner = &*self.0;
        let hash = inner.hash(key);
        let held = inner.held(hash, key);
        let entry = held.as_ref().map(|held| self.entry_state(held));
        let loading = inner
            .flights
            .shard(hash)
            .get(key)
            .map(|flight| Loading { waiting: flight.waiting(), as_of: flight.as_of });
        let now = tick();
        let tags: Vec<u64> = held.as_ref().map(|held| held.tags.to_vec()).unwrap_or_default();
        drop(held);
        Explanation {
            cache: inner.name.to_string(),
            entry,
            loading,
            error: inner.failures.get(key, now, |_| true).map(|failure| failure.message().to_string()),
            held_off: inner.space.holds.holds(now, tags.into_iter().chain([inner.hold_of(hash)])),
            coherent: inner.space.is_coherent(),
            remote: self.explain_remote(key).await,
        }
    }

    async fn explain_remote(&self, key: &K) -> Option<Duration> {
        let inner = &*self.0;
        let (remote, shared) = (inner.space.remote.as_ref()?, inner.shared.as_ref()?);
        let name = shared.name(inner.identity.as_ref()?, key);
        let fetched = shared.read(remote, std::slice::from_ref(&name)).await.pop().and_then(Answer::found);
        fetched.map(|fetched| fetched.fresh)
    }

    fn entry_state(&self, held: &Held<K, V>) -> EntryState {
        let (inner, now) = (&*self.0, tick());
        let age = held.age(now);
        let seen = held.seen();
        let fenced = inner
            .space
            .fences
            .blame(seen, &held.tags)
            .or_else(|| (seen < inner.cleared_at()).then_some(Fenced::Clear));
        EntryState {
            served: fenced.is_none()
                && matches!(age, Age::Fresh | Age::RefreshDue | Age::Throttled(_) | Age::Stale),
            age_class: match age {
                Age::Fresh => "fresh",
                Age::RefreshDue => "refresh due",
                Age::Throttled(_) => "stale until the next attempt",
                Age::Stale => "stale",
                Age::ErrorOnly => "for failures only",
                Age::Dead => "dead",
            },
            nothing: held.value.is_none(),
            age: now.since(held.stored_at()),
            fresh_for: held.fresh_until().since(now),
            expired: held.is_expired(),
            weight: held.weight,
            tags: held.tags.iter().copied().map(Tag).collect(),
            etag: held.etag.as_deref().map(str::to_owned),
            as_of: seen,
            fenced,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cache {}", self.cache)?;
        match &self.entry {
            Some(entry) => entry.fmt(f)?,
            None => writeln!(f, "memory: nothing is known")?,
        }
        if let Some(Loading { waiting, as_of }) = self.loading {
            writeln!(f, "loading: {waiting} wait, as of fence {as_of}")?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "remembered error: {error}")?;
        }
        if self.held_off {
            writeln!(f, "held off: what is loaded now is not kept")?;
        }
        if !self.coherent {
            writeln!(f, "degraded: the invalidation log is not followed")?;
        }
        match self.remote {
            Some(left) => write!(f, "second tier: valid for {left:?}"),
            None => write!(f, "second tier: nothing valid"),
        }
    }
}

impl fmt::Display for EntryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.nothing { "there is nothing" } else { "a value" };
        let served = if self.served { "served" } else { "not served" };
        write!(
            f,
            "memory: {kind}, {}, {served}; {:?} old, {:?} left",
            self.age_class, self.age, self.fresh_for
        )?;
        write!(f, ", weight {}, as of fence {}", self.weight, self.as_of)?;
        if self.expired {
            write!(f, ", its life ended by hand")?;
        }
        match self.fenced {
            Some(Fenced::Tag(tag)) => write!(f, ", invalidated by {tag:?}")?,
            Some(Fenced::Clear) => write!(f, ", invalidated by a clear")?,
            Some(Fenced::Everything) => write!(f, ", too old for the fences that are remembered")?,
            None => {}
        }
        writeln!(f, ", {} tags", self.tags.len())
    }
}
