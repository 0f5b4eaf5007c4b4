//! Several rules compete in miniature, and the cache follows the winner.
//!
//! Each contestant runs a whole policy over keys without values: all of them in a small cache, and of a large one those
//! whose hashes fall into a sample, with a capacity that is as much smaller (Waldspurger, Saemundsson, Ahmad and Park,
//! "Cache Modeling and Optimization using Miniature Simulations", 2017). They see the requests that the cache sees, so a
//! difference between them is a difference between rules and not between times of day.

use super::policy::{Plan, Policy};
use super::sketch::mix;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Entries of a contestant at most; a sample of as many predicts a hit ratio to about a hundredth.
const LARGEST: usize = 1024;
/// Requests between two looks at the score.
const PERIOD: usize = 64;
/// What it costs to change the plan, in hits, and in hits for each entry: what the old plan would have kept has to be
/// learned anew. A contestant is followed once its lead over the present plan would have paid for that.
const COST: f64 = 30.0;
const COST_OF_ENTRY: f64 = 0.15;
/// A lead of less than this share is none.
const DRAW: f64 = 0.002;
/// A cache of so few entries begins with second chances: the counts of a sketch tell too little apart.
const FEW: usize = 300;

const PLANS: [Plan; 4] = [Plan::Adaptive, Plan::Window(0.01), Plan::Window(1.0), Plan::Clock];

#[derive(Debug)]
pub(super) struct Tournament {
    contestants: [Contestant; PLANS.len()],
    leader: usize,
    /// One hash in two to this power is in the sample.
    sparse: u32,
    /// Entries of a contestant, once the cache has been full.
    size: Option<usize>,
    requests: usize,
}

#[derive(Debug)]
struct Contestant {
    plan: Plan,
    policy: Policy,
    held: HashMap<u64, u32, RandomState>,
    /// Hits in the present period.
    score: f64,
    /// Hits more than the leader since it was last not behind (a cumulated sum, Page 1954: it forgets what came before a
    /// change of the traffic by itself).
    lead: f64,
}

impl Tournament {
    pub(super) fn new() -> Self {
        Self { contestants: PLANS.map(Contestant::new), leader: 0, sparse: 0, size: None, requests: 0 }
    }

    /// Shows the contestants a request. Now and then it says which plan is best, with the share of its window.
    pub(super) fn request(&mut self, hash: u64) -> Option<(Plan, f64)> {
        if !is_in_sample(hash, self.sparse) {
            return None;
        }
        for contestant in &mut self.contestants {
            contestant.request(hash);
        }
        self.thin_out();
        self.requests += 1;
        let size = self.size?;
        if self.requests < PERIOD {
            return None;
        }
        self.requests = 0;
        self.decide(size);
        let Contestant { plan, policy, .. } = &self.contestants[self.leader];
        Some((*plan, policy.share()))
    }

    /// The cache is full with this many entries, so the contestants are full with their part of them.
    pub(super) fn fix(&mut self, entries: usize) {
        let size = (entries >> self.sparse).max(1);
        if self.size.is_none() && size <= FEW {
            self.leader = PLANS.len() - 1;
        }
        if self.size != Some(size) {
            self.size = Some(size);
            for contestant in &mut self.contestants {
                contestant.policy.set_capacity(size as u64);
            }
        }
    }

    /// Halves the sample while there is too much in it.
    fn thin_out(&mut self) {
        let most = self.contestants.iter().map(|contestant| contestant.held.len()).max();
        if most.is_some_and(|most| most > 2 * LARGEST) {
            self.sparse += 1;
            let (sparse, size) = (self.sparse, self.size.map(|size| size / 2));
            self.size = size;
            for contestant in &mut self.contestants {
                contestant.thin_out(sparse, size);
            }
        }
    }

    fn decide(&mut self, size: usize) {
        let par = self.contestants[self.leader].score * (1.0 + DRAW);
        for contestant in &mut self.contestants {
            contestant.lead = (contestant.lead + std::mem::take(&mut contestant.score) - par).max(0.0);
        }
        let lead = |of: usize| self.contestants[of].lead;
        let best = (0..PLANS.len()).max_by(|&a, &b| lead(a).total_cmp(&lead(b))).unwrap_or(0);
        if lead(best) > COST + COST_OF_ENTRY * size as f64 {
            self.leader = best;
            self.contestants.iter_mut().for_each(|contestant| contestant.lead = 0.0);
        }
    }
}

const fn is_in_sample(hash: u64, sparse: u32) -> bool {
    mix(hash) >> 20 & ((1 << sparse) - 1) == 0
}

impl Contestant {
    fn new(plan: Plan) -> Self {
        // Until the cache is full for the first time there is room for everything.
        let policy = Policy::with_plan(1 << 40, plan);
        Self { plan, policy, held: HashMap::default(), score: 0.0, lead: 0.0 }
    }

    fn request(&mut self, hash: u64) {
        if let Some(&number) = self.held.get(&hash) {
            self.score += 1.0;
            self.policy.hit(number);
        } else {
            self.held.insert(hash, self.policy.insert(hash, 1));
        }
        let mut candidate = None;
        while let Some(number) = self.policy.evict(&mut candidate) {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(hash) = self.policy.hash(number) {
            self.held.remove(&hash);
        }
        self.policy.remove(number);
    }

    fn thin_out(&mut self, sparse: u32, size: Option<usize>) {
        if let Some(size) = size {
            self.policy.set_capacity(size.max(1) as u64);
        }
        let policy = &mut self.policy;
        self.held.retain(|&hash, &mut number| {
            let stays = is_in_sample(hash, sparse);
            if !stays {
                policy.remove(number);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs keys through a cache that follows the tournament; returns the plan at the end.
    fn winner(capacity: u64, keys: impl Iterator<Item = u64>) -> Plan {
        let mut cache = Contestant::new(Plan::Adaptive);
        cache.policy = Policy::new(capacity);
        keys.for_each(|key| cache.request(mix(key)));
        cache.policy.plan()
    }

    #[test]
    fn what_comes_back_soon_and_then_never_more_is_served_by_recency() {
        let keys = (0..60_000_u64).flat_map(|n| [n, n.saturating_sub(75)]);
        let plan = winner(200, keys);
        assert!(plan == Plan::Window(1.0), "{plan:?}");
    }

    #[test]
    fn a_loop_is_not() {
        let plan = winner(200, (0..60_000).map(|n| n % 300));
        assert!(plan != Plan::Window(1.0), "{plan:?}");
    }

    #[test]
    fn a_large_cache_is_judged_by_a_sample() {
        let mut tournament = Tournament::new();
        (0..200_000).for_each(|key| {
            tournament.request(mix(key));
        });
        assert!(tournament.sparse >= 6, "{}", tournament.sparse);
        assert!(tournament.contestants.iter().all(|contestant| contestant.held.len() <= 2 * LARGEST));
    }
}
