//! Which entry goes when there is no room: W-TinyLFU whose window finds its own size.
//!
//! New entries pass through a window in order of use. What leaves the window is a candidate for the main part, and enters
//! it only when it was asked for clearly more often than what it would push out (TinyLFU). The main part is a segmented
//! LRU. Where the two parts meet decides whether the cache follows recency (a log of transactions) or frequency (a scan, a
//! loop), so the boundary moves: at short intervals the value of a little more window is compared with that of a little
//! more main part, as *hits per weight at the edge of each* (marginal utility). The window's edge is its older half and,
//! beyond it, what was refused lately (ghosts); the main part's edge is its probation segment. Unlike hill
//! climbing on the hit ratio this needs no trial in the wrong direction.

use super::ghost::Ghosts;
use super::list::{Linked, Links, List};
use super::sketch::Sketch;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Window,
    Probation,
    Protected,
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
    nodes: Nodes,
    free: Vec<u32>,
    window: List,
    probation: List,
    protected: List,
    sketch: Sketch,
    ghosts: Ghosts,
    edges: Edges,
    share: f64,
    entered: u64,
    requests: usize,
    /// Requests since the long counts last faded.
    long: usize,
}

impl Policy {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            nodes: Nodes::default(),
            free: Vec::new(),
            window: List::default(),
            probation: List::default(),
            protected: List::default(),
            sketch: Sketch::new(),
            ghosts: Ghosts::default(),
            edges: Edges::default(),
            share: START,
            entered: 0,
            requests: 0,
            long: 0,
        }
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.nodes.0.len() - self.free.len()
    }

    pub(super) const fn weight(&self) -> u64 {
        self.window.weight + self.probation.weight + self.protected.weight
    }

    /// The hash of the entry with this number, if there is one.
    pub(super) fn hash(&self, number: u32) -> Option<u64> {
        self.node(number).map(|node| node.hash)
    }

    fn node(&self, number: u32) -> Option<Node> {
        self.nodes.0.get(number as usize).copied().filter(|node| node.region != Region::Free)
    }

    /// Takes an entry in and gives it a number. The owner then calls [`Policy::evict`] until there is room.
    pub(super) fn insert(&mut self, hash: u64, weight: u64) -> u32 {
        let entries = self.len() + 1;
        self.sketch.reserve(entries);
        self.sketch.add(hash, entries);
        if let Some(age) = self.ghosts.take(hash) {
            self.edges.near += f64::from(u8::from(age <= (NEAR * self.capacity as f64) as u64));
            self.edges.far += f64::from(u8::from(age <= self.capacity));
        }
        self.entered += weight;
        let node =
            Node { hash, weight, entered: self.entered, region: Region::Window, links: Links::default() };
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
        self.window.push(&mut self.nodes, number, weight);
        self.count_request();
        number
    }

    /// An entry was used.
    pub(super) fn hit(&mut self, number: u32) {
        let Some(&Node { hash, weight, entered, region, .. }) = self.nodes.0.get(number as usize) else {
            return;
        };
        self.sketch.add(hash, self.len());
        self.unlink(number);
        match region {
            Region::Window => {
                if self.entered - entered >= self.window_limit().div_ceil(2) {
                    self.edges.window += 1.0;
                }
                self.entered += weight;
                self.nodes.0[number as usize].entered = self.entered;
                self.push(number, Region::Window);
            }
            Region::Probation => {
                self.edges.probation += 1.0;
                self.edges.long_probation += 1.0;
                self.push(number, Region::Protected);
                self.demote();
            }
            Region::Protected => self.push(number, Region::Protected),
            Region::Free => {}
        }
        self.count_request();
    }

    /// An entry was written again, with this weight. The owner then calls [`Policy::evict`] until there is room.
    pub(super) fn update(&mut self, number: u32, weight: u64) {
        let Some(Node { region, .. }) = self.node(number) else { return };
        self.unlink(number);
        self.nodes.0[number as usize].weight = weight;
        self.push(number, region);
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
        while self.window.weight > self.window_limit()
            && let Some(oldest) = self.window.oldest()
        {
            self.unlink(oldest);
            self.push(oldest, Region::Probation);
            *candidate = Some(oldest);
        }
        if self.weight() <= self.capacity {
            return None;
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

    /// The least useful of the oldest entries on probation.
    fn victim(&mut self, candidate: Option<u32>) -> Option<u32> {
        let oldest = self.probation.oldest().or(self.protected.oldest()).or(self.window.oldest())?;
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
        ((self.capacity as f64 * self.share) as u64).clamp(1, self.capacity)
    }

    /// The list of a region. A free node is in none; it is never asked for.
    fn list(&mut self, region: Region) -> (&mut List, &mut Nodes) {
        let list = match region {
            Region::Window => &mut self.window,
            Region::Probation | Region::Free => &mut self.probation,
            Region::Protected => &mut self.protected,
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
        let limit = ((self.capacity - self.window_limit()) as f64 * PROTECTED) as u64;
        while self.protected.weight > limit
            && let Some(oldest) = self.protected.oldest()
        {
            self.unlink(oldest);
            self.push(oldest, Region::Probation);
        }
    }

    fn count_request(&mut self) {
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
        self.shift();
    }

    /// Moves entries across the boundary until both parts fit.
    fn shift(&mut self) {
        while self.window.weight > self.window_limit()
            && let Some(oldest) = self.window.oldest()
        {
            self.unlink(oldest);
            self.push(oldest, Region::Probation);
        }
        while self.window.weight < self.window_limit()
            && self.probation.weight + self.protected.weight > self.capacity - self.window_limit()
            && let Some(oldest) = self.probation.oldest().or(self.protected.oldest())
        {
            self.unlink(oldest);
            self.nodes.0[oldest as usize].entered = self.entered;
            self.push(oldest, Region::Window);
        }
        self.demote();
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
}
