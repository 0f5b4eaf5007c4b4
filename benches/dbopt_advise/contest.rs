//! One budget, every algorithm.

use crate::AnyError;
use crate::rivals::{Costs, Memory, db2advis, extend};
use perf_core::time::{Duration, now};
use perf_dbopt::Workload;
use perf_dbopt::advise::{AdvisorConfig, IndexDef, Limits, Problem, search};
use perf_dbopt::postgres::{Posed, PostgresAdvisor};
use sqlx::PgConnection;
use std::collections::BTreeSet;

/// How much one run may take, and what the rivals may do.
pub(crate) struct Effort {
    /// From stating the problem to the answer.
    pub(crate) time: Duration,
    /// How often we may ask the planner.
    pub(crate) calls: usize,
    /// The most columns of the rivals' indexes, one run for each.
    pub(crate) widths: &'static [usize],
    /// How long one run of a rival may take.
    pub(crate) rivals: Duration,
    /// Whether statements are also planned with likely values (B1.7).
    pub(crate) variants: bool,
}

impl Effort {
    /// What the issue allows.
    pub(crate) const USUAL: Self = Self {
        time: Duration::from_secs(2),
        calls: 5000,
        widths: &[2, 3],
        rivals: Duration::from_secs(600),
        variants: true,
    };
}

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
    known.proposed.clear();
    (keys.iter().map(|item| definitions[*item].clone()).collect(), known)
}

/// Lets only the plans for unknown values count, as if there were no others.
fn without_variants(posed: &mut Posed<'_>, workload: &Workload) {
    let mut last = None;
    for (row, number) in posed.admitted.iter().enumerate() {
        let variant = last == Some(*number);
        posed.problem.weights[row] = if variant { 0.0 } else { workload.queries[*number].calls as f64 };
        if variant {
            posed.problem.relevant[row].clear();
            posed.problem.proposed[row].clear();
        }
        last = Some(*number);
    }
}

/// A share in per cent, with more digits where little is left.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 1.0 { format!("{percent:.4}") } else { format!("{percent:.1}") }
}

/// Prints one line: what each algorithm makes of a budget in MB, with how many questions and how long.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) async fn compare(
    conn: &mut PgConnection,
    name: &str,
    workload: &Workload,
    megabytes: f64,
    effort: &Effort,
    memory: &mut Memory,
) -> Result<Choices, AnyError> {
    let budget = megabytes * 1e6;
    let asked = now();
    let mut posed = advisor()?.pose(conn, workload).await?;
    if !effort.variants {
        without_variants(&mut posed, workload);
    }
    let start = now();
    posed.problem.limits = Limits {
        bytes: budget,
        per_table: 20,
        min_saving: 0.0,
        planner_calls: effort.calls,
        deadline: start.checked_add(effort.time.saturating_sub(start - asked)),
        ..Limits::default()
    };
    let ours = search(&posed.problem, &mut posed.planner).await?;
    let took = start.elapsed();
    let (defs, problem) = plain(&posed.definitions, &posed.problem);
    posed.planner.offer(&defs);
    let mut line = format!(
        "ratio advise-{name}-{megabytes}MB queries={} skipped={} candidates={} ours={} calls={} ms={} pose_ms={} complete={} \
         indexes={}",
        posed.admitted.len(),
        posed.skipped.len(),
        posed.definitions.len(),
        percent(ours.after / ours.before),
        ours.planner_calls,
        took.as_millis(),
        (start - asked).as_millis(),
        ours.complete,
        ours.chosen.len()
    );
    let mut chosen = BTreeSet::new();
    for &width in effort.widths {
        for rival in ["extend", "db2advis"] {
            let mut costs = Costs {
                planner: &mut posed.planner,
                problem: &problem,
                known: std::mem::take(memory),
                calls: 0,
                until: now().checked_add(effort.rivals),
            };
            let start = now();
            let base = costs.total(&BTreeSet::new()).await?;
            let total = if rival == "extend" {
                let (set, total) = extend(&mut costs, &defs, width, budget).await?;
                chosen = set;
                total
            } else {
                db2advis(&mut costs, &defs, width, budget).await?
            };
            line += &format!(
                " {rival}{width}={} {rival}{width}_calls={} {rival}{width}_ms={}",
                percent(total / base),
                costs.calls,
                start.elapsed().as_millis()
            );
            *memory = costs.known;
        }
    }
    println!("{line}");
    posed.planner.finish().await?;
    Ok(Choices {
        ours: ours.chosen.iter().map(|item| posed.definitions[*item].clone()).collect(),
        extend: chosen.iter().map(|item| defs[*item].clone()).collect(),
    })
}
