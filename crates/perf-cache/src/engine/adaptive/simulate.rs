//! The policy without the values: what would be held if the capacity were another.

use super::policy::Policy;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// A cache of keys alone, driven by the real policy.
#[derive(Debug)]
pub(crate) struct Simulated {
    policy: Policy,
    numbers: HashMap<u64, u32, RandomState>,
}

impl Simulated {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { policy: Policy::new(capacity.max(1)), numbers: HashMap::default() }
    }

    /// Asks for a key, which enters if it is not there; whether it was there. Its weight may have changed.
    pub(crate) fn read(&mut self, hash: u64, weight: u64) -> bool {
        if let Some(&number) = self.numbers.get(&hash) {
            self.policy.hit(number);
            return true;
        }
        let number = self.policy.insert(hash, weight);
        self.numbers.insert(hash, number);
        let mut candidate = None;
        while let Some(number) = self.policy.evict(&mut candidate) {
            if let Some(evicted) = self.policy.hash(number) {
                self.numbers.remove(&evicted);
            }
            self.policy.remove(number);
        }
        false
    }

    #[cfg(test)]
    pub(super) const fn plan(&self) -> super::plan::Plan {
        self.policy.plan
    }

    /// Keys held.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}
