use super::health::spill_into;
use super::state::State;
use super::{Balance, EndpointView, Role, rank};
use perf_core::time::Instant;

/// What a caller asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish<'a> {
    pub(super) role: Option<Role>,
    pub(super) key: Option<u64>,
    /// Endpoints that the caller has tried already.
    pub(super) tried: &'a [u64],
}

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) id: u64,
    /// Whether it decides on the return of an endpoint that was taken out.
    pub(super) probe: bool,
    /// Whether the endpoint was available when it was chosen, and not only better than none.
    pub(super) available: bool,
}

/// What a choice needs for a moment, kept so that choosing allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    views: Vec<EndpointView>,
    /// Those the choice is made from, by index.
    group: Vec<usize>,
    groups: Vec<Group>,
    healthy: Vec<(usize, usize)>,
    shares: Vec<f64>,
}

/// The endpoints of one priority.
#[derive(Clone, Copy, Debug)]
struct Group {
    priority: u32,
    available: usize,
    all: usize,
}

impl State {
    /// Chooses an endpoint and counts a call to it. Better one that is taken out or down than none.
    pub(super) fn choose(&mut self, wish: Wish<'_>, balance: &dyn Balance, now: Instant) -> Option<Chosen> {
        self.with_scratch(now, |state, scratch| {
            let tier = state.tier(wish, &scratch.views)?;
            let priority = state.narrow(wish, tier, scratch);
            let probe = state.due_probe(wish, (tier, priority), now);
            let index = probe.or_else(|| state.pick(wish, scratch, balance))?;
            Some(state.begin(index, probe.is_some()))
        })
    }

    /// The same among those that are available and no others, for a caller who has somewhere to wait already.
    pub(super) fn choose_available(
        &mut self,
        wish: Wish<'_>,
        balance: &dyn Balance,
        now: Instant,
    ) -> Option<Chosen> {
        self.with_scratch(now, |state, scratch| {
            let tier = state.tier(wish, &scratch.views)?;
            state.narrow(wish, tier, scratch);
            scratch.group.retain(|index| scratch.views[*index].available);
            let index = state.among(wish.key, scratch, balance)?;
            Some(state.begin(index, false))
        })
    }

    fn with_scratch<T>(&mut self, now: Instant, choice: impl FnOnce(&mut Self, &mut Scratch) -> T) -> T {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.views.clear();
        scratch.views.extend((0..self.known.len()).map(|index| self.view(index, now)));
        let chosen = choice(self, &mut scratch);
        self.scratch = scratch;
        chosen
    }

    fn begin(&mut self, index: usize, probe: bool) -> Chosen {
        let available = self.is_available(index);
        self.picked += 1;
        self.known[index].in_flight += 1;
        Chosen { id: self.known[index].id, probe, available }
    }

    /// How well an endpoint suits what is asked for, zero being best; none if it must not be used for it. Reads go to a
    /// writer if no reader is available; a role that nobody has told is given the benefit of the doubt if there is nobody
    /// else.
    fn suits(&self, index: usize, wish: Wish<'_>) -> Option<u8> {
        let known = &self.known[index];
        if wish.tried.contains(&known.id) {
            return None;
        }
        match (wish.role, known.role) {
            (None, _) => Some(0),
            (Some(asked), Some(is)) if asked == is => Some(0),
            (Some(Role::Writer), Some(Role::Reader)) => None,
            (Some(_), _) => Some(1),
        }
    }

    /// The best suited of which one is available, or else the best suited there are.
    fn tier(&self, wish: Wish<'_>, views: &[EndpointView]) -> Option<u8> {
        if wish.role.is_none() && wish.tried.is_empty() {
            // The rule: any will do.
            return (!views.is_empty()).then_some(0);
        }
        let suiting = || (0..views.len()).filter_map(|index| Some((index, self.suits(index, wish)?)));
        let available = suiting().filter(|(index, _)| views[*index].available);
        available.map(|(_, tier)| tier).min().or_else(|| suiting().map(|(_, tier)| tier).min())
    }

    /// Leaves those of a tier whose priority has its turn, and returns that.
    fn narrow(&mut self, wish: Wish<'_>, tier: u8, scratch: &mut Scratch) -> u32 {
        let Scratch { views, group, groups, healthy, shares } = scratch;
        group.clear();
        group.extend((0..views.len()).filter(|index| self.suits(*index, wish) == Some(tier)));
        if !self.prioritised {
            return group.first().map_or(0, |index| self.known[*index].endpoint.priority);
        }
        groups.clear();
        for index in &*group {
            let priority = self.known[*index].endpoint.priority;
            let place = groups.iter().position(|group| group.priority == priority).unwrap_or_else(|| {
                groups.push(Group { priority, available: 0, all: 0 });
                groups.len() - 1
            });
            groups[place].all += 1;
            groups[place].available += usize::from(views[*index].available);
        }
        groups.sort_unstable_by_key(|group| group.priority);
        let mut turn = groups.first().map_or(0, |group| group.priority);
        if groups.len() > 1 {
            healthy.clear();
            healthy.extend(groups.iter().map(|group| (group.available, group.all)));
            spill_into(healthy, shares);
            let mut left = self.rng.unit();
            let chosen = groups.iter().zip(shares.iter()).find(|(_, share)| {
                left -= **share;
                left < 0.0
            });
            turn = chosen.map_or(turn, |(group, _)| group.priority);
            group.retain(|index| self.known[*index].endpoint.priority == turn);
        }
        turn
    }

    /// One that was taken out and may prove itself by one call: as well suited as those whose turn it is, or better. Those
    /// in whose place the others stand in would otherwise never come back.
    fn due_probe(&mut self, wish: Wish<'_>, (tier, priority): (u8, u32), now: Instant) -> Option<usize> {
        // A key is no reason to try one that it does not belong to.
        let owner = wish.key.map(|key| self.ring.owner(key));
        let mut due = (0..self.known.len())
            .filter(|index| self.ejector.is_due(*index, now) && self.known[*index].health.is_up())
            .filter(|index| owner.is_none_or(|owner| owner == Some(*index)))
            .filter(|index| {
                let own = self.known[*index].endpoint.priority;
                self.suits(*index, wish).is_some_and(|suits| suits < tier || suits == tier && own <= priority)
            });
        let index = due.next()?;
        self.ejector.admit(index, now).then_some(index)
    }

    fn pick(&mut self, wish: Wish<'_>, scratch: &mut Scratch, balance: &dyn Balance) -> Option<usize> {
        let Scratch { views, group, .. } = &mut *scratch;
        let out = group.iter().filter(|index| !views[**index].available).count();
        if out > 0 && out == group.len() && wish.tried.is_empty() {
            // All are out: the list says nothing any more.
            group.iter().for_each(|index| self.ejector.forgive(*index));
        }
        let panicking = out as f64 > self.config.ejector.panic_threshold * group.len() as f64;
        self.panicked += u64::from(panicking);
        if panicking {
            group.iter().for_each(|index| views[*index].available = true);
        }
        self.among(wish.key, scratch, balance).or_else(|| {
            // The balance has given up: better an ill one than none.
            self.panicked += u64::from(!panicking);
            scratch.group.iter().for_each(|index| scratch.views[*index].available = true);
            self.among(wish.key, scratch, balance)
        })
    }

    /// One of the group that may be used.
    fn among(&mut self, key: Option<u64>, scratch: &mut Scratch, balance: &dyn Balance) -> Option<usize> {
        let Scratch { views, group, .. } = scratch;
        if group.len() < views.len() {
            for (index, view) in views.iter_mut().enumerate() {
                view.available &= group.contains(&index);
            }
        }
        match key {
            Some(key) => self.owner(key, views),
            None => balance.pick(views, &mut self.rng),
        }
    }

    /// The owner of a key, or the next in the key's own order if it may not be used.
    fn owner(&self, key: u64, views: &[EndpointView]) -> Option<usize> {
        self.ring.owner(key).filter(|owner| views[*owner].available).or_else(|| {
            let available = (0..views.len()).filter(|index| views[*index].available);
            available.max_by_key(|index| rank(key, &self.known[*index].endpoint.name))
        })
    }
}
