//! What is in a PostgreSQL database: three queries, whatever the number of tables.

use super::size::{ColumnSize, IndexSize};
use crate::Error;
use crate::advise::{Column, ExistingIndex, IndexDef, Key, KeyPart, Schema, Table};
use crate::error::Doing;
use sqlx::{PgConnection, Row};
use std::collections::HashMap;

/// The schema and what the size model needs.
pub(super) struct Catalog {
    pub(super) schema: Schema,
    /// By table and column.
    pub(super) sizes: Vec<Vec<ColumnSize>>,
    /// The share of each table's pages known to be visible to all.
    pub(super) visible: Vec<f64>,
    pub(super) foreign: Vec<String>,
    /// Relations that belong to an extension.
    pub(super) extensions: Vec<String>,
    /// Tables of one session.
    pub(super) temporary: Vec<String>,
}

const TABLES: &str = "select c.oid::int8, n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::float8, \
    case when c.relpages > 0 then c.relallvisible::float8 / c.relpages else 1 end, c.relkind::text, \
    c.relpersistence = 't', e.owns from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    cross join lateral (select exists (select 1 from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid \
      and d.deptype = 'e') as owns) e \
    where (c.relkind in ('r', 'p', 'm', 'f') or (c.relkind = 'v' and e.owns)) and n.nspname not in ('pg_catalog', 'information_schema') \
    and n.nspname not like 'pg\\_toast%' \
    order by (n.nspname = 'public') desc, n.nspname, c.relname";

const COLUMNS: &str = "select a.attrelid::int8, a.attname::text, t.typname::text, a.attlen::int4, a.attalign::text, t.typcategory::text, \
    s.avg_width::int4, s.n_distinct::float8, s.null_frac::float8, s.correlation::float8 \
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
    join pg_type t on t.oid = a.atttypid \
    left join lateral (select avg_width, n_distinct, null_frac, correlation from pg_stats s where s.schemaname = n.nspname \
      and s.tablename = c.relname and s.attname = a.attname order by s.inherited desc limit 1) s on true \
    where c.relkind in ('r', 'p', 'm', 'f') and a.attnum > 0 and not a.attisdropped \
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%' \
    order by a.attrelid, a.attnum";

const INDEXES: &str = "select i.indrelid::int8, x.relname::text, i.indisunique, am.amname::text, k.n::int4 <= i.indnkeyatts, \
    case when i.indkey[k.n - 1] = 0 then null else a.attname::text end, \
    pg_get_indexdef(i.indexrelid, k.n::int4, false), \
    case when k.n <= i.indnkeyatts then (i.indoption[k.n - 1]::int4 & 1) = 1 else false end, \
    pg_get_expr(i.indpred, i.indrelid) \
    from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am am on am.oid = x.relam \
    join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace \
    cross join lateral generate_series(1, i.indnatts) k(n) \
    left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.n - 1] \
    where i.indisvalid and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%' \
    order by i.indrelid, i.indexrelid, k.n";

pub(super) async fn read(conn: &mut PgConnection) -> Result<Catalog, Error> {
    let mut catalog = Catalog {
        schema: Schema::default(),
        sizes: vec![],
        visible: vec![],
        foreign: vec![],
        extensions: vec![],
        temporary: vec![],
    };
    let (mut tables, mut places) = (Vec::new(), HashMap::new());
    for row in sqlx::query(TABLES).persistent(false).fetch_all(&mut *conn).await.doing("list the tables")? {
        let (schema, name, kind): (String, String, String) = (row.get(1), row.get(2), row.get(5));
        let apart = match (row.get::<bool, _>(7), row.get::<bool, _>(6), &*kind) {
            (true, ..) => Some(&mut catalog.extensions),
            (_, true, _) => Some(&mut catalog.temporary),
            (.., "f") => Some(&mut catalog.foreign),
            _ => None,
        };
        if let Some(names) = apart {
            names.push(name);
            continue;
        }
        let mut table = Table::new(Some(schema), name);
        table.rows = row.get(3);
        places.insert(row.get::<i64, _>(0), tables.len());
        catalog.visible.push(row.get(4));
        catalog.sizes.push(Vec::new());
        tables.push(table);
    }
    for row in sqlx::query(COLUMNS).persistent(false).fetch_all(&mut *conn).await.doing("read the columns")? {
        if let Some(&place) = places.get(&row.get::<i64, _>(0)) {
            let (column, size) = column(&row, tables[place].rows);
            tables[place].columns.push(column);
            catalog.sizes[place].push(size);
        }
    }
    for row in sqlx::query(INDEXES).persistent(false).fetch_all(&mut *conn).await.doing("read the indexes")? {
        if let Some(&place) = places.get(&row.get::<i64, _>(0)) {
            add_index(&mut tables[place], &row);
        }
    }
    catalog.schema = Schema::new(tables);
    Ok(catalog)
}

fn column(row: &sqlx::postgres::PgRow, rows: f64) -> (Column, ColumnSize) {
    let (name, kind, len): (String, String, i32) = (row.get(1), row.get(2), row.get(3));
    let (align, category): (String, String) = (row.get(4), row.get(5));
    // Mean widths are cut to whole bytes, which is half a byte too little on average where widths vary.
    let cut = if len > 0 { 0.0 } else { 0.5 };
    let known = row.get::<Option<i32>, _>(6).map(|width| f64::from(width) + cut);
    let width = known.unwrap_or(if len > 0 { f64::from(len) } else { 32.0 });
    let distinct = row.get::<Option<f64>, _>(7).map(|n| if n < 0.0 { -n * rows } else { n });
    let mut column = Column::new(name, kind.clone());
    column.distinct = distinct;
    column.width = width;
    column.nulls = row.get::<Option<f64>, _>(8).unwrap_or_default();
    column.correlation = row.get(9);
    let size = ColumnSize {
        width,
        align: match align.as_str() {
            "d" => 8.0,
            "i" => 4.0,
            "s" => 2.0,
            _ => 1.0,
        },
        fixed: len > 0,
        nulls: column.nulls,
        distinct: distinct.unwrap_or(rows).max(1.0),
        equal_image: !matches!(kind.as_str(), "numeric" | "float4" | "float8" | "jsonb" | "bpchar")
            && category != "A"
            && category != "R",
    };
    (column, size)
}

fn add_index(table: &mut Table, row: &sqlx::postgres::PgRow) {
    let name: String = row.get(1);
    if table.indexes.last().is_none_or(|last| last.name != name) {
        let mut def = IndexDef::on(table.name.clone(), Vec::<String>::new());
        def.schema.clone_from(&table.schema);
        def.predicate = row.get(8);
        if row.get::<String, _>(3) == "brin" {
            def.method = crate::advise::Method::Brin;
        }
        table.indexes.push(ExistingIndex::new(name, def, row.get(2)));
    }
    let Some(index) = table.indexes.last_mut() else { return };
    let column: Option<String> = row.get(5);
    match (row.get::<bool, _>(4), column) {
        (false, Some(column)) => index.def.include.push(column),
        (false, None) => {}
        (true, column) => index.def.keys.push(Key {
            part: column.map_or_else(|| KeyPart::Expression(row.get(6)), KeyPart::Column),
            descending: row.get(7),
        }),
    }
}

impl Catalog {
    /// Bytes an index would take.
    pub(super) fn bytes(&self, def: &IndexDef, table: usize) -> f64 {
        let columns = &self.schema.tables()[table].columns;
        let size = |name: &str| {
            columns.iter().position(|column| column.name == name).map(|place| self.sizes[table][place])
        };
        // An expression is taken to be as wide as a short text.
        let unknown = ColumnSize {
            width: 16.0,
            align: 4.0,
            fixed: false,
            nulls: 0.0,
            distinct: self.schema.tables()[table].rows,
            equal_image: true,
        };
        let mut rows = self.schema.tables()[table].rows;
        if let Some(predicate) = &def.predicate {
            let tested = columns.iter().find(|column| predicate.contains(column.name.as_str()));
            rows *=
                tested.map_or(0.5, |c| if predicate.contains("NOT NULL") { 1.0 - c.nulls } else { c.nulls });
        }
        if def.method == crate::advise::Method::Brin {
            return 3.0 * 8192.0 + rows / 1000.0;
        }
        let keys = def.keys.iter().map(|key| key.column_name().and_then(size).unwrap_or(unknown)).collect();
        let include = def.include.iter().filter_map(|name| size(name)).collect();
        IndexSize { rows, keys, include }.bytes() as f64
    }
}
