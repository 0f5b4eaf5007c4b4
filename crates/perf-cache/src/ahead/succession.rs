//! Which key follows which, learned from the reads of many sessions within a memory budget.

use perf_core::Rng;
use std::collections::HashMap;

/// Successors remembered for a key: what follows more than four ways cannot be foretold.
const SUCCESSORS: usize = 4;
/// Keys of which the one used least lately makes room; taken at random, as Redis does, which needs no list.
const SAMPLED: usize = 8;
/// Transitions of a key after which older ones count half.
const FADING: u32 = 256;
/// Share of the memory, one in so many, that the last keys of sessions may take.
const SESSIONS: usize = 8;

/// A key that probably comes next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prediction<K> {
    pub(crate) key: K,
    pub(crate) hash: u64,
    /// How often it came next, of the times that anything did.
    pub(crate) confidence: f64,
}

#[derive(Debug)]
struct Successor<K> {
    key: K,
    hash: u64,
    count: u32,
}

#[derive(Debug)]
struct Node<K> {
    hash: u64,
    total: u32,
    used: u64,
    bytes: usize,
    successors: Vec<Successor<K>>,
}

#[derive(Debug)]
struct Session {
    id: u64,
    last: u64,
    used: u64,
}

/// Things found by a number, of which the one used least lately makes room.
#[derive(Debug)]
struct Slab<T> {
    items: Vec<T>,
    places: HashMap<u64, usize, foldhash::fast::RandomState>,
}

impl<T> Slab<T> {
    fn new() -> Self {
        Self { items: Vec::new(), places: HashMap::default() }
    }

    fn get(&mut self, id: u64) -> Option<&mut T> {
        self.items.get_mut(*self.places.get(&id)?)
    }

    fn put(&mut self, id: u64, item: T) {
        self.places.insert(id, self.items.len());
        self.items.push(item);
    }

    /// Takes out about the one that was used least lately.
    fn evict(&mut self, rng: &mut Rng, stamp: impl Fn(&T) -> (u64, u64)) -> Option<T> {
        let pick = |_| rng.below(self.items.len() as u64) as usize;
        let at = (0..SAMPLED.min(self.items.len())).map(pick).min_by_key(|&at| stamp(&self.items[at]).0)?;
        let evicted = self.items.swap_remove(at);
        self.places.remove(&stamp(&evicted).1);
        if let Some(moved) = self.items.get(at) {
            self.places.insert(stamp(moved).1, at);
        }
        Some(evicted)
    }
}

/// First-order transitions between keys.
#[derive(Debug)]
pub(crate) struct Succession<K> {
    nodes: Slab<Node<K>>,
    sessions: Slab<Session>,
    rng: Rng,
    now: u64,
    bytes: usize,
    budget: usize,
    max_sessions: usize,
}

impl<K: Clone> Succession<K> {
    /// What a key costs beside its successors: the node, its place in the vector and in the table.
    const NODE: usize = size_of::<Node<K>>() + 32;
    const SUCCESSOR: usize = size_of::<Successor<K>>();

    pub(crate) fn new(budget: usize, seed: u64) -> Self {
        let sessions = budget / SESSIONS;
        Self {
            nodes: Slab::new(),
            sessions: Slab::new(),
            rng: Rng::seeded(seed),
            now: 0,
            bytes: 0,
            budget: budget - sessions,
            max_sessions: (sessions / (size_of::<Session>() + 32)).max(1),
        }
    }

    /// A session reads a key; `extra` is what the key holds on the heap.
    pub(crate) fn read(&mut self, session: u64, hash: u64, key: &K, extra: usize) {
        self.now += 1;
        let now = self.now;
        let previous = match self.sessions.get(session) {
            Some(known) => {
                known.used = now;
                Some(std::mem::replace(&mut known.last, hash))
            }
            None => {
                if self.sessions.items.len() >= self.max_sessions {
                    _ = self.sessions.evict(&mut self.rng, |session| (session.used, session.id));
                }
                self.sessions.put(session, Session { id: session, last: hash, used: now });
                None
            }
        };
        if let Some(previous) = previous.filter(|previous| *previous != hash) {
            self.follow(previous, hash, key, extra);
        }
    }

    /// Learns that `hash` came after `previous`.
    fn follow(&mut self, previous: u64, hash: u64, key: &K, extra: usize) {
        let now = self.now;
        if self.nodes.get(previous).is_none() {
            let node =
                Node { hash: previous, total: 0, used: now, bytes: Self::NODE, successors: Vec::new() };
            self.bytes += node.bytes;
            self.nodes.put(previous, node);
        }
        if let Some(node) = self.nodes.get(previous) {
            let before = node.bytes;
            node.used = now;
            node.follow(hash, key, Self::SUCCESSOR + extra);
            self.bytes = self.bytes + node.bytes - before;
        }
        while self.bytes > self.budget {
            let Some(evicted) = self.nodes.evict(&mut self.rng, |node| (node.used, node.hash)) else { break };
            self.bytes = self.bytes.saturating_sub(evicted.bytes);
        }
    }

    /// What probably comes after a key, the likeliest first: seen at least `support` times, and in at least this share of
    /// the cases.
    pub(crate) fn predict(&mut self, hash: u64, support: u32, confidence: f64) -> Vec<Prediction<K>> {
        let Some(node) = self.nodes.get(hash) else { return Vec::new() };
        let total = f64::from(node.total.max(1));
        let likely = |successor: &Successor<K>| {
            let share = f64::from(successor.count) / total;
            (successor.count >= support && share >= confidence).then(|| Prediction {
                key: successor.key.clone(),
                hash: successor.hash,
                confidence: share,
            })
        };
        let mut found: Vec<_> = node.successors.iter().filter_map(likely).collect();
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        found
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.sessions.items.len() * (size_of::<Session>() + 32)
    }
}

impl<K: Clone> Node<K> {
    fn follow(&mut self, hash: u64, key: &K, cost: usize) {
        self.total += 1;
        if let Some(known) = self.successors.iter_mut().find(|known| known.hash == hash) {
            known.count += 1;
        } else if self.successors.len() < SUCCESSORS {
            self.bytes += cost;
            self.successors.push(Successor { key: key.clone(), hash, count: 1 });
        } else if let Some(least) = self.successors.iter_mut().min_by_key(|known| known.count) {
            // A newcomer must wear down what it replaces, so that noise does not push out what was learned.
            least.count -= 1;
            if least.count == 0 {
                *least = Successor { key: key.clone(), hash, count: 1 };
            }
        }
        if self.total >= FADING {
            self.total /= 2;
            self.successors.iter_mut().for_each(|known| known.count = (known.count / 2).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_key_is_learned_from_each_session_apart() {
        let mut learned = Succession::new(1 << 20, 1);
        for round in 0..10_u64 {
            // Two sessions interleaved: 1 → 2 in one, 5 → 6 in the other.
            for (session, key) in [(1, 1), (2, 5), (1, 2), (2, 6)] {
                learned.read(session + round * 10, key, &key, 0);
            }
        }
        let next = learned.predict(1, 3, 0.5);
        assert_eq!(next, [Prediction { key: 2, hash: 2, confidence: 1.0 }]);
        assert_eq!(learned.predict(5, 3, 0.5)[0].key, 6);
        assert_eq!(learned.predict(2, 3, 0.5), []);
    }

    #[test]
    fn a_key_that_anything_follows_predicts_nothing() {
        let (mut learned, mut rng) = (Succession::new(1 << 20, 1), Rng::seeded(2));
        for session in 0..5000 {
            learned.read(session, 1, &1, 0);
            let next = 2 + rng.below(500);
            learned.read(session, next, &next, 0);
        }
        assert_eq!(learned.predict(1, 3, 0.3), []);
    }

    #[test]
    fn what_is_learned_stays_within_the_budget_and_what_is_used_stays() {
        let mut learned = Succession::new(64 << 10, 1);
        for session in 0..20_000 {
            for key in [1, 2, 1000 + session] {
                learned.read(session, key, &key, 0);
            }
            assert!(learned.bytes() <= 64 << 10);
        }
        assert_eq!(learned.predict(1, 3, 0.9)[0].key, 2, "the pair of every session is still known");
    }

    #[test]
    fn a_habit_that_changes_is_learned_anew() {
        let mut learned = Succession::new(1 << 20, 1);
        for (from, to) in [(0, 2), (1, 3)] {
            for session in 0..300 {
                let session = from * 1000 + session;
                learned.read(session, 1, &1, 0);
                learned.read(session, to, &to, 0);
            }
        }
        assert_eq!(learned.predict(1, 3, 0.3)[0].key, 3);
    }
}
