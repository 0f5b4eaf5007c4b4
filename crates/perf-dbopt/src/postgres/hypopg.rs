//! "What if": hypothetical indexes in and out of one session, and the plans PostgreSQL makes with them.

use super::catalog::Catalog;
use super::planner::{Explainer, Plannable, known, number, text};
use super::variants::CommonValues;
use crate::advise::{IndexDef, Planned, Shape, SkipReason, WhatIf};
use crate::error::Doing;
use crate::{Dialect, Error, WorkloadQuery};
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet};

/// A table's schema and name.
pub(super) type Home = (Option<String>, String);

/// The tables a statement names, or nothing when it names something else as well: a view may hide any table.
pub(super) fn homes(shape: &Shape, catalog: &Catalog) -> Option<BTreeSet<Home>> {
    let tables = catalog.schema.tables();
    let home = |place: &usize| (tables[*place].schema.clone(), tables[*place].name.clone());
    shape.unknown.is_empty().then(|| shape.tables.keys().map(home).collect())
}

/// The code of a statement that ran into the session's limit of time.
const CANCELLED: &str = "57014";

/// Hypothetical indexes kept in the session at most, wanted or not. HypoPG slows down beyond, and ends at some 2,800.
const MAX_PRESENT: usize = 1000;

/// HypoPG on one connection, with the candidates and statements of a problem.
pub struct HypoPg<'c> {
    explainer: Explainer<'c>,
    create: String,
    drop: String,
    reset: String,
    candidates: Vec<String>,
    /// Each candidate's table.
    homes: Vec<Home>,
    /// With the tables each names, where that is known.
    statements: Vec<(Plannable, Option<BTreeSet<Home>>)>,
    /// Hypothetical indexes in the session: candidate and its number there.
    present: BTreeMap<usize, String>,
    /// Hypothetical indexes of candidates that are offered no more.
    stale: Vec<String>,
}

impl<'c> HypoPg<'c> {
    pub(super) async fn new(explainer: Explainer<'c>, schema: &str) -> Result<Self, Error> {
        let home = Dialect::Postgres.quote(schema);
        let mut planner = Self {
            explainer,
            create: format!("{home}.hypopg_create_index"),
            drop: format!("{home}.hypopg_drop_index"),
            reset: format!("select {home}.hypopg_reset()"),
            candidates: Vec::new(),
            homes: Vec::new(),
            statements: Vec::new(),
            present: BTreeMap::new(),
            stale: Vec::new(),
        };
        planner.reset().await?;
        Ok(planner)
    }

    /// Replaces the candidates; they are numbered in this order.
    pub fn offer(&mut self, candidates: &[IndexDef]) {
        self.candidates = candidates.iter().map(|def| def.create(Dialect::Postgres, "")).collect();
        let home =
            |def: &IndexDef| (def.schema.clone().or_else(|| Some("public".to_owned())), def.table.clone());
        self.homes = candidates.iter().map(home).collect();
        // Numbers now mean other indexes: none of those in the session is one of them.
        self.stale.extend(std::mem::take(&mut self.present).into_values());
    }

    async fn reset(&mut self) -> Result<(), Error> {
        self.present.clear();
        self.stale.clear();
        let sql = AssertSqlSafe(self.reset.clone());
        sqlx::raw_sql(sql).execute(&mut *self.explainer.conn).await.doing("reset HypoPG")?;
        Ok(())
    }

    /// Takes a statement in; it gets the next number, or a reason why it cannot be planned.
    pub(super) async fn admit(
        &mut self,
        sql: &str,
        homes: Option<BTreeSet<Home>>,
    ) -> Result<Option<SkipReason>, Error> {
        let plannable = match self.explainer.admit(sql).await? {
            Ok(plannable) => plannable,
            Err(reason) => return Ok(Some(reason)),
        };
        // What may not be read shows only now.
        if let Err(reason) = self.explainer.explain(sql).await? {
            return Ok(Some(reason));
        }
        self.statements.push((plannable, homes));
        Ok(None)
    }

    /// A statement that was just admitted, split by the values it may be called with: for unknown ones, and for frequent
    /// ones of an unevenly filled column. Each with its weight.
    pub(super) async fn split(
        &mut self,
        query: &WorkloadQuery,
        shape: &Shape,
        catalog: &Catalog,
        values: &mut CommonValues,
    ) -> Result<Vec<(WorkloadQuery, f64)>, Error> {
        let all = query.calls as f64;
        let variants = values.variants(&mut *self.explainer.conn, &query.sql, shape, &catalog.schema).await?;
        let (mut parts, mut rest) = (Vec::new(), 1.0_f64);
        for variant in variants {
            if self.admit(&variant.sql, homes(shape, catalog)).await?.is_none() {
                rest -= variant.share;
                let sql = variant.sql.into();
                parts.push((WorkloadQuery { sql, ..query.part(variant.share) }, all * variant.share));
            }
        }
        let rest = rest.clamp(0.0, 1.0);
        parts.insert(0, (query.part(rest), all * rest));
        Ok(parts)
    }

    /// Gives the session back without hypothetical indexes.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.reset().await?;
        self.explainer.finish().await
    }

    /// The hypothetical indexes that must go: those that could be used and are not wanted. Those on other tables do no
    /// harm, and making them anew for the next statement costs more than planning it.
    fn leaving(&self, query: usize, wanted: &[usize]) -> Vec<usize> {
        let homes = &self.statements[query].1;
        let full = self.present.len() + wanted.len() > MAX_PRESENT;
        let in_the_way = |number: &&usize| {
            let concerned = homes.as_ref().is_none_or(|homes| homes.contains(&self.homes[**number]));
            !wanted.contains(number) && (full || concerned)
        };
        self.present.keys().filter(in_the_way).copied().collect()
    }

    /// Everything a plan needs in one message: hypothetical indexes in and out, the statement, its plan. The texts differ
    /// in constants only, so that `pg_stat_statements` sees few of them.
    fn message(&self, query: usize, leaving: &[usize], wanted: &[usize]) -> String {
        let mut sql = String::new();
        let gone: Vec<&str> = leaving
            .iter()
            .filter_map(|number| self.present.get(number))
            .chain(&self.stale)
            .map(String::as_str)
            .collect();
        if !gone.is_empty() {
            sql += &format!("select {}(o) from unnest('{{{}}}'::oid[]) o;", self.drop, gone.join(","));
        }
        let new: Vec<usize> = wanted.iter().copied().filter(|n| !self.present.contains_key(n)).collect();
        if !new.is_empty() {
            let numbers: Vec<String> = new.iter().map(usize::to_string).collect();
            let texts: Vec<String> = new.iter().map(|n| element(&self.candidates[*n])).collect();
            let texts = Dialect::Postgres.literal(&format!("{{{}}}", texts.join(",")));
            sql += &format!(
                "select '#' || n || ':' || i.indexrelid from unnest('{{{}}}'::int[], {texts}::text[]) d(n, ddl), {}(d.ddl) i;",
                numbers.join(","),
                self.create
            );
        }
        let statement = &self.statements[query].0;
        // A prepared statement keeps the plan made before an index came or went.
        sql += "deallocate perfkit_plan;";
        sql += &statement.prepare;
        sql += ";";
        sql += &statement.explain;
        sql
    }

    async fn explain(&mut self, query: usize, wanted: &[usize]) -> Result<String, Error> {
        let leaving = self.leaving(query, wanted);
        let message = self.message(query, &leaving, wanted);
        let answer = sqlx::raw_sql(AssertSqlSafe(message)).fetch_all(&mut *self.explainer.conn).await;
        let rows = match answer {
            Ok(rows) => rows,
            Err(error) => {
                self.reset().await?;
                let code = error.as_database_error().and_then(|error| error.code());
                if code.as_deref() == Some(CANCELLED) {
                    return Err(Error::TimedOut("planning a statement"));
                }
                return Err(known(error)?).doing("plan a statement");
            }
        };
        self.present.retain(|number, _| !leaving.contains(number));
        self.stale.clear();
        let mut plan = String::new();
        for row in &rows {
            let text = match row.try_get_raw(0) {
                Ok(_) => text(row)?,
                Err(_) => continue,
            };
            if let Some((number, oid)) = text.strip_prefix('#').and_then(|made| made.split_once(':')) {
                if let Ok(number) = number.parse() {
                    self.present.insert(number, oid.to_owned());
                }
            } else {
                plan = text;
            }
        }
        Ok(plan)
    }

    fn read(&self, plan: &str, indexes: &[usize]) -> Result<Planned, Error> {
        let cost = number(plan, "\"Total Cost\": ")
            .ok_or_else(|| Error::Unexpected("a plan without a cost".to_owned()))?;
        let uses = |n: &usize| self.present.get(n).is_some_and(|oid| plan.contains(&format!("\"<{oid}>")));
        Ok(Planned { cost, used: indexes.iter().copied().filter(uses).collect() })
    }

    /// The plan, and in words: one line per node that reads a table.
    pub(super) async fn describe(
        &mut self,
        query: usize,
        wanted: &[usize],
    ) -> Result<(Planned, Vec<String>), Error> {
        let plan = self.explain(query, wanted).await?;
        Ok((self.read(&plan, wanted)?, words(&plan)))
    }
}

/// An element of an array literal.
fn element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl std::fmt::Debug for HypoPg<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HypoPg").field("candidates", &self.candidates.len()).finish_non_exhaustive()
    }
}

impl WhatIf for HypoPg<'_> {
    async fn plan(&mut self, query: usize, indexes: &[usize]) -> Result<Planned, Error> {
        let plan = self.explain(query, indexes).await?;
        self.read(&plan, indexes)
    }
}

/// The nodes of a plan that read tables, from its JSON text.
fn words(plan: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in plan.lines() {
        let Some((label, value)) = line.trim().trim_end_matches(',').split_once(": ") else { continue };
        let value = value.trim_matches('"');
        match label {
            "\"Node Type\"" => lines.push(value.to_owned()),
            "\"Relation Name\"" | "\"Index Name\"" => {
                if let Some(last) = lines.last_mut() {
                    last.push_str(if label.contains("Relation") { " on " } else { " using " });
                    last.push_str(value);
                }
            }
            _ => {}
        }
    }
    lines
}
