use super::apply::DEFAULT_MAX_ROWS;
use super::catalog;
use super::sample::{self, Sample};
use super::shadow::Shadow;
use crate::advise::{
    Advice, AdvisorConfig, Choice, IndexDef, Kinds, Planning, Problem, Schema, Shape, SkipReason, Skipped,
    WhatIf, WorkloadQuery, WriteCost, pose, propose, report, search, settle,
};
use crate::{Dialect, Error, Workload, statements};
use perf_core::InvalidConfig;
use sqlx::SqliteConnection;
use std::collections::BTreeSet;

/// What one entry of a B-tree costs to write, in units of SQLite's planner, beside the logarithm of the rows.
const WRITE_ENTRY: f64 = 20.0;
/// Bytes SQLite spends on an entry beside its values, and the share of a page that is used.
const ENTRY_BYTES: f64 = 8.0;
const PAGE_FILL: f64 = 0.75;

/// Proposes indexes for a SQLite database. It only reads it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use perf_dbopt::sqlite::SqliteAdvisor;
/// use perf_dbopt::{Dialect, Workload};
/// use sqlx::{Connection, Executor, SqliteConnection};
///
/// let mut conn = SqliteConnection::connect("sqlite::memory:").await?;
/// conn.execute("create table visits (id integer primary key, person text, day text)").await?;
/// conn.execute(
///     "insert into visits (person, day) with recursive n(i) as (values(1) union all select i + 1 from n where i < 5000) \
///      select 'p' || (i % 400), i from n",
/// )
/// .await?;
///
/// let workload = Workload::new(Dialect::Sqlite).with("select day from visits where person = ?", 1000);
/// let advice = SqliteAdvisor::default().advise(&mut conn, &workload).await?;
/// assert_eq!(advice.create[0].index.columns().next(), Some("person"));
/// assert!(advice.relative_cost() < 0.1);
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteAdvisor {
    config: AdvisorConfig,
    pub(super) max_rows: u64,
}

impl Default for SqliteAdvisor {
    fn default() -> Self {
        Self { config: AdvisorConfig::default(), max_rows: DEFAULT_MAX_ROWS }
    }
}

impl SqliteAdvisor {
    /// An advisor with this configuration.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value is outside its range.
    pub fn new(config: AdvisorConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self { config, ..Self::default() })
    }

    /// Rows of a table up to which an index is built on it without [`Apply::even_if_large`](crate::Apply::even_if_large).
    /// [`DEFAULT_MAX_ROWS`].
    #[must_use]
    pub const fn max_rows(mut self, rows: u64) -> Self {
        self.max_rows = rows;
        self
    }

    /// Looks for the indexes that make the workload cheapest within the configured limits.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be read. A statement that cannot be planned is skipped with its reason instead.
    ///
    /// # Cancel safety
    /// Dropping the future loses the advice and nothing else: the database is only read.
    pub async fn advise(&self, conn: &mut SqliteConnection, workload: &Workload) -> Result<Advice, Error> {
        let limits = self.config.limits();
        let mut catalog = catalog::read(conn).await?;
        let wanted = mentioned(&catalog.schema, workload);
        let mut samples = vec![Sample::default(); catalog.schema.tables().len()];
        for table in wanted {
            samples[table] = sample::take(conn, &mut catalog.schema.tables_mut()[table]).await?;
        }
        let mut shadow = Shadow::new(&catalog, &samples).await?;
        let mut advice = Advice::default();
        let queries =
            self.admit(&mut shadow, &catalog.schema, &catalog.virtual_tables, workload, &mut advice).await;
        let (defs, mut problem) = self.problem(&catalog.schema, &queries);
        problem.limits = limits;
        shadow.offer(&defs, &samples).await?;
        let mut choice = search(&problem, &mut shadow).await?;
        settle(&problem, &mut shadow, &mut choice).await?;
        advice.warnings.extend(shadow.missing.iter().map(|why| format!("not copied into the shadow: {why}")));
        let outcomes = outcomes(&mut shadow, queries.len(), &choice).await?;
        let statements: Vec<_> = queries.iter().map(|(query, _)| *query).collect();
        report(&mut advice, &statements, &defs, &problem, &choice, &outcomes, Dialect::Sqlite);
        Ok(advice)
    }

    /// The statements that can be planned; the others go to the advice with the reason.
    async fn admit<'w>(
        &self,
        shadow: &mut Shadow,
        schema: &Schema,
        virtual_tables: &[String],
        workload: &'w Workload,
        advice: &mut Advice,
    ) -> Vec<(&'w WorkloadQuery, Shape)> {
        let mut admitted = Vec::new();
        for query in &workload.queries {
            let shape = Shape::of(&query.sql, Dialect::Sqlite, schema);
            let admission = match refuse(query, &shape, virtual_tables) {
                Some(reason) => Err(reason),
                None => shadow.admit(&query.sql, shape.clone()).await.map(|_| ()),
            };
            match admission {
                Ok(()) => admitted.push((query, shape)),
                Err(reason) => advice.skipped.push(Skipped {
                    fingerprint: query.fingerprint,
                    text: query.text.clone(),
                    reason,
                }),
            }
        }
        admitted
    }

    fn problem(&self, schema: &Schema, queries: &[(&WorkloadQuery, Shape)]) -> (Vec<IndexDef>, Problem) {
        let kinds = Kinds {
            dialect: Dialect::Sqlite,
            include: false,
            partial: self.config.partial,
            expressions: self.config.expressions,
            covering: self.config.covering,
            brin: false,
        };
        let defs = propose(queries, schema, kinds, self.config.min_rows as f64);
        let cost = WriteCost { entry: WRITE_ENTRY, per_doubling: 1.0 };
        let problem = pose(queries, schema, &defs, |def, table| size(def, schema, table), cost);
        (defs, problem)
    }
}

/// The tables any statement mentions.
fn mentioned(schema: &Schema, workload: &Workload) -> BTreeSet<usize> {
    let shapes = workload.queries.iter().map(|query| Shape::of(&query.sql, Dialect::Sqlite, schema));
    shapes.flat_map(|shape| shape.tables.into_keys()).collect()
}

/// Why a statement is not even offered to the planner.
fn refuse(query: &WorkloadQuery, shape: &Shape, virtual_tables: &[String]) -> Option<SkipReason> {
    if statements(&query.sql, Dialect::Sqlite).count() != 1 {
        return Some(SkipReason::MultipleStatements);
    }
    let first = query.text.split([' ', '(']).next().unwrap_or_default();
    if !["select", "with", "insert", "update", "delete", "replace", "values"].contains(&first) {
        return Some(SkipReason::Utility);
    }
    let is_virtual = |name: &&String| virtual_tables.iter().any(|v| v.eq_ignore_ascii_case(name));
    shape
        .unknown
        .iter()
        .find(is_virtual)
        .map(|name| SkipReason::Unavailable(format!("virtual table {name}")))
        .or_else(|| shape.tables.is_empty().then_some(()).and_then(|()| nothing(shape)))
}

fn nothing(shape: &Shape) -> Option<SkipReason> {
    let system = shape.unknown.iter().any(|name| name.starts_with("sqlite_") || name.starts_with("pragma_"));
    match (system, shape.unknown.first()) {
        (true, _) => Some(SkipReason::SystemRelation),
        (false, None) => Some(SkipReason::NothingToIndex),
        // A view: the planner sees through it.
        (false, Some(_)) => None,
    }
}

/// Bytes of an index, from the widths of its values.
fn size(def: &IndexDef, schema: &Schema, table: usize) -> f64 {
    let table = &schema.tables()[table];
    let width: f64 = def.columns().filter_map(|name| table.column(name)).map(|column| column.width).sum();
    table.rows * (width + ENTRY_BYTES) / PAGE_FILL
}

/// What each statement's plan was and would be.
async fn outcomes(shadow: &mut Shadow, statements: usize, choice: &Choice) -> Result<Vec<Planning>, Error> {
    let mut all = Vec::with_capacity(statements);
    for number in 0..statements {
        let (before, after) = (shadow.plan(number, &[]).await?, shadow.plan(number, &choice.chosen).await?);
        let mut planning = Planning { before, after, ..Planning::default() };
        if !planning.after.used.is_empty() {
            planning.words_after = shadow.describe(number, &choice.chosen).await?;
            planning.words_before = shadow.describe(number, &[]).await?;
        }
        all.push(planning);
    }
    Ok(all)
}
