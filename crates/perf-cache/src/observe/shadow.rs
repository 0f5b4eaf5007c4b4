//! Shadow verification: some hits load their value again in the background, and whether it is still the same is counted.
//! A value that differs was changed without an invalidation.

use super::sample;
use crate::Key;
use crate::cache::Inner;
use crate::engine::Held;
use crate::hit::Freshness;
use crate::load::{Found, LoadContext, Probe, Start, caught};
use perf_core::{Counter, time};
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

type Same<V> = Box<dyn Fn(&V, &V) -> bool + Send + Sync>;

/// Which hits are verified, and what counts as the same.
pub(crate) struct Shadow<V> {
    share: f64,
    same: Same<V>,
}

/// How verifications ended.
#[derive(Debug, Default)]
pub(crate) struct ShadowNumbers {
    pub(crate) same: Counter,
    pub(crate) different: Counter,
    pub(crate) failed: Counter,
    /// Not started, because places for loads were scarce.
    pub(crate) skipped: Counter,
    /// Invalidated or replaced meanwhile, which makes a difference mean nothing.
    pub(crate) overtaken: Counter,
}

impl<V> Shadow<V> {
    pub(crate) fn new(share: f64, same: impl Fn(&V, &V) -> bool + Send + Sync + 'static) -> Self {
        Self { share, same: Box::new(same) }
    }

    pub(crate) const fn share(&self) -> f64 {
        self.share
    }

    /// Whether this hit is one to verify.
    pub(crate) fn is_due(&self) -> bool {
        sample::falls_within(self.share)
    }
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// What a read finds if it is fresh, counted as a hit.
    #[cold]
    pub(crate) fn fresh<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.look(hash, key) {
            Probe::Ready(held, Freshness::Fresh) if held.value.is_some() => {
                self.numbers.hits.increment();
                Some(held)
            }
            _ => None,
        }
    }

    /// Loads the value of a hit again, in a task of its own, and counts how it compares.
    #[cold]
    pub(crate) fn verify(self: &Arc<Self>, start: Start<K, V>, held: &Held<K, V>) {
        let numbers = &self.numbers.shadow;
        let (Some(permit), Ok(runtime)) = (self.gate.enter_unasked(), tokio::runtime::Handle::try_current())
        else {
            return numbers.skipped.increment();
        };
        let (inner, held) = (Arc::clone(self), held.clone());
        drop(runtime.spawn(async move {
            let context = LoadContext { key: held.key.clone(), base: None };
            let loaded = time::timeout(inner.config.abandon_after, caught(start, context)).await;
            drop(permit);
            let numbers = &inner.numbers.shadow;
            let Ok(Ok(loaded)) = loaded else { return numbers.failed.increment() };
            let is_same = match (&loaded.found, &held.value, &inner.shadow) {
                (Found::NotModified, ..) | (Found::Nothing, None, _) => true,
                (Found::Value(new), Some(old), Some(shadow)) => (shadow.same)(old, new),
                _ => false,
            };
            // The look comes after the load: an invalidation in between may be about this very change.
            let present = inner.held(held.hash, &held.key);
            let is_present =
                present.is_some_and(|present| std::ptr::eq(&raw const *present, &raw const *held));
            if !is_present || !inner.is_allowed(&held) {
                numbers.overtaken.increment();
            } else if is_same {
                numbers.same.increment();
            } else {
                numbers.different.increment();
            }
        }));
    }
}
