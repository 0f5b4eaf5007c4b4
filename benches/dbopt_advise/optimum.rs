//! The search beside exact answers (B-5): random scans and candidates, no database.

#[path = "../../crates/perf-dbopt/tests/it/search/exact.rs"]
mod exact;

use crate::AnyError;
use exact::{Cap, Instance};
use perf_core::time::now;
use perf_dbopt::advise::search;

/// Instances of each kind.
const INSTANCES: u64 = 20;
const SCANS: usize = 44;
const CANDIDATES: usize = 95;

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len().max(1) as f64
}

fn worst(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

/// Prints one line for each kind of instance: how far from the best the search ends, and how long it takes.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) async fn contest() -> Result<(), AnyError> {
    for share in [0.1, 0.4] {
        for cap in [Cap::Nothing, Cap::Count, Cap::Size, Cap::Both] {
            let (mut gaps, mut times, mut calls, mut exact_times) = (vec![], vec![], vec![], vec![]);
            for seed in 0..INSTANCES {
                let mut instance = Instance::random(seed, SCANS, CANDIDATES, share, cap);
                let problem = instance.problem();
                let start = now();
                let choice = search(&problem, &mut instance).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
                calls.push(choice.planner_calls as f64);
                let start = now();
                gaps.push(100.0 * (choice.after / instance.best(choice.after) - 1.0));
                exact_times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            println!(
                "ratio optimum-{cap:?}-{share} instances={INSTANCES} gap_mean_percent={:.3} gap_worst_percent={:.3} ms_mean={:.1} \
                 ms_worst={:.1} calls_mean={:.0} exact_ms_mean={:.0} exact_ms_worst={:.0}",
                mean(&gaps),
                worst(&gaps),
                mean(&times),
                worst(&times),
                mean(&calls),
                mean(&exact_times),
                worst(&exact_times)
            );
        }
    }
    Ok(())
}
