//! From a choice to advice: what each index is for, and why the others are not proposed.

use super::advice::{Advice, Evidence, IndexAdvice, RejectReason, RejectedIndex, Served};
use super::costs::Planned;
use super::index::{IndexDef, KeyPart};
use super::search::{Candidate, Choice, Problem};
use super::workload::WorkloadQuery;
use crate::Dialect;

/// One statement's plan without and with the chosen indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planning {
    pub(crate) before: Planned,
    pub(crate) after: Planned,
    pub(crate) words_before: Vec<String>,
    pub(crate) words_after: Vec<String>,
}

pub(crate) fn report(
    advice: &mut Advice,
    queries: &[&WorkloadQuery],
    defs: &[IndexDef],
    problem: &Problem,
    choice: &Choice,
    plannings: &[Planning],
    dialect: Dialect,
) {
    advice.cost_before = choice.before;
    advice.cost_after = choice.after;
    advice.planner_calls = choice.planner_calls;
    advice.complete = choice.complete;
    advice.create = choice
        .chosen
        .iter()
        .map(|number| {
            let mut proposal = proposal(&defs[*number], &problem.candidates[*number], choice, dialect);
            proposal.serves = served(*number, queries, plannings);
            proposal
        })
        .collect();
    advice.create.sort_by(|a, b| gain(&b.serves).total_cmp(&gain(&a.serves)));
    advice.bytes = advice.create.iter().map(|index| index.bytes).sum();
    let unused =
        |number: &usize| RejectedIndex { index: defs[*number].clone(), reason: RejectReason::Unused };
    let considered = choice.considered.iter().filter(|number| !choice.unused.contains(number));
    advice.rejected = choice
        .unused
        .iter()
        .map(unused)
        .chain(considered.map(|number| rejection(*number, defs, problem, choice)))
        .collect();
}

fn gain(serves: &[Served]) -> f64 {
    serves.iter().map(|served| (served.cost_before - served.cost_after) * served.calls as f64).sum()
}

/// The statements whose plan uses an index, those that gain most first.
fn served(number: usize, queries: &[&WorkloadQuery], plannings: &[Planning]) -> Vec<Served> {
    let parts =
        queries.iter().zip(plannings).filter(|(_, planning)| planning.after.used.contains(&number)).map(
            |(query, planning)| Served {
                fingerprint: query.fingerprint,
                text: query.text.clone(),
                calls: query.calls,
                cost_before: planning.before.cost,
                cost_after: planning.after.cost,
                plan_before: planning.words_before.clone(),
                plan_after: planning.words_after.clone(),
            },
        );
    let mut serves: Vec<Served> = Vec::new();
    for part in parts {
        match serves.iter_mut().find(|served| served.fingerprint == part.fingerprint) {
            Some(served) => merge(served, &part),
            None => serves.push(part),
        }
    }
    serves.sort_by(|a, b| gain(std::slice::from_ref(b)).total_cmp(&gain(std::slice::from_ref(a))));
    serves
}

/// The same statement with other values: calls add up, costs are means over them.
fn merge(served: &mut Served, part: &Served) {
    let (own, other) = (served.calls as f64, part.calls as f64);
    let mean = |a: f64, b: f64| if own + other > 0.0 { (a * own + b * other) / (own + other) } else { a };
    served.cost_before = mean(served.cost_before, part.cost_before);
    served.cost_after = mean(served.cost_after, part.cost_after);
    served.calls += part.calls;
}

fn proposal(def: &IndexDef, candidate: &Candidate, choice: &Choice, dialect: Dialect) -> IndexAdvice {
    let name = def.name();
    let expression = def.keys.iter().any(|key| matches!(key.part, KeyPart::Expression(_)));
    IndexAdvice {
        ddl: def.create(dialect, &name),
        name,
        index: def.clone(),
        serves: Vec::new(),
        bytes: candidate.bytes as u64,
        upkeep: if choice.before > 0.0 { candidate.upkeep / choice.before } else { 0.0 },
        evidence: if expression { Evidence::LowerBound } else { Evidence::WhatIf },
    }
}

fn rejection(number: usize, defs: &[IndexDef], problem: &Problem, choice: &Choice) -> RejectedIndex {
    let index = defs[number].clone();
    let own = &problem.candidates[number];
    let used: f64 = choice.chosen.iter().map(|chosen| problem.candidates[*chosen].bytes).sum();
    let on_table = choice.chosen.iter().filter(|c| problem.candidates[**c].table == own.table).count();
    let limits = &problem.limits;
    let full = used + own.bytes > limits.bytes
        || choice.chosen.len() >= limits.count
        || on_table >= limits.per_table;
    let wider = choice.chosen.iter().map(|chosen| &defs[*chosen]).find(|wider| index.is_covered_by(wider));
    let reason = match wider {
        Some(wider) => RejectReason::CoveredBy(wider.name()),
        None if full => RejectReason::OverBudget,
        None => RejectReason::TooLittle,
    };
    RejectedIndex { index, reason }
}
