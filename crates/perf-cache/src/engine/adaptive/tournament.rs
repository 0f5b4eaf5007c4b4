//! Several rules compete in miniature, and the cache follows the winner.
//!
//! Each contestant runs a whole policy over keys without values: all of them in a small cache, and of a large one those
//! whose hashes fall into a sample, with a capacity that is as much smaller (Waldspurger, Saemundsson, Ahmad and Park,
//! "Cache Modeling and Optimization using Miniature Simulations", 2017). They see the requests that the cache sees, so a
//! difference between them is a difference between rules and not between times of day.
//!
//! A small cache follows its winner to the entry: what the winner does not hold goes first. After a change of the plan it
//! then holds the same as the new winner as soon as it has loaded what it lacks, and the lead has to pay for that only.

use super::plan::Plan;
use super::policy::Policy;
use super::sketch::mix;
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};

/// Entries of a contestant at most; a sample of as many predicts a hit ratio to about a hundredth.
const LARGEST: usize = 1024;
/// Requests between two looks at the score.
const PERIOD: usize = 64;
/// What it costs to change the plan, in hits, and in hits for each entry held.
const COST: f64 = 20.0;
const COST_OF_ENTRY: f64 = 0.05;
/// A large cache does not follow its winner to the entry, so a change of the plan costs it more.
const COST_IN_SAMPLE: f64 = 0.5;
/// What it costs for each entry that the new plan would have kept, and that was used there: it has to be loaded anew.
const COST_OF_LOAD: f64 = 1.0;
/// How long the scores are remembered, in requests for each entry held. A plan that was better over that time needs so
/// many hits less to be followed, and one that was worse so many more: in a traffic that changes to and fro, the plan that
/// is best in all wins over one that is best for a moment. Half of that time must have passed.
const MEMORY: f64 = 40.0;
/// By which factor that changes the cost at most.
const SWAY: f64 = 3.0;
/// A lead of less than this share is none.
const DRAW: f64 = 0.002;
/// By how much a lead must grow before it is looked again whether it is enough.
const GROWTH: f64 = 1.125;
/// A cache of so few entries begins with second chances: the counts of a sketch tell too little apart.
const FEW: usize = 300;

pub(super) const PLANS: [Plan; 6] =
    [Plan::Adaptive, Plan::Frequency, Plan::Chance, Plan::Recency, Plan::Queue, Plan::Clock];
/// The place of [`Plan::Clock`] among them.
const CLOCK: usize = 5;

/// The number of an entry with each contestant, and last with the cache itself.
type Numbers = [u32; PLANS.len() + 1];
const CACHE: usize = PLANS.len();
/// Not held.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Tournament {
    contestants: [Contestant; PLANS.len()],
    held: HashMap<u64, Numbers, RandomState>,
    leader: usize,
    /// What the leader has let go, oldest first; it may have come back since, or be gone from the cache too.
    gone: VecDeque<u64>,
    /// One hash in two to this power is in the sample.
    sparse: u32,
    /// Entries of a contestant, once the cache has been full.
    size: Option<usize>,
    requests: usize,
    /// Requests since the cache was full for the first time.
    seen: usize,
    /// The lead at which it is looked next whether it is enough.
    look_at: f64,
}

#[derive(Debug)]
struct Contestant {
    policy: Policy,
    /// Hits in the present period.
    score: f64,
    /// Hits more than the leader since it was last not behind (a cumulated sum, Page 1954: it forgets what came before a
    /// change of the traffic by itself).
    lead: f64,
    /// Hits, older ones fading.
    past: f64,
}

impl Tournament {
    pub(super) fn new() -> Self {
        Self {
            contestants: PLANS.map(Contestant::new),
            held: HashMap::default(),
            leader: 0,
            gone: VecDeque::new(),
            sparse: 0,
            size: None,
            requests: 0,
            seen: 0,
            look_at: 0.0,
        }
    }

    /// Shows the contestants a request, which the cache has under this number. Now and then it says which plan is best,
    /// with the share of its window.
    pub(super) fn request(&mut self, hash: u64, number: u32) -> Option<(Plan, f64)> {
        if !is_in_sample(hash, self.sparse) {
            return None;
        }
        let is_exact = self.is_exact();
        let numbers = self.held.entry(hash).or_insert([NONE; PLANS.len() + 1]);
        for (contestant, number) in self.contestants.iter_mut().zip(&mut *numbers) {
            contestant.request(hash, number);
        }
        if is_exact {
            numbers[CACHE] = number;
        }
        self.make_room();
        self.thin_out();
        self.requests += 1;
        let size = self.size?;
        if self.requests < PERIOD {
            return None;
        }
        self.requests = 0;
        self.decide(size);
        let policy = &self.contestants[self.leader].policy;
        Some((policy.plan, policy.share()))
    }

    /// The cache is full with this many entries, so the contestants are full with their part of them.
    pub(super) fn fix(&mut self, entries: usize) {
        let size = (entries >> self.sparse).max(1);
        if self.size.is_none() && size <= FEW {
            self.leader = CLOCK;
        }
        if self.size != Some(size) {
            self.size = Some(size);
            for contestant in &mut self.contestants {
                contestant.policy.set_capacity(size as u64);
            }
            self.make_room();
        }
    }

    /// The cache does not hold this any more.
    pub(super) fn forget(&mut self, hash: u64) {
        self.leave(hash, CACHE);
    }

    /// An entry of the cache that the leader does not hold, by its number: the one it let go of first.
    pub(super) fn gone(&mut self) -> Option<u32> {
        if self.gone.len() > 2 * self.held.len() {
            self.list_gone();
        }
        while let Some(hash) = self.gone.pop_front() {
            if let Some(numbers) = self.held.get(&hash)
                && numbers[self.leader] == NONE
                && numbers[CACHE] != NONE
            {
                return Some(numbers[CACHE]);
            }
        }
        None
    }

    /// Whether the contestants see every request, and not a sample.
    const fn is_exact(&self) -> bool {
        self.sparse == 0
    }

    fn list_gone(&mut self) {
        let is_gone = |numbers: &Numbers| numbers[self.leader] == NONE && numbers[CACHE] != NONE;
        let held = self.held.iter().filter(|(_, numbers)| is_gone(numbers));
        self.gone = held.map(|(&hash, _)| hash).collect();
    }

    fn make_room(&mut self) {
        for at in 0..PLANS.len() {
            let mut candidate = None;
            while let Some(number) = self.contestants[at].policy.evict(&mut candidate) {
                let hash = self.contestants[at].policy.hash(number);
                self.contestants[at].policy.remove(number);
                if let Some(hash) = hash {
                    self.leave(hash, at);
                }
            }
        }
    }

    /// One of those who hold this does not any more.
    fn leave(&mut self, hash: u64, who: usize) {
        let Some(numbers) = self.held.get_mut(&hash) else { return };
        numbers[who] = NONE;
        if who == self.leader && numbers[CACHE] != NONE {
            self.gone.push_back(hash);
        }
        if *numbers == [NONE; PLANS.len() + 1] {
            self.held.remove(&hash);
        }
    }

    /// Halves the sample while there is too much in it.
    fn thin_out(&mut self) {
        let most = self.contestants.iter().map(|contestant| contestant.policy.len()).max();
        if most.is_none_or(|most| most <= 2 * LARGEST) {
            return;
        }
        self.sparse += 1;
        self.size = self.size.map(|size| (size / 2).max(1));
        self.gone = VecDeque::new();
        let (sparse, contestants) = (self.sparse, &mut self.contestants);
        self.held.retain(|&hash, numbers| {
            numbers[CACHE] = NONE;
            let stays = is_in_sample(hash, sparse);
            for (contestant, &number) in contestants.iter_mut().zip(&*numbers) {
                if !stays && number != NONE {
                    contestant.policy.remove(number);
                }
            }
            stays && *numbers != [NONE; PLANS.len() + 1]
        });
        if let Some(size) = self.size {
            self.contestants.iter_mut().for_each(|contestant| contestant.policy.set_capacity(size as u64));
        }
    }

    fn decide(&mut self, size: usize) {
        let par = self.contestants[self.leader].score * (1.0 + DRAW);
        let fade = 1.0 - (PERIOD as f64 / (MEMORY * size as f64)).min(0.5);
        self.seen = self.seen.saturating_add(PERIOD);
        self.contestants.iter_mut().for_each(|contestant| contestant.count(par, fade));
        let lead = |of: usize| self.contestants[of].lead;
        let best = (0..PLANS.len()).max_by(|&a, &b| lead(a).total_cmp(&lead(b))).unwrap_or(0);
        let lead = lead(best);
        // What it costs takes some steps to tell.
        self.look_at = self.look_at.min(lead * GROWTH).max(COST / SWAY);
        if best == self.leader || lead < self.look_at {
            return;
        }
        self.look_at = lead * GROWTH;
        if lead > self.cost(best, size) {
            self.leader = best;
            self.contestants.iter_mut().for_each(|contestant| contestant.lead = 0.0);
            if self.is_exact() {
                self.list_gone();
            }
        }
    }

    /// What it costs to follow another contestant, in hits.
    fn cost(&self, of: usize, size: usize) -> f64 {
        let other = &self.contestants[of];
        let of_entry = if self.is_exact() { COST_OF_ENTRY } else { COST_IN_SAMPLE };
        let cost = COST + of_entry * size as f64 + COST_OF_LOAD * self.to_load(of, &other.policy) as f64;
        if !self.is_exact() || (self.seen as f64) < MEMORY / 2.0 * size as f64 {
            return cost;
        }
        let better = other.past - self.contestants[self.leader].past;
        (cost - better).clamp(cost / SWAY, cost * SWAY)
    }

    /// How many used entries of a contestant are not held now.
    fn to_load(&self, of: usize, policy: &Policy) -> usize {
        let now = if self.is_exact() { CACHE } else { self.leader };
        let lacks = |numbers: &&Numbers| numbers[of] != NONE && numbers[now] == NONE;
        self.held.values().filter(lacks).filter(|numbers| policy.is_used(numbers[of])).count()
    }
}

const fn is_in_sample(hash: u64, sparse: u32) -> bool {
    mix(hash) >> 20 & ((1 << sparse) - 1) == 0
}

impl Contestant {
    fn new(plan: Plan) -> Self {
        // Until the cache is full for the first time there is room for everything.
        Self { policy: Policy::with_plan(1 << 40, plan), score: 0.0, lead: 0.0, past: 0.0 }
    }

    fn request(&mut self, hash: u64, number: &mut u32) {
        if *number == NONE {
            *number = self.policy.insert(hash, 1);
        } else {
            self.score += 1.0;
            self.policy.hit(*number);
        }
    }

    /// Ends a period in which the leader had `par`.
    fn count(&mut self, par: f64, fade: f64) {
        let score = std::mem::take(&mut self.score);
        self.past = self.past * fade + score;
        self.lead = (self.lead + score - par).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::adaptive::simulate::Simulated;

    /// Runs keys through a cache that follows the tournament; returns it with its hits.
    fn run(capacity: u64, keys: impl Iterator<Item = u64>) -> (Simulated, usize) {
        let mut cache = Simulated::new(capacity);
        let hits = keys.filter(|&key| cache.read(mix(key), 1)).count();
        (cache, hits)
    }

    #[test]
    fn what_comes_back_soon_and_then_never_more_is_served_by_recency() {
        let (cache, _) = run(200, (0..60_000_u64).flat_map(|n| [n, n.saturating_sub(75)]));
        assert_eq!(cache.plan(), Plan::Recency);
    }

    #[test]
    fn a_loop_is_not() {
        let (cache, _) = run(200, (0..60_000).map(|n| n % 300));
        assert_ne!(cache.plan(), Plan::Recency);
    }

    #[test]
    fn where_everything_comes_back_later_than_the_cache_is_large_some_of_it_is_hit() {
        let (_, hits) = run(100, (0..60_000_u64).flat_map(|n| [n, n.saturating_sub(75)]));
        assert!(hits >= 120_000 / 50, "{hits}");
    }

    /// Popular keys that are all replaced at once, again and again.
    #[test]
    fn a_small_cache_holds_what_its_leader_holds() {
        let mut rng = perf_core::Rng::seeded(5);
        let zipf = perf_core::Zipf::new(2000, 0.9);
        let mut policy = Policy::new(150);
        let mut held = HashMap::new();
        for n in 0..40_000_u64 {
            let hash = mix(zipf.sample(&mut rng) + n / 8000 * 100_000);
            if let Some(&number) = held.get(&hash) {
                policy.hit(number);
                continue;
            }
            held.insert(hash, policy.insert(hash, 1));
            let mut candidate = None;
            while let Some(number) = policy.evict(&mut candidate) {
                let hash = policy.hash(number).unwrap();
                held.remove(&hash);
                policy.remove(number);
            }
        }
        let tournament = policy.tournament.as_ref().unwrap();
        let both = |numbers: &&Numbers| numbers[CACHE] != NONE && numbers[tournament.leader] != NONE;
        let shared = tournament.held.values().filter(both).count();
        assert!(shared >= 140, "{shared} of {}", held.len());
    }

    #[test]
    fn a_large_cache_is_judged_by_a_sample() {
        let mut tournament = Tournament::new();
        (0..200_000).for_each(|key| {
            tournament.request(mix(key), key as u32);
        });
        assert!(tournament.sparse >= 6, "{}", tournament.sparse);
        let most = tournament.contestants.iter().map(|contestant| contestant.policy.len()).max();
        assert!(most.is_some_and(|most| most <= 2 * LARGEST), "{most:?}");
        assert!(tournament.held.len() <= PLANS.len() * 2 * LARGEST);
    }
}
