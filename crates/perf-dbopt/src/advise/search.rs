//! Which candidates to build: benefit per byte, bundles that only help together, exchanges, and a last look at what turned out to
//! be superfluous. It can be stopped at any moment and then answers with the best set seen.

use super::costs::{Costs, WhatIf};
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
        let mut state = self.grow(empty.clone(), exponent, None).await?;
        self.improve(&mut state, exponent).await?;
        if state.total < best.total {
            *best = state;
        }
        Ok(())
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
        let per_table =
            |table| set.iter().filter(|item| self.problem.candidates[*item].table == table).count();
        set.len() <= limits.count
            && self.bytes(set) <= limits.bytes
            && set.iter().all(|item| per_table(self.problem.candidates[item].table) <= limits.per_table)
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
        let change = from.set.without(&set).with(&set.without(&from.set));
        let mut costs = from.costs.clone();
        for (query, cost) in costs.iter_mut().enumerate() {
            if self.concerns(query, &change) {
                let Some(new) = self.costs.cost(query, &set).await? else { return Ok(None) };
                *cost = new;
            }
        }
        let suffers = costs
            .iter()
            .zip(&self.base)
            .any(|(cost, base)| *cost > base * (1.0 + self.problem.limits.max_regression));
        let total = self.total(&costs, &set);
        Ok((!suffers).then_some(State { set, costs, total }))
    }

    /// Adds bundles, the best benefit per size first, until none fits or helps. Benefits are looked at again only when
    /// they come to the top: adding an index rarely makes another more useful.
    async fn grow(&mut self, mut state: State, exponent: f64, banned: Option<usize>) -> Result<State, Error> {
        let least = self.problem.limits.min_saving * self.total(&self.base, &Set::default());
        let mut open: Vec<(f64, usize)> =
            (0..self.bundles.len()).map(|bundle| (f64::INFINITY, bundle)).collect();
        while let Some((_, bundle)) = open.pop() {
            let added = self.bundles[bundle].without(&state.set);
            let set = state.set.with(&added);
            if added.is_empty() || banned.is_some_and(|item| added.contains(item)) || !self.fits(&set) {
                continue;
            }
            let Some(next) = self.at(&state, set).await? else {
                if self.costs.exhausted {
                    break;
                }
                continue;
            };
            let gain = state.total - next.total;
            if gain <= least {
                continue;
            }
            let score = gain / self.bytes(&added).max(1.0).powf(exponent);
            if open.last().is_none_or(|(best, _)| score >= *best) {
                state = next;
            } else {
                let place = open.partition_point(|(other, _)| *other < score);
                open.insert(place, (score, bundle));
            }
        }
        Ok(state)
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
            let Some(next) = self.at(state, set).await? else { continue };
            if next.total < best.as_ref().map_or(state.total, |best| best.total) {
                best = Some(next);
            }
        }
        if let Some(best) = best {
            *state = best;
        }
        Ok(())
    }

    /// Takes out what saves less than the least saving, the least useful first.
    async fn prune(&mut self, state: &mut State) -> Result<(), Error> {
        let least = self.problem.limits.min_saving * self.total(&self.base, &Set::default());
        loop {
            let mut best: Option<State> = None;
            for out in state.set.iter().collect::<Vec<_>>() {
                let Some(next) = self.at(state, state.set.without(&Set::of([out]))).await? else { continue };
                let lost = next.total - state.total;
                if lost <= least && best.as_ref().is_none_or(|best| next.total < best.total) {
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
