use super::catalog::{Catalog, run};
use super::plan::{self, Line};
use super::sample::Sample;
use crate::advise::{IndexDef, KeyPart, Planned, Schema, Shape, SkipReason, Table, WhatIf};
use crate::error::Doing;
use crate::{Dialect, Error};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::collections::BTreeSet;

/// A database in memory with the schema and statistics of the real one, and no rows.
pub(super) struct Shadow {
    conn: SqliteConnection,
    schema: Schema,
    candidates: Vec<IndexDef>,
    /// Candidates that exist in it at present.
    present: BTreeSet<usize>,
    statements: Vec<(String, Shape)>,
    /// Statements of the schema that could not be repeated here, with the reason.
    pub(super) missing: Vec<String>,
}

impl Shadow {
    /// Copies schema and statistics.
    pub(super) async fn new(catalog: &Catalog, samples: &[Sample]) -> Result<Self, Error> {
        let mut conn =
            SqliteConnection::connect("sqlite::memory:").await.doing("open a database in memory")?;
        let mut missing = Vec::new();
        for statement in &catalog.statements {
            let made = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut conn).await;
            if let Err(error) = made {
                missing.push(error.to_string());
            }
        }
        // On an empty database this only makes the table the statistics are kept in.
        run(&mut conn, "analyze".to_owned(), "prepare the statistics").await?;
        let mut shadow = Self {
            conn,
            schema: catalog.schema.clone(),
            candidates: Vec::new(),
            present: BTreeSet::new(),
            statements: Vec::new(),
            missing,
        };
        for (index, sample) in samples.iter().enumerate() {
            let table = shadow.schema.tables()[index].clone();
            shadow.note_rows(&table).await?;
            for existing in &table.indexes {
                let text = statistics(&existing.def, &table, sample, existing.unique);
                shadow.note(&table.name, Some(&existing.name), &text).await?;
            }
        }
        shadow.reload().await?;
        Ok(shadow)
    }

    async fn note_rows(&mut self, table: &Table) -> Result<(), Error> {
        let width: f64 = table.columns.iter().map(|column| column.width).sum();
        let text = format!("{} sz={}", table.rows.max(1.0) as i64, width.max(1.0) as i64);
        self.note(&table.name, None, &text).await
    }

    async fn note(&mut self, table: &str, index: Option<&str>, text: &str) -> Result<(), Error> {
        sqlx::query("insert into sqlite_stat1 (tbl, idx, stat) values (?, ?, ?)")
            .bind(table)
            .bind(index)
            .bind(text)
            .execute(&mut self.conn)
            .await
            .doing("write the statistics")?;
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), Error> {
        run(&mut self.conn, "analyze sqlite_schema".to_owned(), "load the statistics").await?;
        Ok(())
    }

    /// Whether a statement can be planned here; if so it gets the next number.
    pub(super) async fn admit(&mut self, sql: &str, shape: Shape) -> Result<usize, SkipReason> {
        let explain = format!("explain query plan {sql}");
        match sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut self.conn).await {
            Ok(_) => {
                self.statements.push((sql.to_owned(), shape));
                Ok(self.statements.len() - 1)
            }
            Err(error) => Err(reason(&error)),
        }
    }

    /// Makes the candidates known, with statistics from the samples.
    pub(super) async fn offer(&mut self, candidates: &[IndexDef], samples: &[Sample]) -> Result<(), Error> {
        for (number, def) in candidates.iter().enumerate() {
            let Some(index) = self.schema.find(None, &def.table) else { continue };
            let text = statistics(def, &self.schema.tables()[index], &samples[index], false);
            self.note(&def.table, Some(&shadow_name(number)), &text).await?;
        }
        self.candidates = candidates.to_vec();
        Ok(())
    }

    /// Makes exactly these candidates exist.
    async fn set(&mut self, wanted: &[usize]) -> Result<(), Error> {
        let wanted: BTreeSet<usize> = wanted.iter().copied().collect();
        if wanted == self.present {
            return Ok(());
        }
        let mut sql: Vec<String> =
            self.present.difference(&wanted).map(|n| format!("drop index {}", shadow_name(*n))).collect();
        for number in wanted.difference(&self.present) {
            sql.push(self.candidates[*number].create(Dialect::Sqlite, &shadow_name(*number)));
        }
        sql.push("analyze sqlite_schema".to_owned());
        run(&mut self.conn, sql.join(";"), "create candidates in the shadow").await?;
        self.present = wanted;
        Ok(())
    }

    /// The plan under these candidates.
    pub(super) async fn explain(&mut self, query: usize, indexes: &[usize]) -> Result<Vec<Line>, Error> {
        self.set(indexes).await?;
        let sql = format!("explain query plan {}", self.statements[query].0);
        let rows = run(&mut self.conn, sql, "plan a statement").await?;
        Ok(rows
            .iter()
            .map(|row| Line { id: row.get(0), parent: row.get(1), log_cost: row.get(2), detail: row.get(3) })
            .collect())
    }

    /// The plan in words, candidates under the names they would get.
    pub(super) async fn describe(&mut self, query: usize, indexes: &[usize]) -> Result<Vec<String>, Error> {
        let lines = self.explain(query, indexes).await?;
        Ok(lines
            .into_iter()
            .map(|line| {
                indexes.iter().fold(line.detail, |text, number| {
                    text.replace(&shadow_name(*number), &self.candidates[*number].name())
                })
            })
            .collect())
    }
}

impl WhatIf for Shadow {
    async fn plan(&mut self, query: usize, indexes: &[usize]) -> Result<Planned, Error> {
        let lines = self.explain(query, indexes).await?;
        let cost = plan::cost(&lines, &self.statements[query].1, &self.schema);
        let uses = |number: &usize| {
            let name = shadow_name(*number);
            lines.iter().any(|line| line.detail.split([' ', '(']).any(|word| word == name))
        };
        Ok(Planned { cost, used: indexes.iter().copied().filter(uses).collect() })
    }
}

fn shadow_name(number: usize) -> String {
    format!("perfshadow_{number}")
}

/// What `sqlite_stat1` holds of an index: rows, then rows per value of each prefix of its keys, and its width.
fn statistics(def: &IndexDef, table: &Table, sample: &Sample, unique: bool) -> String {
    let rows = table.rows.max(1.0);
    let mut columns = Vec::new();
    let mut text = format!("{}", rows as i64);
    let mut width = 0.0;
    for (place, key) in def.keys.iter().enumerate() {
        let name = match &key.part {
            KeyPart::Column(name) => name.clone(),
            // The values of an expression are taken to be as many as those of the column in it.
            KeyPart::Expression(sql) => {
                sql.split(['(', ')']).nth(1).unwrap_or_default().trim_matches('"').to_owned()
            }
        };
        if let Some(column) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(&name)) {
            columns.push(column);
            width += table.columns[column].width + 1.0;
        }
        let last = unique && place + 1 == def.keys.len();
        let each = if last { 1.0 } else { (rows / sample.distinct(&columns)).ceil().max(1.0) };
        text += &format!(" {}", each as i64);
    }
    text + &format!(" sz={}", (width + 6.0) as i64)
}

/// Why SQLite refused to plan.
fn reason(error: &sqlx::Error) -> SkipReason {
    let text = error.as_database_error().map_or_else(|| error.to_string(), |e| e.message().to_owned());
    let found = |prefix: &str| text.starts_with(prefix).then(|| text.clone());
    if let Some(what) = found("no such table").or_else(|| found("no such column")) {
        return SkipReason::Missing(what);
    }
    if let Some(what) = found("no such function")
        .or_else(|| found("no such collation"))
        .or_else(|| found("no such module"))
        .or_else(|| found("unknown tokenizer"))
    {
        return SkipReason::Unavailable(what);
    }
    SkipReason::NotPlannable(text)
}
