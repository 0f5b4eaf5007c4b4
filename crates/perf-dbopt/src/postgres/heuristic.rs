//! Advice for a PostgreSQL without HypoPG: from statistics and rules, and marked as such.

use super::advisor::{PostgresAdvisor, WRITE, refuse};
use super::catalog;
use super::planner::Explainer;
use crate::advise::{
    Advice, Evidence, Heuristic, Planning, Shape, Skipped, WhatIf, pose, propose, report, search,
};
use crate::{Dialect, Error, Workload};
use sqlx::PgConnection;

impl PostgresAdvisor {
    /// As [`advise`](PostgresAdvisor::advise), with an estimate in the planner's place.
    pub(super) async fn estimate(
        &self,
        conn: &mut PgConnection,
        workload: &Workload,
    ) -> Result<Advice, Error> {
        let catalog = catalog::read(conn).await?;
        let mut advice = Advice::default();
        let mut queries = Vec::new();
        let mut explainer = Explainer::new(conn).await?;
        for query in &workload.queries {
            let shape = Shape::of(&query.sql, Dialect::Postgres, &catalog.schema);
            let reason = match refuse(&shape, &catalog) {
                Some(reason) => Some(reason),
                // It must still be a statement this role may run.
                None => explainer.explain(&query.sql).await?.err(),
            };
            match reason {
                Some(reason) => advice.skipped.push(Skipped {
                    fingerprint: query.fingerprint,
                    text: query.text.clone(),
                    reason,
                }),
                None => queries.push((query, shape)),
            }
        }
        explainer.finish().await?;
        let mut kinds = self.kinds();
        // What these are worth only a planner can tell.
        (kinds.partial, kinds.brin) = (false, false);
        let defs = propose(&queries, &catalog.schema, kinds, self.config().min_rows as f64);
        let mut problem =
            pose(&queries, &catalog.schema, &defs, |def, table| catalog.bytes(def, table), WRITE);
        problem.limits = self.config().limits();
        let shapes = queries.iter().map(|(_, shape)| shape).collect();
        let mut planner = Heuristic { schema: &catalog.schema, shapes, defs: &defs };
        let choice = search(&problem, &mut planner).await?;
        let mut outcomes = Vec::new();
        for number in 0..queries.len() {
            let (before, after) =
                (planner.plan(number, &[]).await?, planner.plan(number, &choice.chosen).await?);
            outcomes.push(Planning { before, after, ..Planning::default() });
        }
        let statements: Vec<_> = queries.iter().map(|(query, _)| *query).collect();
        report(&mut advice, &statements, &defs, &problem, &choice, &outcomes, Dialect::Postgres);
        advice.create.iter_mut().for_each(|index| index.evidence = Evidence::Heuristic);
        advice.planner_calls = 0;
        advice.warnings.push(
            "HypoPG is not installed, so no planner was asked: this is an estimate from statistics. CREATE EXTENSION hypopg"
                .to_owned(),
        );
        Ok(advice)
    }
}
