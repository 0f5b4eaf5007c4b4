use super::index::IndexDef;
use std::collections::HashMap;

/// A column of a table and what is known of its values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// Its name as the catalogue has it.
    pub name: String,
    /// Its declared type.
    pub kind: String,
    /// How many different values it has, as far as known.
    pub distinct: Option<f64>,
    /// Mean width of a value in bytes.
    pub width: f64,
    /// The share of rows in which it is NULL.
    pub nulls: f64,
    /// How closely the rows on disk follow its order, from -1 to 1, as far as known.
    pub correlation: Option<f64>,
}

impl Column {
    /// A column of which nothing but the name and type is known.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            distinct: None,
            width: 8.0,
            nulls: 0.0,
            correlation: None,
        }
    }
}

/// An index that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExistingIndex {
    /// Its name.
    pub name: String,
    /// What it is on.
    pub def: IndexDef,
    /// Whether it enforces uniqueness.
    pub unique: bool,
}

impl ExistingIndex {
    /// An index that is there.
    pub fn new(name: impl Into<String>, def: IndexDef, unique: bool) -> Self {
        Self { name: name.into(), def, unique }
    }
}

/// A table, its size and its indexes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// The schema it is in, when the database has schemas.
    pub schema: Option<String>,
    /// Its name as the catalogue has it.
    pub name: String,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// How many rows it has, as far as known.
    pub rows: f64,
    /// The indexes on it.
    pub indexes: Vec<ExistingIndex>,
    /// The column that is the row's own number, which needs no index (SQLite's INTEGER PRIMARY KEY).
    pub rowid: Option<String>,
}

impl Table {
    /// An empty table.
    pub fn new(schema: Option<String>, name: impl Into<String>) -> Self {
        Self { schema, name: name.into(), columns: Vec::new(), rows: 0.0, indexes: Vec::new(), rowid: None }
    }

    /// The column called `name`; upper and lower case are one.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// The tables statements may refer to.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    tables: Vec<Table>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Schema {
    /// The schema with these tables.
    #[must_use]
    pub fn new(tables: Vec<Table>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, table) in tables.iter().enumerate() {
            by_name.entry(table.name.to_ascii_lowercase()).or_default().push(index);
        }
        Self { tables, by_name }
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The tables, to add what was learnt of them. Their names must stay.
    pub fn tables_mut(&mut self) -> &mut [Table] {
        &mut self.tables
    }

    /// The first table of that name, in the schema if one is given; upper and lower case are one.
    #[must_use]
    pub fn find(&self, schema: Option<&str>, name: &str) -> Option<usize> {
        let found = self.by_name.get(&name.to_ascii_lowercase())?;
        let matches = |index: &&usize| match (schema, &self.tables[**index].schema) {
            (Some(wanted), Some(own)) => own.eq_ignore_ascii_case(wanted),
            _ => true,
        };
        found.iter().find(matches).copied()
    }
}
