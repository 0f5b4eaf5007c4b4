//! Purging: an administrator's call that walks through memory, for when nobody knows keys or tags.

use crate::cache::Cache;
use crate::{Invalidating, Key};
use std::fmt;

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// Invalidates every key held in memory that `picks` picks, here and on other nodes, and says how many those were. The
    /// value is `None` where it is known that there is nothing.
    ///
    /// It looks at all entries, so it is for administrators: tags do the same at once. Keys that only other nodes or the
    /// second tier hold are not found; [`Cache::clear`] reaches those.
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
        keys.iter().for_each(|key| inner.forget(key));
        (keys.len() as u64, published)
    }

    /// [`Cache::purge`] of the keys whose text matches a pattern, in which `*` stands for any characters and `?` for one.
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
        let pattern: Vec<char> = pattern.chars().collect();
        self.purge(|key, _| matches(&pattern, &key.to_string().chars().collect::<Vec<_>>()))
    }
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
