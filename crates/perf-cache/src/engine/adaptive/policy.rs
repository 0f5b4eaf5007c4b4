//! Which entry goes when there is no room: W-TinyLFU whose window finds its own size.
//!
//! New entries pass through a window in order of use. What leaves the window is a candidate for the main part, and enters
//! it only when it was asked for clearly more often than what it would push out (TinyLFU). The main part is a segmented
//! LRU. Where the two parts meet decides whether the cache follows recency (a log of transactions) or frequency (a scan, a
//! loop), so the boundary moves (`boundary`).
//!
//! No one rule is best for every traffic, so this one competes with simple ones in miniature, and the cache follows
//! whichever hits most ([`Tournament`]).
//!
//! Entries that are pinned take no part in this: low ones go before all others, high ones after, each in order of use. What
//! is pinned high beyond [`PINNED`] is unpinned, so that pins cannot fill the cache.

use super::boundary::Edges;
use super::ghost::Ghosts;
use super::list::List;
use super::node::{Node, Nodes, Region};
use super::plan::Plan;
use super::sketch::Sketch;
use super::tournament::Tournament;
use crate::Priority;

/// Second chances an entry can save up.
const CHANCES: u8 = 2;
/// The share of the capacity, as a divisor, that may be pinned high.
pub(super) const PINNED: u64 = 2;
/// Entries that cross a boundary with one request, so that no request pays for a great move.
pub(super) const MOVES: usize = 8;

/// The decisions. It knows entries by number, hash and weight only; the owner keeps everything else.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) capacity: u64,
    pub(super) plan: Plan,
    /// Without one, the plan stays as it is.
    pub(super) tournament: Option<Box<Tournament>>,
    pub(super) nodes: Nodes,
    pub(super) window: List,
    pub(super) probation: List,
    pub(super) protected: List,
    pub(super) high: List,
    pub(super) low: List,
    pub(super) sketch: Sketch,
    pub(super) ghosts: Ghosts,
    pub(super) edges: Edges,
    /// The window's share of the capacity.
    pub(super) share: f64,
    pub(super) entered: u64,
    /// What was inserted last is not the one to go.
    pub(super) latest: u32,
}

impl Policy {
    pub(super) fn new(capacity: u64) -> Self {
        let tournament = Some(Box::new(Tournament::new()));
        Self { tournament, ..Self::with_plan(capacity, Plan::Adaptive) }
    }

    /// A policy that keeps to its plan.
    pub(super) fn with_plan(capacity: u64, plan: Plan) -> Self {
        Self {
            capacity,
            plan,
            tournament: None,
            nodes: Nodes::default(),
            window: List::default(),
            probation: List::default(),
            protected: List::default(),
            high: List::default(),
            low: List::default(),
            sketch: Sketch::new(),
            ghosts: Ghosts::default(),
            edges: Edges::default(),
            share: plan.window(),
            entered: 0,
            latest: u32::MAX,
        }
    }

    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    pub(super) const fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) const fn weight(&self) -> u64 {
        self.window.weight + self.main_weight() + self.high.weight + self.low.weight
    }

    pub(super) const fn main_weight(&self) -> u64 {
        self.probation.weight + self.protected.weight
    }

    /// What is not taken by entries that are pinned high.
    pub(super) const fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.high.weight)
    }

    pub(super) fn window_limit(&self) -> u64 {
        ((self.room() as f64 * self.share) as u64).clamp(1, self.room().max(1))
    }

    pub(super) fn main_room(&self) -> u64 {
        self.room().saturating_sub(self.window_limit())
    }

    /// The hash of the entry with this number, if there is one.
    pub(super) fn hash(&self, number: u32) -> Option<u64> {
        self.nodes.get(number).map(|node| node.hash)
    }

    /// Whether an entry was used since it came.
    pub(super) fn is_used(&self, number: u32) -> bool {
        self.nodes.get(number).is_some_and(|node| node.is_used)
    }

    /// Takes an entry in that is not pinned.
    pub(super) fn insert(&mut self, hash: u64, weight: u64) -> u32 {
        self.insert_as(Priority::Normal, hash, weight)
    }

    /// Takes an entry in and gives it a number. The owner then calls [`Policy::evict`] until there is room.
    pub(super) fn insert_as(&mut self, priority: Priority, hash: u64, weight: u64) -> u32 {
        self.count(hash, self.len() + 1);
        let region = Region::of(priority).unwrap_or_else(|| self.enters(hash, weight));
        self.entered += weight;
        let number = self.nodes.add(Node::new(hash, weight, self.entered, region));
        self.latest = number;
        self.push(number, region);
        self.unpin();
        self.compete(hash, number);
        self.count_request();
        number
    }

    /// Counts a request, if anyone may ask.
    fn count(&mut self, hash: u64, entries: usize) {
        if self.tournament.is_some() || self.plan.counts() {
            self.sketch.reserve(entries);
            self.sketch.add(hash, entries);
        }
    }

    /// Where a new entry begins.
    fn enters(&mut self, hash: u64, weight: u64) -> Region {
        let age = self.ghosts.take(hash);
        if let Some(age) = age {
            self.edges.ghost(age, self.capacity);
        }
        let back_soon = age.is_some_and(|age| age <= (self.plan.remembered() * self.capacity as f64) as u64);
        if self.plan.has_chances() && (back_soon || self.main_weight() + weight <= self.main_room()) {
            return Region::Probation;
        }
        Region::Window
    }

    /// Makes the entries that were pinned high and not used for longest like any others while there are too many.
    fn unpin(&mut self) {
        while self.high.weight > self.capacity / PINNED
            && let Some(oldest) = self.high.oldest()
        {
            self.unlink(oldest);
            self.enter_window(oldest);
        }
    }

    fn enter_window(&mut self, number: u32) {
        self.entered += self.nodes[number].weight;
        self.nodes[number].entered = self.entered;
        self.push(number, Region::Window);
    }

    /// Lets the tournament see a request, and follows its winner.
    fn compete(&mut self, hash: u64, number: u32) {
        let Some(tournament) = &mut self.tournament else { return };
        if let Some((plan, share)) = tournament.request(hash, number)
            && plan != self.plan
        {
            self.plan = plan;
            self.share = share;
        }
    }

    /// An entry was used.
    pub(super) fn hit(&mut self, number: u32) {
        let Some(Node { hash, entered, region, .. }) = self.nodes.get(number) else { return };
        self.compete(hash, number);
        self.count(hash, self.len());
        let node = &mut self.nodes[number];
        node.is_used = true;
        node.chances = (node.chances + 1).min(CHANCES);
        if self.plan.has_chances() && !matches!(region, Region::High | Region::Low) {
            self.count_request();
            return;
        }
        self.unlink(number);
        match region {
            Region::Window => {
                if self.entered - entered >= self.window_limit().div_ceil(2) {
                    self.edges.window();
                }
                self.enter_window(number);
            }
            Region::Probation => {
                self.edges.probation();
                self.push(number, Region::Protected);
                self.demote();
            }
            Region::Protected | Region::High | Region::Low | Region::Free => self.push(number, region),
        }
        self.count_request();
    }

    /// An entry was written again, with this priority and weight. The owner then calls [`Policy::evict`] until there is
    /// room.
    pub(super) fn update(&mut self, number: u32, priority: Priority, weight: u64) {
        let Some(Node { region, .. }) = self.nodes.get(number) else { return };
        self.unlink(number);
        self.nodes[number].weight = weight;
        let region = match (Region::of(priority), region) {
            (Some(pinned), _) => pinned,
            (None, Region::High | Region::Low) => Region::Window,
            (None, region) => region,
        };
        self.push(number, region);
        self.unpin();
        self.hit(number);
    }

    /// Gives up the number of an entry that is gone.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(Node { hash, .. }) = self.nodes.get(number) else { return };
        if let Some(tournament) = &mut self.tournament {
            tournament.forget(hash);
        }
        self.unlink(number);
        self.nodes.give_up(number);
    }

    /// The list of a region. A free node is in none; it is never asked for.
    fn list(&mut self, region: Region) -> (&mut List, &mut Nodes) {
        let list = match region {
            Region::Window => &mut self.window,
            Region::Probation | Region::Free => &mut self.probation,
            Region::Protected => &mut self.protected,
            Region::High => &mut self.high,
            Region::Low => &mut self.low,
        };
        (list, &mut self.nodes)
    }

    fn unlink(&mut self, number: u32) {
        let Node { region, weight, .. } = self.nodes[number];
        let (list, nodes) = self.list(region);
        list.unlink(nodes, number, weight);
    }

    fn push(&mut self, number: u32, region: Region) {
        let node = &mut self.nodes[number];
        node.region = region;
        let weight = node.weight;
        let (list, nodes) = self.list(region);
        list.push(nodes, number, weight);
    }

    /// Moves an entry to the newest end of a region.
    pub(super) fn shift(&mut self, number: u32, to: Region) {
        self.unlink(number);
        self.push(number, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::adaptive::sketch::mix;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A cache of keys that are nothing but keys.
    struct Keys {
        policy: Policy,
        held: HashMap<u64, u32>,
        hits: u64,
    }

    impl Keys {
        fn new(capacity: u64) -> Self {
            Self { policy: Policy::new(capacity), held: HashMap::new(), hits: 0 }
        }

        fn request(&mut self, key: u64, weight: u64) {
            if let Some(&number) = self.held.get(&key) {
                self.hits += 1;
                self.policy.hit(number);
                return;
            }
            self.held.insert(key, self.policy.insert(mix(key), weight));
            let mut candidate = None;
            while let Some(number) = self.policy.evict(&mut candidate) {
                let hash = self.policy.hash(number).unwrap();
                self.held.retain(|key, _| mix(*key) != hash);
                self.policy.remove(number);
            }
        }
    }

    #[test]
    fn a_loop_wider_than_the_cache_is_served_as_well_as_by_an_oracle() {
        let mut keys = Keys::new(64);
        (0..40_000).for_each(|n| keys.request(n % 200, 1));
        // The best any cache can do is 63 of 199.
        assert!(keys.hits as f64 / 40_000.0 > 0.30, "{}", keys.hits);
    }

    #[test]
    fn keys_asked_for_twice_in_a_row_of_new_ones_are_kept_long_enough() {
        let mut keys = Keys::new(256);
        // Each key is asked for again after 75 others and then never more: LRU serves half, plain TinyLFU nothing.
        for n in 0..40_000_u64 {
            keys.request(n, 1);
            if n >= 75 {
                keys.request(n - 75, 1);
            }
        }
        assert!(keys.hits as f64 / 80_000.0 > 0.30, "{}", keys.hits);
    }

    #[test]
    fn a_scan_does_not_flush_what_is_asked_for_often() {
        let mut keys = Keys::new(100);
        for round in 0..50_u64 {
            (0..50).for_each(|key| keys.request(key, 1));
            (0..200).for_each(|n| keys.request(1_000_000 + round * 200 + n, 1));
        }
        assert!(keys.hits >= 45 * 50, "{}", keys.hits);
    }

    proptest! {
        #[test]
        fn the_weight_never_exceeds_the_capacity(requests in prop::collection::vec((0..40_u64, 1..9_u64), 1..400)) {
            let mut keys = Keys::new(50);
            let mut weights = HashMap::new();
            for (key, weight) in requests {
                let weight = *weights.entry(key).or_insert(weight);
                keys.request(key, weight);
                prop_assert!(keys.policy.weight() <= 50);
                prop_assert_eq!(keys.policy.len(), keys.held.len());
                prop_assert_eq!(keys.policy.weight(), keys.held.keys().map(|key| weights[key]).sum::<u64>());
            }
        }
    }
    /// What a policy holds, beside it.
    type Shadow = HashMap<u32, (Priority, u64)>;

    fn weight_of(held: &Shadow, priority: Priority) -> u64 {
        held.values().filter(|held| held.0 == priority).map(|held| held.1).sum()
    }

    proptest! {
        /// Against an oracle that knows who is pinned: no other entry goes while a low one is held, no high one goes while
        /// the high ones keep within their share, and in all there is never too much.
        #[test]
        fn low_goes_first_and_high_last(
            plan in prop::sample::select(crate::engine::adaptive::tournament::PLANS.to_vec()),
            few in any::<bool>(),
            requests in prop::collection::vec((0..3_u8, 0..60_u64, 1..6_u64, any::<bool>()), 1..400),
        ) {
            let mut policy = Policy::with_plan(40, plan);
            let (mut numbers, mut held) = (HashMap::new(), Shadow::new());
            // Once more was pinned than may be, what was pinned first is like any other.
            let mut within = true;
            for (priority, key, weight, write) in requests {
                let mut priority = [Priority::Low, Priority::Normal, Priority::High][usize::from(priority)];
                if few && priority == Priority::High && key >= 4 {
                    priority = Priority::Normal;
                }
                match numbers.get(&key).copied() {
                    Some(number) if write => {
                        policy.update(number, priority, weight);
                        held.insert(number, (priority, weight));
                    }
                    Some(number) => policy.hit(number),
                    None => {
                        let number = policy.insert_as(priority, mix(key), weight);
                        numbers.insert(key, number);
                        held.insert(number, (priority, weight));
                    }
                }
                within &= weight_of(&held, Priority::High) <= 40 / PINNED;
                prop_assert!(policy.high.weight <= 40 / PINNED);
                let mut candidate = None;
                while let Some(number) = policy.evict(&mut candidate) {
                    let priority = held[&number].0;
                    prop_assert!(priority == Priority::Low || weight_of(&held, Priority::Low) == 0);
                    prop_assert!(priority != Priority::High || !within);
                    held.remove(&number);
                    numbers.retain(|_, other| *other != number);
                    policy.remove(number);
                }
                prop_assert!(policy.weight() <= 40);
                prop_assert_eq!(policy.weight(), held.values().map(|held| held.1).sum::<u64>());
            }
        }
    }
}
