use super::catalog::{self, Catalog};
use super::hypopg::{HypoPg, homes};
use super::planner::Explainer;
use super::variants::CommonValues;
use crate::advise::{
    Advice, AdvisorConfig, Choice, IndexDef, Kinds, Planning, Problem, Shape, SkipReason, Skipped, WriteCost,
    pose, propose, report, search, settle,
};
use crate::error::Doing;
use crate::{Dialect, Error, Workload, WorkloadQuery};
use perf_core::InvalidConfig;
use sqlx::PgConnection;

/// What an index entry costs to write, in PostgreSQL's unit of one page read in order.
pub(super) const WRITE: WriteCost = WriteCost { entry: 0.5, per_doubling: 0.05 };
/// Below this share of pages visible to all, index-only scans visit the table so often that covering gains little.
const VISIBLE: f64 = 0.8;

/// Proposes indexes for a PostgreSQL database, best with the extension HypoPG. It only plans, and reads catalogues.
///
/// It needs a connection of its own while it runs: hypothetical indexes and prepared statements belong to the session.
#[derive(Clone, Debug, Default)]
pub struct PostgresAdvisor {
    config: AdvisorConfig,
}

impl PostgresAdvisor {
    /// An advisor with this configuration.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value is outside its range.
    pub fn new(config: AdvisorConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self { config })
    }

    pub(super) const fn config(&self) -> &AdvisorConfig {
        &self.config
    }

    pub(super) const fn kinds(&self) -> Kinds {
        Kinds {
            dialect: Dialect::Postgres,
            include: true,
            partial: self.config.partial,
            expressions: self.config.expressions,
            covering: self.config.covering,
            brin: self.config.brin,
        }
    }

    /// Whether HypoPG is installed in this database, and in which schema.
    async fn hypopg(conn: &mut PgConnection) -> Result<Option<String>, Error> {
        let sql = "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'hypopg'";
        sqlx::query_scalar(sql).persistent(false).fetch_optional(conn).await.doing("look for HypoPG")
    }

    /// Looks for the indexes that make the workload cheapest within the configured limits. Without HypoPG the advice is an
    /// estimate from statistics: its evidence says so, and a warning names the fix.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be read. A statement that cannot be planned is skipped with its reason instead.
    ///
    /// # Cancel safety
    /// The database is only read. Hypothetical indexes may stay in the session, where nothing but its own EXPLAIN sees them;
    /// close the connection to be rid of them.
    pub async fn advise(&self, conn: &mut PgConnection, workload: &Workload) -> Result<Advice, Error> {
        let limits = self.config.limits();
        if Self::hypopg(conn).await?.is_none() {
            return self.estimate(conn, workload).await;
        }
        let mut posed = self.pose(conn, workload).await?;
        posed.problem.limits = limits;
        let mut choice = search(&posed.problem, &mut posed.planner).await?;
        settle(&posed.problem, &mut posed.planner, &mut choice).await?;
        let outcomes = outcomes(&mut posed.planner, posed.problem.weights.len(), &choice).await?;
        let Posed { problem, definitions, planner, skipped, visible, statements, .. } = posed;
        planner.finish().await?;
        let mut advice = Advice { skipped, ..Advice::default() };
        let statements: Vec<_> = statements.iter().collect();
        report(&mut advice, &statements, &definitions, &problem, &choice, &outcomes, Dialect::Postgres);
        warn(&mut advice, &visible);
        Ok(advice)
    }

    /// States the problem without solving it: for those who search differently, or compare.
    ///
    /// # Errors
    /// As [`advise`](PostgresAdvisor::advise), and [`Error::Unexpected`] when HypoPG is not installed.
    pub async fn pose<'c>(
        &self,
        conn: &'c mut PgConnection,
        workload: &Workload,
    ) -> Result<Posed<'c>, Error> {
        let Some(home) = Self::hypopg(conn).await? else {
            return Err(Error::Unexpected("HypoPG is not installed: run CREATE EXTENSION hypopg".to_owned()));
        };
        let catalog = catalog::read(conn).await?;
        let mut planner = HypoPg::new(Explainer::new(conn).await?, &home).await?;
        let (mut skipped, mut admitted, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = CommonValues::default();
        for (number, query) in workload.queries.iter().enumerate() {
            let shape = Shape::of(&query.sql, Dialect::Postgres, &catalog.schema);
            let refused = match refuse(&shape, &catalog) {
                Some(reason) => Some(reason),
                None => planner.admit(&query.sql, homes(&shape, &catalog)).await?,
            };
            if let Some(reason) = refused {
                skipped.push(Skipped { fingerprint: query.fingerprint, text: query.text.clone(), reason });
                continue;
            }
            for part in planner.split(query, &shape, &catalog, &mut values).await? {
                admitted.push(number);
                parts.push((part, shape.clone()));
            }
        }
        let queries: Vec<_> = parts.iter().map(|((query, _), shape)| (query, shape.clone())).collect();
        let definitions = propose(&queries, &catalog.schema, self.kinds(), self.config.min_rows as f64);
        let mut problem =
            pose(&queries, &catalog.schema, &definitions, |def, table| catalog.bytes(def, table), WRITE);
        problem.weights = parts.iter().map(|((_, weight), _)| *weight).collect();
        let statements = parts.into_iter().map(|((query, _), _)| query).collect();
        planner.offer(&definitions);
        let visible = catalog
            .schema
            .tables()
            .iter()
            .zip(&catalog.visible)
            .map(|(t, share)| (t.name.clone(), *share))
            .collect();
        Ok(Posed { problem, definitions, planner, skipped, admitted, visible, statements })
    }
}

/// A problem stated for one PostgreSQL database, with the planner that can judge its candidates.
#[non_exhaustive]
pub struct Posed<'c> {
    /// The problem, without limits.
    pub problem: Problem,
    /// The candidates, in the problem's order.
    pub definitions: Vec<IndexDef>,
    /// Answers "what if" for them.
    pub planner: HypoPg<'c>,
    /// Statements that are not part of the problem, and why.
    pub skipped: Vec<Skipped>,
    /// The statements that are, by their number in the workload. One that is also planned with frequent values of an
    /// unevenly filled column is there once for unknown values and once for each of those.
    pub admitted: Vec<usize>,
    visible: Vec<(String, f64)>,
    /// The problem's statements, with their share of the calls.
    statements: Vec<WorkloadQuery>,
}

impl std::fmt::Debug for Posed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Posed")
            .field("candidates", &self.definitions.len())
            .field("statements", &self.admitted.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn refuse(shape: &Shape, catalog: &Catalog) -> Option<SkipReason> {
    if let Some(name) = shape.unknown.iter().find(|name| catalog.foreign.contains(name)) {
        return Some(SkipReason::ForeignTable(name.clone()));
    }
    if let Some(name) = shape.unknown.iter().find(|name| catalog.temporary.contains(name)) {
        return Some(SkipReason::Unavailable(format!("temporary table {name}")));
    }
    let system = |name: &String| name.starts_with("pg_") || catalog.extensions.contains(name);
    if shape.tables.is_empty() && !shape.unknown.is_empty() && shape.unknown.iter().all(system) {
        return Some(SkipReason::SystemRelation);
    }
    None
}

async fn outcomes(
    planner: &mut HypoPg<'_>,
    statements: usize,
    choice: &Choice,
) -> Result<Vec<Planning>, Error> {
    let mut all = Vec::with_capacity(statements);
    for number in 0..statements {
        let (after, words_after) = planner.describe(number, &choice.chosen).await?;
        all.push(Planning { after, words_after, ..Planning::default() });
    }
    for (number, planning) in all.iter_mut().enumerate() {
        (planning.before, planning.words_before) = planner.describe(number, &[]).await?;
        if planning.after.used.is_empty() {
            planning.words_before.clear();
            planning.words_after.clear();
        }
    }
    Ok(all)
}

fn warn(advice: &mut Advice, visible: &[(String, f64)]) {
    for (table, visible) in visible {
        let covering = advice.create.iter().any(|a| a.index.table == *table && !a.index.include.is_empty());
        if covering && *visible < VISIBLE {
            advice.warnings.push(format!(
                "only {:.0} % of the pages of {table} are known to be visible to all: run VACUUM, or covering indexes gain little",
                visible * 100.0
            ));
        }
    }
}

/// The bytes each of these indexes would take if it were built, from statistics; 0 for one on a table that is not there.
///
/// # Errors
/// [`Error`] when the catalogues cannot be read.
pub async fn estimate_sizes(conn: &mut PgConnection, defs: &[IndexDef]) -> Result<Vec<u64>, Error> {
    let catalog = catalog::read(conn).await?;
    let size = |def: &IndexDef| {
        let table = catalog.schema.find(def.schema.as_deref(), &def.table);
        table.map_or(0, |table| catalog.bytes(def, table) as u64)
    };
    Ok(defs.iter().map(size).collect())
}
