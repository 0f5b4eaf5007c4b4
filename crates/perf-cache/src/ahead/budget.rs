//! What prefetching may cost, and whether it is worth it.

use crate::clock::Tick;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Prefetched keys that are followed until they are read or end.
const FOLLOWED: usize = 4096;
/// Outcomes after which older ones count half when the threshold is moved.
const WINDOW: f64 = 64.0;
/// The threshold never rises above this: something must still be tried to learn whether it helps again.
const HIGHEST: f64 = 0.95;

/// What was prefetched and became of it, and how sure one must be to prefetch more.
#[derive(Debug)]
pub(super) struct Budget {
    confidence: f64,
    threshold: f64,
    min_precision: f64,
    per_second: f64,
    life: Duration,
    tokens: f64,
    filled: Tick,
    followed: HashMap<u64, Tick, foldhash::fast::RandomState>,
    order: VecDeque<(u64, Tick)>,
    pub(super) issued: u64,
    pub(super) useful: u64,
    pub(super) wasted: u64,
    recent_useful: f64,
    recent: f64,
}

impl Budget {
    pub(super) fn new(config: &super::PrefetchConfig, life: Duration, now: Tick) -> Self {
        let per_second = f64::from(config.max_per_second);
        Self {
            confidence: config.confidence,
            threshold: config.confidence,
            min_precision: config.min_precision,
            per_second,
            life,
            tokens: per_second,
            filled: now,
            followed: HashMap::default(),
            order: VecDeque::new(),
            issued: 0,
            useful: 0,
            wasted: 0,
            recent_useful: 0.0,
            recent: 0.0,
        }
    }

    /// How sure a prediction must be now.
    pub(super) const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Takes one prefetch out of the budget of this second, for a key that is not being followed already.
    pub(super) fn take(&mut self, hash: u64, now: Tick) -> bool {
        let passed = now.since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second);
        if self.tokens < 1.0 || self.followed.contains_key(&hash) {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// A prefetch was started.
    pub(super) fn issue(&mut self, hash: u64, now: Tick) {
        self.issued += 1;
        self.followed.insert(hash, now);
        self.order.push_back((hash, now));
        self.sweep(now);
    }

    /// A key is read: if it was prefetched, that was of use.
    pub(super) fn read(&mut self, hash: u64, now: Tick) {
        self.sweep(now);
        if self.followed.remove(&hash).is_some() {
            self.useful += 1;
            self.outcome(true);
        }
    }

    /// Gives up on what was not read during its life, or is too much to follow.
    pub(super) fn sweep(&mut self, now: Tick) {
        while let Some(&(hash, issued)) = self.order.front() {
            let is_current = self.followed.get(&hash) == Some(&issued);
            if is_current && issued.after(self.life) > now && self.order.len() <= FOLLOWED {
                return;
            }
            self.order.pop_front();
            if is_current {
                self.followed.remove(&hash);
                self.wasted += 1;
                self.outcome(false);
            }
        }
    }

    /// Moves the threshold: up while too little of what is prefetched is read, and slowly back.
    fn outcome(&mut self, useful: bool) {
        self.recent += 1.0;
        self.recent_useful += f64::from(u8::from(useful));
        if self.recent < WINDOW / 2.0 {
            return;
        }
        let precision = self.recent_useful / self.recent;
        if precision < self.min_precision {
            self.threshold = (self.threshold * 1.05).min(HIGHEST);
        } else {
            self.threshold = (self.threshold * 0.99).max(self.confidence);
        }
        if self.recent >= WINDOW {
            self.recent /= 2.0;
            self.recent_useful /= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ahead::PrefetchConfig;

    const SECOND: u64 = 1_000_000_000;

    fn budget(config: &PrefetchConfig) -> Budget {
        Budget::new(config, Duration::from_secs(10), Tick(0))
    }

    #[test]
    fn no_more_is_prefetched_in_a_second_than_allowed() {
        let config = PrefetchConfig { max_per_second: 5, ..PrefetchConfig::default() };
        let mut budget = budget(&config);
        let mut taken = |at| (0..20).filter(|key| budget.take(at + key, Tick(at * SECOND))).count();
        assert_eq!((taken(100), taken(100), taken(101)), (5, 0, 5));
    }

    #[test]
    fn what_is_read_was_useful_and_what_is_not_read_in_its_life_was_wasted() {
        let mut budget = budget(&PrefetchConfig::default());
        (1..=3).for_each(|key| budget.issue(key, Tick(0)));
        assert!(!budget.take(1, Tick(0)), "it is on its way already");
        budget.read(1, Tick(SECOND));
        budget.read(1, Tick(SECOND));
        budget.sweep(Tick(11 * SECOND));
        assert_eq!((budget.issued, budget.useful, budget.wasted), (3, 1, 2));
    }

    #[test]
    fn the_threshold_rises_while_little_is_of_use_and_falls_when_much_is() {
        let mut budget =
            budget(&PrefetchConfig { confidence: 0.3, min_precision: 0.5, ..PrefetchConfig::default() });
        (0..200).for_each(|_| budget.outcome(false));
        assert_eq!(budget.threshold(), HIGHEST);
        (0..2000).for_each(|_| budget.outcome(true));
        assert_eq!(budget.threshold(), 0.3);
    }

    #[test]
    fn no_more_is_followed_than_the_limit() {
        let mut budget = budget(&PrefetchConfig::default());
        (0..10_000).for_each(|key| budget.issue(key, Tick(0)));
        assert_eq!((budget.followed.len(), budget.wasted), (FOLLOWED, 10_000 - FOLLOWED as u64));
    }
}
