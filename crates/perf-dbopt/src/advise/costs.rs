use super::set::Set;
use crate::Error;
use perf_core::time::{Instant, now};
use std::collections::HashMap;
use std::future::Future;

/// What a planner says of one statement under a set of hypothetical indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// The planner's cost, in its own unit.
    pub cost: f64,
    /// The hypothetical indexes the plan uses, by number.
    pub used: Vec<usize>,
}

/// A planner that can be asked what it would do if indexes existed: HypoPG, a shadow of a SQLite database, or a table of
/// costs in a test.
pub trait WhatIf: Send {
    /// Plans the statement number `query` as if exactly the candidates `indexes` existed.
    ///
    /// # Errors
    /// [`Error`] when the database fails; a statement that cannot be planned must not be in the problem. After
    /// [`Error::TimedOut`] the search goes on without this answer.
    fn plan(
        &mut self,
        query: usize,
        indexes: &[usize],
    ) -> impl Future<Output = Result<Planned, Error>> + Send;
}

/// A plan that was asked for: what was on offer, what it used, what it cost.
struct Known {
    offered: Set,
    used: Set,
    cost: f64,
}

/// What is known of a cost before the planner is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Guess {
    Exactly(f64),
    /// Some larger set was planned, and more indexes never make a plan dearer.
    AtLeast(f64),
}

/// Costs by statement and set, asking the planner only for what cannot be derived: when the plan under a larger set used
/// only indexes that are still there, it is still the plan.
pub(crate) struct Costs<'a, W> {
    planner: &'a mut W,
    relevant: Vec<Set>,
    known: Vec<Vec<Known>>,
    /// What was asked or derived, by statement and the part of the set that matters to it.
    exact: Vec<HashMap<Set, (f64, Set)>>,
    pub(crate) calls: usize,
    pub(crate) derived: usize,
    /// What each statement is taken to cost at least, whatever exists.
    floor: Vec<f64>,
    max_calls: usize,
    deadline: Option<Instant>,
    pub(crate) exhausted: bool,
}

impl<'a, W: WhatIf> Costs<'a, W> {
    pub(crate) fn new(
        planner: &'a mut W,
        relevant: Vec<Set>,
        max_calls: usize,
        deadline: Option<Instant>,
    ) -> Self {
        let known = relevant.iter().map(|_| Vec::new()).collect();
        let exact = relevant.iter().map(|_| HashMap::new()).collect();
        let floor = vec![0.0; relevant.len()];
        Self {
            planner,
            relevant,
            known,
            exact,
            calls: 0,
            derived: 0,
            floor,
            max_calls,
            deadline,
            exhausted: false,
        }
    }

    /// The candidates that can matter to a statement.
    pub(crate) fn relevant(&self, query: usize) -> &Set {
        &self.relevant[query]
    }

    /// Takes a statement to cost at least this.
    pub(crate) fn expect(&mut self, query: usize, floor: f64) {
        self.floor[query] = floor;
    }

    /// The plans known of a statement: the indexes each uses and its cost.
    pub(crate) fn plans(&self, query: usize) -> impl Iterator<Item = (Set, f64)> + '_ {
        self.known[query].iter().map(|known| (known.used.clone(), known.cost))
    }

    /// How often the planner may still be asked.
    pub(crate) const fn left(&self) -> usize {
        self.max_calls.saturating_sub(self.calls)
    }

    /// When this share of the time that is left will be over; `None` when there is no end.
    pub(crate) fn after(&self, share: f64) -> Option<Instant> {
        let start = now();
        self.deadline.map(|at| start + at.saturating_duration_since(start).mul_f64(share))
    }

    /// The cost as far as earlier answers tell.
    pub(crate) fn guess(&mut self, query: usize, set: &Set) -> Guess {
        let offered = set.intersection(&self.relevant[query]);
        if let Some((cost, _)) = self.exact[query].get(&offered) {
            return Guess::Exactly(*cost);
        }
        let mut least = self.floor[query];
        for known in &self.known[query] {
            if offered.is_subset(&known.offered) {
                if known.used.is_subset(&offered) {
                    let answer = (known.cost, known.used.clone());
                    self.exact[query].insert(offered, answer);
                    self.derived += 1;
                    return Guess::Exactly(known.cost);
                }
                least = least.max(known.cost);
            }
        }
        Guess::AtLeast(least)
    }

    /// The cost and the indexes used. `None` when it cannot be derived, and the planner takes too long or, as
    /// [`exhausted`](Self::exhausted) says then, the budget of calls or time is used up.
    pub(crate) async fn plan(&mut self, query: usize, set: &Set) -> Result<Option<(f64, Set)>, Error> {
        let offered = set.intersection(&self.relevant[query]);
        if let Guess::Exactly(_) = self.guess(query, set) {
            return Ok(self.exact[query].get(&offered).cloned());
        }
        if self.calls >= self.max_calls || self.deadline.is_some_and(|at| now() >= at) {
            self.exhausted = true;
            return Ok(None);
        }
        self.calls += 1;
        let indexes: Vec<usize> = offered.iter().collect();
        let planned = match self.planner.plan(query, &indexes).await {
            Err(error) if error.is_timeout() => return Ok(None),
            answer => answer?,
        };
        let used = Set::of(planned.used).intersection(&offered);
        self.exact[query].insert(offered.clone(), (planned.cost, used.clone()));
        self.known[query].push(Known { offered, used: used.clone(), cost: planned.cost });
        Ok(Some((planned.cost, used)))
    }

    pub(crate) async fn cost(&mut self, query: usize, set: &Set) -> Result<Option<f64>, Error> {
        Ok(self.plan(query, set).await?.map(|(cost, _)| cost))
    }
}
