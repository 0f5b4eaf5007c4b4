//! What the recommended sets are worth when they are built: each query is run with none, ours and Extend's, in turn.

use crate::contest::{Effort, compare};
use crate::rivals::Memory;
use crate::{AnyError, run};
use perf_core::time::now;
use perf_dbopt::advise::IndexDef;
use perf_dbopt::{Dialect, Workload};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::BTreeSet;

const ROUNDS: usize = 5;

/// Builds both sets and hides from the planner whatever is not on; the benchmark's server belongs to it alone.
async fn show(conn: &mut PgConnection, names: &[String]) -> Result<(), AnyError> {
    let list = names.join(",");
    run(
        conn,
        &format!(
            "update pg_index set indisvalid = c.relname = any ('{{{list}}}'::text[]) \
             from pg_class c where c.oid = indexrelid and c.relname like 'perfidx%'"
        ),
    )
    .await
}

async fn megabytes(conn: &mut PgConnection, names: &[String]) -> Result<f64, AnyError> {
    let sql = format!(
        "select coalesce(sum(pg_relation_size(oid)), 0)::float8 / 1e6 from pg_class where relname = any ('{{{}}}'::text[])",
        names.join(",")
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await?)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs the workload with none, ours and Extend's indexes at one budget, in turn.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) async fn race(conn: &mut PgConnection, workload: &Workload, budget: f64) -> Result<(), AnyError> {
    let choices = compare(conn, "wall", workload, budget, &Effort::USUAL, &mut Memory::new()).await?;
    let names = |defs: &[IndexDef]| defs.iter().map(IndexDef::name).collect::<Vec<_>>();
    let all: BTreeSet<&IndexDef> = choices.ours.iter().chain(&choices.extend).collect();
    for def in &all {
        run(conn, &def.create(Dialect::Postgres, &def.name())).await?;
    }
    let sets = [Vec::new(), names(&choices.ours), names(&choices.extend)];
    // Times by set and query.
    let mut times = vec![vec![Vec::new(); workload.queries.len()]; sets.len()];
    for _ in 0..ROUNDS {
        for (set, names) in sets.iter().enumerate() {
            show(conn, names).await?;
            for (place, query) in crate::tpch::texts().enumerate() {
                let start = now();
                run(conn, query).await?;
                times[set][place].push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let by_query: Vec<Vec<f64>> = times.iter().map(|set| set.iter().map(|t| median(t)).collect()).collect();
    let total = |set: usize| by_query[set].iter().sum::<f64>();
    let worst = |set: usize| {
        by_query[set]
            .iter()
            .zip(&by_query[0])
            .map(|(with, without)| with / without.max(1.0))
            .fold(0.0, f64::max)
    };
    println!(
        "ratio advise-wall-{budget}MB none_ms={:.0} ours_ms={:.0} extend_ms={:.0} ours/none={:.2} extend/none={:.2} \
         ours_mb={:.0} extend_mb={:.0} ours_worst_query={:.2} extend_worst_query={:.2}",
        total(0),
        total(1),
        total(2),
        total(1) / total(0),
        total(2) / total(0),
        megabytes(conn, &sets[1]).await?,
        megabytes(conn, &sets[2]).await?,
        worst(1),
        worst(2)
    );
    for def in &all {
        run(conn, &format!("drop index {}", def.name())).await?;
    }
    Ok(())
}
