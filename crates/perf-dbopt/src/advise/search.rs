//! Which candidates to build: benefit per byte, bundles that only help together, exchanges, and a last look at what turned out to
//! be superfluous. It can be stopped at any moment and then answers with the best set seen.

use super::costs::{Costs, Guess, WhatIf};
use super::set::Set;
use crate::Error;
use perf_core::time::Instant;

/// A choice to be made: statements with weights, candidates with costs of their own, and limits.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// How much each statement counts, usually its calls.
    pub weights: Vec<f64>,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// Which candidates can matter to each statement.
    pub relevant: Vec<Vec<usize>>,
    /// Limits on what may be built.
    pub limits: Limits,
}

/// What the search needs to know of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its table, by any number.
    pub table: usize,
    /// The bytes it would take.
    pub bytes: f64,
    /// What keeping it up costs, in the unit of weighted costs.
    pub upkeep: f64,
    /// Candidates that do a part of what it does and are smaller, by number.
    pub narrower: Vec<usize>,
}

/// Limits on what may be built and on the effort of finding it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of all new indexes together.
    pub bytes: f64,
    /// New indexes.
    pub count: usize,
    /// New indexes on one table.
    pub per_table: usize,
    /// The least an index must save, as a share of the cost of the whole workload.
    pub min_saving: f64,
    /// The most the cost of any single statement may rise, as a share of its cost without new indexes.
    pub max_regression: f64,
    /// How often the planner may be asked.
    pub planner_calls: usize,
    /// When to stop looking.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: f64::INFINITY,
            count: 64,
            per_table: 10,
            min_saving: 0.001,
            max_regression: 0.1,
            planner_calls: 5000,
            deadline: None,
        }
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The candidates to build, in rising order.
    pub chosen: Vec<usize>,
    /// The weighted cost without any of them.
    pub before: f64,
    /// The weighted cost with all of them, their upkeep included.
    pub after: f64,
    /// How often the planner was asked.
    pub planner_calls: usize,
    /// How often an answer followed from earlier ones.
    pub derived: usize,
    /// Whether the search came to its end, rather than to a limit of effort.
    pub complete: bool,
    /// Candidates that helped some statement but were not chosen.
    pub considered: Vec<usize>,
}

/// Rounds of "what would the planner take of everything", each without the winners of those before.
const HARVEST_ROUNDS: usize = 3;
/// How much size counts against benefit, from not at all to fully. Tight budgets want the last, loose ones the first.
const SIZE_EXPONENTS: [f64; 3] = [1.0, 0.5, 0.0];
/// The same for the second look, which also considers what is narrower than what the planner took.
const NARROW_EXPONENTS: [f64; 2] = [1.0, 0.75];
const EXCHANGE_ROUNDS: usize = 4;
/// A budget used beyond this share is tight: what goes in keeps something else out.
const TIGHT: f64 = 0.7;

/// Chooses candidates within the limits.
///
/// # Errors
/// Those of the planner.
///
/// # Cancel safety
/// Dropping the future loses the answer and nothing else.
pub async fn search<W: WhatIf>(problem: &Problem, planner: &mut W) -> Result<Choice, Error> {
    let relevant = problem.relevant.iter().map(|items| Set::of(items.iter().copied())).collect();
    let limits = &problem.limits;
    let costs = Costs::new(planner, relevant, limits.planner_calls, limits.deadline);
    let mut search = Search { problem, costs, base: Vec::new(), pool: Set::default(), bundles: Vec::new() };
    search.run().await
}

struct Search<'a, W> {
    problem: &'a Problem,
    costs: Costs<'a, W>,
    /// Each statement's cost without new indexes.
    base: Vec<f64>,
    /// Candidates the planner took in some round.
    pool: Set,
    /// Sets worth adding at once: single candidates, and what one plan used together.
    bundles: Vec<Set>,
}

/// A set and each statement's cost under it.
#[derive(Clone)]
struct State {
    set: Set,
    costs: Vec<f64>,
    total: f64,
}

/// What a look at another set yields.
enum Look {
    /// Its costs are known, and the total is not above what was asked for.
    Found(State),
    /// The total is at least this, which is more than was asked for.
    Above(f64),
    /// The effort is used up.
    Spent,
}

impl<W: WhatIf> Search<'_, W> {
    async fn run(&mut self) -> Result<Choice, Error> {
        for query in 0..self.problem.weights.len() {
            let cost = self.costs.cost(query, &Set::default()).await?;
            self.base.push(cost.unwrap_or(0.0));
        }
        let empty = State {
            set: Set::default(),
            total: self.total(&self.base, &Set::default()),
            costs: self.base.clone(),
        };
        self.harvest().await?;
        let mut best = empty.clone();
        for exponent in SIZE_EXPONENTS {
            self.start(&empty, &mut best, exponent).await?;
        }
        let widened = self.widen(empty.clone()).await?;
        self.pool = self.pool.with(&widened.set);
        self.finish_start(widened, &mut best, 1.0).await?;
        // Where everything fits, narrower indexes win nothing.
        if self.bytes(&best.set) > TIGHT * self.problem.limits.bytes {
            self.narrow();
            for exponent in NARROW_EXPONENTS {
                self.start(&empty, &mut best, exponent).await?;
            }
        }
        self.rebuild(&mut best).await?;
        self.prune(&mut best).await?;
        Ok(Choice {
            chosen: best.set.iter().collect(),
            before: empty.total,
            after: best.total,
            planner_calls: self.costs.calls,
            derived: self.costs.derived,
            complete: !self.costs.exhausted,
            considered: self.pool.without(&best.set).iter().collect(),
        })
    }

    /// One way from nothing to a set; kept when it is the best so far.
    async fn start(&mut self, empty: &State, best: &mut State, exponent: f64) -> Result<(), Error> {
        let state = self.grow(empty.clone(), exponent, None).await?;
        self.finish_start(state, best, exponent).await
    }

    async fn finish_start(&mut self, mut state: State, best: &mut State, exponent: f64) -> Result<(), Error> {
        self.improve(&mut state, exponent).await?;
        if state.total < best.total {
            *best = state;
        }
        Ok(())
    }

    /// Begins narrow and widens, as Extend does (Schlosser, Kossmann and Boissier, ICDE 2019): each step adds one of the
    /// narrowest candidates, or puts a wider one in the place of those it covers, whichever gains most per byte. It finds
    /// what a planner that is offered everything never takes, and tight budgets want.
    async fn widen(&mut self, mut state: State) -> Result<State, Error> {
        let least = self.least();
        loop {
            let mut open: Vec<(f64, f64, Set)> = Vec::new();
            for item in 0..self.problem.candidates.len() {
                if let Some((set, size)) = self.wider(&state.set, item) {
                    let hope = state.total - self.least_total(&state, &set);
                    if hope > least {
                        open.push((hope / size, size, set));
                    }
                }
            }
            open.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut best: Option<(f64, State)> = None;
            for (hope, size, set) in open {
                let score = best.as_ref().map_or(0.0, |(score, _)| *score);
                if score >= hope {
                    break;
                }
                match self.look(&state, set, state.total - least.max(score * size)).await? {
                    Look::Found(next) => best = Some(((state.total - next.total) / size, next)),
                    Look::Above(_) => {}
                    Look::Spent => return Ok(best.map_or(state, |(_, next)| next)),
                }
            }
            match best {
                Some((_, next)) if next.total < state.total => state = next,
                _ => return Ok(state),
            }
        }
    }

    /// The set with this candidate in the place of those it covers, and the bytes that adds.
    fn wider(&self, set: &Set, item: usize) -> Option<(Set, f64)> {
        let narrower = &self.problem.candidates[item].narrower;
        let held = Set::of(narrower.iter().copied().filter(|narrow| set.contains(*narrow)));
        if set.contains(item) || (held.is_empty() && !narrower.is_empty()) {
            return None;
        }
        let wider = set.without(&held).with(&Set::of([item]));
        let size = (self.bytes(&wider) - self.bytes(set)).max(1.0);
        self.fits(&wider).then_some((wider, size))
    }

    /// What the total of another set is at least, without asking the planner.
    fn least_total(&mut self, from: &State, set: &Set) -> f64 {
        let change = from.set.without(set).with(&set.without(&from.set));
        let mut total = self.total(&from.costs, set);
        for (query, present) in from.costs.iter().enumerate() {
            if self.concerns(query, &change) {
                let (Guess::Exactly(cost) | Guess::AtLeast(cost)) = self.costs.guess(query, set);
                total += (cost - present) * self.problem.weights[query];
            }
        }
        total
    }

    /// A planner offered everything takes the widest; a tight budget wants what is left when columns are dropped.
    fn narrow(&mut self) {
        let known = self.pool.clone();
        for item in known.iter() {
            for narrower in &self.problem.candidates[item].narrower {
                self.pool.insert(*narrower);
            }
        }
        let added: Vec<Set> = self.pool.without(&known).iter().map(|item| Set::of([item])).collect();
        self.bundles.extend(added);
    }

    /// Takes each chosen candidate out in turn, fills the room without it, and keeps what is better: two may do what one did.
    async fn rebuild(&mut self, best: &mut State) -> Result<(), Error> {
        for out in best.set.iter().collect::<Vec<_>>() {
            if self.costs.exhausted || !best.set.contains(out) {
                continue;
            }
            let Some(rest) = self.at(best, best.set.without(&Set::of([out]))).await? else { continue };
            for exponent in [1.0, 0.0] {
                let mut state = self.grow(rest.clone(), exponent, Some(out)).await?;
                self.prune(&mut state).await?;
                if state.total < best.total {
                    *best = state;
                    break;
                }
            }
        }
        Ok(())
    }

    fn total(&self, costs: &[f64], set: &Set) -> f64 {
        let reading: f64 = costs.iter().zip(&self.problem.weights).map(|(cost, weight)| cost * weight).sum();
        reading + set.iter().map(|item| self.problem.candidates[item].upkeep).sum::<f64>()
    }

    fn bytes(&self, set: &Set) -> f64 {
        set.iter().map(|item| self.problem.candidates[item].bytes).sum()
    }

    fn fits(&self, set: &Set) -> bool {
        let limits = &self.problem.limits;
        let (mut bytes, mut count) = (0.0, 0);
        let mut on_table: Vec<(usize, usize)> = Vec::new();
        for item in set.iter() {
            let candidate = &self.problem.candidates[item];
            bytes += candidate.bytes;
            count += 1;
            match on_table.iter_mut().find(|(table, _)| *table == candidate.table) {
                Some((_, many)) => *many += 1,
                None => on_table.push((candidate.table, 1)),
            }
        }
        bytes <= limits.bytes
            && count <= limits.count
            && on_table.iter().all(|(_, many)| *many <= limits.per_table)
    }

    /// Offers each statement everything, then everything but the winners, and keeps what was taken.
    async fn harvest(&mut self) -> Result<(), Error> {
        for query in 0..self.base.len() {
            let mut offered = self.costs.relevant(query).clone();
            // What no budget can hold only hides what it could.
            for item in self.costs.relevant(query).iter().collect::<Vec<_>>() {
                if self.problem.candidates[item].bytes > self.problem.limits.bytes {
                    offered.remove(item);
                }
            }
            for _ in 0..HARVEST_ROUNDS {
                let Some((cost, used)) = self.costs.plan(query, &offered).await? else { return Ok(()) };
                if used.is_empty() || cost >= self.base[query] {
                    break;
                }
                self.pool = self.pool.with(&used);
                if used.len() > 1 && !self.bundles.contains(&used) {
                    self.bundles.push(used.clone());
                }
                offered = offered.without(&used);
            }
        }
        self.bundles.extend(self.pool.iter().map(|item| Set::of([item])));
        Ok(())
    }

    /// Whether a change of these candidates can change a statement's cost.
    fn concerns(&self, query: usize, change: &Set) -> bool {
        self.costs.relevant(query).intersects(change)
    }

    /// The state with another set, or `None` when the effort is used up or a statement would suffer.
    async fn at(&mut self, from: &State, set: Set) -> Result<Option<State>, Error> {
        match self.look(from, set, f64::INFINITY).await? {
            Look::Found(state) => Ok(Some(state)),
            Look::Above(_) | Look::Spent => Ok(None),
        }
    }

    /// Looks at another set as closely as it takes to know that its total is above `target`. The planner is asked first
    /// where the least possible cost is furthest from the present one; most sets are out of the question after a few answers.
    async fn look(&mut self, from: &State, set: Set, target: f64) -> Result<Look, Error> {
        let change = from.set.without(&set).with(&set.without(&from.set));
        let mut costs = from.costs.clone();
        let mut open = Vec::new();
        for (query, present) in costs.iter_mut().enumerate() {
            if self.concerns(query, &change) {
                match self.costs.guess(query, &set) {
                    Guess::Exactly(cost) => *present = cost,
                    Guess::AtLeast(cost) => {
                        let hope = (*present - cost) * self.problem.weights[query];
                        *present = cost;
                        open.push((hope, query));
                    }
                }
                if self.suffers(query, *present) {
                    return Ok(Look::Above(f64::INFINITY));
                }
            }
        }
        open.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut total = self.total(&costs, &set);
        for (_, query) in open {
            if total > target {
                return Ok(Look::Above(total));
            }
            let Some(cost) = self.costs.cost(query, &set).await? else { return Ok(Look::Spent) };
            if self.suffers(query, cost) {
                return Ok(Look::Above(f64::INFINITY));
            }
            total += (cost - costs[query]) * self.problem.weights[query];
            costs[query] = cost;
        }
        // Summed once more, so that equal sets have equal totals whatever the way there.
        let total = self.total(&costs, &set);
        Ok(if total > target { Look::Above(total) } else { Look::Found(State { set, costs, total }) })
    }

    /// Whether a statement would become dearer than the limits allow.
    fn suffers(&self, query: usize, cost: f64) -> bool {
        cost > self.base[query] * (1.0 + self.problem.limits.max_regression)
    }

    /// Adds bundles, the best benefit per size first, until none fits or helps. Benefits are looked at again only when
    /// they come to the top, and only until they would not be at the top any more: adding an index rarely makes another
    /// more useful.
    async fn grow(&mut self, mut state: State, exponent: f64, banned: Option<usize>) -> Result<State, Error> {
        let least = self.least();
        let mut open: Vec<(f64, usize)> =
            (0..self.bundles.len()).map(|bundle| (f64::INFINITY, bundle)).collect();
        while let Some((before, bundle)) = open.pop() {
            let added = self.bundles[bundle].without(&state.set);
            let set = state.set.with(&added);
            if added.is_empty() || banned.is_some_and(|item| added.contains(item)) || !self.fits(&set) {
                continue;
            }
            let size = self.bytes(&added).max(1.0).powf(exponent);
            let next_best = open.last().map_or(0.0, |(score, _)| *score);
            let enough = state.total - least;
            let target =
                if next_best.is_finite() { enough.min(state.total - next_best * size) } else { enough };
            let mut look = self.look(&state, set.clone(), target).await?;
            if let Look::Above(total) = look
                && (state.total - total) / size >= before * (1.0 - 1e-9)
                && before.is_finite()
            {
                // Nothing was learnt: look to the end, or two equals would take turns for ever.
                look = self.look(&state, set, enough).await?;
            }
            let (total, found) = match look {
                Look::Found(next) => (next.total, Some(next)),
                Look::Above(total) => (total, None),
                Look::Spent => break,
            };
            let gain = state.total - total;
            if gain <= least {
                continue;
            }
            let score = gain / size;
            match found {
                Some(next) if score >= next_best => state = next,
                _ => {
                    let place = open.partition_point(|(other, _)| *other < score);
                    open.insert(place, (score, bundle));
                }
            }
        }
        Ok(state)
    }

    /// The least an index must save.
    fn least(&self) -> f64 {
        self.problem.limits.min_saving * self.total(&self.base, &Set::default())
    }

    /// Exchanges one chosen candidate for another, drops what became superfluous, and fills the room that leaves.
    async fn improve(&mut self, state: &mut State, exponent: f64) -> Result<(), Error> {
        for _ in 0..EXCHANGE_ROUNDS {
            let before = state.total;
            for out in state.set.iter().collect::<Vec<_>>() {
                self.exchange(state, out).await?;
            }
            self.prune(state).await?;
            *state = self.grow(state.clone(), exponent, None).await?;
            if self.costs.exhausted || state.total >= before * 0.9999 {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn exchange(&mut self, state: &mut State, out: usize) -> Result<(), Error> {
        if !state.set.contains(out) {
            return Ok(());
        }
        let rest = state.set.without(&Set::of([out]));
        let mut best: Option<State> = None;
        let candidates = &self.problem.candidates;
        // While there is room, another table's index is simply added.
        let tight = self.bytes(&state.set) > TIGHT * self.problem.limits.bytes;
        for item in self.pool.iter().collect::<Vec<_>>() {
            let set = rest.with(&Set::of([item]));
            let elsewhere = !tight && candidates[item].table != candidates[out].table;
            if elsewhere || state.set.contains(item) || !self.fits(&set) {
                continue;
            }
            let target = best.as_ref().map_or(state.total, |best| best.total);
            match self.look(state, set, target).await? {
                Look::Found(next) if next.total < target => best = Some(next),
                Look::Spent => break,
                Look::Found(_) | Look::Above(_) => {}
            }
        }
        if let Some(best) = best {
            *state = best;
        }
        Ok(())
    }

    /// Takes out what saves less than the least saving, the least useful first.
    async fn prune(&mut self, state: &mut State) -> Result<(), Error> {
        let least = self.least();
        loop {
            let mut best: Option<State> = None;
            for out in state.set.iter().collect::<Vec<_>>() {
                let target = best.as_ref().map_or(state.total + least, |best| best.total);
                let look = self.look(state, state.set.without(&Set::of([out])), target).await?;
                if let Look::Found(next) = look
                    && best.as_ref().is_none_or(|best| next.total < best.total)
                {
                    best = Some(next);
                }
            }
            match best {
                Some(next) => *state = next,
                None => return Ok(()),
            }
        }
    }
}
