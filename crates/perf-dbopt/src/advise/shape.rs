//! What a statement does with which columns, read from its tokens.
//!
//! It need not be exact: it proposes, and the planner decides. Names are resolved against the schema, in any part of the
//! statement at once, so it sees a little more than is there and misses nothing a subquery hides.

use super::schema::Schema;
use crate::{Dialect, Lexer, TokenKind};
use std::collections::{BTreeMap, BTreeSet};

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clause {
    Select,
    From,
    Filter,
    Set,
    Other,
}

struct Word<'a> {
    kind: TokenKind,
    text: &'a str,
}

impl Word<'_> {
    fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    fn is_name(&self) -> bool {
        match self.kind {
            TokenKind::Quoted => true,
            TokenKind::Word => !crate::sql::is_reserved(&self.text.to_ascii_lowercase()),
            _ => false,
        }
    }

    /// The name without quotes.
    fn name(&self) -> String {
        if self.kind != TokenKind::Quoted {
            return self.text.to_owned();
        }
        let inner = self.text.get(1..self.text.len() - 1).unwrap_or_default();
        match self.text.as_bytes().first() {
            Some(b'"') => inner.replace("\"\"", "\""),
            Some(b'`') => inner.replace("``", "`"),
            _ => inner.to_owned(),
        }
    }

    fn is_value(&self) -> bool {
        matches!(self.kind, TokenKind::Number | TokenKind::Text | TokenKind::Parameter)
    }
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

    /// Finds every table the statement names, and its aliases.
    fn tables(&mut self) {
        let mut at = 0;
        while at < self.words.len() {
            let word = &self.words[at];
            let write = match () {
                () if word.is("into") => Some(Write::Insert),
                () if word.is("update") && !self.word_is(at.wrapping_sub(1), "for") => Some(Write::Update),
                () if word.is("from") && at > 0 && self.word_is(at - 1, "delete") => Some(Write::Delete),
                () => None,
            };
            let list = word.is("from");
            if write.is_some() || list || word.is("join") {
                at = self.table_list(at + 1, list, write);
            } else {
                at += 1;
            }
        }
    }

    fn table_list(&mut self, mut at: usize, list: bool, write: Option<Write>) -> usize {
        loop {
            while self.words.get(at).is_some_and(|w| w.is_any(&["only", "lateral"])) {
                at += 1;
            }
            let Some((next, table)) = self.table_at(at) else { return at };
            if let (Some(table), Some(write)) = (table, write)
                && self.shape.writes.is_none()
            {
                self.shape.writes = Some((table, write));
            }
            at = next;
            if !(list && self.kind(at) == Some(TokenKind::Comma)) {
                return at;
            }
            at += 1;
        }
    }

    /// A table name with its alias at this place, and the place after it.
    fn table_at(&mut self, at: usize) -> Option<(usize, Option<usize>)> {
        if !self.words.get(at)?.is_name() {
            return None;
        }
        let mut qualifier = None;
        let mut name = self.words[at].name();
        let mut next = at + 1;
        while self.kind(next) == Some(TokenKind::Dot) && self.words.get(next + 1).is_some() {
            qualifier = Some(std::mem::replace(&mut name, self.words[next + 1].name()));
            next += 2;
        }
        if self.kind(next) == Some(TokenKind::Open) && !self.word_is(at.wrapping_sub(1), "into") {
            return None;
        }
        let table = self.schema.find(qualifier.as_deref(), &name);
        match table {
            Some(index) => {
                self.shape.tables.entry(index).or_default();
                self.bindings.push((name.to_ascii_lowercase(), index));
            }
            None => self.shape.unknown.push(name),
        }
        if self.word_is(next, "as") {
            next += 1;
        }
        if let Some(alias) = self.words.get(next).filter(|word| word.is_name()) {
            if let Some(index) = table {
                self.bindings.push((alias.name().to_ascii_lowercase(), index));
            }
            next += 1;
        }
        Some((next, table))
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

    /// Reads what each column is used for, clause by clause.
    fn columns(&mut self) {
        let mut clauses = vec![Clause::Other];
        let mut at = 0;
        while at < self.words.len() {
            let word = &self.words[at];
            match word.kind {
                TokenKind::Open => {
                    let inner = clauses.last().copied().unwrap_or(Clause::Other);
                    clauses.push(inner);
                }
                TokenKind::Close if clauses.len() > 1 => {
                    clauses.pop();
                }
                TokenKind::Operator if word.text == "*" => self.star(at),
                _ => {}
            }
            if let Some(clause) = self.clause_at(at)
                && let Some(last) = clauses.last_mut()
            {
                *last = clause;
            }
            let clause = clauses.last().copied().unwrap_or(Clause::Other);
            if clause == Clause::Select && self.word_is(at, "distinct") {
                self.list(at + 1, false);
            }
            if self.word_is(at, "by") && at > 0 {
                let order = self.word_is(at - 1, "order");
                self.list(at + 1, order);
            }
            if self.word_is(at, "using") && self.kind(at + 1) == Some(TokenKind::Open) {
                self.using(at + 2);
            }
            match self.column_at(at) {
                Some((columns, len)) => {
                    self.column(&columns, at, len, clause, clauses.len());
                    at += len;
                }
                None => at += 1,
            }
        }
    }

    fn clause_at(&mut self, at: usize) -> Option<Clause> {
        let word = &self.words[at];
        if word.kind != TokenKind::Word {
            return None;
        }
        if word.is("limit") || word.is("fetch") {
            self.shape.limited = true;
        }
        match () {
            () if word.is("select") => Some(Clause::Select),
            () if word.is("from") || word.is("join") => Some(Clause::From),
            () if word.is("where") || word.is("on") => Some(Clause::Filter),
            () if word.is("set") => Some(Clause::Set),
            () if word.is_any(&[
                "group",
                "order",
                "having",
                "limit",
                "offset",
                "values",
                "returning",
                "window",
            ]) =>
            {
                Some(Clause::Other)
            }
            () => None,
        }
    }

    /// `*` and `t.*` ask for every column; `count(*)` and multiplication do not.
    fn star(&mut self, at: usize) {
        let before = at.checked_sub(1);
        let after_dot = before.is_some_and(|b| self.kind(b) == Some(TokenKind::Dot));
        if after_dot {
            let owner = at.checked_sub(2).map(|o| self.words[o].name().to_ascii_lowercase());
            let tables: Vec<_> =
                self.bindings.iter().filter(|(n, _)| Some(n) == owner.as_ref()).map(|b| b.1).collect();
            for table in tables {
                self.roles(table).whole = true;
            }
        } else if before.is_some_and(|b| {
            self.words[b].is_any(&["select", "distinct", "all"]) || self.kind(b) == Some(TokenKind::Comma)
        }) {
            for roles in self.shape.tables.values_mut() {
                roles.whole = true;
            }
        }
    }

    fn using(&mut self, mut at: usize) {
        while let Some((columns, len)) = self.column_at(at) {
            for &(table, column) in &columns {
                let roles = self.roles(table);
                roles.join.insert(column);
                roles.used.insert(column);
            }
            for pair in columns.windows(2) {
                self.shape.joins.push((pair[0], pair[1]));
            }
            at += len;
            if self.kind(at) != Some(TokenKind::Comma) {
                return;
            }
            at += 1;
        }
    }

    /// A list after ORDER BY, GROUP BY, PARTITION BY or DISTINCT, as far as it consists of columns of one table.
    fn list(&mut self, mut at: usize, order: bool) {
        let mut columns: Vec<(ColumnRef, bool)> = Vec::new();
        loop {
            let (column, len) = if let Some((columns, len)) = self.column_at(at) {
                (columns[0], len)
            } else if let Some(output) = self.output_at(at) {
                (output, 1)
            } else {
                break;
            };
            at += len;
            let descending = self.word_is(at, "desc");
            if descending || self.word_is(at, "asc") {
                at += 1;
            }
            if self.word_is(at, "nulls") {
                at += 2;
            }
            if columns.first().is_some_and(|first| first.0.0 != column.0) {
                break;
            }
            columns.push((column, descending));
            if self.kind(at) != Some(TokenKind::Comma) {
                break;
            }
            at += 1;
        }
        let Some(table) = columns.first().map(|first| first.0.0) else { return };
        let roles = self.roles(table);
        if order {
            roles.order.push(columns.iter().map(|((_, c), descending)| (*c, *descending)).collect());
        } else {
            roles.group.push(columns.iter().map(|((_, c), _)| *c).collect());
        }
    }

    /// The column a number after ORDER BY stands for.
    fn output_at(&self, at: usize) -> Option<ColumnRef> {
        let word = self.words.get(at).filter(|word| word.kind == TokenKind::Number)?;
        self.outputs.get(&word.text.parse().ok()?).copied()
    }

    fn column(&mut self, columns: &[ColumnRef], at: usize, len: usize, clause: Clause, depth: usize) {
        for &(table, column) in columns {
            self.roles(table).used.insert(column);
        }
        match clause {
            Clause::Select if depth == 1 => {
                let end = at + len;
                let before = self.words[..at].iter().filter(|w| w.kind == TokenKind::Comma).count();
                let stands_alone = matches!(self.kind(end), Some(TokenKind::Comma | TokenKind::Word));
                if stands_alone && !self.words[..at].iter().any(|w| w.kind == TokenKind::Open) {
                    self.outputs.entry(before + 1).or_insert(columns[0]);
                }
            }
            Clause::Set if self.words.get(at + len).is_some_and(|w| w.text == "=") => {
                for &(table, column) in columns {
                    self.roles(table).assigned.insert(column);
                }
            }
            Clause::Filter => self.comparison(columns, at, len),
            _ => {}
        }
    }

    /// The part a column plays in a condition.
    fn comparison(&mut self, columns: &[ColumnRef], at: usize, len: usize) {
        let end = at + len;
        if self.function_of_column(columns, at, end) {
            return;
        }
        let mut next = end;
        if self.words.get(next).is_some_and(|w| w.text == "::") {
            next += 2;
        }
        let negated = self.word_is(next, "not");
        if negated {
            next += 1;
        }
        let Some(operator) = self.words.get(next) else {
            self.value_before(columns, at);
            return;
        };
        let text = operator.text;
        if matches!(text, "=" | "==" | "<=>") {
            if !self.join(columns, next + 1) {
                self.note(columns, |roles, c| roles.equal.insert(c));
            }
        } else if operator.is("in") && !negated {
            self.note(columns, |roles, c| roles.equal.insert(c));
        } else if operator.is("is") {
            let not = self.word_is(next + 1, "not");
            if self.word_is(next + 1 + usize::from(not), "null") {
                self.note(columns, |roles, c| roles.nulls.insert((c, !not)));
                if !not {
                    self.note(columns, |roles, c| roles.equal.insert(c));
                }
            }
        } else if matches!(text, "<" | ">" | "<=" | ">=")
            || (operator.is_any(&["between", "like", "glob"]) && !negated)
        {
            self.note(columns, |roles, c| roles.range.insert(c));
        } else {
            self.value_before(columns, at);
        }
    }

    fn note(&mut self, columns: &[ColumnRef], mut role: impl FnMut(&mut Roles, usize) -> bool) {
        for &(table, column) in columns {
            role(self.roles(table), column);
        }
    }

    /// `? = column`, `? < column`.
    fn value_before(&mut self, columns: &[ColumnRef], at: usize) {
        let (Some(operator), Some(value)) = (
            at.checked_sub(1).and_then(|i| self.words.get(i)),
            at.checked_sub(2).and_then(|i| self.words.get(i)),
        ) else {
            return;
        };
        if !value.is_value() {
            return;
        }
        match operator.text {
            "=" | "==" => self.note(columns, |roles, c| roles.equal.insert(c)),
            "<" | ">" | "<=" | ">=" => self.note(columns, |roles, c| roles.range.insert(c)),
            _ => {}
        }
    }

    /// `column = column`: says whether that is what it is.
    fn join(&mut self, columns: &[ColumnRef], at: usize) -> bool {
        let Some((others, len)) = self.column_at(at) else { return false };
        if self.words.get(at + len).is_some_and(|w| matches!(w.text, "+" | "-" | "*" | "/" | "||")) {
            return false;
        }
        for &(table, column) in columns.iter().chain(&others) {
            let roles = self.roles(table);
            roles.join.insert(column);
            roles.used.insert(column);
        }
        for &left in columns {
            for &right in &others {
                if left != right {
                    self.shape.joins.push((left, right));
                }
            }
        }
        true
    }

    /// `lower(column) = ?`: says whether that is what it is.
    fn function_of_column(&mut self, columns: &[ColumnRef], at: usize, end: usize) -> bool {
        let opened = at >= 2 && self.kind(at - 1) == Some(TokenKind::Open) && self.words[at - 2].is_name();
        if !opened || self.kind(end) != Some(TokenKind::Close) {
            return false;
        }
        let function = self.words[at - 2].name().to_ascii_lowercase();
        let compared = self.words.get(end + 1).is_some_and(|w| {
            matches!(w.text, "=" | "==" | "<" | ">" | "<=" | ">=") || w.is_any(&["in", "between"])
        });
        if compared && function.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.note(columns, |roles, c| roles.functions.insert((function.clone(), c)));
        }
        true
    }
}
