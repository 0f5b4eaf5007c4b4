//! What a statement does with which columns, read from its tokens.
//!
//! It need not be exact: it proposes, and the planner decides. Names are resolved against the schema, in any part of the
//! statement at once, so it sees a little more than is there and misses nothing a subquery hides.

mod columns;
mod conditions;
mod tables;
mod word;

use super::schema::Schema;
use crate::{Dialect, Lexer, TokenKind};
use std::collections::{BTreeMap, BTreeSet};
use word::Word;

/// A table's column, as indexes into the schema.
pub(crate) type ColumnRef = (usize, usize);

/// What a statement does with the columns of one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Roles {
    /// Compared with a value by `=`, `IN` or `IS`.
    pub(crate) equal: BTreeSet<usize>,
    /// Compared with a value by order, `BETWEEN` or `LIKE`.
    pub(crate) range: BTreeSet<usize>,
    /// Compared with a column of another table.
    pub(crate) join: BTreeSet<usize>,
    /// Lists after ORDER BY, with their directions.
    pub(crate) order: Vec<Vec<(usize, bool)>>,
    /// Lists after GROUP BY, and after SELECT DISTINCT.
    pub(crate) group: Vec<Vec<usize>>,
    /// Mentioned anywhere.
    pub(crate) used: BTreeSet<usize>,
    /// All columns are asked for.
    pub(crate) whole: bool,
    /// Tested for NULL: column, and whether it must be NULL.
    pub(crate) nulls: BTreeSet<(usize, bool)>,
    /// Functions of one column compared with a value: function, column.
    pub(crate) functions: BTreeSet<(String, usize)>,
    /// Assigned by UPDATE.
    pub(crate) assigned: BTreeSet<usize>,
}

impl Roles {
    /// Whether the statement looks for rows by a column, or wants them in its order.
    pub(crate) fn looks_for(&self, column: usize) -> bool {
        self.equal.contains(&column)
            || self.range.contains(&column)
            || self.join.contains(&column)
            || self.order.iter().flatten().any(|(own, _)| *own == column)
            || self.group.iter().flatten().any(|own| *own == column)
    }
}

/// What a statement does with each table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) tables: BTreeMap<usize, Roles>,
    /// Columns of two tables compared with each other.
    pub(crate) joins: Vec<(ColumnRef, ColumnRef)>,
    /// The table written, and how.
    pub(crate) writes: Option<(usize, Write)>,
    /// Names after FROM that are not in the schema.
    pub(crate) unknown: Vec<String>,
    pub(crate) limited: bool,
    /// Names and aliases in lower case, and the table each stands for.
    pub(crate) aliases: Vec<(String, usize)>,
}

/// How a statement writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Insert,
    Update,
    Delete,
}

impl Shape {
    pub(crate) fn of(sql: &str, dialect: Dialect, schema: &Schema) -> Self {
        let words =
            Lexer::new(sql, dialect).map(|token| Word { kind: token.kind, text: token.text(sql) }).collect();
        let mut reader =
            Reader { words, schema, bindings: Vec::new(), shape: Self::default(), outputs: BTreeMap::new() };
        reader.tables();
        reader.columns();
        reader.shape.aliases = reader.bindings;
        reader.shape
    }
}

struct Reader<'a> {
    words: Vec<Word<'a>>,
    schema: &'a Schema,
    /// Names and aliases in lower case, and the table each stands for.
    bindings: Vec<(String, usize)>,
    shape: Shape,
    /// Columns of the outermost select list by place, for `ORDER BY 1`.
    outputs: BTreeMap<usize, ColumnRef>,
}

impl Reader<'_> {
    fn word_is(&self, at: usize, keyword: &str) -> bool {
        self.words.get(at).is_some_and(|word| word.is(keyword))
    }

    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.words.get(at).map(|word| word.kind)
    }

    /// The columns that may be meant at this place, and how many tokens name them.
    fn column_at(&self, at: usize) -> Option<(Vec<ColumnRef>, usize)> {
        if !self.words.get(at)?.is_name() || self.kind(at.wrapping_sub(1)) == Some(TokenKind::Dot) {
            return None;
        }
        let mut names = vec![self.words[at].name()];
        let mut next = at + 1;
        while self.kind(next) == Some(TokenKind::Dot)
            && self.words.get(next + 1).is_some_and(|w| matches!(w.kind, TokenKind::Word | TokenKind::Quoted))
        {
            names.push(self.words[next + 1].name());
            next += 2;
        }
        if self.kind(next) == Some(TokenKind::Open) {
            return None;
        }
        let column = names.pop()?;
        let owner = names.pop().map(|name| name.to_ascii_lowercase());
        let mut found: Vec<ColumnRef> = self
            .bindings
            .iter()
            .filter(|(name, _)| owner.as_ref().is_none_or(|owner| owner == name))
            .filter_map(|(_, table)| {
                let columns = &self.schema.tables()[*table].columns;
                columns.iter().position(|c| c.name.eq_ignore_ascii_case(&column)).map(|c| (*table, c))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        (!found.is_empty()).then_some((found, next - at))
    }

    fn roles(&mut self, table: usize) -> &mut Roles {
        self.shape.tables.entry(table).or_default()
    }
}
