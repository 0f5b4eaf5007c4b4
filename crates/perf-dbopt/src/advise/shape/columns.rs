//! What columns are used for, clause by clause.

use super::{ColumnRef, Reader};
use crate::TokenKind;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clause {
    Select,
    From,
    Filter,
    Set,
    Other,
}

impl Reader<'_> {
    /// Reads what each column is used for, clause by clause.
    pub(super) fn columns(&mut self) {
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
}
