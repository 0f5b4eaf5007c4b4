//! Which parameters of a statement are compared with which column, and how.

use super::super::rewrite::parameter;
use crate::advise::{Schema, Shape};
use crate::{Dialect, Lexer, Token, TokenKind};

/// A column's table and its place there.
pub(super) type Place = (usize, usize);

/// A column and the parameters it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) column: Place,
    pub(super) how: How,
}

/// How a column is compared with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// `= $1`, or `IN ($1, …)`: with one of so many values, of which this is the first.
    OneOf { first: u32, many: i32 },
    /// `BETWEEN $1 AND $2`, or `>= $1` and `< $2`.
    Within { low: Bound, high: Bound },
    /// `> $1`, or `<= $1`: everything on one side.
    Beyond(u32),
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) parameter: u32,
    /// Whether the end itself is in the range.
    pub(super) inclusive: bool,
}

/// One side of a range, met alone.
struct Side {
    owner: Option<String>,
    column: Place,
    bound: Bound,
    above: bool,
}

/// The comparisons of columns with parameters in the conditions of a statement.
pub(super) fn compared(sql: &str, shape: &Shape, schema: &Schema) -> Vec<Comparison> {
    let tokens: Vec<Token> = Lexer::new(sql, Dialect::Postgres).collect();
    let reader = Reader { sql, tokens, shape, schema };
    let (mut found, mut sides) = (Vec::new(), Vec::new());
    let mut condition = false;
    for at in 0..reader.tokens.len() {
        match &*reader.word(at) {
            "where" | "on" | "having" => condition = true,
            "set" | "select" | "from" | "values" | "group" | "order" | "returning" | "limit" => {
                condition = false;
            }
            _ if condition => reader.comparison(at, &mut found, &mut sides),
            _ => {}
        }
    }
    found.extend(ranges(sides));
    found
}

/// Two sides of one column make a range; others stand alone.
fn ranges(mut sides: Vec<Side>) -> Vec<Comparison> {
    let mut found = Vec::new();
    while !sides.is_empty() {
        let side = sides.remove(0);
        let same = |other: &Side| {
            other.column == side.column && other.owner == side.owner && other.above != side.above
        };
        let how = match sides.iter().position(same) {
            Some(place) => {
                let other = sides.remove(place);
                let (low, high) =
                    if side.above { (side.bound, other.bound) } else { (other.bound, side.bound) };
                How::Within { low, high }
            }
            None => How::Beyond(side.bound.parameter),
        };
        found.push(Comparison { column: side.column, how });
    }
    found
}

struct Reader<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
    shape: &'a Shape,
    schema: &'a Schema,
}

impl Reader<'_> {
    /// The word at this place in lower case; nothing for what is no word.
    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(token) if token.kind == TokenKind::Word => token.text(self.sql).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The parameter at this place, unless something is calculated from it.
    fn parameter(&self, at: usize) -> Option<u32> {
        let number = parameter(self.tokens.get(at)?, self.sql)?;
        let next = self.tokens.get(at + 1).map(|token| token.text(self.sql)).unwrap_or_default();
        (!matches!(next, "+" | "-" | "*" | "/" | "%" | "^" | "||")).then_some(number)
    }

    /// Notes what is compared at this place.
    fn comparison(&self, at: usize, found: &mut Vec<Comparison>, sides: &mut Vec<Side>) {
        let operator = match self.kind(at) {
            Some(TokenKind::Operator) => self.tokens[at].text(self.sql).to_owned(),
            Some(TokenKind::Word) => self.word(at),
            _ => return,
        };
        let side = |above: bool, inclusive: bool| {
            let bound = Bound { parameter: self.parameter(at + 1)?, inclusive };
            let (owner, column) = self.column_before(at)?;
            Some(Side { owner, column, bound, above })
        };
        match &*operator {
            "=" => found.extend(self.parameter(at + 1).and_then(|first| self.one_of(at, first, 1))),
            "in" => found.extend(self.list(at + 1).and_then(|(first, many)| self.one_of(at, first, many))),
            "between" => found.extend(self.between(at)),
            ">" | ">=" => sides.extend(side(true, operator == ">=")),
            "<" | "<=" => sides.extend(side(false, operator == "<=")),
            _ => {}
        }
    }

    fn one_of(&self, at: usize, first: u32, many: i32) -> Option<Comparison> {
        let (_, column) = self.column_before(at)?;
        Some(Comparison { column, how: How::OneOf { first, many } })
    }

    /// The first parameter of a list of values in brackets, and how many values there are.
    fn list(&self, open: usize) -> Option<(u32, i32)> {
        if self.kind(open) != Some(TokenKind::Open) {
            return None;
        }
        let (mut first, mut many) = (None, 0);
        for at in (open + 1..self.tokens.len()).step_by(2) {
            match self.kind(at)? {
                TokenKind::Parameter => first = first.or(Some(self.parameter(at)?)),
                TokenKind::Number | TokenKind::Text => {}
                _ => return None,
            }
            many += 1;
            match self.kind(at + 1)? {
                TokenKind::Comma => {}
                TokenKind::Close => return first.map(|first| (first, many)),
                _ => return None,
            }
        }
        None
    }

    fn between(&self, at: usize) -> Option<Comparison> {
        let low = Bound { parameter: self.parameter(at + 1)?, inclusive: true };
        if self.word(at + 2) != "and" {
            return None;
        }
        let high = Bound { parameter: self.parameter(at + 3)?, inclusive: true };
        let (_, column) = self.column_before(at)?;
        Some(Comparison { column, how: How::Within { low, high } })
    }

    /// The column that ends before this place, when it stands alone: `a + b = $1` says nothing of the values of `b`.
    fn column_before(&self, at: usize) -> Option<(Option<String>, Place)> {
        let last = at.checked_sub(1)?;
        let owner = (last >= 2 && self.kind(last - 1) == Some(TokenKind::Dot)).then(|| last - 2);
        let before = owner.unwrap_or(last).checked_sub(1);
        let alone = before.is_none_or(|place| {
            self.kind(place) == Some(TokenKind::Open)
                || matches!(&*self.word(place), "where" | "and" | "or" | "on" | "having" | "not")
        });
        // `f(column)` opens a bracket too.
        let called = before.is_some_and(|place| {
            self.kind(place) == Some(TokenKind::Open)
                && place > 0
                && matches!(self.kind(place - 1), Some(TokenKind::Word | TokenKind::Quoted))
                && !matches!(
                    &*self.word(place - 1),
                    "where" | "and" | "or" | "on" | "having" | "not" | "when"
                )
        });
        if !alone || called {
            return None;
        }
        let owner = owner.map(|place| name(&self.tokens[place], self.sql));
        let column = self.resolve(owner.as_deref(), &name(&self.tokens[last], self.sql))?;
        Some((owner, column))
    }

    /// The column of that name, when exactly one of the statement's tables has it.
    fn resolve(&self, owner: Option<&str>, column: &str) -> Option<Place> {
        let mut found: Option<Place> = None;
        for (alias, table) in &self.shape.aliases {
            if owner.is_some_and(|owner| !owner.eq_ignore_ascii_case(alias)) {
                continue;
            }
            let columns = &self.schema.tables()[*table].columns;
            let Some(place) = columns.iter().position(|c| c.name == column) else { continue };
            if found.is_some_and(|known| known != (*table, place)) {
                return None;
            }
            found = Some((*table, place));
        }
        found
    }
}

/// A name as the catalogue has it.
fn name(token: &Token, sql: &str) -> String {
    let text = token.text(sql);
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => text.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::{Column, Table};

    fn found(sql: &str) -> Vec<(Place, How)> {
        let mut orders = Table::new(None, "orders");
        orders.columns = ["id", "status", "Odd"].map(|name| Column::new(name, "text")).to_vec();
        let mut item = Table::new(None, "item");
        item.columns = ["id", "kind"].map(|name| Column::new(name, "text")).to_vec();
        let schema = Schema::new(vec![orders, item]);
        let all = compared(sql, &Shape::of(sql, Dialect::Postgres, &schema), &schema);
        all.into_iter().map(|comparison| (comparison.column, comparison.how)).collect()
    }

    fn equal(first: u32) -> How {
        How::OneOf { first, many: 1 }
    }

    fn within(low: u32, low_inclusive: bool, high: u32, high_inclusive: bool) -> How {
        How::Within {
            low: Bound { parameter: low, inclusive: low_inclusive },
            high: Bound { parameter: high, inclusive: high_inclusive },
        }
    }

    #[test]
    fn parameters_are_matched_with_the_columns_they_are_compared_with() {
        assert_eq!(
            found("select * from orders where status = $1 and id = $2"),
            [((0, 1), equal(1)), ((0, 0), equal(2))]
        );
        assert_eq!(
            found("select * from orders o join item i on i.id = o.id where i.kind = $3"),
            [((1, 1), equal(3))]
        );
        assert_eq!(found("select * from orders where (\"Odd\" = $1)"), [((0, 2), equal(1))]);
    }

    #[test]
    fn lists_tell_how_many_values_they_hold() {
        let list = |first, many| How::OneOf { first, many };
        assert_eq!(found("select * from orders where status in ($2, $3, 'x')"), [((0, 1), list(2, 3))]);
        assert_eq!(found("select * from orders where status IN ('x', $1)"), [((0, 1), list(1, 2))]);
        assert!(found("select * from orders where status not in ($1)").is_empty());
        assert!(found("select * from orders where status in (select $1)").is_empty());
        assert!(found("select * from orders where status in ($1 || 'x')").is_empty());
    }

    #[test]
    fn two_sides_of_a_column_are_one_range() {
        assert_eq!(
            found("select * from orders where id between $1 and $2 and status = $3"),
            [((0, 0), within(1, true, 2, true)), ((0, 1), equal(3))]
        );
        assert_eq!(
            found("select * from orders where id < $1 and status = $2 and id >= $3"),
            [((0, 1), equal(2)), ((0, 0), within(3, true, 1, false))]
        );
        assert_eq!(found("select * from orders where id <= $1"), [((0, 0), How::Beyond(1))]);
        // Two rows of one table are two columns.
        assert_eq!(
            found("select * from orders a, orders b where a.id > $1 and b.id < $2"),
            [((0, 0), How::Beyond(1)), ((0, 0), How::Beyond(2))]
        );
        assert!(found("select * from orders where id not between $1 and $2").is_empty());
    }

    #[test]
    fn what_is_assigned_calculated_or_ambiguous_is_not_compared() {
        assert_eq!(found("update orders set status = $1 where id = $2"), [((0, 0), equal(2))]);
        assert!(found("select * from orders where id || status = $1").is_empty());
        assert!(found("select * from orders where status = $1 || $2").is_empty());
        assert!(found("select * from orders where lower(status) = $1").is_empty());
        assert!(found("select * from orders, item where id = $1").is_empty());
        assert!(found("select status = $1 from orders").is_empty());
        assert!(found("select * from orders where status <> $1").is_empty());
    }
}
