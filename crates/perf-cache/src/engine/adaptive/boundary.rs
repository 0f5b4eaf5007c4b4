//! Where window and main part meet.
//!
//! At short intervals the value of a little more window is compared with that of a little more main part, as *hits per
//! weight at the edge of each* (marginal utility). The window's edge is its older half and, beyond it, what was refused
//! lately (ghosts); the main part's edge is its probation segment. Unlike hill climbing on the hit ratio this needs no
//! trial in the wrong direction.

use super::node::Region;
use super::plan::Plan;
use super::policy::{MOVES, Policy};

/// Greatest share of the capacity that the window may take.
const WIDEST: f64 = 0.9;
/// Share of the capacity by which the boundary moves at most.
const STEP: f64 = 0.1;
/// What was refused within this share of the capacity would be hit by a window a little wider.
const NEAR: f64 = 0.25;
/// What was refused within a whole capacity would be hit by a window much wider. It must promise this much more than the
/// main part gives, measured over long enough for a loop to show all its keys.
const FAR_MARGIN: f64 = 1.5;
/// Hits at the edges before they are compared.
const EVIDENCE: f64 = 20.0;

/// Hits at the edges since they were last compared, older ones fading.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edges {
    window: f64,
    probation: f64,
    near: f64,
    /// The last two again, over a longer time and a wider span.
    long_probation: f64,
    far: f64,
    requests: usize,
    /// Requests since the long counts last faded.
    long: usize,
}

impl Edges {
    /// Something came back that was refused this much weight ago.
    pub(super) fn ghost(&mut self, age: u64, capacity: u64) {
        self.near += f64::from(u8::from(age <= (NEAR * capacity as f64) as u64));
        self.far += f64::from(u8::from(age <= capacity));
    }

    pub(super) fn window(&mut self) {
        self.window += 1.0;
    }

    pub(super) fn probation(&mut self) {
        self.probation += 1.0;
        self.long_probation += 1.0;
    }
}

impl Policy {
    pub(super) fn count_request(&mut self) {
        self.settle();
        if self.plan != Plan::Adaptive {
            return;
        }
        self.edges.requests += 1;
        self.edges.long += 1;
        if self.edges.long >= 2 * self.len() {
            self.edges.long = 0;
            // Where nothing at all is hit, the far ghosts alone can show that a wider window would be.
            if self.edges.far >= EVIDENCE {
                self.move_boundary();
            }
            self.edges.far /= 2.0;
            self.edges.long_probation /= 2.0;
        }
        let hits = self.edges.window + self.edges.probation + self.edges.near;
        if self.edges.requests >= self.len() / 10 && hits >= EVIDENCE {
            self.edges.requests = 0;
            self.move_boundary();
        }
    }

    /// Compares what a little more window and a little more main part would bring, and moves towards the better.
    fn move_boundary(&mut self) {
        // Fewer hits than this are chance.
        const ENOUGH: f64 = 4.0;
        let Edges { window, probation, near, long_probation, far, .. } = self.edges;
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
        if !self.plan.has_chances() {
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
            self.nodes[number].entered = self.entered;
            self.shift(number, to);
        }
    }

    /// Moves the oldest protected entries back on probation while there are too many.
    pub(super) fn demote(&mut self) {
        let limit = (self.main_room() as f64 * self.plan.protected()) as u64;
        for _ in 0..MOVES {
            match self.protected.oldest() {
                Some(oldest) if self.protected.weight > limit => self.shift(oldest, Region::Probation),
                _ => return,
            }
        }
    }
}
