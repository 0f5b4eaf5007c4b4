//! A model of the planner, made of its own answers: a statement costs what the cheapest plan known for it costs whose indexes are all
//! there. More indexes never make a plan dearer, so the planner's own cost is at most that. Asking the model takes nanoseconds, so it can
//! be searched widely, as is usual for choosing locations: statements bid for being served, bids rise and fall until few are served twice or
//! never (Lagrangian relaxation), and the best sets met on the way are improved by local search.

use super::problem::Problem;
use crate::advise::set::Set;
use perf_core::Rng;
use std::collections::HashMap;

/// How often bids are changed.
const BIDS: usize = 250;
/// Changes of the bids without a better set before they become smaller.
const PATIENCE: usize = 10;
/// The best sets met while bidding that are improved.
const KEPT: usize = 6;
/// How often the best set is shaken afterwards.
const SHAKES: usize = 48;
/// Candidates taken out by a shake at most.
const SHAKEN: u64 = 3;
/// Gains below this share of the cost are noise of adding up.
const EPSILON: f64 = 1e-9;

/// A plan: the indexes it uses, and its cost by the statement's weight.
#[derive(Clone, Debug)]
struct Plan {
    used: Set,
    cost: f64,
}

/// The plans known, by statement and by candidate.
pub(super) struct Model<'a> {
    problem: &'a Problem,
    /// The cheapest first; the last uses nothing.
    plans: Vec<Vec<Plan>>,
    /// For each candidate some plan uses, those plans by statement and place.
    using: Vec<(usize, Vec<(usize, usize)>)>,
}

/// A set under the model.
#[derive(Clone, Debug)]
struct State {
    set: Set,
    /// The place of each statement's plan.
    plan: Vec<usize>,
    total: f64,
    room: Room,
}

/// What one candidate can do: for each statement the cost of its cheapest plan with it, and its part in that plan.
struct Offer {
    item: usize,
    serves: Vec<(usize, f64, f64)>,
}

/// How often each statement is served by a set at these bids.
fn served(offers: &[Offer], bids: &[f64], set: &Set) -> Vec<f64> {
    let mut served = vec![0.0; bids.len()];
    for offer in offers.iter().filter(|offer| set.contains(offer.item)) {
        for (query, cost, part) in &offer.serves {
            if *cost < bids[*query] {
                served[*query] += part;
            }
        }
    }
    served
}

/// What a set takes of the limits.
#[derive(Clone, Debug, Default)]
struct Room {
    bytes: f64,
    count: usize,
    per_table: HashMap<usize, usize>,
}

/// The chosen candidates a statement's plan uses, by their place, and its cost without each.
type Without = Vec<(usize, f64)>;

/// The best change of a set, and by how much the total changes.
struct Move {
    out: Option<usize>,
    item: Option<usize>,
    change: f64,
}

impl<'a> Model<'a> {
    /// The model of these plans: for each statement the indexes used and the cost, the plan without any included.
    pub(super) fn new(problem: &'a Problem, known: Vec<Vec<(Set, f64)>>) -> Self {
        let mut using: Vec<Vec<(usize, usize)>> = vec![Vec::new(); problem.candidates.len()];
        let mut plans = Vec::with_capacity(known.len());
        for (query, known) in known.into_iter().enumerate() {
            let mut own: Vec<Plan> = Vec::new();
            let mut sorted = known;
            sorted.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.len().cmp(&b.0.len())));
            for (used, cost) in sorted {
                // One that needs more and costs no less is never the cheapest.
                if own.iter().all(|plan| !plan.used.is_subset(&used)) {
                    own.push(Plan { used, cost: cost * problem.weights[query] });
                }
            }
            for (place, plan) in own.iter().enumerate() {
                plan.used.iter().for_each(|item| using[item].push((query, place)));
            }
            plans.push(own);
        }
        let using = using.into_iter().enumerate().filter(|(_, plans)| !plans.is_empty()).collect();
        Self { problem, plans, using }
    }

    /// A good set within the limits. The same model always yields the same one.
    pub(super) fn best(&self) -> Set {
        let mut rng = Rng::seeded(95);
        let mut best = self.state(Set::default());
        for mut state in self.bid() {
            self.descend(&mut state);
            if state.total < best.total {
                best = state;
            }
        }
        for _ in 0..SHAKES {
            let mut state = self.shaken(&best, &mut rng);
            self.descend(&mut state);
            if state.total < best.total {
                best = state;
            }
        }
        best.set
    }

    /// The best sets met while statements bid for being served, and the empty one.
    fn bid(&self) -> Vec<State> {
        let base: Vec<f64> =
            self.plans.iter().map(|plans| plans.last().map_or(0.0, |plan| plan.cost)).collect();
        let offers = self.offers();
        let mut bids: Vec<f64> = base.iter().map(|base| base * 0.5).collect();
        let mut kept = vec![self.state(Set::default())];
        let (mut length, mut idle, mut highest) = (1.0_f64, 0, f64::NEG_INFINITY);
        for _ in 0..BIDS {
            let (set, least) = self.winners(&offers, &bids);
            let state = self.state(set);
            let (best, gap) = (kept[0].total, kept[0].total - least);
            if least > highest {
                highest = least;
                idle = 0;
            } else {
                idle += 1;
                if idle % PATIENCE == 0 {
                    length *= 0.7;
                }
            }
            let served = served(&offers, &bids, &state.set);
            let place = kept.partition_point(|other| other.total < state.total);
            if place < KEPT && kept.iter().all(|other| other.set != state.set) {
                kept.insert(place, state);
                kept.truncate(KEPT);
            }
            let slope = |(served, (bid, base)): (&f64, (&f64, &f64))| {
                if *served < 1.0 && bid >= base { 0.0 } else { 1.0 - served }
            };
            let slopes: Vec<f64> = served.iter().zip(bids.iter().zip(&base)).map(slope).collect();
            let norm: f64 = slopes.iter().map(|slope| slope * slope).sum();
            if norm < 1e-9 || length < 1e-3 {
                break;
            }
            let step = length * gap.max(best * 1e-4) / norm;
            for ((bid, slope), base) in bids.iter_mut().zip(&slopes).zip(&base) {
                *bid = (*bid + step * slope).clamp(0.0, *base);
            }
        }
        kept
    }

    /// What each candidate can do for each statement: its cheapest plan, and the candidate's part in it.
    fn offers(&self) -> Vec<Offer> {
        let offer = |(item, using): &(usize, Vec<(usize, usize)>)| {
            let mut serves: Vec<(usize, f64, f64)> = Vec::new();
            for (query, place) in using {
                let plan = &self.plans[*query][*place];
                if serves.last().is_none_or(|(last, ..)| last != query) {
                    serves.push((*query, plan.cost, 1.0 / plan.used.len() as f64));
                }
            }
            Offer { item: *item, serves }
        };
        self.using.iter().map(offer).collect()
    }

    /// The candidates that are worth more than they cost at these bids, as far as there is room, and what that says the total
    /// is at least.
    fn winners(&self, offers: &[Offer], bids: &[f64]) -> (Set, f64) {
        let limits = &self.problem.limits;
        let size = |item: usize| {
            let bytes = self.problem.candidates[item].bytes / limits.bytes;
            bytes + 1.0 / limits.count.max(1) as f64
        };
        let worth = |offer: &Offer| {
            let gains = offer.serves.iter().map(|(query, cost, part)| (cost - bids[*query]).min(0.0) * part);
            self.problem.candidates[offer.item].upkeep + gains.sum::<f64>()
        };
        let mut ranked: Vec<(f64, f64, usize)> = offers
            .iter()
            .map(|offer| (worth(offer), offer.item))
            .filter(|(worth, _)| *worth < 0.0)
            .map(|(worth, item)| (worth / size(item), worth, item))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut set, mut room, mut least) = (Set::default(), Room::default(), bids.iter().sum::<f64>());
        for (_, worth, item) in ranked {
            if room.fits(self.problem, item, None) {
                room.take(self.problem, item);
                set.insert(item);
                least += worth;
            }
        }
        (set, least)
    }

    fn state(&self, set: Set) -> State {
        let plan: Vec<usize> = (0..self.plans.len()).map(|query| self.plan(query, &set)).collect();
        let reading: f64 = plan.iter().enumerate().map(|(query, place)| self.plans[query][*place].cost).sum();
        let upkeep: f64 = set.iter().map(|item| self.problem.candidates[item].upkeep).sum();
        let mut room = Room::default();
        set.iter().for_each(|item| room.take(self.problem, item));
        State { set, plan, total: reading + upkeep, room }
    }

    fn plan(&self, query: usize, set: &Set) -> usize {
        let plans = &self.plans[query];
        plans.iter().position(|plan| plan.used.is_subset(set)).unwrap_or(plans.len() - 1)
    }

    /// The set without a few of its candidates, and with one of chance in their place where it fits.
    fn shaken(&self, state: &State, rng: &mut Rng) -> State {
        let mut set = state.set.clone();
        for _ in 0..=rng.below(SHAKEN) {
            let items: Vec<usize> = set.iter().collect();
            if !items.is_empty() {
                set.remove(items[rng.below(items.len() as u64) as usize]);
            }
        }
        let mut shaken = self.state(set);
        if !self.using.is_empty() {
            let item = self.using[rng.below(self.using.len() as u64) as usize].0;
            if !shaken.set.contains(item) && shaken.room.fits(self.problem, item, None) {
                let set = shaken.set.with(&Set::of([item]));
                shaken = self.state(set);
            }
        }
        shaken
    }

    /// Adds, drops and exchanges as long as that makes the set cheaper.
    fn descend(&self, state: &mut State) {
        while let Some(step) = self.step(state) {
            let mut set = state.set.clone();
            step.out.into_iter().for_each(|item| set.remove(item));
            step.item.into_iter().for_each(|item| set.insert(item));
            let next = self.state(set);
            // The change of an exchange is an estimate where a plan needs both.
            if next.total >= state.total * (1.0 - EPSILON) {
                return;
            }
            *state = next;
        }
    }

    /// The best of all additions, drops and exchanges, when it gains anything.
    fn step(&self, state: &State) -> Option<Move> {
        let chosen: Vec<usize> = state.set.iter().collect();
        // What each statement would cost without each candidate its plan uses.
        let mut without: Vec<Without> = vec![Vec::new(); self.plans.len()];
        let mut loss: Vec<f64> = chosen.iter().map(|item| -self.problem.candidates[*item].upkeep).collect();
        for (place, item) in chosen.iter().enumerate() {
            let mut rest = state.set.clone();
            rest.remove(*item);
            for (query, own) in state.plan.iter().enumerate() {
                let plan = &self.plans[query][*own];
                if plan.used.contains(*item) {
                    let other = self.plans[query][self.plan(query, &rest)].cost;
                    loss[place] += other - plan.cost;
                    without[query].push((place, other));
                }
            }
        }
        let mut best = Move { out: None, item: None, change: -EPSILON * state.total };
        for (place, item) in chosen.iter().enumerate() {
            if loss[place] < best.change {
                best = Move { out: Some(*item), item: None, change: loss[place] };
            }
        }
        for (item, using) in &self.using {
            if !state.set.contains(*item) {
                self.try_in(state, &chosen, (*item, using), (&without, &loss), &mut best);
            }
        }
        (best.out.is_some() || best.item.is_some()).then_some(best)
    }

    /// Weighs adding a candidate, alone and in the place of each that is there.
    fn try_in(
        &self,
        state: &State,
        chosen: &[usize],
        (item, using): (usize, &[(usize, usize)]),
        (without, loss): (&[Without], &[f64]),
        best: &mut Move,
    ) {
        let with = state.set.with(&Set::of([item]));
        let mut change = self.problem.candidates[item].upkeep;
        // How much less a drop loses while this one is there.
        let mut relief = vec![0.0; chosen.len()];
        let mut seen = None;
        for (query, place) in using {
            let plan = &self.plans[*query][*place];
            // The plans of a statement come the cheapest first.
            if seen == Some(*query) || !plan.used.is_subset(&with) {
                continue;
            }
            seen = Some(*query);
            let present = self.plans[*query][state.plan[*query]].cost;
            change += (plan.cost - present).min(0.0);
            for (out, other) in &without[*query] {
                let gained = (plan.cost - present).min(0.0);
                let remains = !plan.used.contains(chosen[*out]);
                relief[*out] += if remains { other.min(plan.cost) - other - gained } else { -gained };
            }
        }
        if change < best.change && state.room.fits(self.problem, item, None) {
            *best = Move { out: None, item: Some(item), change };
        }
        for (place, out) in chosen.iter().enumerate() {
            let change = change + loss[place] + relief[place];
            if change < best.change && state.room.fits(self.problem, item, Some(*out)) {
                *best = Move { out: Some(*out), item: Some(item), change };
            }
        }
    }
}

impl Room {
    fn take(&mut self, problem: &Problem, item: usize) {
        let candidate = &problem.candidates[item];
        self.bytes += candidate.bytes;
        self.count += 1;
        *self.per_table.entry(candidate.table).or_default() += 1;
    }

    /// Whether there is room for one more, once another has left.
    fn fits(&self, problem: &Problem, item: usize, out: Option<usize>) -> bool {
        let (limits, candidate) = (&problem.limits, &problem.candidates[item]);
        let leaving = out.map(|out| &problem.candidates[out]);
        let freed = usize::from(leaving.is_some());
        let on_table = self.per_table.get(&candidate.table).copied().unwrap_or_default()
            - usize::from(leaving.is_some_and(|leaving| leaving.table == candidate.table));
        self.bytes + candidate.bytes - leaving.map_or(0.0, |leaving| leaving.bytes) <= limits.bytes
            && self.count + 1 - freed <= limits.count
            && on_table < limits.per_table
    }
}
