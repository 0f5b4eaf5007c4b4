//! What a set costs, found out with as few questions to the planner as it takes.

use super::Search;
use crate::Error;
use crate::advise::costs::{Guess, WhatIf};
use crate::advise::set::Set;

/// A budget of bytes used beyond this share is tight: what goes in keeps something else out.
const TIGHT: f64 = 0.7;

/// A set and each statement's cost under it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) set: Set,
    pub(super) costs: Vec<f64>,
    pub(super) total: f64,
}

/// What a look at another set yields.
pub(super) enum Look {
    /// Its costs are known, and the total is not above what was asked for.
    Found(State),
    /// The total is at least this, which is more than was asked for.
    Above(f64),
    /// The effort is used up.
    Spent,
}

impl<W: WhatIf> Search<'_, W> {
    pub(super) fn total(&self, costs: &[f64], set: &Set) -> f64 {
        let reading: f64 = costs.iter().zip(&self.problem.weights).map(|(cost, weight)| cost * weight).sum();
        reading + set.iter().map(|item| self.problem.candidates[item].upkeep).sum::<f64>()
    }

    pub(super) fn bytes(&self, set: &Set) -> f64 {
        set.iter().map(|item| self.problem.candidates[item].bytes).sum()
    }

    /// Whether the bytes are nearly used up.
    pub(super) fn is_large(&self, set: &Set) -> bool {
        self.bytes(set) > TIGHT * self.problem.limits.bytes
    }

    /// Whether what goes in now would keep something else out.
    pub(super) fn is_tight(&self, set: &Set) -> bool {
        self.is_large(set) || set.len() >= self.problem.limits.count
    }

    pub(super) fn fits(&self, set: &Set) -> bool {
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

    /// Whether a change of these candidates can change a statement's cost.
    pub(super) fn concerns(&self, query: usize, change: &Set) -> bool {
        self.costs.relevant(query).intersects(change)
    }

    /// The state with another set, or `None` when the effort is used up or a statement would suffer.
    pub(super) async fn at(&mut self, from: &State, set: Set) -> Result<Option<State>, Error> {
        match self.look(from, set, f64::INFINITY).await? {
            Look::Found(state) => Ok(Some(state)),
            Look::Above(_) | Look::Spent => Ok(None),
        }
    }

    /// Looks at another set as closely as it takes to know that its total is above `target`. The planner is asked first
    /// where the least possible cost is furthest from the present one; most sets are out of the question after a few answers.
    pub(super) async fn look(&mut self, from: &State, set: Set, target: f64) -> Result<Look, Error> {
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
            let Some(cost) = self.costs.cost(query, &set).await? else {
                return Ok(if self.costs.exhausted { Look::Spent } else { Look::Above(f64::INFINITY) });
            };
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
    pub(super) fn suffers(&self, query: usize, cost: f64) -> bool {
        cost > self.base[query] * (1.0 + self.problem.limits.max_regression)
    }

    /// The least an index must save.
    pub(super) fn least(&self) -> f64 {
        self.problem.limits.min_saving * self.total(&self.base, &Set::default())
    }

    /// What the total of another set is at least, without asking the planner.
    pub(super) fn least_total(&mut self, from: &State, set: &Set) -> f64 {
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
}
