//! Purging: an administrator's call that walks through memory, for when nobody knows keys or tags.

use crate::cache::{Cache, Inner};
use crate::remote::order::Order;
use crate::remote::port::{Cursor, StoreError};
use crate::space::Purge;
use crate::{Invalidating, Key};
use perf_core::time;
use std::fmt;

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// Invalidates every key held in memory that `picks` picks, here and on other nodes, and says how many those were. The
    /// value is `None` where it is known that there is nothing.
    ///
    /// It looks at all entries, so it is for administrators: tags do the same at once. Loads under way are overtaken,
    /// whatever their keys. Keys that only other nodes or the second tier hold are not found: [`Cache::purge_pattern`]
    /// reaches those of other nodes, [`Cache::purge_stored`] those of the second tier, [`Cache::clear`] all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace};
    /// let users: Cache<u64, String> = CacheSpace::in_process("shop").cache("users").build()?;
    /// (1..=10).for_each(|id| users.insert(id, format!("user {id}")));
    /// let (purged, published) = users.purge(|id, _| id % 2 == 0);
    /// published.await;
    /// assert_eq!((purged, users.stats().entries), (5, 5));
    /// # Ok(()) }
    /// ```
    pub fn purge(&self, picks: impl Fn(&K, Option<&V>) -> bool) -> (u64, Invalidating) {
        let inner = &*self.0;
        let mut keys = Vec::new();
        inner.engine.visit(&mut |entry| {
            if picks(&entry.key, entry.value.as_ref()) {
                keys.push(entry.key.clone());
            }
        });
        let fences: Vec<u64> =
            inner.identity.iter().flat_map(|identity| keys.iter().map(|key| identity.key(key))).collect();
        let published = match fences.is_empty() {
            true => Invalidating::local(),
            false => inner.space.publish(&fences),
        };
        // What loads are about to bring may have been picked as well.
        inner.flights.supersede_all();
        keys.iter().for_each(|key| inner.forget(key));
        (keys.len() as u64, published)
    }

    /// [`Cache::purge`] of the keys whose text matches a pattern, in which `*` stands for any characters and `?` for one, in
    /// the memory of all nodes. The number is that of the keys which this node held.
    ///
    /// Other nodes look through their memory when the order reaches them through the log, before anything that comes after
    /// it. A node whose cache was not built [`purgeable`](crate::CacheBuilder::purgeable) cannot match the pattern and
    /// forgets all of this cache; with a pattern of more than 4 KiB all nodes but this one do.
    ///
    /// ```
    /// # use perf_cache::{Cache, CacheSpace};
    /// let pages: Cache<String, u32> = CacheSpace::in_process("shop").cache("pages").build().unwrap();
    /// ["/a", "/a/b", "/c"].into_iter().for_each(|path| pages.insert(path.to_owned(), 1));
    /// let (purged, published) = pages.purge_pattern("/a*");
    /// published.detach();
    /// assert_eq!(purged, 2);
    /// ```
    pub fn purge_pattern(&self, pattern: &str) -> (u64, Invalidating)
    where
        K: fmt::Display,
    {
        let inner = &*self.0;
        let (purged, published) = self.purge_matching(pattern, ToString::to_string);
        let Some(identity) = &inner.identity else { return (purged, published) };
        // The order leaves last, so that when it has arrived, all has.
        published.detach();
        (purged, inner.space.order(&Order { namespace: identity.namespace, pattern: pattern.to_owned() }))
    }

    /// Purges the memory of this node.
    fn purge_matching(&self, pattern: &str, text: impl Fn(&K) -> String) -> (u64, Invalidating) {
        let pattern: Vec<char> = pattern.chars().collect();
        self.purge(|key, _| matches(&pattern, &text(key).chars().collect::<Vec<_>>()))
    }

    /// Invalidates every key that `picks` picks and that memory or the second tier holds, on all nodes, and removes the
    /// values from the second tier, those of other schemas too. Keys that only the memory of another node holds are not
    /// found.
    ///
    /// It looks through the names of everything that the store has (`SCAN`, then `UNLINK`, a thousand at a time, on each
    /// master of a Cluster), so it is for administrators, and takes seconds where there are millions. Keys that cannot be
    /// read from their bytes ([`CacheKey::read_key`](crate::CacheKey::read_key)) are counted and left. Without a second tier it is [`Cache::purge`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, Entries, MemoryStore, Postcard};
    /// # use std::{convert::Infallible, sync::Arc, time::Duration};
    /// # let store = Arc::new(MemoryStore::new());
    /// # let space = CacheSpace::builder("shop").shared(store.clone(), store.clone()).build().await?;
    /// # space.coherent(Duration::from_secs(1)).await;
    /// // Memory holds a few of them only.
    /// let pages: Cache<(u32, String), u32> = space.cache("pages").capacity(Entries(8)).codec(Postcard).build()?;
    /// for tenant in 0..20 {
    ///     let key = (tenant, String::from("/a"));
    ///     pages.get_or_load(&key, || async { Ok::<_, Infallible>(1) }).await?;
    /// }
    /// # while store.len() < 20 { tokio::task::yield_now().await; }
    /// let purged = pages.purge_stored(|(tenant, _)| *tenant < 15).await?;
    /// assert_eq!((purged.removed, purged.unreadable, store.len()), (15, 0, 5));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError) when the second tier cannot be looked through to its end. What has been found
    /// until then is purged.
    ///
    /// # Cancel safety
    /// Dropping the future ends the search; what was found is purged.
    pub async fn purge_stored(&self, picks: impl Fn(&K) -> bool) -> Result<Purged, StoreError> {
        let inner = &*self.0;
        let (in_memory, published) = self.purge(|key, _| picks(key));
        published.detach();
        let mut purged = Purged { in_memory, removed: 0, unreadable: 0 };
        let (Some(remote), Some(identity)) = (&inner.space.remote, &inner.identity) else {
            return Ok(purged);
        };
        let Some(store) = remote.store.as_ref().filter(|_| inner.shared.is_some()) else { return Ok(purged) };
        let late = |action| move |_| StoreError::new(action, "it took too long");
        // An administrator waits longer than a request.
        let patience = remote.timeout * 10;
        let (prefix, mut from) = (identity.names(), Some(Cursor::default()));
        while let Some(at) = from {
            let scan = time::timeout(patience, store.scan(&prefix, at));
            let scanned = scan.await.map_err(late("look for keys"))??;
            let (mut names, mut fences, mut keys) = (Vec::new(), Vec::new(), Vec::new());
            for name in scanned.keys {
                let Some(bytes) = identity.key_in(&name) else { continue };
                let mut rest = bytes;
                match K::read_key(&mut rest).filter(|_| rest.is_empty()) {
                    None => purged.unreadable += 1,
                    Some(key) if picks(&key) => {
                        fences.push(identity.key_of_bytes(bytes));
                        names.push(name);
                        keys.push(key);
                    }
                    Some(_) => {}
                }
            }
            if !names.is_empty() {
                // The fences first: what is written meanwhile and is older is refused.
                inner.space.publish(&fences).detach();
                keys.iter().for_each(|key| inner.forget(key));
                let remove = time::timeout(patience, store.remove_many(&names));
                for removed in remove.await.map_err(late("remove"))? {
                    removed?;
                    purged.removed += 1;
                }
            }
            from = scanned.next;
        }
        Ok(purged)
    }
}

impl<K: Key, V: Send + Sync + 'static> Purge for Inner<K, V> {
    fn is_purgeable(&self) -> bool {
        self.text.is_some()
    }

    fn purge_by(&self, pattern: &str) {
        if let (Some(text), Some(inner)) = (self.text, self.this.upgrade()) {
            // What was found here may lie in the second tier as well: its fences go to all.
            Cache(inner).purge_matching(pattern, text).1.detach();
        }
    }
}

/// What [`Cache::purge_stored`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Keys invalidated in this node's memory.
    pub in_memory: u64,
    /// Values removed from the second tier.
    pub removed: u64,
    /// Values in the second tier whose keys could not be read, and which are still there.
    pub unreadable: u64,
}

/// Whether a text matches a pattern. It goes back to the last star only, so that no pattern takes long.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, t) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some(('*', rest)), _) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            (Some((p, rest)), Some((c, more))) => (*p == '?' || p == c) && slow(rest, more),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_trying_everything_matches(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), slow(&pattern, &text));
        }
    }

    #[test]
    fn a_hostile_pattern_does_not_take_long() {
        let text = vec!['a'; 5_000];
        let pattern: Vec<char> = "a*".repeat(1_000).chars().chain(['b']).collect();
        assert!(!matches(&pattern, &text));
    }
}
