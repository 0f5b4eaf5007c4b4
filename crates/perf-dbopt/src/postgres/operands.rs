//! Where the parameters are that decide the type of an expression elsewhere: the results of a CASE, the columns of a subquery.

use crate::{Token, TokenKind};
use std::collections::BTreeSet;

/// A statement cut into tokens.
pub(super) struct Tokens<'a> {
    pub(super) text: &'a str,
    pub(super) all: &'a [Token],
}

impl Tokens<'_> {
    fn word(&self, place: usize) -> String {
        self.all.get(place).map(|token| token.text(self.text).to_ascii_lowercase()).unwrap_or_default()
    }

    /// The number of the parameter at a place.
    pub(super) fn parameter(&self, place: usize) -> Option<u32> {
        let token = self.all.get(place).filter(|token| token.kind == TokenKind::Parameter)?;
        token.text(self.text).strip_prefix('$')?.parse().ok()
    }

    /// The bare results of the CASE whose END is at `end`.
    pub(super) fn case_results(&self, end: usize) -> Vec<u32> {
        let (mut depth, mut found) = (0, Vec::new());
        for place in (0..=end).rev() {
            match &*self.word(place) {
                "end" => depth += 1,
                "case" if depth == 1 => break,
                "case" => depth -= 1,
                "then" | "else" if depth == 1 && self.word(place + 2) != "::" => {
                    found.extend(self.parameter(place + 1));
                }
                _ => {}
            }
        }
        found
    }

    /// The parameters that are a column of a subquery whose name stands at or beside a place: `$1 as name`, and what stands
    /// in the same column of the queries united with it.
    pub(super) fn named_nearby(&self, place: usize) -> Vec<u32> {
        let nearby = [Some(place), Some(place + 1), Some(place + 2), place.checked_sub(1)];
        for name in nearby.into_iter().flatten() {
            if !self.all.get(name).is_some_and(|t| matches!(t.kind, TokenKind::Word | TokenKind::Quoted)) {
                continue;
            }
            let name = self.word(name);
            let names = |at: &usize| {
                self.parameter(*at).is_some() && self.word(at + 1) == "as" && self.word(at + 2) == name
            };
            if let Some(at) = (0..self.all.len()).find(names) {
                return self.column(at);
            }
        }
        Vec::new()
    }

    /// The bare parameters in the column that the parameter at a place begins.
    fn column(&self, first: usize) -> Vec<u32> {
        let mut found: Vec<u32> = self.parameter(first).into_iter().collect();
        let (mut depth, mut column) = (0, 0);
        for place in (0..first).rev() {
            match &*self.word(place) {
                ")" | "]" => depth += 1,
                "(" | "[" if depth == 0 => return found,
                "(" | "[" => depth -= 1,
                "," if depth == 0 => column += 1,
                "select" | "distinct" if depth == 0 => break,
                _ => {}
            }
        }
        let (mut depth, mut at) = (0, None);
        for place in first..self.all.len() {
            match &*self.word(place) {
                "(" | "[" => depth += 1,
                ")" | "]" if depth == 0 => break,
                ")" | "]" => depth -= 1,
                "select" if depth == 0 => at = Some(0),
                "," if depth == 0 => at = at.map(|column| column + 1),
                "from" | "where" | "union" | "intersect" | "except" if depth == 0 => at = None,
                "select" | "," => {}
                _ if depth == 0 && at == Some(column) && matches!(&*self.word(place - 1), "select" | ",") => {
                    found.extend(self.parameter(place));
                }
                _ => {}
            }
        }
        found
    }

    /// The places of what is directly in a row that is inserted: each is of its column's type.
    pub(super) fn inserted(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for values in 1..self.all.len() {
            let before = &self.all[values - 1];
            let follows_table = matches!(before.kind, TokenKind::Close | TokenKind::Word | TokenKind::Quoted)
                && !matches!(
                    &*self.word(values - 1),
                    "all" | "union" | "except" | "intersect" | "distinct" | "as"
                );
            if self.word(values) != "values" || !follows_table {
                continue;
            }
            let (mut depth, mut place) = (0, values + 1);
            while let Some(token) = self.all.get(place) {
                match token.kind {
                    TokenKind::Open => depth += 1,
                    TokenKind::Close if depth == 0 => break,
                    TokenKind::Close => depth -= 1,
                    TokenKind::Comma => {}
                    // After the last row.
                    _ if depth == 0 => break,
                    _ if depth == 1 => _ = found.insert(place),
                    _ => {}
                }
                place += 1;
            }
        }
        found
    }

    /// Whether the parameter at a place is the form that `normalize` takes, which is a keyword.
    pub(super) fn is_normal_form(&self, place: usize) -> bool {
        if place == 0 || self.all[place - 1].kind != TokenKind::Comma {
            return false;
        }
        let mut depth = 0;
        for open in (0..place).rev() {
            match self.all[open].kind {
                TokenKind::Close => depth += 1,
                TokenKind::Open if depth == 0 => return open > 0 && self.word(open - 1) == "normalize",
                TokenKind::Open => depth -= 1,
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Lexer};

    fn with<T>(text: &str, look: impl FnOnce(Tokens<'_>, &dyn Fn(&str) -> usize) -> T) -> T {
        let all: Vec<Token> = Lexer::new(text, Dialect::Postgres).collect();
        let place = |word: &str| all.iter().position(|token| token.text(text) == word).unwrap();
        look(Tokens { text, all: &all }, &place)
    }

    #[test]
    fn results_of_a_case_are_those_of_its_own_branches() {
        let sql =
            "select case when a = $1 then $2 when b then case c when $3 then $4 end else $5 end + 1, $6::int";
        let last = with(sql, |tokens, place| tokens.case_results(place("+") - 1));
        assert_eq!(last, [5, 2]);
        let cast = "select case when a then $1::date else $2 end - 1";
        assert_eq!(with(cast, |tokens, place| tokens.case_results(place("-") - 1)), [2]);
    }

    #[test]
    fn a_column_s_name_leads_to_its_values_in_every_branch() {
        let sql = "select s.code from (select $1 as id, $2 as code union all select f($9, 1), $3 union select $4, x) s where s.code = 1";
        assert_eq!(with(sql, |tokens, place| tokens.named_nearby(place("where") + 1)), [2, 3]);
        assert!(
            with("select a from t where b = $1", |tokens, place| tokens.named_nearby(place("b"))).is_empty()
        );
    }

    #[test]
    fn inserted_values_are_told_from_other_rows() {
        let rows = |sql: &str| {
            with(sql, |tokens, _| {
                tokens.inserted().into_iter().filter_map(|place| tokens.parameter(place)).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            rows("insert into t (a, b) values ($1, f($2)), ($3, $4) on conflict (a) do update set b = $5"),
            [1, 3, 4]
        );
        assert!(rows("select * from (values ($1, $2)) v union all values ($3, $4)").is_empty());
    }

    #[test]
    fn a_normal_form_is_a_keyword() {
        let sql = "select normalize(lower($1), $2), f($3, $4)";
        assert!(with(sql, |tokens, place| tokens.is_normal_form(place("$2"))));
        assert!(!with(sql, |tokens, place| tokens.is_normal_form(place("$4"))));
        assert!(!with(sql, |tokens, place| tokens.is_normal_form(place("$1"))));
    }
}
