//! The last look at a choice: only what a final plan uses is proposed.
//!
//! An index can lower a planner's cost without being read: its statistics tell the planner more about a column, so that another plan
//! looks cheaper. The search takes that for a benefit. Nobody else should: the index costs room and upkeep, and serves nothing.

use super::costs::WhatIf;
use super::search::{Choice, Problem};
use super::set::Set;
use crate::Error;

/// Plans every statement with all that was chosen, and takes out what no plan uses, until every index is used by one.
/// The cost is then what the planner says of that set, and what was taken out is named as [`unused`](Choice::unused).
///
/// # Errors
/// Those of the planner.
pub(crate) async fn settle<W: WhatIf>(
    problem: &Problem,
    planner: &mut W,
    choice: &mut Choice,
) -> Result<(), Error> {
    loop {
        let (mut used, mut reading) = (Set::default(), 0.0);
        for (query, weight) in problem.weights.iter().enumerate() {
            let planned = planner.plan(query, &choice.chosen).await?;
            used = used.with(&Set::of(planned.used));
            reading += planned.cost * weight;
        }
        let (kept, unused): (Vec<usize>, Vec<usize>) =
            choice.chosen.iter().partition(|item| used.contains(**item));
        choice.after = reading + kept.iter().map(|item| problem.candidates[*item].upkeep).sum::<f64>();
        if unused.is_empty() {
            return Ok(());
        }
        choice.chosen = kept;
        choice.unused.extend(unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::{Candidate, Planned, search};

    /// One statement; the index 0 serves it, the mere presence of 1 makes its plan look cheaper, and 2 is read only beside 1.
    struct Impressed;

    impl WhatIf for Impressed {
        async fn plan(&mut self, _: usize, indexes: &[usize]) -> Result<Planned, Error> {
            let has = |item: usize| indexes.contains(&item);
            let cost = 1000.0 - 500.0 * f64::from(has(0)) - 200.0 * f64::from(has(1));
            let mut used: Vec<usize> = has(0).then_some(0).into_iter().collect();
            used.extend((has(1) && has(2)).then_some(2));
            Ok(Planned { cost: cost - 50.0 * f64::from(has(1) && has(2)), used })
        }
    }

    fn problem() -> Problem {
        let candidate = Candidate { table: 0, bytes: 16e6, upkeep: 5.0, narrower: Vec::new() };
        Problem {
            weights: vec![1.0],
            relevant: vec![vec![0, 1, 2]],
            candidates: vec![candidate; 3],
            ..Problem::default()
        }
    }

    fn chosen(items: &[usize]) -> Choice {
        Choice {
            chosen: items.to_vec(),
            before: 1000.0,
            after: 250.0 + 5.0 * items.len() as f64,
            planner_calls: 0,
            derived: 0,
            complete: true,
            considered: Vec::new(),
            unused: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_only_impresses_the_planner_is_taken_out_and_the_cost_is_what_is_left() {
        let mut choice = chosen(&[0, 1]);
        settle(&problem(), &mut Impressed, &mut choice).await.unwrap();
        assert_eq!((choice.chosen, choice.unused), (vec![0], vec![1]));
        assert!((choice.after - 505.0).abs() < 1e-9, "{}", choice.after);
    }

    #[tokio::test]
    async fn what_was_used_only_beside_it_goes_with_it() {
        let mut choice = chosen(&[0, 1, 2]);
        settle(&problem(), &mut Impressed, &mut choice).await.unwrap();
        assert_eq!((choice.chosen, choice.unused), (vec![0], vec![1, 2]));
    }

    #[tokio::test]
    async fn a_choice_of_which_all_is_used_stays_as_the_search_left_it() {
        let mut problem = problem();
        problem.relevant = vec![vec![0]];
        let mut choice = search(&problem, &mut Impressed).await.unwrap();
        let before = choice.clone();
        settle(&problem, &mut Impressed, &mut choice).await.unwrap();
        assert_eq!(choice, before);
        assert_eq!(choice.chosen, [0]);
    }
}
