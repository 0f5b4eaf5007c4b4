//! The part columns play in conditions.

use super::{ColumnRef, Reader, Roles};
use crate::TokenKind;

impl Reader<'_> {
    /// The part a column plays in a condition.
    pub(super) fn comparison(&mut self, columns: &[ColumnRef], at: usize, len: usize) {
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
