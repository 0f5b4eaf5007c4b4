//! Which entry goes when there is no room, under each of the plans.

use super::list::List;
use super::node::{Node, Region};
use super::plan::Plan;
use super::policy::{MOVES, Policy};
use super::sketch::mix;

/// How many of the oldest entries on probation are compared to find the least useful.
const VICTIMS: usize = 8;
/// A candidate must have been asked for this much more often than its victim. The request that brings it in counts
/// already; without the margin the entries of a loop would take turns pushing each other out.
const MARGIN: u64 = 1;
/// One candidate in this many is let in under [`Plan::Chance`]. Each then stays for as many times the capacity.
const ODDS: u64 = 16;

impl Policy {
    /// Picks an entry to go, or `None` when there is room. The owner removes it and asks again.
    ///
    /// `candidate` is where the search stands between two calls for one insertion; start with `None`.
    pub(super) fn evict(&mut self, candidate: &mut Option<u32>) -> Option<u32> {
        if self.weight() <= self.capacity {
            return None;
        }
        if let Some(low) = self.low.oldest() {
            return Some(low);
        }
        if let Some(gone) = self.let_go_by_the_leader() {
            return Some(gone);
        }
        if self.plan.has_chances() { self.evict_by_clock() } else { self.evict_from_main(candidate) }
    }

    /// What leaves the window is a candidate for the main part; either it goes, or another that is there.
    fn evict_from_main(&mut self, candidate: &mut Option<u32>) -> Option<u32> {
        for _ in 0..MOVES {
            match self.window.oldest() {
                Some(oldest) if self.window.weight > self.window_limit() => {
                    self.shift(oldest, Region::Probation);
                    *candidate = Some(oldest);
                }
                _ => break,
            }
        }
        let victim = if self.plan == Plan::Chance { self.oldest()? } else { self.victim(*candidate)? };
        match *candidate {
            Some(number) if number != victim => {
                if self.admits(number, victim) {
                    return Some(victim);
                }
                *candidate = None;
                self.remember(number);
                Some(number)
            }
            _ => {
                *candidate = None;
                Some(victim)
            }
        }
    }

    fn admits(&self, candidate: u32, victim: u32) -> bool {
        if self.plan == Plan::Chance {
            return mix(self.nodes[candidate].hash ^ self.entered).is_multiple_of(ODDS);
        }
        self.frequency(candidate).saturating_sub(MARGIN) > self.frequency(victim)
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
        self.sketch.frequency(self.nodes[number].hash)
    }

    /// What is new and was used goes on to the others; what was not, goes. What is old uses up its chances first.
    fn evict_by_clock(&mut self) -> Option<u32> {
        // A cache that was full before it had this plan has no queue yet.
        if self.plan == Plan::Queue && self.main_weight() > self.main_room() {
            return self.oldest_without_chances();
        }
        while let Some(oldest) = self.window.oldest().filter(|&oldest| oldest != self.latest) {
            match self.nodes[oldest].chances {
                0 => {
                    self.remember(oldest);
                    return Some(oldest);
                }
                chances => self.advance(oldest, chances),
            }
            // What comes back from the ghosts takes its room from the new ones; only this takes it from the old ones.
            if self.main_weight() > self.main_room() {
                break;
            }
        }
        self.oldest_without_chances()
    }

    fn oldest_without_chances(&mut self) -> Option<u32> {
        loop {
            let oldest = self.oldest()?;
            match self.nodes[oldest].chances {
                0 => return Some(oldest),
                chances => self.advance(oldest, chances),
            }
        }
    }

    /// Takes a chance from an entry and moves it to the newest end.
    fn advance(&mut self, number: u32, chances: u8) {
        self.nodes[number].chances = chances - 1;
        self.shift(number, Region::Probation);
    }

    /// Where to look for what is to go; at what is pinned high last.
    fn oldest(&self) -> Option<u32> {
        let main = self.probation.oldest().or(self.protected.oldest());
        main.or(self.window.oldest()).or(self.high.oldest())
    }

    /// Of what the winner of the contest does not hold any more, what it let go of first.
    fn let_go_by_the_leader(&mut self) -> Option<u32> {
        let entries = self.len();
        let tournament = self.tournament.as_mut()?;
        tournament.fix(entries - 1);
        let number = tournament.gone()?;
        let Node { region, .. } = self.nodes.get(number).filter(|node| node.region != Region::High)?;
        if region == Region::Window {
            self.remember(number);
        }
        Some(number)
    }

    /// Keeps the hash of what was refused.
    fn remember(&mut self, number: u32) {
        if self.tournament.is_some() || self.plan.remembers() {
            let Node { hash, weight, .. } = self.nodes[number];
            self.ghosts.add(hash, weight, self.len());
        }
    }
}
