//! Which tables a statement names, and how it writes.

use super::{Reader, Write};
use crate::TokenKind;

impl Reader<'_> {
    /// Finds every table the statement names, and its aliases.
    pub(super) fn tables(&mut self) {
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
}
