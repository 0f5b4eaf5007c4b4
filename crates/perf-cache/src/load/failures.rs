//! Errors that are remembered for a while, so that a source in trouble is not asked again for each caller.

use crate::clock::Tick;
use crate::error::Failure;
use foldhash::fast::RandomState;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One error: what it was, until when it is remembered, and what it was known as of.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) failure: Failure,
    pub(crate) until: Tick,
    pub(crate) as_of: u64,
    /// The tags that the call gave: those of a result are not known when there is none.
    pub(crate) tags: Box<[u64]>,
}

/// The remembered errors of a cache: few, since a source fails for a while or for good.
#[derive(Debug)]
pub(crate) struct Failures<K> {
    held: AtomicUsize,
    errors: Mutex<HashMap<K, Remembered, RandomState>>,
}

impl<K: Hash + Eq> Failures<K> {
    /// Enough for the keys in use while a source is down; beyond it errors are not remembered.
    const LIMIT: usize = 4096;

    pub(crate) fn new() -> Self {
        Self { held: AtomicUsize::new(0), errors: Mutex::default() }
    }

    /// The error of a key, if it is still remembered and `is_valid`.
    pub(crate) fn get<Q>(&self, key: &Q, now: Tick, is_valid: impl Fn(&Remembered) -> bool) -> Option<Failure>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.is_empty() {
            return None;
        }
        let mut errors = self.lock();
        let error = errors.get(key)?;
        if now < error.until && is_valid(error) {
            return Some(error.failure.clone());
        }
        errors.remove(key);
        self.held.store(errors.len(), Ordering::Release);
        None
    }

    pub(crate) fn put(&self, key: K, error: Remembered, now: Tick) {
        let mut errors = self.lock();
        if errors.len() >= Self::LIMIT {
            errors.retain(|_, error| now < error.until);
        }
        if errors.len() < Self::LIMIT {
            errors.insert(key, error);
        }
        self.held.store(errors.len(), Ordering::Release);
    }

    pub(crate) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.is_empty() {
            return;
        }
        let mut errors = self.lock();
        let removed = errors.remove(key);
        self.held.store(errors.len(), Ordering::Release);
        drop(errors);
        drop(removed);
    }

    pub(crate) fn clear(&self) {
        let removed = std::mem::take(&mut *self.lock());
        self.held.store(0, Ordering::Release);
        drop(removed);
    }

    /// Whether there is none, without the lock: the rule for every miss while nothing fails.
    fn is_empty(&self) -> bool {
        self.held.load(Ordering::Acquire) == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Remembered, RandomState>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Erased;

    fn error(until: u64) -> Remembered {
        Remembered {
            failure: Failure::Load(Erased::new("down")),
            until: Tick(until),
            as_of: 3,
            tags: Box::default(),
        }
    }

    #[test]
    fn an_error_is_remembered_until_its_life_ends_or_it_is_no_longer_valid() {
        let failures = Failures::new();
        failures.put(1, error(10), Tick(0));
        assert!(failures.get(&1, Tick(9), |error| error.as_of == 3).is_some());
        assert!(failures.get(&1, Tick(9), |_| false).is_none());
        assert!(failures.is_empty());
        failures.put(1, error(10), Tick(0));
        assert!(failures.get(&1, Tick(10), |_| true).is_none());
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let failures = Failures::new();
        for key in 0..Failures::<usize>::LIMIT + 100 {
            failures.put(key, error(10), Tick(0));
        }
        assert_eq!(failures.lock().len(), Failures::<usize>::LIMIT);
        failures.put(usize::MAX, error(30), Tick(20));
        assert_eq!(failures.lock().len(), 1, "what has ended makes room");
    }
}
