//! One budget, every algorithm.

use crate::AnyError;
use crate::rivals::{Costs, db2advis, extend};
use perf_core::time::{Duration, now};
use perf_dbopt::Workload;
use perf_dbopt::advise::{AdvisorConfig, IndexDef, Limits, Problem, search};
use perf_dbopt::postgres::PostgresAdvisor;
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashMap};

/// What the issue allows one run of the advisor.
const TIME: Duration = Duration::from_secs(2);

/// The indexes ours and Extend choose.
pub(crate) struct Choices {
    pub(crate) ours: Vec<IndexDef>,
    pub(crate) extend: Vec<IndexDef>,
}

fn advisor() -> Result<PostgresAdvisor, AnyError> {
    let mut config = AdvisorConfig::default();
    config.max_indexes = 64;
    config.max_per_table = 20;
    config.min_saving = 0.0;
    Ok(PostgresAdvisor::new(config)?)
}

/// The part of a problem the rivals know: plain keys.
fn plain(definitions: &[IndexDef], problem: &Problem) -> (Vec<IndexDef>, Problem) {
    let keys: Vec<usize> = (0..definitions.len())
        .filter(|item| {
            let def = &definitions[*item];
            def.include.is_empty()
                && def.predicate.is_none()
                && def.method == perf_dbopt::advise::Method::Btree
                && def.keys.iter().all(|key| key.column_name().is_some())
        })
        .collect();
    let mut known = problem.clone();
    known.candidates = keys.iter().map(|item| problem.candidates[*item].clone()).collect();
    known.relevant = problem
        .relevant
        .iter()
        .map(|relevant| (0..keys.len()).filter(|place| relevant.contains(&keys[*place])).collect())
        .collect();
    (keys.iter().map(|item| definitions[*item].clone()).collect(), known)
}

/// Prints one line: what each algorithm makes of a budget in MB, with how many questions and how long.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) async fn compare(
    conn: &mut PgConnection,
    name: &str,
    workload: &Workload,
    megabytes: f64,
) -> Result<Choices, AnyError> {
    let budget = megabytes * 1e6;
    let mut posed = advisor()?.pose(conn, workload).await?;
    let start = now();
    posed.problem.limits = Limits {
        bytes: budget,
        per_table: 20,
        min_saving: 0.0,
        deadline: start.checked_add(TIME),
        ..Limits::default()
    };
    let ours = search(&posed.problem, &mut posed.planner).await?;
    let took = start.elapsed();
    let (defs, problem) = plain(&posed.definitions, &posed.problem);
    posed.planner.offer(&defs);
    let mut line = format!(
        "ratio advise-{name}-{megabytes}MB queries={} skipped={} candidates={} ours={:.1} calls={} ms={}",
        posed.admitted.len(),
        posed.skipped.len(),
        posed.definitions.len(),
        100.0 * ours.after / ours.before,
        ours.planner_calls,
        took.as_millis()
    );
    let mut chosen = BTreeSet::new();
    for width in [2, 3] {
        for rival in ["extend", "db2advis"] {
            let mut costs =
                Costs { planner: &mut posed.planner, problem: &problem, known: HashMap::new(), calls: 0 };
            let base = costs.total(&BTreeSet::new()).await?;
            let start = now();
            let total = if rival == "extend" {
                let (set, total) = extend(&mut costs, &defs, width, budget).await?;
                chosen = set;
                total
            } else {
                db2advis(&mut costs, &defs, width, budget).await?
            };
            line += &format!(
                " {rival}{width}={:.1} {rival}{width}_calls={} {rival}{width}_ms={}",
                100.0 * total / base,
                costs.calls,
                start.elapsed().as_millis()
            );
        }
    }
    println!("{line}");
    posed.planner.finish().await?;
    Ok(Choices {
        ours: ours.chosen.iter().map(|item| posed.definitions[*item].clone()).collect(),
        extend: chosen.iter().map(|item| defs[*item].clone()).collect(),
    })
}
