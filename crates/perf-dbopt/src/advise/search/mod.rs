//! Which candidates to build: benefit per byte, bundles that only help together, exchanges, and a last look at what turned out to
//! be superfluous. It can be stopped at any moment and then answers with the best set seen.

mod grow;
mod improve;
mod look;
mod model;
mod problem;

pub use problem::{Candidate, Choice, Limits, Problem};

use super::costs::{Costs, WhatIf};
use super::set::Set;
use crate::Error;
use look::State;
use model::Model;
use perf_core::time::now;

/// How much size counts against benefit, from not at all to fully. Tight budgets want the last, loose ones the first.
const SIZE_EXPONENTS: [f64; 3] = [1.0, 0.5, 0.0];
/// The same for the second look, which also considers what is narrower than what the planner took.
const NARROW_EXPONENTS: [f64; 2] = [1.0, 0.75];
/// One in so many of the planner calls, and of the time, that are left goes into learning what single candidates do.
const LEARNING: u32 = 4;
/// The same for offering statements everything.
const HARVESTING: u32 = 2;
/// Learning goes on while it makes the best set cheaper by at least this share.
const REFINED: f64 = 1e-3;

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
    let mut search =
        Search { problem, costs, base: Vec::new(), pool: Set::default(), bundles: Vec::new(), large: false };
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
    /// Whether some statement has more candidates than can be offered at once.
    large: bool,
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
        // When every plan reads one new index at most, the model is all there is to know.
        let simple =
            !self.large && !self.pool.is_empty() && self.bundles.iter().all(|bundle| bundle.len() == 1);
        if simple && self.learn(&empty).await? {
            self.consult(&empty, &mut best).await?;
            return Ok(self.choice(&empty, &best));
        }
        // An answer early on: what follows can be stopped at any moment.
        if let Some(state) = self.ask_model(&empty).await? {
            best = state;
        }
        if self.large {
            self.refine(&empty, &mut best).await?;
        } else {
            self.compare_ways(&empty, &mut best).await?;
        }
        self.rebuild(&mut best).await?;
        self.learn(&best).await?;
        self.consult(&empty, &mut best).await?;
        self.prune(&mut best).await?;
        Ok(self.choice(&empty, &best))
    }

    fn choice(&self, empty: &State, best: &State) -> Choice {
        Choice {
            chosen: best.set.iter().collect(),
            before: empty.total,
            after: best.total,
            planner_calls: self.costs.calls,
            derived: self.costs.derived,
            complete: !self.costs.exhausted,
            considered: self.pool.without(&best.set).iter().collect(),
            unused: Vec::new(),
        }
    }

    /// Several ways from nothing to a set; the best of them is kept.
    async fn compare_ways(&mut self, empty: &State, best: &mut State) -> Result<(), Error> {
        for exponent in SIZE_EXPONENTS {
            self.start(empty, best, exponent).await?;
        }
        let widened = self.widen(empty.clone()).await?;
        self.pool = self.pool.with(&widened.set);
        self.finish_start(widened, best, 1.0).await?;
        // Where everything fits, narrower indexes win nothing.
        if self.is_large(&best.set) {
            self.narrow();
            for exponent in NARROW_EXPONENTS {
                self.start(empty, best, exponent).await?;
            }
        }
        Ok(())
    }

    /// Where there are too many candidates to try each beside the others: learns what single ones do for the statements that
    /// are dear still, and lets the model choose, in turn.
    async fn refine(&mut self, empty: &State, best: &mut State) -> Result<(), Error> {
        if self.is_large(&best.set) {
            self.narrow();
        }
        loop {
            let before = best.total;
            let all = self.learn(best).await?;
            self.consult(empty, best).await?;
            if self.costs.exhausted || all || best.total > before * (1.0 - REFINED) {
                return Ok(());
            }
        }
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

    /// Learns what single candidates do, first for the statements that are the dearest under a set, as far as a part of the
    /// effort allows. Says whether that is known of all.
    async fn learn(&mut self, state: &State) -> Result<bool, Error> {
        let last = self.costs.calls + self.costs.left() / LEARNING as usize;
        let until = self.costs.after(1.0 / f64::from(LEARNING));
        for query in self.dearest_first(&state.costs) {
            let mut items = self.costs.relevant(query).clone();
            if self.large {
                items = items.intersection(&self.pool);
            }
            for item in items.iter().collect::<Vec<_>>() {
                if self.costs.calls >= last || until.is_some_and(|until| now() >= until) {
                    return Ok(false);
                }
                if self.costs.plan(query, &Set::of([item])).await?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The statements, those first that cost most at these costs.
    fn dearest_first(&self, costs: &[f64]) -> Vec<usize> {
        let cost = |query: &usize| costs[*query] * self.problem.weights[*query];
        let mut queries: Vec<usize> = (0..costs.len()).collect();
        queries.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        queries
    }

    /// The best set of a model of all that is known, when it is better than none and there is time to learn its cost.
    async fn ask_model(&mut self, empty: &State) -> Result<Option<State>, Error> {
        if self.costs.exhausted {
            return Ok(None);
        }
        let known = (0..self.base.len()).map(|query| self.costs.plans(query).collect()).collect();
        let set = Model::new(self.problem, known).best();
        Ok(self.at(empty, set).await?.filter(|state| state.total < empty.total))
    }

    /// Searches the model, and goes on from its answer.
    async fn consult(&mut self, empty: &State, best: &mut State) -> Result<(), Error> {
        if let Some(mut state) = self.ask_model(empty).await? {
            self.prune(&mut state).await?;
            if state.total < best.total {
                *best = state;
            }
        }
        Ok(())
    }
}
