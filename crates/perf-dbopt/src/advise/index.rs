use crate::Dialect;
use crate::sql::is_reserved;

/// How an index finds its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Method {
    /// A B-tree: equality, ranges and order.
    #[default]
    Btree,
    /// PostgreSQL's block ranges: tiny, for columns whose values follow the order of the rows on disk.
    Brin,
}

/// What one key of an index is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum KeyPart {
    /// A column, by its name as the catalogue has it.
    Column(String),
    /// An expression in SQL, its names already quoted.
    Expression(String),
}

/// One key of an index.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Key {
    /// What it is made of.
    pub part: KeyPart,
    /// Whether it is kept in descending order.
    pub descending: bool,
}

impl Key {
    /// An ascending column.
    pub fn column(name: impl Into<String>) -> Self {
        Self { part: KeyPart::Column(name.into()), descending: false }
    }

    /// The column's name, unless it is an expression.
    #[must_use]
    pub fn column_name(&self) -> Option<&str> {
        match &self.part {
            KeyPart::Column(name) => Some(name),
            KeyPart::Expression(_) => None,
        }
    }

    fn sql(&self, dialect: Dialect) -> String {
        let part = match &self.part {
            KeyPart::Column(name) => quoted(name, dialect),
            KeyPart::Expression(sql) => format!("({sql})"),
        };
        if self.descending { part + " DESC" } else { part }
    }
}

/// The definition of an index, made from names of the catalogue and never from the text of a query.
///
/// ```
/// use perf_dbopt::Dialect;
/// use perf_dbopt::advise::IndexDef;
///
/// let index = IndexDef::on("orders", ["customer", "date"]).including(["total"]);
/// assert_eq!(
///     index.create(Dialect::Postgres, "i1"),
///     "CREATE INDEX i1 ON orders (customer, date) INCLUDE (total)"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct IndexDef {
    /// The schema of the table, when the database has schemas.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The keys, most significant first.
    pub keys: Vec<Key>,
    /// Columns kept beside the keys so that a query need not visit the table. Empty where the database has no such thing.
    pub include: Vec<String>,
    /// The condition of a partial index, in SQL.
    pub predicate: Option<String>,
    /// How it finds its entries.
    pub method: Method,
}

impl IndexDef {
    /// An ascending B-tree on columns.
    pub fn on<C: Into<String>>(table: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            schema: None,
            table: table.into(),
            keys: columns.into_iter().map(Key::column).collect(),
            include: Vec::new(),
            predicate: None,
            method: Method::Btree,
        }
    }

    /// The same with further columns kept beside the keys.
    #[must_use]
    pub fn including<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.include = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The same, for rows only that fulfil a condition.
    #[must_use]
    pub fn where_(mut self, predicate: impl Into<String>) -> Self {
        self.predicate = Some(predicate.into());
        self
    }

    /// The name this definition is given: `perfidx_` and eight hexadecimal digits of its hash, so that two hosts with the
    /// same advice build the same index once.
    #[must_use]
    pub fn name(&self) -> String {
        let text = self.create(Dialect::Postgres, "");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("perfidx_{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff)
    }

    /// The table's name for SQL, with its schema.
    #[must_use]
    pub fn table_sql(&self, dialect: Dialect) -> String {
        let table = quoted(&self.table, dialect);
        match &self.schema {
            Some(schema) => format!("{}.{table}", quoted(schema, dialect)),
            None => table,
        }
    }

    /// What stands after `ON`: table, keys and the rest.
    #[must_use]
    pub fn target_sql(&self, dialect: Dialect, table: &str) -> String {
        let keys: Vec<_> = self.keys.iter().map(|key| key.sql(dialect)).collect();
        let method = if self.method == Method::Brin { " USING brin" } else { "" };
        let mut sql = format!("{table}{method} ({})", keys.join(", "));
        if !self.include.is_empty() {
            let include: Vec<_> = self.include.iter().map(|name| quoted(name, dialect)).collect();
            sql += &format!(" INCLUDE ({})", include.join(", "));
        }
        if let Some(predicate) = &self.predicate {
            sql += &format!(" WHERE {predicate}");
        }
        sql
    }

    /// The statement that creates it under a name.
    #[must_use]
    pub fn create(&self, dialect: Dialect, name: &str) -> String {
        let target = self.target_sql(dialect, &self.table_sql(dialect));
        format!("CREATE INDEX {} ON {target}", quoted(name, dialect))
    }

    /// Every column it holds, keys first. Expressions hold none.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(Key::column_name).chain(self.include.iter().map(String::as_str))
    }

    /// Whether whatever this index can do, `other` can do as well: same table, method and condition, its keys begin with
    /// these keys, and it holds all the columns.
    #[must_use]
    pub fn is_covered_by(&self, other: &Self) -> bool {
        self.table == other.table
            && self.schema == other.schema
            && self.method == other.method
            && self.predicate == other.predicate
            && other.keys.starts_with(&self.keys)
            && self.include.iter().all(|column| other.columns().any(|held| held == column))
    }
}

/// A name for SQL, in quotes only where it needs them, so that people can read what is proposed.
pub(crate) fn quoted(name: &str, dialect: Dialect) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !is_reserved(name);
    if plain || name.is_empty() { name.to_owned() } else { dialect.quote(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_quoted_and_plain_ones_readable() {
        let def = IndexDef::on("a\"; drop table x; --", ["é.ü", "order", "Up", "plain"]);
        assert_eq!(
            def.create(Dialect::Postgres, "n"),
            "CREATE INDEX n ON \"a\"\"; drop table x; --\" (\"é.ü\", \"order\", \"Up\", plain)"
        );
    }

    #[test]
    fn equal_definitions_have_equal_names() {
        let a = IndexDef::on("t", ["a", "b"]);
        assert_eq!(a.name(), IndexDef::on("t", ["a", "b"]).name());
        assert_ne!(a.name(), IndexDef::on("t", ["b", "a"]).name());
        assert_eq!(a.name().len(), 16);
    }

    #[test]
    fn a_longer_index_covers_a_shorter_one_only_with_the_same_beginning() {
        let short = IndexDef::on("t", ["a"]).including(["c"]);
        assert!(short.is_covered_by(&IndexDef::on("t", ["a", "b"]).including(["c", "d"])));
        assert!(!short.is_covered_by(&IndexDef::on("t", ["b", "a"]).including(["c"])));
        assert!(!short.is_covered_by(&IndexDef::on("t", ["a", "b"])));
        assert!(!short.is_covered_by(&IndexDef::on("t", ["a", "c"]).where_("a > 1")));
    }
}
