//! What is in a SQLite database, read from its schema table and pragmas.

use crate::advise::{Column, ExistingIndex, IndexDef, Key, KeyPart, Schema, Table};
use crate::error::Doing;
use crate::{Dialect, Error};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

/// The schema, and the statements that make it anew.
pub(super) struct Catalog {
    pub(super) schema: Schema,
    /// Statements that create tables, then indexes, then views.
    pub(super) statements: Vec<String>,
    /// Virtual tables, which the shadow does not have.
    pub(super) virtual_tables: Vec<String>,
}

pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Catalog, Error> {
    let tables =
        sqlx::query("select name, type, wr from pragma_table_list where schema = 'main' order by name")
            .fetch_all(&mut *conn)
            .await
            .doing("list the tables")?;
    let (mut found, mut virtual_tables) = (Vec::new(), Vec::new());
    for row in tables {
        let (name, kind, without_rowid): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        match kind.as_str() {
            "table" if !name.starts_with("sqlite_") => found.push(table(conn, name, without_rowid).await?),
            "virtual" => virtual_tables.push(name),
            _ => {}
        }
    }
    let statements = sqlx::query_scalar::<_, String>(
        "select sql from sqlite_schema where sql is not null and name not like 'sqlite\\_%' escape '\\' \
         and type in ('table', 'index', 'view') order by case type when 'table' then 1 when 'index' then 2 else 3 end, rowid",
    )
    .fetch_all(&mut *conn)
    .await
    .doing("read the schema")?;
    Ok(Catalog { schema: Schema::new(found), statements, virtual_tables })
}

async fn table(conn: &mut SqliteConnection, name: String, without_rowid: bool) -> Result<Table, Error> {
    let columns = sqlx::query(
        "select name, type, pk from pragma_table_xinfo(?) where hidden in (0, 2, 3) order by cid",
    )
    .bind(&name)
    .fetch_all(&mut *conn)
    .await
    .doing("read a table's columns")?;
    let mut table = Table::new(None, name);
    let mut keys = Vec::new();
    for row in &columns {
        let (column, kind, key): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        if key > 0 {
            keys.push((key, column.clone(), kind.clone()));
        }
        table.columns.push(Column::new(column, kind));
    }
    if let [(_, column, kind)] = &keys[..]
        && kind.eq_ignore_ascii_case("integer")
        && !without_rowid
    {
        table.rowid = Some(column.clone());
    }
    table.indexes = indexes(conn, &table.name).await?;
    Ok(table)
}

async fn indexes(conn: &mut SqliteConnection, table: &str) -> Result<Vec<ExistingIndex>, Error> {
    let rows = sqlx::query(
        "select l.name, l.\"unique\", l.partial, x.name, x.desc, x.cid, \
         (select sql from sqlite_schema s where s.type = 'index' and s.name = l.name) \
         from pragma_index_list(?) l join pragma_index_xinfo(l.name) x where x.key = 1 order by l.name, x.seqno",
    )
    .bind(table)
    .fetch_all(&mut *conn)
    .await
    .doing("read a table's indexes")?;
    let mut found: Vec<ExistingIndex> = Vec::new();
    for row in rows {
        let (name, unique, partial): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
        if found.last().is_none_or(|last| last.name != name) {
            let mut def = IndexDef::on(table, Vec::<String>::new());
            def.predicate = partial.then(|| condition(row.get::<Option<String>, _>(6).as_deref()));
            found.push(ExistingIndex::new(name, def, unique));
        }
        let part = match row.get::<Option<String>, _>(3) {
            Some(column) => KeyPart::Column(column),
            None => KeyPart::Expression(String::new()),
        };
        if let Some(last) = found.last_mut() {
            last.def.keys.push(Key { part, descending: row.get(4) });
        }
    }
    Ok(found)
}

/// What stands after WHERE in the statement that made a partial index.
fn condition(sql: Option<&str>) -> String {
    let sql = sql.unwrap_or_default();
    let place =
        crate::Lexer::new(sql, Dialect::Sqlite).find(|token| token.text(sql).eq_ignore_ascii_case("where"));
    place.and_then(|token| sql.get(token.end..)).map(|rest| rest.trim().to_owned()).unwrap_or_default()
}

/// Runs a statement whose text was made here from quoted names.
pub(super) async fn run(
    conn: &mut SqliteConnection,
    sql: String,
    doing: &'static str,
) -> Result<Vec<sqlx::sqlite::SqliteRow>, Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await.doing(doing)
}
