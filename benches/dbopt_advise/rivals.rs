//! Extend and DB2Advis over the same planner, sizes and candidates as ours, but without INCLUDE, which they do not know.

use crate::AnyError;
use perf_core::time::{Instant, now};
use perf_dbopt::advise::{IndexDef, Problem, WhatIf};
use perf_dbopt::postgres::HypoPg;
use std::collections::{BTreeSet, HashMap};

/// Costs by statement and set of indexes.
pub(crate) type Memory = HashMap<(usize, BTreeSet<usize>), f64>;

/// The planner with a memory of its own, for the baselines.
pub(crate) struct Costs<'a, 'c> {
    pub(crate) planner: &'a mut HypoPg<'c>,
    pub(crate) problem: &'a Problem,
    pub(crate) known: Memory,
    pub(crate) calls: usize,
    /// When to stop looking.
    pub(crate) until: Option<Instant>,
}

impl Costs<'_, '_> {
    /// Whether the time allowed is over.
    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| now() >= until)
    }

    async fn query(&mut self, query: usize, set: &BTreeSet<usize>) -> Result<(f64, Vec<usize>), AnyError> {
        let offered: Vec<usize> =
            set.iter().copied().filter(|item| self.problem.relevant[query].contains(item)).collect();
        self.calls += 1;
        let planned = match self.planner.plan(query, &offered).await {
            // Too many to plan with in time: the statement counts as not helped.
            Err(error) if error.is_timeout() => self.planner.plan(query, &[]).await?,
            planned => planned?,
        };
        self.known.insert((query, offered.into_iter().collect()), planned.cost);
        Ok((planned.cost, planned.used))
    }

    pub(crate) async fn total(&mut self, set: &BTreeSet<usize>) -> Result<f64, AnyError> {
        let mut sum = 0.0;
        for query in 0..self.problem.weights.len() {
            let relevant = &self.problem.relevant[query];
            let offered: BTreeSet<usize> =
                set.iter().copied().filter(|item| relevant.contains(item)).collect();
            let cost = match self.known.get(&(query, offered.clone())) {
                Some(cost) => *cost,
                None => self.query(query, &offered).await?.0,
            };
            sum += cost * self.problem.weights[query];
        }
        Ok(sum)
    }

    fn bytes(&self, set: &BTreeSet<usize>) -> f64 {
        set.iter().map(|item| self.problem.candidates[*item].bytes).sum()
    }
}

/// Extend (Schlosser, Kossmann and Boissier, ICDE 2019): add a single column or append one to an index, whichever gains most per byte.
pub(crate) async fn extend(
    costs: &mut Costs<'_, '_>,
    defs: &[IndexDef],
    width: usize,
    budget: f64,
) -> Result<(BTreeSet<usize>, f64), AnyError> {
    let mut set = BTreeSet::new();
    let mut total = costs.total(&set).await?;
    loop {
        let mut best: Option<(f64, BTreeSet<usize>, f64)> = None;
        for (number, def) in defs.iter().enumerate() {
            if costs.is_over() {
                return Ok((set, total));
            }
            if set.contains(&number) || def.keys.len() > width {
                continue;
            }
            let mut next = set.clone();
            if def.keys.len() > 1 {
                let prefix = |item: &usize| {
                    let other = &defs[*item];
                    other.table == def.table
                        && other.keys.len() + 1 == def.keys.len()
                        && def.keys.starts_with(&other.keys)
                };
                let Some(shorter) = set.iter().copied().find(|item| prefix(item)) else { continue };
                next.remove(&shorter);
            }
            next.insert(number);
            if costs.bytes(&next) > budget {
                continue;
            }
            let cost = costs.total(&next).await?;
            let score = (total - cost) / (costs.bytes(&next) - costs.bytes(&set)).max(1.0);
            if cost < total && best.as_ref().is_none_or(|(other, _, _)| score > *other) {
                best = Some((score, next, cost));
            }
        }
        match best {
            Some((_, next, cost)) => (set, total) = (next, cost),
            None => return Ok((set, total)),
        }
    }
}

/// DB2Advis (Valentin and others, ICDE 2000): every statement names its best set when all candidates exist; by benefit per byte
/// until the budget is full.
pub(crate) async fn db2advis(
    costs: &mut Costs<'_, '_>,
    defs: &[IndexDef],
    width: usize,
    budget: f64,
) -> Result<f64, AnyError> {
    let all: BTreeSet<usize> = (0..defs.len()).filter(|item| defs[*item].keys.len() <= width).collect();
    let mut benefit: HashMap<usize, f64> = HashMap::new();
    for query in 0..costs.problem.weights.len() {
        if costs.is_over() {
            break;
        }
        let (base, _) = costs.query(query, &BTreeSet::new()).await?;
        let (best, used) = costs.query(query, &all).await?;
        for item in &used {
            *benefit.entry(*item).or_default() +=
                (base - best) * costs.problem.weights[query] / used.len() as f64;
        }
    }
    let bytes = |item: usize| costs.problem.candidates[item].bytes.max(1.0);
    let mut order: Vec<(usize, f64)> =
        benefit.into_iter().map(|(item, gain)| (item, gain / bytes(item))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut set = BTreeSet::new();
    for (item, _) in order {
        let subsumed = set.iter().any(|other: &usize| defs[item].is_covered_by(&defs[*other]));
        if !subsumed && costs.bytes(&set) + bytes(item) <= budget {
            set.insert(item);
        }
    }
    costs.total(&set).await
}
