//! Rewriting the text of a normalised statement, token by token.

use crate::{Dialect, Lexer, Token, TokenKind};

pub(super) fn parameters(sql: &str) -> Vec<(u32, Token)> {
    Lexer::new(sql, Dialect::Postgres).filter_map(|token| Some((parameter(&token, sql)?, token))).collect()
}

/// The number of a parameter, when it is one.
pub(super) fn parameter(token: &Token, sql: &str) -> Option<u32> {
    if token.kind != TokenKind::Parameter {
        return None;
    }
    token.text(sql).strip_prefix('$')?.parse().ok()
}

/// `date $1` becomes `$1::date`, `interval $1 day` becomes `$1::interval`, `extract($1 from` becomes `extract(year from`.
pub(super) fn rewrite(sql: &str) -> (String, bool) {
    let tokens: Vec<Token> = Lexer::new(sql, Dialect::Postgres).collect();
    let word = |index: usize| tokens.get(index).map(|t| t.text(sql).to_ascii_lowercase()).unwrap_or_default();
    let is_parameter = |index: usize| tokens.get(index).is_some_and(|t| t.kind == TokenKind::Parameter);
    let mut text = String::with_capacity(sql.len());
    let (mut copied, mut index) = (0, 0);
    while index < tokens.len() {
        let kind = word(index);
        let zone = if word(index + 1) == "with" || word(index + 1) == "without" { 3 } else { 0 };
        let typed = matches!(&*kind, "interval" | "date" | "time" | "timestamp" | "timestamptz" | "timetz");
        let (replacement, end) = if typed && is_parameter(index + 1 + zone) {
            let mut end = index + 1 + zone;
            let value = word(end);
            let name = sql[tokens[index].start..tokens[end - 1].end].to_owned();
            while kind == "interval" && is_field(&word(end + 1)) {
                end += 1;
            }
            (format!("{value}::{name}"), end)
        } else if kind == "extract" && is_parameter(index + 2) && word(index + 3) == "from" {
            ("extract(year".to_owned(), index + 2)
        } else {
            index += 1;
            continue;
        };
        text.push_str(&sql[copied..tokens[index].start]);
        text.push_str(&replacement);
        copied = tokens[end].end;
        index = end + 1;
    }
    text.push_str(&sql[copied..]);
    let rewritten = copied > 0;
    (if rewritten { renumber(&text) } else { text }, rewritten)
}

fn is_field(word: &str) -> bool {
    matches!(word, "year" | "month" | "day" | "hour" | "minute" | "second" | "to")
}

/// Closes the gaps a dropped parameter leaves, which PREPARE would refuse.
pub(super) fn renumber(sql: &str) -> String {
    let found = parameters(sql);
    let mut numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut text = String::with_capacity(sql.len());
    let mut copied = 0;
    for (number, token) in found {
        text.push_str(&sql[copied..token.start]);
        text.push_str(&format!("${}", numbers.partition_point(|n| *n < number) + 1));
        copied = token.end;
    }
    text + &sql[copied..]
}

/// The items of lists after GROUP BY and ORDER BY, as ranges of tokens.
pub(super) fn lists_after_by(tokens: &[Token], sql: &str) -> Vec<std::ops::Range<usize>> {
    let mut items = Vec::new();
    for by in (0..tokens.len()).filter(|index| tokens[*index].text(sql).eq_ignore_ascii_case("by")) {
        let (mut depth, mut start) = (0, by + 1);
        for index in by + 1..=tokens.len() {
            let word =
                tokens.get(index).map(|token| token.text(sql).to_ascii_lowercase()).unwrap_or_default();
            let ends = index == tokens.len()
                || (depth == 0
                    && matches!(
                        &*word,
                        "," | ")"
                            | "having"
                            | "order"
                            | "limit"
                            | "offset"
                            | "fetch"
                            | "window"
                            | "union"
                            | "intersect"
                            | "except"
                            | "asc"
                            | "desc"
                            | "nulls"
                            | "for"
                            | "rows"
                            | "range"
                    ));
            if ends {
                if start < index {
                    items.push(start..index);
                }
                if word != "," {
                    break;
                }
                start = index + 1;
            }
            match &*word {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                _ => {}
            }
        }
    }
    items
}
