//! What was invalidated where in the log: decides whether bytes from the second tier are still valid.

use super::port::{End, Position};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Fences by position. Plain data; the owner locks it.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Everything up to here has been applied on this node.
    pub(crate) applied: Position,
    /// Which record of which node that was, where the log keeps records.
    pub(crate) seen: Option<(u64, u64)>,
    /// Nothing that was loaded before this position is valid.
    pub(crate) floor: Position,
    /// Whether this node has read the log to its end and still follows it. Before, nothing can be believed.
    pub(crate) following: bool,
    /// Whether it has ever followed the log.
    pub(crate) was_following: bool,
    /// The last record seen of each node.
    serials: HashMap<u64, u64, RandomState>,
    table: HashMap<u64, Position, RandomState>,
    limit: usize,
}

impl Positions {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            applied: Position::ZERO,
            seen: None,
            floor: Position::ZERO,
            following: false,
            was_following: false,
            serials: HashMap::default(),
            table: HashMap::default(),
            limit: limit.max(2),
        }
    }

    /// A fence whose position the log has not told yet: nothing from the second tier passes it.
    pub(crate) fn pend(&mut self, fence: u64) {
        self.table.insert(fence, Position::PENDING);
    }

    /// The log has told the position of a fence of ours. While it was pending, another node's fence of the same name may
    /// have been applied unnoticed, hence not before `applied`.
    pub(crate) fn settle(&mut self, fence: u64, at: Position) {
        if !self.table.contains_key(&fence) && self.table.len() >= self.limit {
            self.forget_oldest();
        }
        self.table.insert(fence, at.max(self.applied));
    }

    /// A fence by another node; one of ours that is pending stays so.
    pub(crate) fn learn(&mut self, fence: u64, at: Position) {
        if self.table.get(&fence).is_none_or(|&known| known < at) {
            self.settle(fence, at);
        }
    }

    /// Notes the number of a record. False when records of that node before it have been lost.
    pub(crate) fn count(&mut self, origin: u64, serial: u64) -> bool {
        if serial == 0 {
            return true;
        }
        if self.serials.len() >= self.limit && !self.serials.contains_key(&origin) {
            // Long-lived services see few nodes at a time; whoever is forgotten here is taken as new.
            self.serials.clear();
            self.following = false;
        }
        let last = self.serials.insert(origin, serial);
        match last {
            Some(last) => serial <= last + 1,
            None => serial == 1 || !self.following,
        }
    }

    pub(crate) fn allow(&self, as_of: Position, tags: impl IntoIterator<Item = u64>) -> bool {
        self.following
            && as_of >= self.floor
            && tags.into_iter().all(|tag| self.table.get(&tag).is_none_or(|&fence| fence <= as_of))
    }

    /// Follows the log from here on; what is older counts as unknown.
    pub(crate) fn start_from(&mut self, end: End) {
        self.raise(end.position);
        (self.applied, self.seen) = (end.position, end.record);
    }

    /// Nothing loaded before `floor` is valid any more.
    pub(crate) fn raise(&mut self, floor: Position) {
        self.floor = self.floor.max(floor);
        self.table.retain(|_, at| *at > floor);
    }

    fn forget_oldest(&mut self) {
        let mut known: Vec<Position> =
            self.table.values().copied().filter(|&at| at != Position::PENDING).collect();
        if known.is_empty() {
            return;
        }
        let middle = known.len() / 2;
        let (_, &mut median, _) = known.select_nth_unstable(middle);
        self.raise(median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(major: u64) -> Position {
        Position { major, minor: 0 }
    }

    #[test]
    fn a_pending_fence_stops_everything_until_it_is_settled() {
        let mut positions = Positions { following: true, ..Positions::new(8) };
        positions.pend(1);
        positions.learn(1, at(9));
        assert!(!positions.allow(at(100), [1]));
        positions.settle(1, at(5));
        assert!(!positions.allow(at(4), [1]) && positions.allow(at(5), [1]) && positions.allow(at(0), [2]));
    }

    #[test]
    fn too_many_fences_raise_the_floor() {
        let mut positions = Positions { following: true, ..Positions::new(4) };
        (1..=10).for_each(|n| positions.learn(n, at(n)));
        assert!(!positions.allow(at(1), []) && positions.allow(at(10), [3]) && !positions.allow(at(9), [10]));
    }
}
