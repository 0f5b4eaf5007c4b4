//! The search for indexes against exact answers on small instances (B-5), and its limits.

use perf_core::Rng;
use perf_dbopt::Error;
use perf_dbopt::advise::{Candidate, Choice, Limits, Planned, Problem, WhatIf, search};

/// A planner that knows the cost of each statement with each candidate, and takes the cheapest.
struct Table {
    base: Vec<f64>,
    with: Vec<Vec<f64>>,
}

impl WhatIf for Table {
    async fn plan(&mut self, query: usize, indexes: &[usize]) -> Result<Planned, Error> {
        let best =
            indexes.iter().copied().min_by(|a, b| self.with[query][*a].total_cmp(&self.with[query][*b]));
        Ok(match best {
            Some(best) if self.with[query][best] < self.base[query] => {
                Planned { cost: self.with[query][best], used: vec![best] }
            }
            _ => Planned { cost: self.base[query], used: vec![] },
        })
    }
}

fn instance(seed: u64, queries: usize, candidates: usize) -> (Problem, Table) {
    let mut rng = Rng::seeded(seed);
    let base: Vec<f64> = (0..queries).map(|_| 100.0 + 900.0 * rng.unit()).collect();
    let with = base
        .iter()
        .map(|base| {
            (0..candidates).map(|_| if rng.chance(0.4) { base * rng.unit() } else { base * 2.0 }).collect()
        })
        .collect();
    let mut problem = Problem {
        weights: (0..queries).map(|_| 1.0 + rng.below(20) as f64).collect(),
        relevant: vec![(0..candidates).collect(); queries],
        limits: Limits { min_saving: 0.0, ..Limits::default() },
        candidates: Vec::new(),
    };
    for table in 0..candidates {
        let (bytes, upkeep) = (1.0 + 9.0 * rng.unit(), 200.0 * rng.unit());
        problem.candidates.push(Candidate { table, bytes, upkeep, narrower: Vec::new() });
    }
    (problem, Table { base, with })
}

fn total(problem: &Problem, table: &Table, set: u32) -> f64 {
    let chosen = |item: &usize| set & (1 << item) != 0;
    let items: Vec<usize> = (0..problem.candidates.len()).filter(chosen).collect();
    let reading: f64 = (0..table.base.len())
        .map(|query| {
            let best = items.iter().map(|item| table.with[query][*item]).fold(table.base[query], f64::min);
            best * problem.weights[query]
        })
        .sum();
    reading + items.iter().map(|item| problem.candidates[*item].upkeep).sum::<f64>()
}

fn best(problem: &Problem, table: &Table) -> f64 {
    let fits = |set: &u32| {
        let items = (0..problem.candidates.len()).filter(|item| set & (1 << item) != 0);
        items.map(|item| problem.candidates[item].bytes).sum::<f64>() <= problem.limits.bytes
            && set.count_ones() as usize <= problem.limits.count
    };
    (0..1_u32 << problem.candidates.len())
        .filter(fits)
        .map(|set| total(problem, table, set))
        .fold(f64::MAX, f64::min)
}

async fn solve(problem: &Problem, table: &mut Table) -> Choice {
    let choice = search(problem, table).await;
    assert!(choice.is_ok(), "{choice:?}");
    choice.unwrap_or_else(|_| unreachable!("asserted above"))
}

#[tokio::test]
async fn b_5_small_instances_are_solved_within_one_per_cent_of_the_best() {
    let mut gaps = Vec::new();
    for seed in 0..60 {
        let (mut problem, mut table) = instance(seed, 12, 11);
        match seed % 3 {
            0 => {}
            1 => problem.limits.count = 3,
            _ => problem.limits.bytes = 20.0,
        }
        let choice = solve(&problem, &mut table).await;
        let set = choice.chosen.iter().fold(0, |set, item| set | 1 << item);
        assert!(
            (total(&problem, &table, set) - choice.after).abs() < 1e-6,
            "what it reports is what it costs"
        );
        gaps.push(choice.after / best(&problem, &table) - 1.0);
    }
    gaps.sort_by(f64::total_cmp);
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    assert!(mean <= 0.01, "mean gap {mean}, all: {gaps:?}");
    assert!(gaps[gaps.len() - 1] <= 0.08, "worst gap: {gaps:?}");
}

#[tokio::test]
async fn limits_of_effort_end_the_search_with_an_answer() {
    let (mut problem, mut table) = instance(1, 40, 60);
    problem.limits.planner_calls = 45;
    let choice = solve(&problem, &mut table).await;
    assert!(!choice.complete && choice.planner_calls <= 45 && choice.after <= choice.before);
    problem.limits.planner_calls = usize::MAX;
    let full = solve(&problem, &mut table).await;
    assert!(full.complete && full.after <= choice.after);
}

#[tokio::test]
async fn indexes_that_only_help_together_are_found() {
    /// Both or nothing.
    struct Pair;
    impl WhatIf for Pair {
        async fn plan(&mut self, _: usize, indexes: &[usize]) -> Result<Planned, Error> {
            let both = indexes.contains(&0) && indexes.contains(&1);
            Ok(if both {
                Planned { cost: 1.0, used: vec![0, 1] }
            } else {
                Planned { cost: 100.0, used: vec![] }
            })
        }
    }
    let (mut problem, _) = instance(1, 1, 2);
    problem.candidates.iter_mut().for_each(|candidate| candidate.upkeep = 0.1);
    let choice = search(&problem, &mut Pair).await;
    assert_eq!(choice.map(|choice| choice.chosen).ok(), Some(vec![0, 1]));
}
