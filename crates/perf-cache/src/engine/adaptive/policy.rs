//! Which entry goes when there is no room: W-TinyLFU whose window finds its own size.
//!
//! New entries pass through a window in order of use. What leaves the window is a candidate for the main part, and enters
//! it only when it was asked for clearly more often than what it would push out (TinyLFU). The main part is a segmented
//! LRU. Where the two parts meet decides whether the cache follows recency (a log of transactions) or frequency (a scan, a
//! loop), so the boundary moves: at short intervals the value of a little more window is compared with that of a little
//! more main part, as *hits per weight at the edge of each* (marginal utility). The window's edge is its older half and,
//! beyond it, what was refused lately (ghosts); the main part's edge is its probation segment. Unlike hill
//! climbing on the hit ratio this needs no trial in the wrong direction.
//!
//! No one rule is best for every traffic, so this one competes with three simple ones in miniature, and the cache follows
//! whichever hits most ([`Tournament`]).
//!
//! Entries that are pinned take no part in this: low ones go before all others, high ones after, each in order of use. What
//! is pinned high beyond [`PINNED`] is unpinned, so that pins cannot fill the cache.

use super::ghost::Ghosts;
use super::list::{Linked, Links, List};
use super::sketch::Sketch;
use super::tournament::Tournament;
use crate::Priority;

/// Share of the capacity that the window starts with.
const START: f64 = 0.01;
/// Greatest share of the capacity that the window may take.
const WIDEST: f64 = 0.9;
/// Share of the main part that is protected.
const PROTECTED: f64 = 0.8;
/// Share of the capacity by which the boundary moves at most.
const STEP: f64 = 0.1;
/// What was refused within this share of the capacity would be hit by a window a little wider.
const NEAR: f64 = 0.25;
/// What was refused within a whole capacity would be hit by a window much wider. It must promise this much more than the
/// main part gives, measured over long enough for a loop to show all its keys.
const FAR_MARGIN: f64 = 1.5;
/// Hits at the edges before they are compared.
const EVIDENCE: f64 = 20.0;
/// How many of the oldest entries on probation are compared to find the least useful.
const VICTIMS: usize = 8;
/// A candidate must have been asked for this much more often than its victim. The request that brings it in counts
/// already; without the margin the entries of a loop would take turns pushing each other out.
const MARGIN: u64 = 1;

/// The rule by which entries stay or go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plan {
    /// A window that finds its own size, and admission by frequency behind it.
    Adaptive,
    /// The same with a window that keeps its size: 0 is frequency alone, 1 is recency alone (LRU).
    Window(f64),
    /// Second chances (CLOCK with two of them, as in quick_cache and S3-FIFO): what was not used again while it was new
    /// goes, unless it comes back soon after.
    Clock,
}

/// Share of the capacity for new entries under [`Plan::Clock`].
const COLD: f64 = 0.03;
/// How long [`Plan::Clock`] remembers what it refused, as a share of the capacity.
const REMEMBERED: f64 = 0.5;
/// Second chances an entry can save up.
const CHANCES: u8 = 2;
/// The share of the capacity, as a divisor, that may be pinned high.
pub(super) const PINNED: u64 = 2;
/// Entries that cross a boundary with one request, so that no request pays for a great move.
const MOVES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Window,
    Probation,
    Protected,
    /// Pinned, to go last.
    High,
    /// Pinned, to go first.
    Low,
    /// Nobody's: the number is free.
    Free,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    weight: u64,
    /// Weight that had entered or re-entered the window when this node last did.
    entered: u64,
    region: Region,
    chances: u8,
    links: Links,
}

#[derive(Debug, Default)]
struct Nodes(Vec<Node>);

impl Linked for Nodes {
    fn links(&mut self, node: u32) -> &mut Links {
        &mut self.0[node as usize].links
    }
}

/// Hits at the edges since they were last compared, older ones fading.
#[derive(Clone, Copy, Debug, Default)]
struct Edges {
    window: f64,
    probation: f64,
    near: f64,
    /// The last two again, over a longer time and a wider span.
    long_probation: f64,
    far: f64,
}

/// The decisions. It knows entries by number, hash and weight only; the owner keeps everything else.
#[derive(Debug)]
pub(super) struct Policy {
    capacity: u64,
    plan: Plan,
    /// Without one, the plan stays as it is.
    tournament: Option<Box<Tournament>>,
    nodes: Nodes,
    free: Vec<u32>,
    window: List,
    probation: List,
    protected: List,
    high: List,
    low: List,
    sketch: Sketch,
    ghosts: Ghosts,
    edges: Edges,
    share: f64,
    entered: u64,
    /// What was inserted last is not the one to go.
    latest: u32,
    requests: usize,
    /// Requests since the long counts last faded.
    long: usize,
}

impl Policy {
    pub(super) fn new(capacity: u64) -> Self {
        let tournament = Some(Box::new(Tournament::new()));
        Self { tournament, ..Self::with_plan(capacity, Plan::Adaptive) }
    }

    /// A policy that keeps to its plan.
    pub(super) fn with_plan(capacity: u64, plan: Plan) -> Self {
        let share = match plan {
            Plan::Adaptive => START,
            Plan::Window(share) => share,
            Plan::Clock => COLD,
        };
        Self {
            capacity,
            plan,
            tournament: None,
            nodes: Nodes::default(),
            free: Vec::new(),
            window: List::default(),
            probation: List::default(),
            protected: List::default(),
            high: List::default(),
            low: List::default(),
            sketch: Sketch::new(),
            ghosts: Ghosts::default(),
            edges: Edges::default(),
            share,
            entered: 0,
            latest: u32::MAX,
            requests: 0,
            long: 0,
        }
    }

    #[cfg(test)]
    pub(super) const fn plan(&self) -> Plan {
        self.plan
    }

    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    pub(super) const fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.nodes.0.len() - self.free.len()
    }

    pub(super) const fn weight(&self) -> u64 {
        self.window.weight + self.main_weight() + self.high.weight + self.low.weight
    }

    /// What is not taken by entries that are pinned high.
    const fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.high.weight)
    }

    /// The hash of the entry with this number, if there is one.
    pub(super) fn hash(&self, number: u32) -> Option<u64> {
        self.node(number).map(|node| node.hash)
    }

    fn node(&self, number: u32) -> Option<Node> {
        self.nodes.0.get(number as usize).copied().filter(|node| node.region != Region::Free)
    }

    /// Takes an entry in that is not pinned.
    pub(super) fn insert(&mut self, hash: u64, weight: u64) -> u32 {
        self.insert_as(Priority::Normal, hash, weight)
    }

    /// Takes an entry in and gives it a number. The owner then calls [`Policy::evict`] until there is room.
    pub(super) fn insert_as(&mut self, priority: Priority, hash: u64, weight: u64) -> u32 {
        let entries = self.len() + 1;
        self.compete(hash);
        self.sketch.reserve(entries);
        self.sketch.add(hash, entries);
        let mut region = Region::Window;
        if self.plan == Plan::Clock
            && self.main_weight() + weight <= self.room().saturating_sub(self.window_limit())
        {
            region = Region::Probation;
        }
        if let Some(age) = self.ghosts.take(hash) {
            if self.plan == Plan::Clock && age <= (REMEMBERED * self.capacity as f64) as u64 {
                region = Region::Probation;
            }
            self.edges.near += f64::from(u8::from(age <= (NEAR * self.capacity as f64) as u64));
            self.edges.far += f64::from(u8::from(age <= self.capacity));
        }
        let region = pin(priority).unwrap_or(region);
        self.entered += weight;
        let node = Node { hash, weight, entered: self.entered, region, chances: 0, links: Links::default() };
        let number = match self.free.pop() {
            Some(number) => {
                self.nodes.0[number as usize] = node;
                number
            }
            None => {
                self.nodes.0.push(node);
                (self.nodes.0.len() - 1) as u32
            }
        };
        self.latest = number;
        self.push(number, region);
        self.unpin();
        self.count_request();
        number
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
        let node = &mut self.nodes.0[number as usize];
        self.entered += node.weight;
        node.entered = self.entered;
        self.push(number, Region::Window);
    }

    /// Lets the tournament see a request, and follows its winner.
    fn compete(&mut self, hash: u64) {
        let Some(tournament) = &mut self.tournament else { return };
        if let Some((plan, share)) = tournament.request(hash)
            && plan != self.plan
        {
            self.plan = plan;
            self.share = share;
        }
    }

    /// The contestants get room for as many entries as the cache turns out to have.
    fn fix_tournament(&mut self) {
        let entries = self.len();
        if let Some(tournament) = &mut self.tournament {
            tournament.fix(entries - 1);
        }
    }

    const fn main_weight(&self) -> u64 {
        self.probation.weight + self.protected.weight
    }

    /// An entry was used.
    pub(super) fn hit(&mut self, number: u32) {
        let Some(&Node { hash, entered, region, .. }) = self.nodes.0.get(number as usize) else { return };
        self.compete(hash);
        self.sketch.add(hash, self.len());
        let chances = &mut self.nodes.0[number as usize].chances;
        *chances = (*chances + 1).min(CHANCES);
        if self.plan == Plan::Clock && !matches!(region, Region::High | Region::Low) {
            self.count_request();
            return;
        }
        self.unlink(number);
        match region {
            Region::Window => {
                if self.entered - entered >= self.window_limit().div_ceil(2) {
                    self.edges.window += 1.0;
                }
                self.enter_window(number);
            }
            Region::Probation => {
                self.edges.probation += 1.0;
                self.edges.long_probation += 1.0;
                self.push(number, Region::Protected);
                self.demote();
            }
            Region::Protected | Region::High | Region::Low => self.push(number, region),
            Region::Free => {}
        }
        self.count_request();
    }

    /// An entry was written again, with this priority and weight. The owner then calls [`Policy::evict`] until there is
    /// room.
    pub(super) fn update(&mut self, number: u32, priority: Priority, weight: u64) {
        let Some(Node { region, .. }) = self.node(number) else { return };
        self.unlink(number);
        self.nodes.0[number as usize].weight = weight;
        let region = match (pin(priority), region) {
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
        if self.node(number).is_some() {
            self.unlink(number);
            self.nodes.0[number as usize].region = Region::Free;
            self.free.push(number);
        }
    }

    /// Picks an entry to go, or `None` when there is room. The owner removes it and asks again.
    ///
    /// `candidate` is where the search stands between two calls for one insertion; start with `None`.
    pub(super) fn evict(&mut self, candidate: &mut Option<u32>) -> Option<u32> {
        if self.weight() > self.capacity
            && let Some(low) = self.low.oldest()
        {
            return Some(low);
        }
        if self.plan == Plan::Clock {
            return self.evict_by_clock();
        }
        if self.weight() <= self.capacity {
            return None;
        }
        self.fix_tournament();
        for _ in 0..MOVES {
            match self.window.oldest() {
                Some(oldest) if self.window.weight > self.window_limit() => {
                    self.unlink(oldest);
                    self.push(oldest, Region::Probation);
                    *candidate = Some(oldest);
                }
                _ => break,
            }
        }
        let victim = self.victim(*candidate)?;
        match *candidate {
            Some(candidate_number) if candidate_number != victim => {
                if self.frequency(candidate_number).saturating_sub(MARGIN) > self.frequency(victim) {
                    return Some(victim);
                }
                *candidate = None;
                let Node { hash, weight, .. } = self.nodes.0[candidate_number as usize];
                self.ghosts.add(hash, weight, self.len());
                Some(candidate_number)
            }
            _ => {
                *candidate = None;
                Some(victim)
            }
        }
    }

    /// What is new and was used goes on to the others; what was not, goes. What is old uses up its chances first.
    fn evict_by_clock(&mut self) -> Option<u32> {
        if self.weight() <= self.capacity {
            return None;
        }
        self.fix_tournament();
        loop {
            let Some(oldest) = self.window.oldest().filter(|&oldest| oldest != self.latest) else {
                return self.oldest_without_chances();
            };
            let Node { hash, weight, chances, .. } = self.nodes.0[oldest as usize];
            if chances == 0 {
                self.ghosts.add(hash, weight, self.len());
                return Some(oldest);
            }
            self.advance(oldest, chances, Region::Probation);
            // What comes back from the ghosts takes its room from the new ones; only this takes it from the old ones.
            if self.main_weight() > self.room().saturating_sub(self.window_limit()) {
                return self.oldest_without_chances();
            }
        }
    }

    /// Where to look for what is to go; at what is pinned high last.
    fn oldest(&self) -> Option<u32> {
        let main = self.probation.oldest().or(self.protected.oldest());
        main.or(self.window.oldest()).or(self.high.oldest())
    }

    fn oldest_without_chances(&mut self) -> Option<u32> {
        loop {
            let oldest = self.oldest()?;
            match self.nodes.0[oldest as usize].chances {
                0 => return Some(oldest),
                chances => self.advance(oldest, chances, Region::Probation),
            }
        }
    }

    /// Takes a chance from an entry and moves it to the newest end.
    fn advance(&mut self, number: u32, chances: u8, to: Region) {
        self.unlink(number);
        self.nodes.0[number as usize].chances = chances - 1;
        self.push(number, to);
    }

    /// The least useful of the oldest entries on probation.
    fn victim(&mut self, candidate: Option<u32>) -> Option<u32> {
        let oldest = self.oldest()?;
        let mut best = (self.frequency(oldest), oldest);
        let mut at = oldest;
        for _ in 1..VICTIMS {
            match List::newer(&mut self.nodes, at) {
                Some(newer) if Some(newer) != candidate => at = newer,
                _ => break,
            }
            let frequency = self.frequency(at);
            if frequency < best.0 {
                best = (frequency, at);
            }
        }
        Some(best.1)
    }

    fn frequency(&self, number: u32) -> u64 {
        self.sketch.frequency(self.nodes.0[number as usize].hash)
    }

    fn window_limit(&self) -> u64 {
        ((self.room() as f64 * self.share) as u64).clamp(1, self.room().max(1))
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
        let Node { region, weight, .. } = self.nodes.0[number as usize];
        let (list, nodes) = self.list(region);
        list.unlink(nodes, number, weight);
    }

    fn push(&mut self, number: u32, region: Region) {
        let node = &mut self.nodes.0[number as usize];
        node.region = region;
        let weight = node.weight;
        let (list, nodes) = self.list(region);
        list.push(nodes, number, weight);
    }

    /// Moves the oldest protected entries back on probation while there are too many.
    fn demote(&mut self) {
        let share = if self.plan == Plan::Clock { 0.0 } else { PROTECTED };
        let limit = (self.room().saturating_sub(self.window_limit()) as f64 * share) as u64;
        for _ in 0..MOVES {
            match self.protected.oldest() {
                Some(oldest) if self.protected.weight > limit => {
                    self.unlink(oldest);
                    self.push(oldest, Region::Probation);
                }
                _ => return,
            }
        }
    }

    fn count_request(&mut self) {
        self.settle();
        if self.plan != Plan::Adaptive {
            return;
        }
        self.requests += 1;
        self.long += 1;
        if self.long >= 2 * self.len() {
            self.long = 0;
            // Where nothing at all is hit, the far ghosts alone can show that a wider window would be.
            if self.edges.far >= EVIDENCE {
                self.move_boundary();
            }
            self.edges.far /= 2.0;
            self.edges.long_probation /= 2.0;
        }
        let hits = self.edges.window + self.edges.probation + self.edges.near;
        if self.requests >= self.len() / 10 && hits >= EVIDENCE {
            self.requests = 0;
            self.move_boundary();
        }
    }

    /// Compares what a little more window and a little more main part would bring, and moves towards the better.
    fn move_boundary(&mut self) {
        // Fewer hits than this are chance.
        const ENOUGH: f64 = 4.0;
        let Edges { window, probation, near, long_probation, far } = self.edges;
        let on_probation = self.probation.weight.max(1) as f64;
        let window_density = window / self.window_limit().div_ceil(2) as f64;
        let main_density = probation / on_probation;
        let near_density = near / (NEAR * self.capacity as f64).max(1.0);
        let far_density = far / self.capacity as f64;
        let advantage = |of: f64, over: f64| STEP * (of - over) / (of + over);
        if near_density > main_density && near > ENOUGH {
            self.share += advantage(near_density, main_density);
        } else if far_density > FAR_MARGIN * long_probation / on_probation && far > 2.0 * ENOUGH {
            self.share += advantage(far_density, main_density).max(0.0);
        } else if window_density < main_density && probation > ENOUGH {
            self.share -= advantage(main_density, window_density);
        }
        self.share = self.share.clamp(0.0, WIDEST);
        self.edges.window /= 2.0;
        self.edges.probation /= 2.0;
        self.edges.near /= 2.0;
    }

    /// Moves a few entries across the boundary, towards where both parts fit.
    fn settle(&mut self) {
        if self.plan != Plan::Clock {
            self.settle_window();
        }
        self.demote();
    }

    fn settle_window(&mut self) {
        for _ in 0..MOVES {
            let limit = self.window_limit();
            // Where there is no room, what leaves the window is a candidate, and `evict` sees to it.
            let (from, to) = if self.window.weight > limit && self.weight() <= self.capacity {
                (self.window.oldest(), Region::Probation)
            } else if self.window.weight < limit && self.main_weight() > self.room().saturating_sub(limit) {
                (self.probation.oldest().or(self.protected.oldest()), Region::Window)
            } else {
                return;
            };
            let Some(number) = from else { return };
            self.unlink(number);
            self.nodes.0[number as usize].entered = self.entered;
            self.push(number, to);
        }
    }
}

/// Where an entry stays that is pinned.
const fn pin(priority: Priority) -> Option<Region> {
    match priority {
        Priority::Low => Some(Region::Low),
        Priority::Normal => None,
        Priority::High => Some(Region::High),
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
            plan in prop::sample::select(vec![Plan::Adaptive, Plan::Window(0.01), Plan::Window(1.0), Plan::Clock]),
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
